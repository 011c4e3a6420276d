//! Fields with `accessor`, which no engine has.
//!
//! Owns: finding those that would be left in the output, and what is said about them. Does not know when they may.

use oxc::ast::ast::{AccessorProperty, AccessorPropertyType, Class, Program};
use oxc::ast_visit::{Visit, walk};
use oxc::diagnostics::OxcDiagnostic;

const MESSAGE: &str = "`accessor` is not lowered, and no engine has it";

const HELP: &str = "write a private field with a getter and a setter, or have a later step lower it: target: \"esnext\" and \
                    decorators: \"preserve\" leave it in the output";

/// The mistakes of a program that has such fields outside of mere declarations.
pub(super) fn refused(program: &Program<'_>) -> Vec<OxcDiagnostic> {
    let mut found = Accessors::default();
    if program.source_text.contains("accessor") {
        found.visit_program(program);
    }
    found.0
}

#[derive(Default)]
struct Accessors(Vec<OxcDiagnostic>);

impl<'a> Visit<'a> for Accessors {
    fn visit_class(&mut self, class: &Class<'a>) {
        if !class.declare {
            walk::walk_class(self, class);
        }
    }

    fn visit_accessor_property(&mut self, accessor: &AccessorProperty<'a>) {
        if accessor.r#type == AccessorPropertyType::AccessorProperty {
            let mistake = OxcDiagnostic::error(MESSAGE).with_help(HELP);
            self.0.push(mistake.with_label(accessor.span));
        }
        walk::walk_accessor_property(self, accessor);
    }
}
