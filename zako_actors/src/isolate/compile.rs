//! Build files made ready to run.
//!
//! Owns: transpiling a file once per content, and what it imports.
//! Does not know: the file system, resolution, rules.
//! Invariant: a compiled module depends on path and content only, so evaluations may share it.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::rc::Rc;

use deno_core::SourceCodeCacheInfo;

use super::runtime::HARDEN;
use crate::diagnostic::Diagnostic;
use crate::transpile::{ImportSite, TranspileJob, TranspileOptions, Transpiler, UNDECIDED};

/// One file, ready to run.
pub(super) struct Module {
    /// JavaScript, or JSON.
    pub code: String,
    /// Source map as JSON.
    pub map: Option<String>,
    /// The source as read, for code frames.
    pub source: String,
    /// What it asks for at run time.
    pub imports: Vec<ImportSite>,
    /// Whether it keeps nothing from one call of its functions to the next, once what it gave to `settle` is frozen.
    pub is_lasting: bool,
    /// What the engine made of the code.
    pub bytecode: Bytecode,
}

impl Module {
    fn size_bytes(&self) -> usize {
        let map = self.map.as_ref().map_or(0, String::capacity);
        self.code.capacity() + map + self.source.capacity()
    }
}

/// The engine's compiled form of a module. Making it costs more than compiling once, so that is done when
/// a module runs for the second time.
#[derive(Default)]
pub(super) struct Bytecode {
    ran: Cell<bool>,
    made: RefCell<Option<Vec<u8>>>,
}

impl Bytecode {
    /// What the engine is to be given when it compiles the module: nothing at the first time, then a
    /// request to make it, then what was made.
    pub fn offer(&self) -> Option<SourceCodeCacheInfo> {
        // The other engine has no such form.
        if !cfg!(feature = "v8") || !self.ran.replace(true) {
            return None;
        }
        Some(SourceCodeCacheInfo {
            // A module is its content: nothing else could be meant.
            hash: 0,
            data: self.made.borrow().clone().map(Cow::Owned),
        })
    }

    /// Keeps what was made.
    pub fn keep(&self, made: &[u8]) {
        self.made.replace(Some(made.to_owned()));
    }
}

/// What `settle` is called in modules.
const SETTLE: &str = "$zako_settle";

/// Has a module name, at its end, what has to be frozen before its functions are called. Below everything else, so that
/// the places of everything else stay.
fn settle(code: &mut String, bindings: &[String]) {
    if !bindings.is_empty() {
        let bindings = bindings.join(", ");
        let _ = write!(
            code,
            "import {{ settle as {SETTLE} }} from \"{HARDEN}\";\n{SETTLE}({bindings});\n"
        );
    }
}

/// The buffer for reading files is not kept when one of them was larger.
const MAX_BUFFER_BYTES: usize = 1 << 20;

/// Text of compiled files that is kept; beyond it all are forgotten.
const MAX_CACHED_BYTES: usize = 8 << 20;

/// Compiles, and remembers what it compiled.
#[derive(Default)]
pub(super) struct Compiler {
    transpiler: Transpiler,
    /// Where files are read to, which most are only for their digest.
    buffer: Vec<u8>,
    compiled: HashMap<(String, blake3::Hash), Rc<Module>>,
    compiled_bytes: usize,
}

impl Compiler {
    /// Compiles a file, unless that was done before.
    ///
    /// # Errors
    /// All mistakes of the file.
    pub fn compile(
        &mut self,
        path: &str,
        digest: blake3::Hash,
        bytes: &[u8],
    ) -> Result<Rc<Module>, Vec<Diagnostic>> {
        let key = (path.to_owned(), digest);
        if let Some(module) = self.compiled.get(&key) {
            return Ok(Rc::clone(module));
        }
        let source = text(path, bytes).map_err(|mistake| vec![mistake])?;
        let module = Rc::new(if is_json(path) {
            data(path, source).map_err(|mistake| vec![mistake])?
        } else {
            self.script(path, source)?
        });
        if self.compiled_bytes >= MAX_CACHED_BYTES {
            self.compiled.clear();
            self.compiled_bytes = 0;
        }
        self.compiled_bytes += module.size_bytes();
        self.compiled.insert(key, Rc::clone(&module));
        Ok(module)
    }

    /// The buffer for reading files, as it was left.
    pub fn lend_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// Keeps the buffer for the next file.
    pub fn take_buffer(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() <= MAX_BUFFER_BYTES {
            self.buffer = buffer;
        }
    }

    fn script(&mut self, path: &str, source: String) -> Result<Module, Vec<Diagnostic>> {
        let mut job = TranspileJob::new(path, source.as_str());
        job.options = TranspileOptions {
            target: "es2022".to_owned(),
            source_map: true,
            ..TranspileOptions::default()
        };
        let transpiled = self.transpiler.transpile(&job);
        let output =
            transpiled.map_err(|mistakes| mistakes.into_iter().map(advise).collect::<Vec<_>>())?;
        let mut code = output.code;
        let lasting = self.transpiler.lasting_bindings(&code);
        let lasting = lasting.filter(|_| !code.contains(SETTLE));
        if let Some(bindings) = &lasting {
            settle(&mut code, bindings);
        }
        Ok(Module {
            code,
            is_lasting: lasting.is_some(),
            map: output.map,
            imports: self.transpiler.import_sites(path, &source),
            source,
            bytecode: Bytecode::default(),
        })
    }
}

/// Build files have no options that a mistake could be mended with.
fn advise(mut mistake: Diagnostic) -> Diagnostic {
    if mistake.message == UNDECIDED {
        mistake.help = Some("call the function: build files have no decorators".to_owned());
    }
    mistake
}

fn text(path: &str, bytes: &[u8]) -> Result<String, Diagnostic> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Diagnostic::error(format!("`{path}` is not UTF-8 text (line {line})"))
    })?;
    // Before `#!` it would be a mistake, and it says nothing.
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text).to_owned())
}

/// Whether a file is data.
pub(super) fn is_json(path: &str) -> bool {
    path.rsplit_once('.')
        .is_some_and(|(_, extension)| extension == "json")
}

fn data(path: &str, source: String) -> Result<Module, Diagnostic> {
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&source) {
        let place = |number: usize| u32::try_from(number.max(1)).unwrap_or(u32::MAX);
        let (line, column) = (place(error.line()), place(error.column()));
        let mistake = Diagnostic::error(format!("`{path}` is not JSON: {error}"));
        return Err(mistake.at_line(path, Some(&source), line, column, 1));
    }
    Ok(Module {
        code: source.clone(),
        map: None,
        source,
        imports: Vec::new(),
        is_lasting: true,
        bytecode: Bytecode::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded() {
        let text = format!("\"{}\"", "x".repeat(1 << 20));
        let mut compiler = Compiler::default();
        for number in 0..40 {
            let path = format!("{number}.json");
            let digest = blake3::hash(path.as_bytes());
            let module = compiler.compile(&path, digest, text.as_bytes()).unwrap();
            let again = compiler.compile(&path, digest, b"").unwrap();
            assert!(Rc::ptr_eq(&module, &again), "it is kept");
            let kept: usize = compiler.compiled.values().map(|it| it.size_bytes()).sum();
            assert!(kept < MAX_CACHED_BYTES + module.size_bytes(), "{kept}");
        }
    }
}
