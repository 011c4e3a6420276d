//! `import()` in CommonJS.
//!
//! Owns: what becomes of it: a `require` that runs when the promise does, with the interop of a static `import * as`; and which
//! stay, because only an ES module can be meant.
//! Does not know: static imports (`commonjs`), nor the text of the functions that it names (`prologue`).
//! Invariant: specifiers and their order are those of the source, and each is computed once, before anything is loaded.

use std::collections::HashSet;

use oxc::allocator::TakeIn;
use oxc::ast::ast::*;
use oxc::ast::builder::AstBuilder;
use oxc::ast_visit::{VisitMut, walk_mut};
use oxc::span::{SPAN, Span};
use oxc::str::{Ident, Str};

use super::commonjs::free_name;

/// Bytes of the word `import`.
const IMPORT_SIZE: u32 = 6;

/// What the output calls the functions that load; empty when unused.
#[derive(Debug, Default)]
pub(super) struct LoaderNames {
    /// Makes a namespace of what `require` gives.
    pub import_star: String,
    /// Loads what a computed specifier means.
    pub import_computed: String,
}

/// Replaces each `import()` of the program.
pub(super) fn rewrite<'a>(
    program: &mut Program<'a>,
    builder: AstBuilder<'a>,
    taken: &mut HashSet<String>,
) -> LoaderNames {
    let mut imports = Imports {
        builder,
        taken,
        names: LoaderNames::default(),
    };
    imports.visit_program(program);
    imports.names
}

struct Imports<'a, 't> {
    builder: AstBuilder<'a>,
    taken: &'t mut HashSet<String>,
    names: LoaderNames,
}

impl<'a> Imports<'a, '_> {
    /// A name in the place of the word with which `import` begins.
    fn identifier(&self, import: Span, name: &str) -> Expression<'a> {
        let name = Ident::from_str_in(name, &self.builder);
        let end = import.end.min(import.start + IMPORT_SIZE);
        Expression::new_identifier(Span::new(import.start, end), name, &self.builder)
    }

    fn call(
        &self,
        span: Span,
        callee: Expression<'a>,
        with: Option<Expression<'a>>,
    ) -> Expression<'a> {
        let with = oxc::allocator::Vec::from_iter_in(with.map(Argument::from), &self.builder);
        Expression::new_call_expression(span, callee, None, with, false, &self.builder)
    }

    fn member(&self, object: Expression<'a>, name: &'static str) -> Expression<'a> {
        let name = IdentifierName::new(SPAN, name, &self.builder);
        Expression::new_static_member_expression(SPAN, object, name, false, &self.builder)
    }

    /// `Promise.resolve(with).then(then)`
    fn promise(
        &self,
        span: Span,
        with: Option<Expression<'a>>,
        then: Expression<'a>,
    ) -> Expression<'a> {
        let resolve = self.member(self.identifier(span, "Promise"), "resolve");
        let promise = self.call(SPAN, resolve, with);
        self.call(span, self.member(promise, "then"), Some(then))
    }

    /// `Promise.resolve().then(() => __importStar(require("./a")))`
    fn literal(&mut self, span: Span, specifier: Expression<'a>) -> Expression<'a> {
        name(&mut self.names.import_star, "__importStar", self.taken);
        let required = self.call(SPAN, self.identifier(span, "require"), Some(specifier));
        let loaded = self.call(
            SPAN,
            self.identifier(span, &self.names.import_star),
            Some(required),
        );
        let builder = &self.builder;
        let kind = FormalParameterKind::ArrowFormalParameters;
        let params = FormalParameters::boxed(SPAN, kind, [], None, builder);
        let body = ArrowFunctionBody::from(loaded);
        let load = Expression::new_arrow_function_expression(
            SPAN, false, None, params, None, body, builder,
        );
        self.promise(span, None, load)
    }

    /// ``Promise.resolve(`${specifier}`).then(__importComputed)``
    fn computed(&mut self, span: Span, specifier: Expression<'a>) -> Expression<'a> {
        name(&mut self.names.import_star, "__importStar", self.taken);
        name(
            &mut self.names.import_computed,
            "__importComputed",
            self.taken,
        );
        let builder = &self.builder;
        let quasi = |tail| {
            let raw = Str::from("");
            let value = TemplateElementValue {
                raw,
                cooked: Some(raw),
            };
            TemplateElement::new(SPAN, value, tail, builder)
        };
        let quasis = [quasi(false), quasi(true)];
        let text = Expression::new_template_literal(SPAN, quasis, [specifier], builder);
        self.promise(
            span,
            Some(text),
            self.identifier(span, &self.names.import_computed),
        )
    }
}

impl<'a> VisitMut<'a> for Imports<'a, '_> {
    fn visit_expression(&mut self, expression: &mut Expression<'a>) {
        walk_mut::walk_expression(self, expression);
        let Expression::ImportExpression(import) = expression else {
            return;
        };
        if import.phase.is_some() {
            return;
        }
        let text = match &import.source {
            Expression::StringLiteral(specifier) => Some(specifier.value),
            Expression::TemplateLiteral(specifier) => specifier.single_quasi(),
            _ => None,
        };
        if text.is_some_and(|text| stays(&text)) {
            return;
        }
        let specifier = import.source.take_in(&self.builder);
        let span = import.span;
        *expression = if text.is_some() {
            self.literal(span, specifier)
        } else {
            self.computed(span, specifier)
        };
    }
}

fn name(name: &mut String, wanted: &str, taken: &mut HashSet<String>) {
    if name.is_empty() {
        *name = free_name(wanted, taken);
    }
}

/// Whether the specifier says itself that it means an ES module, or what `require` does not take; as in `prologue`'s text.
fn stays(specifier: &str) -> bool {
    let schemes = ["file:", "data:", "http:", "https:"];
    let is_module =
        specifier.ends_with(".mjs") || [".mjs?", ".mjs#"].iter().any(|it| specifier.contains(it));
    is_module || schemes.iter().any(|it| specifier.starts_with(it))
}
