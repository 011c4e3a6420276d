//! The module loader that the JavaScript engine asks.
//!
//! Owns: the mapping between workspace paths and module URLs, and imports whose specifier is
//! only known while the code runs.
//! Does not know: rules and files; [`ModuleGraph`] does.
//! Invariant: nothing is loaded that the graph did not check.

use std::cell::{OnceCell, RefCell};
use std::pin::Pin;
use std::rc::Rc;

use deno_core::error::ModuleLoaderError;
use deno_core::{
    ModuleLoadOptions, ModuleLoadReferrer, ModuleLoadResponse, ModuleLoader, ModuleSource,
    ModuleSourceCode, ModuleSpecifier, ModuleType, RequestedModuleType, ResolutionKind,
};

use crate::diagnostic::Diagnostic;

use super::compile::is_json;
use super::embedded;
use super::limits::Brake;
use super::modules::ModuleGraph;
use super::runtime::HARDEN;

/// Scripts see this instead of the place of the workspace on the disk.
const SCHEME: &str = "workspace:///";

/// What a script imports that was stopped: it never comes.
const NEVER: &str = "zako:never";

/// The URL of a file of the workspace.
pub(super) fn url_of_path(path: &str) -> Result<ModuleSpecifier, url::ParseError> {
    if embedded::is_embedded(path) {
        return ModuleSpecifier::parse(path);
    }
    let mut url = ModuleSpecifier::parse(SCHEME)?;
    url.set_path(&format!("/{}", path.replace('%', "%25")));
    Ok(url)
}

