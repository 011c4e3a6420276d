//! Namespaces that are written in several parts.
//!
//! Owns: what a part calls that which others export: `a` becomes `N.a`, as `tsc` writes it, where oxc leaves a name that
//! nothing declares, or that means something else.
//! Does not know which names these are (`namespace_parts`), nor how a namespace becomes a function; oxc does, of one part after
//! the other.
//! Invariants: a name is replaced only where TypeScript's scopes find it in another part; what oxc would compile to something
//! else, and cannot be replaced, is a mistake; a program without namespaces is looked at from the top only.

use std::cell::Cell;

use oxc::allocator::ArenaBox;
use oxc::ast::ast::*;
use oxc::ast::builder::AstBuilder;
use oxc::ast_visit::{VisitMut, walk_mut};
use oxc::diagnostics::OxcDiagnostic;
use oxc::semantic::{Scoping, SymbolId};
use oxc::span::{GetSpan, Span};
use oxc::str::Ident;
use oxc::syntax::scope::{ScopeFlags, ScopeId};
use oxc::syntax::symbol::SymbolFlags;

use super::factories::Factories;
use super::namespace_parts::{Export, Parts, namespace};

/// What joining the parts gives.
#[derive(Default)]
pub(super) struct Joined {
    /// What has no right output.
    pub diagnostics: Vec<OxcDiagnostic>,
    /// Whether names were replaced: what is known about the program's scopes has to be found anew.
    pub is_changed: bool,
}

/// Makes the parts of each namespace see what the others export. `factories` are what elements of JSX become calls of.
pub(super) fn join<'a>(
    program: &mut Program<'a>,
    scoping: &Scoping,
    builder: &AstBuilder<'a>,
    factories: Option<Factories<'a>>,
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
        source: program.source_text,
        factories,
        is_changed: false,
        diagnostics: std::mem::take(&mut parts.diagnostics),
        parts,
        around: Vec::new(),
        scopes: Vec::new(),
        in_enum: None,
        used: None,
    };
    joiner.visit_program(program);
    Joined {
        diagnostics: joiner.diagnostics,
        is_changed: joiner.is_changed,
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

/// A name that is read, or assigned to.
#[derive(Clone, Copy)]
struct Use<'a> {
    name: Ident<'a>,
    span: Span,
    scope: ScopeId,
    /// What it means as far as oxc knows.
    symbol: Option<SymbolId>,
}

struct Joiner<'a, 'b> {
    builder: &'b AstBuilder<'a>,
    scoping: &'b Scoping,
    source: &'a str,
    factories: Option<Factories<'a>>,
    parts: Parts,
    /// Outermost first.
    around: Vec<Around<'a>>,
    /// Those that are visited, outermost first.
    scopes: Vec<ScopeId>,
    /// The enum whose members' values are visited.
    in_enum: Option<SymbolId>,
    /// Of the value of an enum's member: the `E.b` or `f` (of a call) that is visited.
    used: Option<Span>,
    is_changed: bool,
    diagnostics: Vec<OxcDiagnostic>,
}

