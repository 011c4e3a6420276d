//! Namespaces that are written in several parts.
//!
//! Owns: which names the parts of a namespace export, and what a part calls those of the others: `a` becomes `N.a`, as `tsc`
//! writes it, where oxc leaves a name that nothing declares, or that means something else.
//! Does not know how a namespace becomes a function; oxc does, of one part after the other.
//! Invariants: a name is replaced only where TypeScript's scopes find it in another part; what oxc would compile to something
//! else, and cannot be replaced, is a mistake; a program without namespaces is looked at from the top only.

use std::collections::HashMap;

use oxc::allocator::ArenaBox;
use oxc::ast::ast::*;
use oxc::ast::builder::AstBuilder;
use oxc::ast_visit::{VisitMut, walk_mut};
use oxc::diagnostics::OxcDiagnostic;
use oxc::semantic::{Scoping, SymbolId};
use oxc::str::Ident;
use oxc::syntax::scope::ScopeId;

use super::survey::{declared_names, exists_at_run_time, namespace_has_values};

/// What joining the parts gives.
#[derive(Default)]
pub(super) struct Joined {
    /// What has no right output.
    pub diagnostics: Vec<OxcDiagnostic>,
    /// Whether names were replaced: what is known about the program's scopes has to be found anew.
    pub is_changed: bool,
}

/// Makes the parts of each namespace see what the others export.
pub(super) fn join<'a>(
    program: &mut Program<'a>,
    scoping: &Scoping,
    builder: &AstBuilder<'a>,
) -> Joined {
    let is_ours = program.source_type.is_typescript()
        && !program.source_type.is_typescript_definition()
        && program
            .body
            .iter()
            .any(|statement| namespace(statement).is_some());
    if !is_ours {
        return Joined::default();
    }
    let mut parts = Parts::default();
    for statement in &program.body {
        if let Some(declaration) = namespace(statement) {
            parts.part(declaration, None, false);
        }
    }
    let mut joiner = Joiner {
        builder,
        scoping,
        is_changed: false,
        diagnostics: std::mem::take(&mut parts.diagnostics),
        parts,
        around: Vec::new(),
        in_enum: None,
    };
    joiner.visit_program(program);
    Joined {
        diagnostics: joiner.diagnostics,
        is_changed: joiner.is_changed,
    }
}

fn namespace<'s, 'a>(statement: &'s Statement<'a>) -> Option<&'s TSNamespaceDeclaration<'a>> {
    let declaration = match statement {
        Statement::ExportDeclaration(export) => &export.declaration,
        other => other.as_declaration()?,
    };
    match declaration {
        Declaration::TSNamespaceDeclaration(namespace) => Some(namespace),
        _ => None,
    }
}

/// What is exported under one name by the parts of a namespace.
#[derive(Default)]
struct Export {
    /// The parts that export something under it that exists at run time.
    values: Vec<ScopeId>,
    /// The parts that say that something else makes it exist.
    declared: Vec<ScopeId>,
    /// The namespace of this name.
    space: Option<usize>,
}

/// All namespaces of a program, and which parts they have.
#[derive(Default)]
struct Parts {
    /// The exports of each namespace, of all its parts.
    spaces: Vec<HashMap<String, Export>>,
    /// The namespaces that no other one exports.
    roots: HashMap<SymbolId, usize>,
    /// By the scope of a part: its namespace.
    of_scope: HashMap<ScopeId, usize>,
    diagnostics: Vec<OxcDiagnostic>,
}

impl Parts {
    /// Notes one part, which `exporter` exports.
    fn part(
        &mut self,
        part: &TSNamespaceDeclaration<'_>,
        exporter: Option<usize>,
        is_ambient: bool,
    ) {
        let (Some(scope), Some(symbol)) = (part.scope_id.get(), part.id.symbol_id.get()) else {
            return;
        };
        let next = self.spaces.len();
        let space = match exporter {
            Some(exporter) => {
                let export = self.export(exporter, &part.id.name);
                *export.space.get_or_insert(next)
            }
            None => *self.roots.entry(symbol).or_insert(next),
        };
        if space == next {
            self.spaces.push(HashMap::new());
        }
        self.of_scope.insert(scope, space);
        let is_ambient = is_ambient || part.declare;
        match &part.body {
            TSNamespaceDeclarationBody::TSNamespaceDeclaration(inner) => {
                if !is_ambient && namespace_has_values(inner) {
                    self.export(space, &inner.id.name).values.push(scope);
                }
                self.part(inner, Some(space), is_ambient);
            }
            TSNamespaceDeclarationBody::TSModuleBlock(block) => {
                for statement in &block.body {
                    match statement {
                        Statement::ExportDeclaration(export) => {
                            self.declaration(&export.declaration, space, scope, is_ambient);
                        }
                        other => match (other.as_declaration(), namespace(other)) {
                            (Some(declaration), _) if is_ambient => {
                                self.declaration(declaration, space, scope, true);
                            }
                            (_, Some(inner)) => self.part(inner, None, false),
                            _ => {}
                        },
                    }
                }
            }
        }
    }

