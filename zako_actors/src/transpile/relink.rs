//! Relative specifiers rewritten in a program.
//!
//! Owns: where specifiers stand. Does not know what they become (`specifiers`).
//! Invariant: a program without `import()` is looked at from the top only, which the parser knows.

use oxc::ast::ast::{
    ExportAllDeclaration, ExportFromDeclaration, Expression, ImportDeclaration, ImportExpression,
    Program, Statement, StringLiteral,
};
use oxc::ast::builder::AstBuilder;
use oxc::ast_visit::{VisitMut, walk_mut};
use oxc::str::Str;

use super::{ModuleFormat, TranspileJob, specifiers};

/// Rewrites the specifiers of `program`; `everywhere` also those inside expressions.
pub(super) fn relink<'a>(
    program: &mut Program<'a>,
    builder: &AstBuilder<'a>,
    job: &TranspileJob,
    everywhere: bool,
) {
    let mut specifiers = Specifiers { builder, job };
    if everywhere {
        specifiers.visit_program(program);
    } else {
        specifiers.visit_top(program);
    }
}

struct Specifiers<'a, 'b> {
    builder: &'b AstBuilder<'a>,
    job: &'b TranspileJob,
}

impl<'a> Specifiers<'a, '_> {
    fn rewrite(&self, literal: &mut StringLiteral<'a>) {
        self.rewrite_for(literal, self.job.module() == ModuleFormat::Esm);
    }

    fn rewrite_for(&self, literal: &mut StringLiteral<'a>, complete: bool) {
        let resolved = self.job.facts.resolved.get(literal.value.as_str());
        let resolved = resolved.map(String::as_str);
        if let Some(specifier) = specifiers::rewritten(&literal.value, resolved, complete) {
            literal.value = Str::from_str_in(&specifier, self.builder);
            literal.raw = None;
        }
    }

    fn visit_top(&self, program: &mut Program<'a>) {
        for statement in &mut program.body {
            match statement {
                Statement::ImportDeclaration(import) => self.rewrite(&mut import.source),
                Statement::ExportFromDeclaration(export) => self.rewrite(&mut export.source),
                Statement::ExportAllDeclaration(export) => self.rewrite(&mut export.source),
                _ => {}
            }
        }
    }
}

impl<'a> VisitMut<'a> for Specifiers<'a, '_> {
    fn visit_import_declaration(&mut self, import: &mut ImportDeclaration<'a>) {
        self.rewrite(&mut import.source);
    }

    fn visit_export_from_declaration(&mut self, export: &mut ExportFromDeclaration<'a>) {
        self.rewrite(&mut export.source);
    }

    fn visit_export_all_declaration(&mut self, export: &mut ExportAllDeclaration<'a>) {
        self.rewrite(&mut export.source);
    }

    fn visit_import_expression(&mut self, import: &mut ImportExpression<'a>) {
        if let Expression::StringLiteral(literal) = &mut import.source {
            self.rewrite_for(literal, !self.job.requires_dynamic_imports());
        }
        walk_mut::walk_import_expression(self, import);
    }
}
