//! ES modules to CommonJS, on the tree that the TypeScript transform leaves.
//!
//! Owns: which module requests exist, what each import binding becomes, and the export list; the
//! uses of the bindings are replaced by [`super::uses`], the text of the new module head is
//! written by [`super::prologue`].
//! Does not know: TypeScript syntax (gone by now) and file names.
//!
//! Rules, each with a test in `transpile/tests.rs`:
//! 1. Imports are hoisted, in order of first request, and stay live: a use of `a` becomes
//!    `m_1.a`, a call `(0, m_1.a)()`.
//! 2. Exports of local bindings are getters, defined before the first `require`, so that modules
//!    in a cycle see functions at once and later values as soon as they exist.
//! 3. Re-exports are defined after their `require`; their names exist before, as `undefined`.
//! 4. Explicit exports win over `export *`; `default` never passes through `export *`.
//! 5. Every generated name is unique in the file; a top-level binding that is called `exports`,
//!    `require`, `module`, `__filename` or `__dirname` is renamed.
//! 6. `import()` is a `require` too ([`super::dynamic`]).

use std::collections::{HashMap, HashSet};

use oxc::allocator::{Allocator, TakeIn};
use oxc::ast::ast::*;
use oxc::ast::builder::AstBuilder;
use oxc::diagnostics::OxcDiagnostic;
use oxc::semantic::{Scoping, SemanticBuilder, SymbolId};
use oxc::span::SPAN;
use oxc::str::Ident;

use super::dynamic::{self, LoaderNames};
use super::uses;

/// Names that Node.js gives to every CommonJS module.
const MODULE_SCOPE_NAMES: [&str; 5] = ["exports", "require", "module", "__filename", "__dirname"];

/// One `require` of the output.
#[derive(Debug, Default)]
pub(super) struct Request {
    /// The specifier as written.
    pub specifier: String,
    /// Byte offset of the first statement that asks for it.
    pub source_offset: u32,
    /// The variable that holds the module, when something uses it.
    pub variable: Option<String>,
    /// A default binding is wanted.
    pub wants_default: bool,
    /// A namespace object is wanted.
    pub wants_namespace: bool,
    /// Named bindings are wanted.
    pub wants_named: bool,
    /// Exported name and property (`None`: the namespace itself).
    pub reexports: Vec<(String, Option<String>)>,
    /// `export *` is wanted.
    pub export_star: bool,
}

/// Everything that the module head needs.
#[derive(Debug, Default)]
pub(super) struct ModuleHead {
    /// Whether the source was an ES module (else nothing marks it as one).
    pub is_es_module: bool,
    /// `export =` was used: no `__esModule` mark.
    pub has_export_assignment: bool,
    /// Exported name and local expression.
    pub local_exports: Vec<(String, String)>,
    /// Requests in order.
    pub requests: Vec<Request>,
    /// What loads the modules of `import()`.
    pub dynamic: LoaderNames,
    /// All names of the file, so that helpers can avoid them.
    pub taken_names: HashSet<String>,
}

/// What the rewriting leaves besides the changed tree.
pub(super) struct Rewritten {
    /// For the prologue.
    pub head: ModuleHead,
    /// Given to the code generator when bindings were renamed.
    pub renamed: Option<Scoping>,
    /// What CommonJS cannot express.
    pub diagnostics: Vec<OxcDiagnostic>,
}

/// Rewrites `program` in place.
pub(super) fn rewrite<'a>(
    allocator: &'a Allocator,
    program: &mut Program<'a>,
    has_export_assignment: bool,
    has_module_syntax: bool,
    has_dynamic_imports: bool,
) -> Rewritten {
    let mut scoping = SemanticBuilder::new()
        .build(program)
        .semantic
        .into_scoping();
    let mut collector = Collector {
        builder: AstBuilder::new(allocator),
        head: ModuleHead {
            has_export_assignment,
            taken_names: names_of(&scoping),
            ..ModuleHead::default()
        },
        bindings: HashMap::new(),
        diagnostics: Vec::new(),
    };
    let renamed = collector.rename_module_scope_names(&mut scoping);
    collector.collect_imports(program);
    collector.rewrite_statements(program, &scoping);
    collector.head.is_es_module = has_module_syntax;
    collector.name_requests();
    if has_dynamic_imports {
        let builder = AstBuilder::new(allocator);
        collector.head.dynamic =
            dynamic::rewrite(program, builder, &mut collector.head.taken_names);
    }
    let mut diagnostics = collector.diagnostics;
    diagnostics.extend(uses::rewrite(
        allocator,
        program,
        &scoping,
        &collector.bindings,
        &collector.head.requests,
    ));
    Rewritten {
        head: collector.head,
        renamed: renamed.then_some(scoping),
        diagnostics,
    }
}

fn names_of(scoping: &Scoping) -> HashSet<String> {
    let globals = scoping
        .root_unresolved_references()
        .keys()
        .map(|name| name.to_string());
    let mut names: HashSet<String> = scoping.symbol_names().map(str::to_owned).collect();
    names.extend(globals);
    names.extend(MODULE_SCOPE_NAMES.map(str::to_owned));
    names
}