impl<'a> Joiner<'a, '_> {
    /// The name of the namespace of which another part exports what `identifier` means. Where that name cannot be written,
    /// it is a mistake.
    fn elsewhere(&mut self, identifier: &IdentifierReference<'a>) -> Option<Ident<'a>> {
        let reference = self.scoping.get_reference(identifier.reference_id.get()?);
        if !reference.is_value() {
            return None;
        }
        let used = Use {
            name: identifier.name,
            span: identifier.span,
            scope: reference.scope_id(),
            symbol: reference.symbol_id(),
        };
        let space = self.space(used)?;
        if self.in_enum.is_none() {
            return Some(space);
        }
        let written = self.used.filter(|it| it.start == used.span.start);
        let help = match written {
            Some(written) => format!("write `{space}.{}`", written.source_text(self.source)),
            None => "write its value into the enum".to_owned(),
        };
        self.mistake(used.name, used.span, space, help);
        None
    }

    /// The same of any name. That something else is called as the namespace is a mistake.
    fn space(&mut self, used: Use<'a>) -> Option<Ident<'a>> {
        let around = self.exporter(used)?;
        let (space, symbol) = (around.name, around.symbol);
        let mut scopes = self.scoping.scope_ancestors(used.scope);
        let seen = scopes.find_map(|scope| {
            let binding = self.scoping.get_binding(scope, space)?;
            (binding == symbol || self.exists(binding)).then_some(binding)
        });
        if seen == Some(symbol) {
            return Some(space);
        }
        let help = format!("another `{space}` is nearer here: give that another name");
        self.mistake(used.name, used.span, space, help);
        None
    }

    /// Whether the output has it: neither types nor what is only declared.
    fn exists(&self, symbol: SymbolId) -> bool {
        let exists = |flags: SymbolFlags| flags.is_value() && !flags.contains(SymbolFlags::Ambient);
        match self.scoping.symbol_redeclarations(symbol) {
            [] => exists(self.scoping.symbol_flags(symbol)),
            all => all.iter().any(|it| exists(it.flags)),
        }
    }

    fn mistake(&mut self, name: Ident<'a>, span: Span, space: Ident<'a>, help: String) {
        let message = format!("`{name}` is exported by another part of namespace `{space}`");
        let mistake = OxcDiagnostic::error(message).with_help(help);
        self.diagnostics.push(mistake.with_label(span));
    }

    /// What makes elements is called by its short name: refuses one that another part exports.
    fn factory(&mut self, name: &'a str, span: Span) {
        let Some(scope) = self.scopes.last().copied() else {
            return;
        };
        let name = Ident::from(name);
        let symbol = self.scoping.scope_ancestors(scope).find_map(|scope| {
            let binding = self.scoping.get_binding(scope, name)?;
            let is_value = self.scoping.symbol_flags(binding).is_value();
            is_value.then_some(binding)
        });
        let used = Use {
            name,
            span,
            scope,
            symbol,
        };
        if let Some(space) = self.space(used) {
            let help =
                format!("it makes this element: write `const {name} = {space}.{name};` before");
            self.mistake(used.name, used.span, space, help);
        }
    }

    /// As TypeScript looks for it: from the inside to the outside, at each part among its own declarations, then among what all
    /// parts export.
    fn exporter(&self, used: Use<'a>) -> Option<&Around<'a>> {
        if self.is_of_enum(used.name) {
            return None;
        }
        let declared = used
            .symbol
            .map(|symbol| self.scoping.symbol_scope_id(symbol));
        for around in self.around.iter().rev() {
            if around.is_ambient {
                return None;
            }
            let export = self.parts.spaces[around.space].get(used.name.as_str());
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

/// In `E.b` all of it, in `f()` the `f`: what gets the namespace's name before it.
fn used(expression: &Expression<'_>) -> Option<Span> {
    let (first, all) = match expression {
        Expression::StaticMemberExpression(member) => (&member.object, member.span),
        Expression::ComputedMemberExpression(member) => (&member.object, member.span),
        Expression::CallExpression(call) => (&call.callee, call.callee.span()),
        _ => return None,
    };
    matches!(first, Expression::Identifier(_)).then_some(all)
}

impl<'a> VisitMut<'a> for Joiner<'a, '_> {
    fn enter_scope(&mut self, _: ScopeFlags, scope: &Cell<Option<ScopeId>>) {
        let outer = self.scopes.last().copied();
        self.scopes.extend(scope.get().or(outer));
    }

    fn leave_scope(&mut self) {
        self.scopes.pop();
    }

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
            self.used = used(expression);
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

    fn visit_jsx_element(&mut self, element: &mut JSXElement<'a>) {
        if let Some(factories) = self.factories {
            self.factory(factories.element, element.opening_element.name.span());
        }
        walk_mut::walk_jsx_element(self, element);
    }

    fn visit_jsx_fragment(&mut self, fragment: &mut JSXFragment<'a>) {
        if let Some(Factories {
            element,
            fragment: name,
        }) = self.factories
        {
            self.factory(element, fragment.opening_fragment.span);
            if name != element {
                self.factory(name, fragment.opening_fragment.span);
            }
        }
        walk_mut::walk_jsx_fragment(self, fragment);
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
            let name = identifier.name;
            self.mistake(
                name,
                identifier.span,
                space,
                format!("write `{space}.{name}`"),
            );
        }
    }
}
