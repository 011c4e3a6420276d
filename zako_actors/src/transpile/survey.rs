//! What the modules of one target know about each other.
//!
//! TypeScript allows `export { T } from "./types"` for a mere type; a file alone does not show
//! that nothing must remain of it. So every file is surveyed once (its exports and what it asks
//! of its neighbours), the surveys together make a [`ModuleIndex`], and the index gives each file
//! its [`ModuleFacts`]: all that its output depends on besides its own text.
//!
//! Does not know: the file system, packages. Only relative imports among surveyed files resolve.
//! Invariant: a name is called type-only only if every step to its declaration was seen.

use std::collections::{BTreeMap, BTreeSet};

use oxc::allocator::Allocator;
use oxc::ast::ast::*;
use oxc::parser::Parser;
use oxc::syntax::module_record::ModuleRecord;
use serde::{Deserialize, Serialize};

use super::specifiers::{is_relative, resolve_among};

/// What an exported name is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Export {
    /// Exists at run time.
    Value,
    /// Exists for the type checker only.
    Type,
    /// What another module exports under `name`.
    From { specifier: String, name: String },
}

/// The exports and relative requests of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleSurvey {
    exports: BTreeMap<String, Export>,
    stars: Vec<String>,
    requests: BTreeMap<String, BTreeSet<String>>,
}

/// What the output of a file depends on besides its own text and the options.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ModuleFacts {
    /// Relative specifier, and the path of the file that it means.
    pub resolved: BTreeMap<String, String>,
    /// Specifier and name of imports and re-exports that are only types.
    pub type_only: BTreeSet<(String, String)>,
}

/// The surveys of all files of a target, by path.
#[derive(Debug, Clone, Default)]
pub struct ModuleIndex {
    surveys: BTreeMap<String, ModuleSurvey>,
}

/// Longer chains of re-exports are taken for cycles.
const MAX_REEXPORT_DEPTH: usize = 64;

impl ModuleIndex {
    /// An index over files given as path (relative to the workspace) and survey.
    pub fn new(surveys: impl IntoIterator<Item = (String, ModuleSurvey)>) -> Self {
        Self {
            surveys: surveys.into_iter().collect(),
        }
    }

    /// The facts for one of the files; empty for others.
    pub fn facts(&self, path: &str) -> ModuleFacts {
        let mut facts = ModuleFacts::default();
        let Some(survey) = self.surveys.get(path) else {
            return facts;
        };
        for (specifier, names) in &survey.requests {
            let Some(target) = self.resolve(path, specifier) else {
                continue;
            };
            for name in names {
                if self.is_type_only(&target, name, MAX_REEXPORT_DEPTH) == Some(true) {
                    facts.type_only.insert((specifier.clone(), name.clone()));
                }
            }
            facts.resolved.insert(specifier.clone(), target);
        }
        facts
    }

    fn resolve(&self, importer: &str, specifier: &str) -> Option<String> {
        resolve_among(importer, specifier, |path| self.surveys.contains_key(path))
    }

    /// `None`: not exported, or its declaration cannot be seen.
    fn is_type_only(&self, path: &str, name: &str, depth: usize) -> Option<bool> {
        let survey = self.surveys.get(path)?;
        let depth = depth.checked_sub(1)?;
        match survey.exports.get(name) {
            Some(Export::Value) => Some(false),
            Some(Export::Type) => Some(true),
            Some(Export::From { specifier, name }) => {
                let target = self.resolve(path, specifier)?;
                self.is_type_only(&target, name, depth)
            }
            None if name == "default" => None,
            None => survey.stars.iter().find_map(|specifier| {
                let target = self.resolve(path, specifier)?;
                self.is_type_only(&target, name, depth)
            }),
        }
    }
}

/// Surveys one file. A file that does not parse has an empty survey: transpiling it reports why.
pub(super) fn survey(arena: &Allocator, source: &str, source_type: SourceType) -> ModuleSurvey {
    let parsed = Parser::new(arena, source, source_type).parse();
    let mut surveyor = Surveyor::default();
    for (specifier, ..) in dynamic_imports(&parsed.module_record, source) {
        surveyor.request(specifier, "");
    }
    for statement in &parsed.program.body {
        surveyor.imports(statement);
    }
    for statement in &parsed.program.body {
        surveyor.locals(statement);
    }
    for statement in &parsed.program.body {
        surveyor.exports(statement);
    }
    surveyor.survey
}

/// One place where a file asks for a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImportSite {
    /// The specifier.
    pub specifier: String,
    /// Where its literal starts, in bytes.
    pub start_bytes: usize,
    /// Length of the literal with its quotes, in bytes.
    pub length_bytes: usize,
}