    fn export(&mut self, space: usize, name: &str) -> &mut Export {
        self.spaces[space].entry(name.to_owned()).or_default()
    }

    /// Notes what the part with this scope exports.
    fn declaration(
        &mut self,
        declaration: &Declaration<'_>,
        space: usize,
        scope: ScopeId,
        is_ambient: bool,
    ) {
        let is_ambient = is_ambient || declaration.declare();
        let is_value = match declaration {
            Declaration::FunctionDeclaration(_)
            | Declaration::VariableDeclaration(_)
            | Declaration::ClassDeclaration(_)
            | Declaration::TSEnumDeclaration(_) => true,
            other => !is_ambient && exists_at_run_time(other),
        };
        if !is_ambient {
            self.refuse(declaration, space, scope);
        }
        for name in declared_names(declaration).into_iter().filter(|_| is_value) {
            let export = self.export(space, name);
            if is_ambient {
                export.declared.push(scope);
            } else {
                export.values.push(scope);
            }
        }
        if let Declaration::TSNamespaceDeclaration(inner) = declaration {
            self.part(inner, Some(space), is_ambient);
        }
    }

    /// Exports that would have another value than in `tsc`'s output.
    fn refuse(&mut self, declaration: &Declaration<'_>, space: usize, scope: ScopeId) {
        match declaration {
            Declaration::VariableDeclaration(variables) if !variables.kind.is_const() => {
                let kind = variables.kind.as_str();
                for name in declared_names(declaration) {
                    let message = format!(
                        "`export {kind} {name}` in a namespace: what is assigned to `{name}` later would not be seen outside of it"
                    );
                    let help = format!(
                        "write `export const {name}`, or leave `export` out and export functions that read and set `{name}`"
                    );
                    let mistake = OxcDiagnostic::error(message).with_help(help);
                    self.diagnostics.push(mistake.with_label(variables.span));
                }
            }
            Declaration::TSEnumDeclaration(it) => {
                let name = it.id.name;
                let export = self.export(space, &name);
                if export.values.iter().any(|other| *other != scope) {
                    let message = format!(
                        "`{name}` is exported by an earlier part of the namespace, whose members this enum would lose"
                    );
                    let mistake = OxcDiagnostic::error(message)
                        .with_help("write the members of both into one enum");
                    self.diagnostics.push(mistake.with_label(it.id.span));
                }
            }
            _ => {}
        }
    }
}

/// A part around what is visited.
struct Around<'a> {
    space: usize,
    scope: ScopeId,
    symbol: SymbolId,
    name: Ident<'a>,
    is_ambient: bool,
}

struct Joiner<'a, 'b> {
    builder: &'b AstBuilder<'a>,
    scoping: &'b Scoping,
    parts: Parts,
    /// Outermost first.
    around: Vec<Around<'a>>,
    /// The enum whose members' values are visited.
    in_enum: Option<SymbolId>,
    is_changed: bool,
    diagnostics: Vec<OxcDiagnostic>,
}

