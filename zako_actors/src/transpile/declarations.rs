//! Declarations of a file from this file alone (TypeScript's `isolatedDeclarations`).
//!
//! Owns: the way from the parsed program to the text of the `.d.ts`.
//! Does not know: other files; an export whose type cannot be seen here is a mistake.

use oxc::allocator::Allocator;
use oxc::ast::ast::Program;
use oxc::codegen::{Codegen, CodegenOptions, CommentOptions};
use oxc::diagnostics::OxcDiagnostic;
use oxc::isolated_declarations::{IsolatedDeclarations, IsolatedDeclarationsOptions};

/// The declarations of `program`, which was not transformed yet, and the mistakes in it.
pub(super) fn declarations<'a>(
    arena: &'a Allocator,
    program: &Program<'a>,
) -> (String, Vec<OxcDiagnostic>) {
    let options = IsolatedDeclarationsOptions {
        strip_internal: false,
    };
    let result = IsolatedDeclarations::new(arena, options).build(program);
    let printed = Codegen::new()
        .with_options(CodegenOptions {
            comments: CommentOptions {
                jsdoc: true,
                ..CommentOptions::disabled()
            },
            ..CodegenOptions::default()
        })
        .build(&result.program);
    (printed.code, result.diagnostics.into_vec())
}
