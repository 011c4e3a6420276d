//! TypeScript and JSX to JavaScript.
//!
//! Owns: the whole way from source text to output text and source map, on oxc; this folder is the
//! only one that imports it.
//! Does not know: files, the build graph, the JavaScript engine.
//! Invariants: the output depends on the job only; every diagnostic of a source is reported, not
//! just the first, unless oxc's parser cannot go on after it; the arena is empty between jobs.

mod accessors;
mod actor;
mod commonjs;
mod declarations;
mod decorators;
mod dynamic;
mod enums;
mod factories;
mod helpers;
mod lasting;
mod legacy;
mod namespace_parts;
mod namespaces;
mod options;
mod prologue;
mod relink;
mod room;
mod source_map;
mod specifiers;
mod survey;
#[cfg(test)]
mod tests;
mod types;
mod uses;

use std::path::Path;
use std::sync::Arc;

use oxc::allocator::Allocator;
use oxc::ast::ast::{Program, Statement};
use oxc::ast::builder::AstBuilder;
use oxc::codegen::{Codegen, CodegenOptions};
use oxc::diagnostics::{OxcDiagnostic, Severity as OxcSeverity};
use oxc::parser::{ParseOptions, Parser};
use oxc::semantic::{Scoping, SemanticBuilder};
use oxc::span::SourceType;
use oxc::transformer::Transformer;

pub use actor::{TranspileAnswer, TranspileResult, TranspileTask, Transpiled, TranspilerPool};
pub(crate) use decorators::UNDECIDED;
pub use options::{Decorators, Jsx, ModuleFormat, TranspileOptions};
pub use specifiers::{declaration_path, output_path, source_paths};
pub(crate) use specifiers::{is_relative, join_relative};
pub(crate) use survey::ImportSite;
pub use survey::{ModuleFacts, ModuleIndex, ModuleSurvey};

use crate::diagnostic::{Diagnostic, Severity};
use prologue::Prologue;
use room::with_room;

/// What outputs depend on beside source and options: part of every cache key. The last number counts changes of what is
/// made around oxc.
pub const TRANSPILER_VERSION: &str = "oxc 0.146.0, 4";

/// One file to transpile.
#[derive(Debug, Clone)]
pub struct TranspileJob {
    /// Source text.
    pub source: Arc<str>,
    /// Path relative to the workspace, for messages, maps, and (by its extension) the language.
    pub path: String,
    /// What to make of it.
    pub options: TranspileOptions,
    /// What the other files of the target say about this one's imports ([`ModuleIndex::facts`]).
    /// With them, ES modules get complete specifiers (`./a` to `./a.js`, `./dir` to
    /// `./dir/index.js`), and re-exports of mere types vanish. Without, both stay as written.
    pub facts: ModuleFacts,
}

impl TranspileJob {
    /// A job with default options and no facts.
    pub fn new(path: impl Into<String>, source: impl Into<Arc<str>>) -> Self {
        Self {
            source: source.into(),
            path: path.into(),
            options: TranspileOptions::default(),
            facts: ModuleFacts::default(),
        }
    }

    /// The format of the output: where the extension says one, Node.js takes no other.
    fn module(&self) -> ModuleFormat {
        match self.path.rsplit_once('.') {
            Some((_, "cts")) => ModuleFormat::CommonJs,
            Some((_, "mts" | "mjs")) => ModuleFormat::Esm,
            _ => self.options.module,
        }
    }

    /// Whether `import()` becomes a `require`: a CommonJS file among ES modules has it to load those.
    fn requires_dynamic_imports(&self) -> bool {
        self.options.module == ModuleFormat::CommonJs && self.module() == ModuleFormat::CommonJs
    }
}

/// What a job gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TranspileOutput {
    /// JavaScript.
    pub code: String,
    /// Source map as JSON, when asked for.
    pub map: Option<String>,
    /// Declarations, when asked for and the source is TypeScript.
    pub declarations: Option<String>,
    /// Mistakes that did not prevent an output.
    pub warnings: Vec<Diagnostic>,
}