impl<'a> Joiner<'a, '_> {
    /// The name of the namespace of which another part exports what `identifier` means. Where that name cannot be written,
    /// it is a mistake.
    fn elsewhere(&mut self, identifier: &IdentifierReference<'a>) -> Option<Ident<'a>> {
        let around = self.exporter(identifier)?;
        let (space, symbol) = (around.name, around.symbol);
        let reference = self.scoping.get_reference(identifier.reference_id.get()?);
        let seen = self.scoping.find_binding(reference.scope_id(), space);
        let help = if self.in_enum.is_some() {
            "write its value into the enum".to_owned()
        } else if seen != Some(symbol) {
            format!("another `{space}` is nearer here: give that another name")
        } else {
            return Some(space);
        };
        self.mistake(identifier, space, help);
        None
    }

    fn mistake(&mut self, identifier: &IdentifierReference<'a>, space: Ident<'a>, help: String) {
        let name = identifier.name;
        let message = format!("`{name}` is exported by another part of namespace `{space}`");
        let mistake = OxcDiagnostic::error(message).with_help(help);
        self.diagnostics.push(mistake.with_label(identifier.span));
    }

    /// As TypeScript looks for it: from the inside to the outside, at each part among its own declarations, then among what all
    /// parts export.
    fn exporter(&self, identifier: &IdentifierReference<'a>) -> Option<&Around<'a>> {
        let name = identifier.name.as_str();
        let reference = self.scoping.get_reference(identifier.reference_id.get()?);
        if !reference.is_value() || self.is_of_enum(identifier.name) {
            return None;
        }
        let declared = reference.symbol_id();
        let declared = declared.map(|symbol| self.scoping.symbol_scope_id(symbol));
        for around in self.around.iter().rev() {
            if around.is_ambient {
                return None;
            }
            let export = self.parts.spaces[around.space].get(name);
            let is_inside = declared.is_some_and(|declared| {
                let mut scopes = self.scoping.scope_ancestors(declared);
                scopes.any(|scope| scope == around.scope)
            });
            if is_inside {
                let is_declared_only = declared == Some(around.scope)
                    && export.is_some_and(|export| export.declared.contains(&around.scope));
                return is_declared_only.then_some(around);
            }
            let is_value = |it: &Export| !it.values.is_empty() || !it.declared.is_empty();
            if export.is_some_and(is_value) {
                return Some(around);
            }
        }
        None
    }

    /// Whether the enum that is visited has such a member, perhaps in another part of it.
    fn is_of_enum(&self, name: Ident<'a>) -> bool {
        let scopes = self
            .in_enum
            .and_then(|it| self.scoping.get_enum_body_scopes(it));
        let mut scopes = scopes.into_iter().flatten();
        scopes.any(|scope| self.scoping.get_binding(*scope, name).is_some())
    }

    fn qualified(
        &mut self,
        identifier: &IdentifierReference<'a>,
    ) -> Option<ArenaBox<'a, TSQualifiedName<'a>>> {
        let space = self.elsewhere(identifier)?;
        let (span, builder) = (identifier.span, self.builder);
        let left = TSTypeName::new_identifier_reference(span, space, builder);
        let right = IdentifierName::new(span, identifier.name, builder);
        self.is_changed = true;
        Some(TSQualifiedName::boxed(span, left, right, builder))
    }
}

impl<'a> VisitMut<'a> for Joiner<'a, '_> {
    fn visit_ts_namespace_declaration(&mut self, part: &mut TSNamespaceDeclaration<'a>) {
        let scope = part.scope_id.get();
        let space = scope.and_then(|scope| self.parts.of_scope.get(&scope).copied());
        let (Some(scope), Some(space), Some(symbol)) = (scope, space, part.id.symbol_id.get())
        else {
            return;
        };
        let outer = self.around.last();
        self.around.push(Around {
            space,
            scope,
            symbol,
            name: part.id.name,
            is_ambient: part.declare || outer.is_some_and(|outer| outer.is_ambient),
        });
        walk_mut::walk_ts_namespace_declaration(self, part);
        self.around.pop();
    }

    fn visit_statement(&mut self, statement: &mut Statement<'a>) {
        if !self.around.is_empty() || namespace(statement).is_some() {
            walk_mut::walk_statement(self, statement);
        }
    }

    fn visit_ts_enum_declaration(&mut self, declaration: &mut TSEnumDeclaration<'a>) {
        let outer = std::mem::replace(&mut self.in_enum, declaration.id.symbol_id.get());
        walk_mut::walk_ts_enum_declaration(self, declaration);
        self.in_enum = outer;
    }

    fn visit_expression(&mut self, expression: &mut Expression<'a>) {
        let Expression::Identifier(identifier) = expression else {
            return walk_mut::walk_expression(self, expression);
        };
        if let Some(space) = self.elsewhere(identifier) {
            let (span, builder) = (identifier.span, self.builder);
            let name = IdentifierName::new(span, identifier.name, builder);
            let object = Expression::new_identifier(span, space, builder);
            *expression =
                Expression::new_static_member_expression(span, object, name, false, builder);
            self.is_changed = true;
        }
    }

    fn visit_object_property(&mut self, property: &mut ObjectProperty<'a>) {
        walk_mut::walk_object_property(self, property);
        property.shorthand &= matches!(property.value, Expression::Identifier(_));
    }

    fn visit_ts_import_equals_declaration(&mut self, import: &mut TSImportEqualsDeclaration<'a>) {
        match &mut import.module_reference {
            TSModuleReference::ExternalModuleReference(_) => {}
            TSModuleReference::IdentifierReference(identifier) => {
                if let Some(name) = self.qualified(identifier) {
                    import.module_reference = TSModuleReference::QualifiedName(name);
                }
            }
            TSModuleReference::QualifiedName(name) => {
                let mut first = &mut name.left;
                while let TSTypeName::QualifiedName(name) = first {
                    first = &mut name.left;
                }
                if let TSTypeName::IdentifierReference(identifier) = first
                    && let Some(name) = self.qualified(identifier)
                {
                    *first = TSTypeName::QualifiedName(name);
                }
            }
        }
    }

    fn visit_ts_type(&mut self, _: &mut TSType<'a>) {
        // Gone in the output.
    }

    fn visit_identifier_reference(&mut self, identifier: &mut IdentifierReference<'a>) {
        // Where it is read, it was replaced as an expression; it is left as a target and as the name of an element.
        if let Some(space) = self.elsewhere(identifier) {
            let help = format!("write `{space}.{}`", identifier.name);
            self.mistake(identifier, space, help);
        }
    }
}
