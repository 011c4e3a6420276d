//! Decorators that nobody has said anything about.
//!
//! Owns: finding the first one, and what is said about it. Does not know how they are lowered.
//! Invariant: no decorator is called in a way that its author did not choose.

use oxc::ast::ast::{Decorator, Program};
use oxc::ast_visit::Visit;
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