/// Static imports and re-exports that are not `type`, and `import("literal")`, in source order.
pub(super) fn import_sites(
    arena: &Allocator,
    source: &str,
    source_type: SourceType,
) -> Vec<ImportSite> {
    let parsed = Parser::new(arena, source, source_type).parse();
    let record = parsed.module_record;
    let site = |specifier: &str, start: u32, end: u32| ImportSite {
        specifier: specifier.to_owned(),
        start_bytes: start as usize,
        length_bytes: (end - start) as usize,
    };
    let mut sites = Vec::new();
    for (specifier, requests) in &record.requested_modules {
        let values = requests.iter().filter(|request| !request.is_type);
        sites.extend(values.map(|r| site(specifier.as_str(), r.span.start, r.span.end)));
    }
    let dynamic = dynamic_imports(&record, source);
    sites.extend(dynamic.map(|(specifier, span)| site(specifier, span.start, span.end)));
    sites.sort_by_key(|site| site.start_bytes);
    sites
}

/// Specifier and literal of every `import("literal")`.
fn dynamic_imports<'s>(
    record: &'s ModuleRecord<'_>,
    source: &'s str,
) -> impl Iterator<Item = (&'s str, Span)> {
    record.dynamic_imports.iter().filter_map(|import| {
        let span = import.module_request;
        let text = source.get(span.start as usize..span.end as usize)?;
        Some((literal(text)?, span))
    })
}

/// What the expression `text` says, if it is one text and nothing else. With an escape it counts as computed.
fn literal(text: &str) -> Option<&str> {
    let quote = text.chars().next().filter(|it| matches!(it, '"' | '\''))?;
    let inside = text.strip_prefix(quote)?.strip_suffix(quote)?;
    (!inside.contains([quote, '\\'])).then_some(inside)
}

#[derive(Default)]
struct Surveyor {
    survey: ModuleSurvey,
    /// Local name: where it was imported from.
    imported: BTreeMap<String, Export>,
    /// Local name: whether some declaration of it exists at run time.
    declared: BTreeMap<String, bool>,
}

impl Surveyor {
    fn request(&mut self, specifier: &str, name: &str) {
        if is_relative(specifier) {
            let names = self
                .survey
                .requests
                .entry(specifier.to_owned())
                .or_default();
            if !name.is_empty() {
                names.insert(name.to_owned());
            }
        }
    }

    fn imports(&mut self, statement: &Statement<'_>) {
        let Statement::ImportDeclaration(import) = statement else {
            return;
        };
        let specifier = import.source.value.as_str();
        self.request(specifier, "");
        for binding in import.specifiers.iter().flatten() {
            let from = |name: String| Export::From {
                specifier: specifier.to_owned(),
                name,
            };
            let (export, is_type) = match binding {
                ImportDeclarationSpecifier::ImportSpecifier(named) => (
                    from(named.imported.name().to_string()),
                    named.import_kind.is_type(),
                ),
                ImportDeclarationSpecifier::ImportDefaultSpecifier(_) => {
                    (from("default".to_owned()), false)
                }
                ImportDeclarationSpecifier::ImportNamespaceSpecifier(_) => (Export::Value, false),
            };
            if let Export::From { name, .. } = &export {
                self.request(specifier, &name.clone());
            }
            let export = if is_type || import.import_kind.is_type() {
                Export::Type
            } else {
                export
            };
            self.imported
                .insert(binding.local().name.to_string(), export);
        }
    }

    fn declare(&mut self, name: &str, is_value: bool) {
        *self.declared.entry(name.to_owned()).or_default() |= is_value;
    }

    fn locals(&mut self, statement: &Statement<'_>) {
        match statement {
            Statement::ExportDeclaration(export) => self.declaration(&export.declaration),
            other => {
                if let Some(declaration) = other.as_declaration() {
                    self.declaration(declaration);
                }
            }
        }
    }

    fn declaration(&mut self, declaration: &Declaration<'_>) {
        let is_value = exists_at_run_time(declaration);
        for name in declared_names(declaration) {
            self.declare(name, is_value);
        }
    }

    fn local_export(&self, local: &str) -> Export {
        match (self.declared.get(local), self.imported.get(local)) {
            (Some(false), _) => Export::Type,
            (None, Some(export)) => export.clone(),
            _ => Export::Value,
        }
    }