/// A transpiler: one thread uses it, one job after another, its memory is kept between jobs.
///
/// ```
/// use zako_actors::transpile::{TranspileJob, Transpiler};
/// let mut transpiler = Transpiler::new();
/// let out = transpiler.transpile(&TranspileJob::new("a.ts", "export const a: number = 1;")).unwrap();
/// assert_eq!(out.code, "export const a = 1;\n");
/// ```
#[derive(Default)]
pub struct Transpiler {
    arena: Allocator,
}

impl Transpiler {
    /// A transpiler with an empty arena.
    pub fn new() -> Self {
        Self::default()
    }

    /// Transpiles one file.
    ///
    /// # Errors
    /// All mistakes of the source, in the order in which they were found.
    pub fn transpile(&mut self, job: &TranspileJob) -> Result<TranspileOutput, Vec<Diagnostic>> {
        let result = with_room(&job.source, || {
            Run::new(&self.arena, job).and_then(Run::finish)
        });
        self.arena.reset();
        result
    }

    /// Surveys one file for a [`ModuleIndex`]: parses only, about half the work of transpiling.
    pub fn survey(&mut self, path: &str, source: &str) -> ModuleSurvey {
        let survey = match source_type(path) {
            Ok(source_type) => {
                with_room(source, || survey::survey(&self.arena, source, source_type))
            }
            Err(_) => ModuleSurvey::default(),
        };
        self.arena.reset();
        survey
    }

    /// The modules that a file asks for at run time, with their places; none if it does not parse.
    pub(crate) fn import_sites(&mut self, path: &str, source: &str) -> Vec<ImportSite> {
        let sites = match source_type(path) {
            Ok(source_type) => with_room(source, || {
                survey::import_sites(&self.arena, source, source_type)
            }),
            Err(_) => Vec::new(),
        };
        self.arena.reset();
        sites
    }

    /// The bindings of a JavaScript module that have to be frozen so that it keeps nothing from one call of its
    /// functions to the next; `None` when that would not be enough.
    pub(crate) fn lasting_bindings(&mut self, code: &str) -> Option<Vec<String>> {
        let bindings = with_room(code, || lasting::lasting_bindings(&self.arena, code));
        self.arena.reset();
        bindings
    }

    /// Gives the arena's memory back.
    pub fn gc(&mut self) {
        self.arena = Allocator::default();
    }
}

/// The passes over one file.
struct Run<'a> {
    arena: &'a Allocator,
    job: &'a TranspileJob,
    program: Program<'a>,
    scoping: Scoping,
    has_module_syntax: bool,
    has_export_assignment: bool,
    has_dynamic_imports: bool,
    warnings: Vec<Diagnostic>,
}

impl<'a> Run<'a> {
    /// Parses.
    fn new(arena: &'a Allocator, job: &'a TranspileJob) -> Result<Self, Vec<Diagnostic>> {
        let source_type = source_type(&job.path).map_err(|error| vec![error])?;
        let parsed = Parser::new(arena, &job.source, source_type)
            .with_options(ParseOptions {
                parse_regular_expression: true,
                ..ParseOptions::default()
            })
            .parse();
        let has_export_assignment = parsed
            .program
            .body
            .iter()
            .any(|statement| matches!(statement, Statement::TSExportAssignment(_)));
        let has_module_syntax = parsed.module_record.has_module_syntax || has_export_assignment;
        let mut run = Self {
            arena,
            job,
            program: parsed.program,
            scoping: Scoping::default(),
            has_module_syntax,
            has_export_assignment,
            has_dynamic_imports: !parsed.module_record.dynamic_imports.is_empty(),
            warnings: Vec::new(),
        };
        if !job.facts.type_only.is_empty() && !job.options.verbatim_module_syntax {
            types::mark(&mut run.program, &job.facts);
        }
        let mut diagnostics = parsed.diagnostics.into_vec();
        let is_kept = job.options.keeps_decorators();
        if job.options.decorators.is_none() && !is_kept {
            diagnostics.extend(decorators::undecided(&run.program));
        }
        if !is_kept {
            diagnostics.extend(accessors::refused(&run.program));
        }
        if job.options.has_legacy_decorators() {
            diagnostics.extend(decorators::uncalled(&run.program));
            legacy::name_default_class(&mut run.program, &AstBuilder::new(arena));
        }
        if !parsed.panicked {
            let mut checked = check(&run.program);
            diagnostics.append(&mut checked.diagnostics);
            let builder = AstBuilder::new(arena);
            let factories = factories::factories(&run.program, job.options.jsx);
            let joined = namespaces::join(&mut run.program, &checked.scoping, &builder, factories);
            diagnostics.extend(joined.diagnostics);
            let is_left = enums::leave_signed_texts(&mut run.program, &checked.scoping, &builder);
            if joined.is_changed || is_left {
                checked = check(&run.program);
            }
            run.scoping = checked.scoping;
        }
        run.accept(diagnostics)?;
        Ok(run)
    }

