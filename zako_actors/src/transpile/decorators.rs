//! Decorators that are refused.
//!
//! Owns: finding those that nobody has said anything about and those that would not be called, and what is said about them.
//! Does not know how the others are lowered (`legacy`).
//! Invariant: no decorator is called in a way that its author did not choose, and none is silently not called.

use oxc::ast::ast::{
    Class, ClassElement, Decorator, MethodDefinition, PrivateInExpression, Program,
    PropertyDefinition, PropertyKey,
};
use oxc::ast_visit::{Visit, walk};
use oxc::diagnostics::OxcDiagnostic;
use oxc::span::Span;

/// What is wrong with a decorator when [`TranspileOptions::decorators`](super::TranspileOptions) is not set.
pub(crate) const UNDECIDED: &str =
    "decorators are called in one of two ways, and nothing says in which";

const HELP: &str = "write decorators: \"legacy\" for those of TypeScript's experimentalDecorators (\"legacyWithMetadata\" with \
                    emitDecoratorMetadata), or \"preserve\" to leave standard ones in the output, as tsc and this do with target: \
                    \"esnext\"; they are lowered by a later step of yours that runs esbuild, swc or tsc, not here";

/// The mistake of a file that has decorators.
pub(super) fn undecided(program: &Program<'_>) -> Option<OxcDiagnostic> {
    let mut first = First(None);
    if may_have_any(program) {
        first.visit_program(program);
    }
    let mistake = |span| {
        OxcDiagnostic::error(UNDECIDED)
            .with_help(HELP)
            .with_label(span)
    };
    first.0.map(mistake)
}

/// Whether there is an `@` outside of comments, where nearly all of them are.
fn may_have_any(program: &Program<'_>) -> bool {
    let mut comments = program.comments.iter().peekable();
    program.source_text.match_indices('@').any(|(at, _)| {
        while comments
            .next_if(|one| one.span.end as usize <= at)
            .is_some()
        {}
        comments
            .peek()
            .is_none_or(|one| one.span.start as usize > at)
    })
}

struct First(Option<Span>);

impl<'a> Visit<'a> for First {
    fn visit_decorator(&mut self, decorator: &Decorator<'a>) {
        self.0.get_or_insert(decorator.span);
    }
}

const MISPLACED: &str = "a decorator of TypeScript's experimentalDecorators cannot stand here";

const OF_EXPRESSION: &str =
    "they are for class declarations: write `class X { … }` as a statement, and use `X`";

const OF_PRIVATE: &str = "private names have none; use a name without `#`";

const UNSEEN: &str = "this decorator of a class would not be called: one of its members has a decorator with `#x in …`";

/// The mistakes of a program whose decorators are those of `experimentalDecorators`, with those that would not be called.
pub(super) fn uncalled(program: &Program<'_>) -> Vec<OxcDiagnostic> {
    let mut found = Misplaced::default();
    if may_have_any(program) {
        found.visit_program(program);
    }
    found.mistakes
}

#[derive(Default)]
struct Misplaced {
    /// Of the innermost class: whether it is an expression.
    in_expression: bool,
    /// Whether the decorators that were last visited look for a private name.
    asks_for_private: bool,
    mistakes: Vec<OxcDiagnostic>,
}

impl Misplaced {
    fn mistake(&mut self, message: &'static str, help: &'static str, span: Span) {
        let mistake = OxcDiagnostic::error(message).with_help(help);
        self.mistakes.push(mistake.with_label(span));
    }

    fn private(&mut self, decorators: &[Decorator<'_>], key: &PropertyKey<'_>) {
        if let (Some(first), PropertyKey::PrivateIdentifier(_)) = (decorators.first(), key)
            && !self.in_expression
        {
            self.mistake(MISPLACED, OF_PRIVATE, first.span);
        }
    }
}

impl<'a> Visit<'a> for Misplaced {
    fn visit_class(&mut self, class: &Class<'a>) {
        if class.declare {
            return;
        }
        let outer = (self.in_expression, self.asks_for_private);
        (self.in_expression, self.asks_for_private) = (class.is_expression(), false);
        walk::walk_class(self, class);
        if let Some(first) = first_of_class(class)
            && self.asks_for_private
            && !self.in_expression
        {
            self.mistake(UNSEEN, "write that one without `in`", first);
        }
        (self.in_expression, self.asks_for_private) = outer;
    }

    fn visit_method_definition(&mut self, method: &MethodDefinition<'a>) {
        self.private(&method.decorators, &method.key);
        walk::walk_method_definition(self, method);
    }

    fn visit_property_definition(&mut self, property: &PropertyDefinition<'a>) {
        self.private(&property.decorators, &property.key);
        walk::walk_property_definition(self, property);
    }

    fn visit_decorator(&mut self, decorator: &Decorator<'a>) {
        if self.in_expression {
            self.mistake(MISPLACED, OF_EXPRESSION, decorator.span);
        }
        let mut looks = PrivateIn(false);
        looks.visit_expression(&decorator.expression);
        self.asks_for_private |= looks.0;
        walk::walk_decorator(self, decorator);
    }
}

struct PrivateIn(bool);

impl<'a> Visit<'a> for PrivateIn {
    fn visit_private_in_expression(&mut self, _: &PrivateInExpression<'a>) {
        self.0 = true;
    }
}

/// The first decorator of the class itself, which those of its constructor's parameters are.
pub(super) fn first_of_class(class: &Class<'_>) -> Option<Span> {
    let own = class.decorators.iter();
    let constructor = class.body.body.iter().filter_map(|element| match element {
        ClassElement::MethodDefinition(method) if method.kind.is_constructor() => Some(method),
        _ => None,
    });
    let parameters = constructor.flat_map(|method| &method.value.params.items);
    let of_parameters = parameters.flat_map(|parameter| &parameter.decorators);
    own.chain(of_parameters).map(|it| it.span).next()
}