    fn exports(&mut self, statement: &Statement<'_>) {
        match statement {
            Statement::ExportDeclaration(export) => {
                for name in declared_names(&export.declaration) {
                    let export = self.local_export(name);
                    self.survey.exports.insert(name.to_owned(), export);
                }
            }
            Statement::ExportNamedDeclaration(export) => {
                for specifier in &export.specifiers {
                    let is_type = export.export_kind.is_type() || specifier.export_kind.is_type();
                    let found = if is_type {
                        Export::Type
                    } else {
                        self.local_export(&specifier.local.name())
                    };
                    self.survey
                        .exports
                        .insert(specifier.exported.name().to_string(), found);
                }
            }
            Statement::ExportFromDeclaration(export) => self.export_from(export),
            Statement::ExportAllDeclaration(export) => {
                let specifier = export.source.value.as_str();
                self.request(specifier, "");
                match &export.exported {
                    Some(name) => {
                        let is_type = export.export_kind.is_type();
                        let kind = if is_type { Export::Type } else { Export::Value };
                        self.survey.exports.insert(name.name().to_string(), kind);
                    }
                    None if export.export_kind.is_type() => {}
                    None => self.survey.stars.push(specifier.to_owned()),
                }
            }
            Statement::ExportDefaultDeclaration(export) => {
                let is_type = matches!(
                    export.declaration,
                    ExportDefaultDeclarationKind::TSInterfaceDeclaration(_)
                );
                let kind = match &export.declaration {
                    ExportDefaultDeclarationKind::Identifier(name) => self.local_export(&name.name),
                    _ if is_type => Export::Type,
                    _ => Export::Value,
                };
                self.survey.exports.insert("default".to_owned(), kind);
            }
            _ => {}
        }
    }

    fn export_from(&mut self, export: &ExportFromDeclaration<'_>) {
        let source = export.source.value.as_str();
        self.request(source, "");
        for specifier in &export.specifiers {
            let name = specifier.local.name().to_string();
            self.request(source, &name);
            let is_type = export.export_kind.is_type() || specifier.export_kind.is_type();
            let found = if is_type {
                Export::Type
            } else {
                Export::From {
                    specifier: source.to_owned(),
                    name,
                }
            };
            self.survey
                .exports
                .insert(specifier.exported.name().to_string(), found);
        }
    }
}

pub(super) fn declared_names<'p>(declaration: &'p Declaration<'_>) -> Vec<&'p str> {
    if let Declaration::VariableDeclaration(variables) = declaration {
        let bindings = variables.declarations.iter();
        return bindings
            .flat_map(|declarator| declarator.id.get_binding_identifiers())
            .map(|identifier| identifier.name.as_str())
            .collect();
    }
    declaration
        .id()
        .map(|id| id.name.as_str())
        .into_iter()
        .collect()
}

pub(super) fn exists_at_run_time(declaration: &Declaration<'_>) -> bool {
    match declaration {
        Declaration::TSTypeAliasDeclaration(_) | Declaration::TSInterfaceDeclaration(_) => false,
        Declaration::FunctionDeclaration(function) => function.body.is_some(),
        Declaration::TSNamespaceDeclaration(namespace) => namespace_has_values(namespace),
        Declaration::TSExternalModuleDeclaration(_) | Declaration::TSGlobalDeclaration(_) => false,
        other => !other.declare(),
    }
}

pub(super) fn namespace_has_values(namespace: &TSNamespaceDeclaration<'_>) -> bool {
    if namespace.declare {
        return false;
    }
    match &namespace.body {
        TSNamespaceDeclarationBody::TSNamespaceDeclaration(inner) => namespace_has_values(inner),
        TSNamespaceDeclarationBody::TSModuleBlock(block) => {
            block.body.iter().any(|statement| match statement {
                Statement::ExportDeclaration(export) => exists_at_run_time(&export.declaration),
                other => other.as_declaration().is_none_or(exists_at_run_time),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transpile::Transpiler;

    fn index(files: &[(&str, &str)]) -> ModuleIndex {
        let mut transpiler = Transpiler::new();
        ModuleIndex::new(
            files
                .iter()
                .map(|(path, source)| ((*path).to_owned(), transpiler.survey(path, source))),
        )
    }

    #[test]
    fn types_are_found_through_chains_and_stars() {
        let index = index(&[
            (
                "a.ts",
                "export { T, v, Both } from './b'; export { Deep } from './star'; import { U } from './b'; export { U };",
            ),
            (
                "b.ts",
                "export interface T {} export const v = 1; export { U } from './c'; export interface Both {} export const Both = 1;",
            ),
            ("c.ts", "type U = 1; export type { U };"),
            (
                "star.ts",
                "export * from './d/index.js'; export * from './b';",
            ),
            ("d/index.ts", "export declare class Deep {}"),
        ]);
        let facts = index.facts("a.ts");
        let names: Vec<&str> = facts
            .type_only
            .iter()
            .map(|(_, name)| name.as_str())
            .collect();
        assert_eq!(names, ["T", "U", "Deep"]);
        assert_eq!(facts.resolved["./star"], "star.ts");
    }

    #[test]
    fn cycles_of_re_exports_end() {
        let index = index(&[
            ("a.ts", "export { X } from './b'; export * from './b';"),
            ("b.ts", "export { X } from './a'; export * from './a';"),
        ]);
        assert!(index.facts("a.ts").type_only.is_empty());
    }
}
