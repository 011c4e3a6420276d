//! Uses of import bindings, replaced by accesses to the required module.
//!
//! Owns: every position in which an imported name can stand, and what CommonJS cannot express.
//! Does not know: where the bindings come from; `commonjs` tells.
//! Invariant: after the pass no reference to an import binding is left.

use std::collections::HashMap;

use oxc::allocator::{Allocator, ArenaBox};
use oxc::ast::ast::*;
use oxc::ast::builder::AstBuilder;
use oxc::ast_visit::{VisitMut, walk_mut};
use oxc::diagnostics::OxcDiagnostic;
use oxc::semantic::{Scoping, SymbolId};
use oxc::span::{GetSpan, SPAN};
use oxc::str::Ident;
use oxc::syntax::identifier::is_identifier_name;
use oxc::syntax::scope::ScopeFlags;

use super::commonjs::{Binding, Request};

/// Replaces all uses of `bindings` in the program; returns what has no CommonJS form.
pub(super) fn rewrite<'a>(
    allocator: &'a Allocator,
    program: &mut Program<'a>,
    scoping: &Scoping,
    bindings: &HashMap<SymbolId, Binding>,
    requests: &[Request],
) -> Vec<OxcDiagnostic> {
    let mut rewriter = Rewriter {
        builder: AstBuilder::new(allocator),
        scoping,
        bindings,
        requests,
        function_depth: 0,
        diagnostics: Vec::new(),
    };
    rewriter.visit_program(program);
    rewriter.diagnostics
}

/// Replaces the uses of import bindings.
struct Rewriter<'a, 'c> {
    builder: AstBuilder<'a>,
    scoping: &'c Scoping,
    bindings: &'c HashMap<SymbolId, Binding>,
    requests: &'c [Request],
    function_depth: u32,
    diagnostics: Vec<OxcDiagnostic>,
}

