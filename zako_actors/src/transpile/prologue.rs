//! The text before the first statement of an output file.
//!
//! Owns: the CommonJS module head and the inlined helpers.
//! Does not know: the tree; it is given names.
//! Invariant: the prologue ends with a newline (or is empty), so the body's map only moves by lines.

use std::fmt::Write as _;

use super::commonjs::{ModuleHead, Request};
use super::source_map::PrologueLine;

/// Text under construction, with the lines that stem from a statement of the source.
#[derive(Default)]
pub(super) struct Prologue {
    /// The text so far.
    pub text: String,
    /// Mapped lines.
    pub mapped: Vec<PrologueLine>,
}

impl Prologue {
    /// Appends one or more whole lines.
    pub fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// Number of lines.
    pub fn line_count(&self) -> u32 {
        let count = self.text.bytes().filter(|byte| *byte == b'\n').count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    fn mapped_line(&mut self, source_offset: u32, text: &str) {
        self.mapped.push(PrologueLine {
            line: self.line_count(),
            source_offset,
        });
        self.line(text);
    }

    /// Writes the CommonJS head (see the rules in `commonjs`).
    pub fn commonjs_head(&mut self, head: &mut ModuleHead) {
        if head.is_es_module && !head.has_export_assignment {
            self.line("Object.defineProperty(exports, \"__esModule\", { value: true });");
        }
        let helpers = InteropHelpers::for_head(head);
        for (exported, local) in &head.local_exports {
            self.line(&getter(exported, local));
        }
        for request in &head.requests {
            for (exported, _) in &request.reexports {
                self.line(&format!("{} = void 0;", member("exports", exported)));
            }
        }
        self.text.push_str(&helpers.definitions());
        for request in &head.requests {
            self.request(request, &helpers);
        }
    }

    fn request(&mut self, request: &Request, helpers: &InteropHelpers) {
        let call = format!("require({})", quoted(&request.specifier));
        let offset = request.source_offset;
        if let Some(variable) = &request.variable {
            let value = match interop(request) {
                Interop::None => call.clone(),
                Interop::Default => format!("{}({call})", helpers.import_default),
                Interop::Namespace => format!("{}({call})", helpers.import_star),
            };
            self.mapped_line(offset, &format!("const {variable} = {value};"));
            for (exported, property) in &request.reexports {
                let local = match property {
                    Some(property) => member(variable, property),
                    None => variable.clone(),
                };
                self.line(&getter(exported, &local));
            }
        } else if !request.export_star {
            self.mapped_line(offset, &format!("{call};"));
        }
        if request.export_star {
            self.mapped_line(
                offset,
                &format!("{}({call}, exports);", helpers.export_star),
            );
        }
    }
}

/// In this form Node.js finds the name without running the module (cjs-module-lexer), so that ES
/// modules can import it by name.
fn getter(exported: &str, local: &str) -> String {
    format!(
        "Object.defineProperty(exports, {}, {{ enumerable: true, get: function () {{ return {local}; }} }});",
        quoted(exported)
    )
}

fn member(object: &str, property: &str) -> String {
    if oxc::syntax::identifier::is_identifier_name(property) {
        format!("{object}.{property}")
    } else {
        format!("{object}[{}]", quoted(property))
    }
}

/// A JavaScript string literal; JSON's escapes are a subset of JavaScript's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

enum Interop {
    None,
    Default,
    Namespace,
}

/// As `tsc`'s `esModuleInterop`.
fn interop(request: &Request) -> Interop {
    match (
        request.wants_namespace,
        request.wants_default,
        request.wants_named,
    ) {
        (true, _, _) | (false, true, true) => Interop::Namespace,
        (false, true, false) => Interop::Default,
        (false, false, _) => Interop::None,
    }
}

/// Names of the interop functions in this file; empty when unused.
#[derive(Default)]
struct InteropHelpers {
    import_default: String,
    import_star: String,
    import_computed: String,
    export_star: String,
    bind: String,
}

impl InteropHelpers {
    fn for_head(head: &mut ModuleHead) -> Self {
        let (requests, taken) = (&head.requests, &mut head.taken_names);
        let mut name = |wanted: bool, name: &str| match wanted {
            false => String::new(),
            true => super::commonjs::free_name(name, taken),
        };
        let uses = |test: fn(Interop) -> bool| {
            requests
                .iter()
                .any(|request| request.variable.is_some() && test(interop(request)))
        };
        let star = uses(|interop| matches!(interop, Interop::Namespace));
        let export = requests.iter().any(|request| request.export_star);
        let dynamic = &head.dynamic;
        Self {
            import_default: name(uses(|i| matches!(i, Interop::Default)), "__importDefault"),
            import_star: match dynamic.import_star.is_empty() {
                true => name(star, "__importStar"),
                false => dynamic.import_star.clone(),
            },
            import_computed: dynamic.import_computed.clone(),
            // Node.js recognises re-exports by exactly this name.
            export_star: name(export, "__exportStar"),
            bind: name(star || export || !dynamic.import_star.is_empty(), "__bind"),
        }
    }

    fn definitions(&self) -> String {
        let mut text = String::new();
        let bind = &self.bind;
        if !bind.is_empty() {
            let _ = writeln!(
                text,
                "function {bind}(target, source, key) {{ Object.defineProperty(target, key, {{ enumerable: true, get: function () {{ return source[key]; }} }}); }}"
            );
        }
        if !self.import_default.is_empty() {
            let _ = writeln!(
                text,
                "function {}(m) {{ return m && m.__esModule ? m : {{ default: m }}; }}",
                self.import_default
            );
        }
        if !self.import_star.is_empty() {
            let _ = writeln!(
                text,
                "function {}(m) {{ if (m && m.__esModule) return m; const ns = Object.create(null); if (m != null) for (const key of Object.getOwnPropertyNames(m)) if (key !== \"default\") {bind}(ns, m, key); Object.defineProperty(ns, \"default\", {{ enumerable: true, value: m }}); return ns; }}",
                self.import_star
            );
        }
        if !self.import_computed.is_empty() {
            let _ = writeln!(
                text,
                "function {}(specifier) {{ return /^(?:file|data|https?):|\\.mjs(?:[?#]|$)/.test(specifier) ? import(specifier) : {}(require(specifier)); }}",
                self.import_computed, self.import_star
            );
        }
        if !self.export_star.is_empty() {
            let _ = writeln!(
                text,
                "function {}(m, target) {{ for (const key in m) if (key !== \"default\" && !Object.prototype.hasOwnProperty.call(target, key)) {bind}(target, m, key); }}",
                self.export_star
            );
        }
        text
    }
}