    /// Transforms and prints.
    fn finish(mut self) -> Result<TranspileOutput, Vec<Diagnostic>> {
        let options = &self.job.options;
        let module = self.job.module();
        let transform = options.to_oxc(module).map_err(|reason| {
            vec![
                Diagnostic::error(format!("`{}` is not a target: {reason}", options.target))
                    .with_help(
                        "use es2015 to es2026, esnext, or a list such as `chrome120,node20`",
                    ),
            ]
        })?;
        let mut declarations = None;
        if options.declarations && self.program.source_type.is_typescript() {
            let (text, found) = declarations::declarations(self.arena, &self.program);
            self.accept(found)?;
            declarations = Some(text);
        }
        let scoping = std::mem::take(&mut self.scoping);
        let transformed = Transformer::new(self.arena, Path::new(&self.job.path), &transform)
            .build_with_scoping(scoping, &mut self.program);
        // oxc warns where `tsc` refuses (`import =` in ES modules, namespaces with mutable
        // exports): the output would not do what the source says. About syntax that the target
        // lacks it warns in types too, so that stays a warning.
        let mut found = transformed.diagnostics.into_vec();
        for diagnostic in &mut found {
            if !diagnostic.message.contains("target environment") {
                *diagnostic = diagnostic.clone().with_severity(OxcSeverity::Error);
            }
        }
        self.accept(found)?;

        let builder = AstBuilder::new(self.arena);
        if options.has_legacy_decorators() {
            legacy::reorder(&mut self.program, &builder);
        }
        let helpers = helpers::take_helpers(&mut self.program, &builder).map_err(|name| {
            vec![
                Diagnostic::error(format!(
                    "{}: lowering to `{}` needs the helper `{name}`, which is not available",
                    self.job.path, options.target
                ))
                .with_help("choose a later target, such as es2022"),
            ]
        })?;
        relink::relink(
            &mut self.program,
            &builder,
            self.job,
            self.has_dynamic_imports,
        );

        let mut prologue = Prologue::default();
        let mut renamed = None;
        if module == ModuleFormat::CommonJs {
            renamed = self.rewrite_to_commonjs(&mut prologue, &helpers)?;
        } else if !helpers.is_empty() {
            self.take_directives(&mut prologue);
            helpers.iter().for_each(|helper| prologue.line(helper));
        }
        let printed = self.print(prologue, renamed);
        Ok(TranspileOutput {
            declarations,
            ..printed
        })
    }

    fn rewrite_to_commonjs(
        &mut self,
        prologue: &mut Prologue,
        helpers: &[String],
    ) -> Result<Option<Scoping>, Vec<Diagnostic>> {
        let first_statement = self
            .program
            .body
            .first()
            .map(|s| oxc::span::GetSpan::span(s).start);
        let mut rewritten = commonjs::rewrite(
            self.arena,
            &mut self.program,
            self.has_export_assignment,
            self.has_module_syntax,
            self.has_dynamic_imports && self.job.requires_dynamic_imports(),
        );
        self.accept(std::mem::take(&mut rewritten.diagnostics))?;
        let still_first = self
            .program
            .body
            .first()
            .map(|s| oxc::span::GetSpan::span(s).start);
        self.take_directives(prologue);
        if first_statement != still_first {
            self.keep_leading_comments(prologue, first_statement.unwrap_or(0));
        }
        prologue.commonjs_head(&mut rewritten.head);
        helpers.iter().for_each(|helper| prologue.line(helper));
        Ok(rewritten.renamed)
    }