/// The path of a workspace URL.
pub(super) fn path_of_url(url: &str) -> Option<String> {
    if embedded::is_embedded(url) {
        return Some(url.to_owned());
    }
    let path = url.strip_prefix(SCHEME)?;
    Some(percent_decoded(path))
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let digits = text.get(index + 1..index + 3);
        match (
            bytes[index],
            digits.and_then(|d| u8::from_str_radix(d, 16).ok()),
        ) {
            (b'%', Some(byte)) => {
                out.push(byte);
                index += 3;
            }
            (byte, _) => {
                out.push(byte);
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Modules whose functions define something for the engine: the file that imports them, which is
/// part of the thing's name, is the query of their URL. With what makes them, and their exports.
const DEFINING: [(&str, &str, &str); 3] = [
    ("zako:rule", "ruleModule", "attr, provider, rule"),
    ("zako:toolchain", "toolchainModule", "toolchain"),
    ("zako:config", "configModule", "config"),
];

fn defining_module(url: &ModuleSpecifier) -> Option<String> {
    let (module, file) = url.as_str().split_once('?')?;
    let (_, make, exports) = DEFINING.iter().find(|(known, _, _)| *known == module)?;
    let file = serde_json::Value::from(percent_decoded(file));
    Some(format!(
        "import {{ {make} }} from \"zako:internal/rules\";\nexport const {{ {exports} }} = {make}({file});\n"
    ))
}

/// The module that an import of JSON means which does not say that it is JSON, as type checkers let it be.
fn data_module(json: String) -> String {
    let json = serde_json::Value::String(json);
    format!("export default JSON.parse({json});\n")
}

/// Serves a module graph.
pub(super) struct WorkspaceLoader {
    graph: RefCell<Rc<RefCell<ModuleGraph>>>,
    /// Mistakes found while the code ran (by `import()` of a computed specifier).
    late_mistakes: RefCell<Vec<Diagnostic>>,
    /// What stops the scripts that ask.
    brake: OnceCell<Brake>,
}

impl WorkspaceLoader {
    pub fn new(graph: Rc<RefCell<ModuleGraph>>) -> Self {
        Self {
            graph: RefCell::new(graph),
            late_mistakes: RefCell::default(),
            brake: OnceCell::new(),
        }
    }

    /// From now on loads nothing more once `brake` has stopped the script: within one turn of the event loop the end of one load has
    /// a script ask for the next, and what makes an error of the end takes back that the script was told to stop.
    pub fn obey(&self, brake: &Brake) {
        // A runtime has one.
        let _ = self.brake.set(brake.clone());
    }

    fn is_stopped(&self) -> bool {
        self.brake.get().is_some_and(|it| it.cause().is_some())
    }

    /// From now on serves another graph.
    pub fn serve(&self, graph: Rc<RefCell<ModuleGraph>>) {
        self.graph.replace(graph);
    }

    fn graph(&self) -> Rc<RefCell<ModuleGraph>> {
        Rc::clone(&self.graph.borrow())
    }

    /// Mistakes that the engine saw only as text.
    pub fn take_late_mistakes(&self) -> Vec<Diagnostic> {
        self.late_mistakes.take()
    }
}

impl ModuleLoader for WorkspaceLoader {
    fn resolve(
        &self,
        specifier: &str,
        referrer: &str,
        kind: ResolutionKind,
    ) -> Result<ModuleSpecifier, ModuleLoaderError> {
        let url_error = |error: url::ParseError| ModuleLoaderError::type_error(error.to_string());
        if self.is_stopped() && matches!(kind, ResolutionKind::DynamicImport) {
            return ModuleSpecifier::parse(NEVER).map_err(url_error);
        }
        if matches!(kind, ResolutionKind::MainModule) {
            return ModuleSpecifier::parse(specifier).map_err(url_error);
        }
        let Some(importer) = path_of_url(referrer) else {
            // Embedded modules import each other by name.
            return ModuleSpecifier::parse(specifier).map_err(url_error);
        };
        if specifier == HARDEN {
            // Modules that keep nothing end with it (`compile`). It only freezes what it is given.
            return ModuleSpecifier::parse(specifier).map_err(url_error);
        }
        let graph = self.graph();
        let resolved = graph.borrow_mut().resolve(&importer, specifier);
        match resolved {
            Ok(Some(path)) => url_of_path(&path).map_err(url_error),
            Ok(None) if DEFINING.iter().any(|(module, _, _)| *module == specifier) => {
                let mut url = ModuleSpecifier::parse(specifier).map_err(url_error)?;
                url.set_query(Some(&importer));
                Ok(url)
            }
            Ok(None) => ModuleSpecifier::parse(specifier).map_err(url_error),
            Err(refusal) => Err(ModuleLoaderError::type_error(format!(
                "{}\nhelp: {}",
                refusal.message, refusal.help
            ))),
        }
    }

    fn load(
        &self,
        url: &ModuleSpecifier,
        _referrer: Option<&ModuleLoadReferrer>,
        options: ModuleLoadOptions,
    ) -> ModuleLoadResponse {
        if self.is_stopped() {
            return ModuleLoadResponse::Async(Box::pin(std::future::pending()));
        }
        if let Some(code) = defining_module(url) {
            let code = ModuleSourceCode::String(code.into());
            let source = ModuleSource::new(ModuleType::JavaScript, code, url, None);
            return ModuleLoadResponse::Sync(Ok(source));
        }
        let Some(path) = path_of_url(url.as_str()) else {
            let message = format!("there is no module `{url}`");
            return ModuleLoadResponse::Sync(Err(ModuleLoaderError::type_error(message)));
        };
        let graph = self.graph();
        let mut graph = graph.borrow_mut();
        if let Err(mistakes) = graph.load_from(&path) {
            let message = mistakes
                .first()
                .map(|m| m.message.clone())
                .unwrap_or_default();
            self.late_mistakes.borrow_mut().extend(mistakes);
            return ModuleLoadResponse::Sync(Err(ModuleLoaderError::type_error(message)));
        }
        let module = graph.get(&path);
        let mut code = module.map(|module| module.code.clone()).unwrap_or_default();
        let (kind, bytecode) = if !is_json(&path) {
            let offer = module.and_then(|module| module.bytecode.offer());
            (ModuleType::JavaScript, offer)
        } else if options.requested_module_type == RequestedModuleType::Json {
            (ModuleType::Json, None)
        } else {
            code = data_module(code);
            (ModuleType::JavaScript, None)
        };
        let code = ModuleSourceCode::String(code.into());
        ModuleLoadResponse::Sync(Ok(ModuleSource::new(kind, code, url, bytecode)))
    }

    fn code_cache_ready(
        &self,
        url: ModuleSpecifier,
        _hash: u64,
        made: &[u8],
    ) -> Pin<Box<dyn Future<Output = ()>>> {
        let path = path_of_url(url.as_str());
        let graph = self.graph();
        let graph = graph.borrow();
        if let Some(module) = path.and_then(|path| graph.get(&path)) {
            module.bytecode.keep(made);
        }
        Box::pin(std::future::ready(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_as_urls() {
        for path in ["BUILD.ts", "a b/ü.ts", "100%.ts", "a%20b.ts", "q?x#y.ts"] {
            let url = url_of_path(path).unwrap();
            assert_eq!(path_of_url(url.as_str()).as_deref(), Some(path), "{url}");
        }
        assert_eq!(path_of_url("zako:build"), None);
        let url = url_of_path("zako:rules/cc.rule.ts").unwrap();
        assert_eq!(url.as_str(), "zako:rules/cc.rule.ts");
    }

    #[test]
    fn a_definition_knows_its_file() {
        let mut url = ModuleSpecifier::parse("zako:rule").unwrap();
        url.set_query(Some("a b/ü#.rule.ts"));
        let code = defining_module(&url).unwrap();
        assert!(code.contains("= ruleModule(\"a b/ü#.rule.ts\");"), "{code}");
    }
}