/// `base_1`, `base_2`, … : the first that is free, which is then taken.
pub(super) fn unique_name(base: &str, taken: &mut HashSet<String>) -> String {
    let name = (1..)
        .map(|number| format!("{base}_{number}"))
        .find(|name| !taken.contains(name))
        .unwrap_or_else(|| base.to_owned());
    taken.insert(name.clone());
    name
}

/// `name` if it is free, else as [`unique_name`].
pub(super) fn free_name(name: &str, taken: &mut HashSet<String>) -> String {
    if taken.insert(name.to_owned()) {
        return name.to_owned();
    }
    unique_name(name, taken)
}

/// An import binding: a property of a request, or (`None`) its namespace.
pub(super) struct Binding {
    /// Index of the request.
    pub request: usize,
    /// The property.
    pub property: Option<String>,
}

struct Collector<'a> {
    builder: AstBuilder<'a>,
    head: ModuleHead,
    bindings: HashMap<SymbolId, Binding>,
    diagnostics: Vec<OxcDiagnostic>,
}

impl<'a> Collector<'a> {
    fn rename_module_scope_names(&mut self, scoping: &mut Scoping) -> bool {
        let mut renamed = false;
        for name in MODULE_SCOPE_NAMES {
            if let Some(symbol) = scoping.get_root_binding(Ident::from(name)) {
                let unique = unique_name(name, &mut self.head.taken_names);
                scoping.set_symbol_name(symbol, Ident::from(unique.as_str()));
                renamed = true;
            }
        }
        renamed
    }

    fn request(&mut self, specifier: &str, source_offset: u32) -> usize {
        let known = self
            .head
            .requests
            .iter()
            .position(|r| r.specifier == specifier);
        known.unwrap_or_else(|| {
            self.head.requests.push(Request {
                specifier: specifier.to_owned(),
                source_offset,
                ..Request::default()
            });
            self.head.requests.len() - 1
        })
    }

    /// All requests in source order, and what every import binding stands for.
    fn collect_imports(&mut self, program: &Program<'a>) {
        for statement in &program.body {
            match statement {
                Statement::ImportDeclaration(import) => {
                    let request = self.request(&import.source.value, import.span.start);
                    if import.phase.is_some() {
                        self.diagnostics.push(
                            OxcDiagnostic::error(
                                "`import defer` and `import source` have no CommonJS form",
                            )
                            .with_label(import.span),
                        );
                    }
                    for specifier in import.specifiers.iter().flatten() {
                        self.bind(request, specifier);
                    }
                }
                Statement::ExportFromDeclaration(export) => {
                    self.request(&export.source.value, export.span.start);
                }
                Statement::ExportAllDeclaration(export) => {
                    self.request(&export.source.value, export.span.start);
                }
                _ => {}
            }
        }
    }

    fn bind(&mut self, request: usize, specifier: &ImportDeclarationSpecifier<'a>) {
        let wants = &mut self.head.requests[request];
        let property = match specifier {
            ImportDeclarationSpecifier::ImportNamespaceSpecifier(_) => {
                wants.wants_namespace = true;
                None
            }
            ImportDeclarationSpecifier::ImportDefaultSpecifier(_) => {
                wants.wants_default = true;
                Some("default".to_owned())
            }
            ImportDeclarationSpecifier::ImportSpecifier(named) => {
                let name = named.imported.name().to_string();
                *(if name == "default" {
                    &mut wants.wants_default
                } else {
                    &mut wants.wants_named
                }) = true;
                Some(name)
            }
        };
        if let Some(symbol) = specifier.local().symbol_id.get() {
            self.bindings.insert(symbol, Binding { request, property });
        }
    }

    /// Takes the module statements out of the body and notes what they export.
    fn rewrite_statements(&mut self, program: &mut Program<'a>, scoping: &Scoping) {
        let old = program.body.take_in(&self.builder);
        for statement in old {
            match statement {
                Statement::ImportDeclaration(_) => {}
                Statement::ExportAllDeclaration(export) => self.export_all(&export),
                Statement::ExportFromDeclaration(export) => self.export_from(&export),
                Statement::ExportNamedDeclaration(export) => {
                    for specifier in &export.specifiers {
                        self.export_local(specifier, scoping);
                    }
                }
                Statement::ExportDeclaration(export) => {
                    let export = export.unbox();
                    self.export_declaration(&export.declaration, scoping);
                    program.body.push(Statement::from(export.declaration));
                }
                Statement::ExportDefaultDeclaration(export) => {
                    let export = export.unbox();
                    let statement = self.export_default(export, scoping);
                    program.body.push(statement);
                }
                other => program.body.push(other),
            }
        }
    }

    fn export_all(&mut self, export: &ExportAllDeclaration<'a>) {
        let index = self.request(&export.source.value, export.span.start);
        let request = &mut self.head.requests[index];
        match &export.exported {
            None => request.export_star = true,
            Some(name) => {
                request.wants_namespace = true;
                request.reexports.push((name.name().to_string(), None));
            }
        }
    }