    /// Hashbang and directives must stay before everything else.
    fn take_directives(&mut self, prologue: &mut Prologue) {
        if let Some(hashbang) = self.program.hashbang.take() {
            prologue.line(&format!("#!{}", hashbang.value));
        }
        for directive in &self.program.directives {
            prologue.line(&format!("\"{}\";", directive.directive));
        }
        self.program.directives.clear();
    }

    /// A licence above the imports would vanish with them.
    fn keep_leading_comments(&self, prologue: &mut Prologue, first_statement: u32) {
        for comment in &self.program.comments {
            if comment.span.end <= first_statement && comment.is_block() {
                let text = &self.job.source[comment.span.start as usize..comment.span.end as usize];
                prologue.line(text);
            }
        }
    }

    fn print(self, mut prologue: Prologue, renamed: Option<Scoping>) -> TranspileOutput {
        let options = &self.job.options;
        let printed = Codegen::new()
            .with_options(CodegenOptions {
                source_map_path: options
                    .source_map
                    .then(|| Path::new(&self.job.path).to_owned()),
                ..CodegenOptions::default()
            })
            .with_scoping(renamed)
            .build(&self.program);
        let mut code = printed.code;
        let mut map = printed.map;
        if !prologue.text.is_empty() {
            let lines = prologue.line_count();
            map = map.map(|map| {
                source_map::with_prologue(map, &self.job.source, lines, &prologue.mapped)
            });
            prologue.text.push_str(&code);
            code = prologue.text;
        }
        let file = options
            .output_path
            .as_deref()
            .map(|path| path.rsplit('/').next().unwrap_or(path));
        let source_name = match &options.output_path {
            Some(output) => specifiers::relative_path(output, &self.job.path),
            None => self.job.path.clone(),
        };
        let map = map.map(|map| source_map::to_json(map, file, &source_name));
        if let (Some(file), true) = (file, map.is_some()) {
            code.push_str(&format!("//# sourceMappingURL={file}.map\n"));
        }
        TranspileOutput {
            code,
            map,
            declarations: None,
            warnings: self.warnings,
        }
    }

    /// Keeps warnings; fails with everything when there is an error.
    fn accept(&mut self, found: Vec<OxcDiagnostic>) -> Result<(), Vec<Diagnostic>> {
        let found: Vec<Diagnostic> = found.iter().map(|d| convert(d, self.job)).collect();
        self.warnings.extend(found);
        if self.warnings.iter().any(|d| d.severity == Severity::Error) {
            return Err(std::mem::take(&mut self.warnings));
        }
        Ok(())
    }
}

/// What is found out about a program before it is transformed.
struct Checked {
    scoping: Scoping,
    diagnostics: Vec<OxcDiagnostic>,
}

fn check<'a>(program: &'a Program<'a>) -> Checked {
    let checked = SemanticBuilder::new()
        .with_check_syntax_error(true)
        .with_enum_eval(true)
        .with_excess_capacity(2.0)
        .build(program);
    Checked {
        scoping: checked.semantic.into_scoping(),
        diagnostics: checked.diagnostics.into_vec(),
    }
}

fn source_type(path: &str) -> Result<SourceType, Diagnostic> {
    let source_type = SourceType::from_path(path).map_err(|_| {
        Diagnostic::error(format!("`{path}` is not a file that the transpiler reads"))
            .with_help("its name must end in .ts, .tsx, .mts, .cts, .js, .jsx, .mjs or .cjs")
    })?;
    // TypeScript's `.cts` is written with ES module syntax too.
    Ok(if source_type.is_typescript() {
        source_type.with_module(true)
    } else {
        source_type
    })
}

fn convert(found: &OxcDiagnostic, job: &TranspileJob) -> Diagnostic {
    let mut diagnostic = match found.severity {
        OxcSeverity::Error => Diagnostic::error(found.message.clone()),
        _ => Diagnostic::warning(found.message.clone()),
    };
    diagnostic.help = found.help.as_ref().map(ToString::to_string);
    match found.labels.first() {
        Some(label) => diagnostic.at(
            &job.path,
            &job.source,
            label.offset() as usize,
            label.len() as usize,
        ),
        None => diagnostic.at(&job.path, &job.source, 0, 0),
    }
}