impl<'a> Rewriter<'a, '_> {
    fn binding_of(&self, identifier: &IdentifierReference<'a>) -> Option<&Binding> {
        let reference = identifier.reference_id.get()?;
        let symbol = self.scoping.get_reference(reference).symbol_id()?;
        self.bindings.get(&symbol)
    }

    /// `m_1.a`, `m_1["a b"]` or `m_1`, when `identifier` is an import.
    fn replacement(&self, identifier: &IdentifierReference<'a>) -> Option<Expression<'a>> {
        let binding = self.binding_of(identifier)?;
        let variable = self.requests[binding.request].variable.as_deref()?;
        let variable = Ident::from_str_in(variable, &self.builder);
        let object = Expression::new_identifier(identifier.span, variable, &self.builder);
        let Some(property) = &binding.property else {
            return Some(object);
        };
        let name = Ident::from_str_in(property, &self.builder);
        Some(if is_identifier_name(property) {
            let property = IdentifierName::new(identifier.span, name, &self.builder);
            Expression::new_static_member_expression(
                identifier.span,
                object,
                property,
                false,
                &self.builder,
            )
        } else {
            let key = Expression::new_string_literal(SPAN, name, None, &self.builder);
            Expression::new_computed_member_expression(
                identifier.span,
                object,
                key,
                false,
                &self.builder,
            )
        })
    }

    /// `m_1.A` as the name of an element that stays JSX.
    fn jsx_member(
        &self,
        identifier: &IdentifierReference<'a>,
    ) -> Option<ArenaBox<'a, JSXMemberExpression<'a>>> {
        let binding = self.binding_of(identifier)?;
        let property = binding.property.as_deref()?;
        let variable = self.requests[binding.request].variable.as_deref()?;
        let (span, builder) = (identifier.span, &self.builder);
        let object = JSXMemberExpressionObject::new_identifier_reference(
            span,
            Ident::from_str_in(variable, builder),
            builder,
        );
        let property = JSXIdentifier::new(span, Str::from_str_in(property, builder), builder);
        Some(JSXMemberExpression::boxed(span, object, property, builder))
    }

    fn namespace_variable(&self, identifier: &IdentifierReference<'a>) -> Option<Ident<'a>> {
        let binding = self.binding_of(identifier)?;
        let variable = self.requests[binding.request].variable.as_deref()?;
        Some(Ident::from_str_in(variable, &self.builder))
    }

    /// A callee: `(0, m_1.a)`, so that the call's `this` stays undefined.
    fn replace_callee(&self, callee: &mut Expression<'a>) {
        let mut inner = &*callee;
        while let Expression::ParenthesizedExpression(parenthesized) = inner {
            inner = &parenthesized.expression;
        }
        let Expression::Identifier(identifier) = inner else {
            return;
        };
        let Some(replacement) = self.replacement(identifier) else {
            return;
        };
        let span = identifier.span;
        *callee = if matches!(replacement, Expression::Identifier(_)) {
            replacement
        } else {
            let zero = Expression::new_numeric_literal(
                SPAN,
                0.0,
                None,
                NumberBase::Decimal,
                &self.builder,
            );
            Expression::new_sequence_expression(span, [zero, replacement], &self.builder)
        };
    }

    fn reject(&mut self, span: Span, message: &'static str, help: &'static str) {
        self.diagnostics.push(
            OxcDiagnostic::error(message)
                .with_label(span)
                .with_help(help),
        );
    }

    fn check_top_level_await(&mut self, span: Span) {
        if self.function_depth == 0 {
            self.reject(
                span,
                "top-level await has no CommonJS form",
                "put it into an async function, or write ES modules (module: \"esm\")",
            );
        }
    }
}

impl<'a> VisitMut<'a> for Rewriter<'a, '_> {
    fn visit_expression(&mut self, expression: &mut Expression<'a>) {
        match expression {
            Expression::Identifier(identifier) => {
                if let Some(replacement) = self.replacement(identifier) {
                    *expression = replacement;
                    return;
                }
            }
            Expression::CallExpression(call) => self.replace_callee(&mut call.callee),
            Expression::TaggedTemplateExpression(template) => {
                self.replace_callee(&mut template.tag)
            }
            Expression::ImportMeta(meta) => {
                let span = meta.span;
                self.reject(
                    span,
                    "import.meta has no CommonJS form",
                    "use __filename and __dirname, or write ES modules (module: \"esm\")",
                );
            }
            Expression::AwaitExpression(awaited) => {
                let span = awaited.span;
                self.check_top_level_await(span);
            }
            _ => {}
        }
        walk_mut::walk_expression(self, expression);
    }

    fn visit_call_expression(&mut self, call: &mut CallExpression<'a>) {
        // Reached directly (not through an expression) inside an optional chain.
        self.replace_callee(&mut call.callee);
        walk_mut::walk_call_expression(self, call);
    }

    fn visit_for_of_statement(&mut self, statement: &mut ForOfStatement<'a>) {
        if statement.r#await {
            self.check_top_level_await(statement.span);
        }
        walk_mut::walk_for_of_statement(self, statement);
    }

    fn visit_jsx_element_name(&mut self, name: &mut JSXElementName<'a>) {
        if let JSXElementName::IdentifierReference(identifier) = name
            && let Some(member) = self.jsx_member(identifier)
        {
            *name = JSXElementName::MemberExpression(member);
            return;
        }
        walk_mut::walk_jsx_element_name(self, name);
    }

    fn visit_jsx_member_expression_object(&mut self, object: &mut JSXMemberExpressionObject<'a>) {
        if let JSXMemberExpressionObject::IdentifierReference(identifier) = object {
            if let Some(member) = self.jsx_member(identifier) {
                *object = JSXMemberExpressionObject::MemberExpression(member);
                return;
            }
            if let Some(variable) = self.namespace_variable(identifier) {
                identifier.name = variable;
                return;
            }
        }
        walk_mut::walk_jsx_member_expression_object(self, object);
    }

    fn visit_identifier_reference(&mut self, identifier: &mut IdentifierReference<'a>) {
        // Every reading use was replaced as an expression; what is left writes to the binding.
        if self.binding_of(identifier).is_some() {
            let span = identifier.span();
            self.reject(
                span,
                "an imported binding cannot be assigned to",
                "imports are read-only views of the other module's variables",
            );
        }
    }

    fn visit_function(&mut self, function: &mut Function<'a>, flags: ScopeFlags) {
        self.function_depth += 1;
        walk_mut::walk_function(self, function, flags);
        self.function_depth -= 1;
    }

    fn visit_arrow_function_expression(&mut self, arrow: &mut ArrowFunctionExpression<'a>) {
        self.function_depth += 1;
        walk_mut::walk_arrow_function_expression(self, arrow);
        self.function_depth -= 1;
    }
}
