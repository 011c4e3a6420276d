//! Imports and re-exports of mere types.
//!
//! Owns: where such an import or re-export is marked as one of types. Does not know how one is seen (`survey`), nor what becomes
//! of it: the transform removes it.

use oxc::ast::ast::{ImportDeclarationSpecifier, ImportOrExportKind, Program, Statement};

use super::ModuleFacts;

/// Writes the `type` that the author may leave out (without `isolatedModules`) to imports and
/// re-exports of mere types; the transform then removes them. Where the whole declaration is one of types,
/// TypeScript takes no second `type`.
pub(super) fn mark(program: &mut Program<'_>, facts: &ModuleFacts) {
    let is_type = |specifier: &str, name: &str| {
        facts
            .type_only
            .contains(&(specifier.to_owned(), name.to_owned()))
    };
    let mut imported_types: Vec<String> = Vec::new();
    for statement in &mut program.body {
        match statement {
            Statement::ImportDeclaration(import) => {
                let specifier = import.source.value;
                let is_said = import.import_kind.is_type();
                for binding in import.specifiers.iter_mut().flatten() {
                    if let ImportDeclarationSpecifier::ImportSpecifier(named) = binding
                        && is_type(&specifier, &named.imported.name())
                    {
                        if !is_said {
                            named.import_kind = ImportOrExportKind::Type;
                        }
                        imported_types.push(named.local.name.to_string());
                    }
                }
            }
            Statement::ExportFromDeclaration(export) if !export.export_kind.is_type() => {
                let source = export.source.value;
                for specifier in &mut export.specifiers {
                    if is_type(&source, &specifier.local.name()) {
                        specifier.export_kind = ImportOrExportKind::Type;
                    }
                }
            }
            _ => {}
        }
    }
    for statement in &mut program.body {
        if let Statement::ExportNamedDeclaration(export) = statement
            && !export.export_kind.is_type()
        {
            for specifier in &mut export.specifiers {
                if imported_types
                    .iter()
                    .any(|name| specifier.local.name() == *name)
                {
                    specifier.export_kind = ImportOrExportKind::Type;
                }
            }
        }
    }
}