    fn export_from(&mut self, export: &ExportFromDeclaration<'a>) {
        let index = self.request(&export.source.value, export.span.start);
        let request = &mut self.head.requests[index];
        for specifier in &export.specifiers {
            let property = specifier.local.name().to_string();
            if property == "default" {
                request.wants_default = true;
            } else {
                request.wants_named = true;
            }
            request
                .reexports
                .push((specifier.exported.name().to_string(), Some(property)));
        }
    }

    fn export_local(&mut self, specifier: &ExportSpecifier<'a>, scoping: &Scoping) {
        let exported = specifier.exported.name().to_string();
        let symbol = match &specifier.local {
            ModuleExportName::IdentifierReference(local) => local
                .reference_id
                .get()
                .and_then(|reference| scoping.get_reference(reference).symbol_id()),
            _ => None,
        };
        if let Some(binding) = symbol.and_then(|symbol| self.bindings.get(&symbol)) {
            let property = binding.property.clone();
            self.head.requests[binding.request]
                .reexports
                .push((exported, property));
            return;
        }
        let local = symbol.map_or_else(
            || specifier.local.name().to_string(),
            |symbol| scoping.symbol_name(symbol).to_owned(),
        );
        self.head.local_exports.push((exported, local));
    }

    fn export_declaration(&mut self, declaration: &Declaration<'a>, scoping: &Scoping) {
        let mut identifiers = Vec::new();
        if let Declaration::VariableDeclaration(variables) = declaration {
            for declarator in &variables.declarations {
                identifiers.extend(declarator.id.get_binding_identifiers());
            }
        } else {
            identifiers.extend(declaration.id());
        }
        for identifier in identifiers {
            let local = local_name(identifier, scoping);
            self.head
                .local_exports
                .push((identifier.name.to_string(), local));
        }
    }

    fn export_default(
        &mut self,
        export: ExportDefaultDeclaration<'a>,
        scoping: &Scoping,
    ) -> Statement<'a> {
        let span = export.span;
        let (local, statement) = match export.declaration {
            ExportDefaultDeclarationKind::FunctionDeclaration(mut function) => {
                let local = self.named_or_default(&mut function.id, scoping);
                (local, Statement::FunctionDeclaration(function))
            }
            ExportDefaultDeclarationKind::ClassDeclaration(mut class) => {
                let local = self.named_or_default(&mut class.id, scoping);
                (local, Statement::ClassDeclaration(class))
            }
            other => {
                let local = unique_name("default", &mut self.head.taken_names);
                let name = self.arena_ident(&local);
                // Interfaces are gone with the types.
                (local, self.constant(span, name, other.into_expression()))
            }
        };
        self.head.local_exports.push(("default".to_owned(), local));
        statement
    }

    fn named_or_default(
        &mut self,
        id: &mut Option<BindingIdentifier<'a>>,
        scoping: &Scoping,
    ) -> String {
        if let Some(id) = id {
            return local_name(id, scoping);
        }
        let local = unique_name("default", &mut self.head.taken_names);
        let name = self.arena_ident(&local);
        *id = Some(BindingIdentifier::new(SPAN, name, &self.builder));
        local
    }

    fn arena_ident(&self, name: &str) -> Ident<'a> {
        Ident::from_str_in(name, &self.builder)
    }

    fn constant(&self, span: Span, name: Ident<'a>, value: Expression<'a>) -> Statement<'a> {
        let id = BindingPattern::new_binding_identifier(SPAN, name, &self.builder);
        let declarator = VariableDeclarator::new(SPAN, id, None, Some(value), false, &self.builder);
        let declaration = Declaration::new_variable_declaration(
            span,
            VariableDeclarationKind::Const,
            [declarator],
            false,
            &self.builder,
        );
        Statement::from(declaration)
    }

    /// Gives a variable to every request that something refers to.
    fn name_requests(&mut self) {
        let mut used: HashSet<usize> = self.bindings.values().map(|b| b.request).collect();
        for (index, request) in self.head.requests.iter_mut().enumerate() {
            if !request.reexports.is_empty() {
                used.insert(index);
            }
            if used.contains(&index) {
                let base = variable_base(&request.specifier);
                request.variable = Some(unique_name(&base, &mut self.head.taken_names));
            }
        }
    }
}

fn local_name(identifier: &BindingIdentifier<'_>, scoping: &Scoping) -> String {
    identifier.symbol_id.get().map_or_else(
        || identifier.name.to_string(),
        |symbol| scoping.symbol_name(symbol).to_owned(),
    )
}

/// A readable variable name from a specifier: `./internal/Observable` gives `Observable`.
fn variable_base(specifier: &str) -> String {
    let last = specifier
        .rsplit('/')
        .find(|part| !part.is_empty() && !part.chars().all(|c| c == '.'))
        .unwrap_or("module");
    let last = last.split_once('.').map_or(last, |(stem, _)| stem);
    let mut base: String = last
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '_' || c == '$' {
                c
            } else {
                '_'
            }
        })
        .collect();
    if base.is_empty() || base.starts_with(|c: char| c.is_ascii_digit()) {
        base.insert(0, '_');
    }
    base
}
