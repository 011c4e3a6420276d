//! What the parts of namespaces export.
//!
//! Owns: which parts a namespace has, and which names each exports; the statements of a part that have no right output.
//! Does not know who uses the names (`namespaces`).
//! Invariant: a namespace that another one exports is one with that of the same name in the other's parts.

use std::collections::HashMap;

use oxc::ast::ast::*;
use oxc::diagnostics::OxcDiagnostic;
use oxc::semantic::SymbolId;
use oxc::syntax::scope::ScopeId;

use super::survey::{declared_names, exists_at_run_time, namespace_has_values};

/// The namespace that a statement declares.
pub(super) fn namespace<'s, 'a>(
    statement: &'s Statement<'a>,
) -> Option<&'s TSNamespaceDeclaration<'a>> {
    let declaration = match statement {
        Statement::ExportDeclaration(export) => &export.declaration,
        other => other.as_declaration()?,
    };
    match declaration {
        Declaration::TSNamespaceDeclaration(namespace) => Some(namespace),
        _ => None,
    }
}

/// What is exported under one name by the parts of a namespace.
#[derive(Default)]
pub(super) struct Export {
    /// The parts that export something under it that exists at run time.
    pub values: Vec<ScopeId>,
    /// The parts that say that something else makes it exist.
    pub declared: Vec<ScopeId>,
    /// The namespace of this name.
    space: Option<usize>,
}

/// All namespaces of a program, and which parts they have.
#[derive(Default)]
pub(super) struct Parts {
    /// The exports of each namespace, of all its parts.
    pub spaces: Vec<HashMap<String, Export>>,
    /// The namespaces that no other one exports.
    roots: HashMap<SymbolId, usize>,
    /// By the scope of a part: its namespace.
    pub of_scope: HashMap<ScopeId, usize>,
    /// What has no right output.
    pub diagnostics: Vec<OxcDiagnostic>,
}

impl Parts {
    /// Notes one part, which `exporter` exports.
    pub fn part(
        &mut self,
        part: &TSNamespaceDeclaration<'_>,
        exporter: Option<usize>,
        is_ambient: bool,
    ) {
        let (Some(scope), Some(symbol)) = (part.scope_id.get(), part.id.symbol_id.get()) else {
            return;
        };
        let next = self.spaces.len();
        let space = match exporter {
            Some(exporter) => {
                let export = self.export(exporter, &part.id.name);
                *export.space.get_or_insert(next)
            }
            None => *self.roots.entry(symbol).or_insert(next),
        };
        if space == next {
            self.spaces.push(HashMap::new());
        }
        self.of_scope.insert(scope, space);
        let is_ambient = is_ambient || part.declare;
        match &part.body {
            TSNamespaceDeclarationBody::TSNamespaceDeclaration(inner) => {
                if !is_ambient && namespace_has_values(inner) {
                    self.export(space, &inner.id.name).values.push(scope);
                }
                self.part(inner, Some(space), is_ambient);
            }
            TSNamespaceDeclarationBody::TSModuleBlock(block) => {
                for statement in &block.body {
                    if !is_ambient {
                        self.refuse_list(statement);
                    }
                    match statement {
                        Statement::ExportDeclaration(export) => {
                            self.declaration(&export.declaration, space, scope, is_ambient);
                        }
                        other => match (other.as_declaration(), namespace(other)) {
                            (Some(declaration), _) if is_ambient => {
                                self.declaration(declaration, space, scope, true);
                            }
                            (_, Some(inner)) => self.part(inner, None, false),
                            _ => {}
                        },
                    }
                }
            }
        }
    }

    fn export(&mut self, space: usize, name: &str) -> &mut Export {
        self.spaces[space].entry(name.to_owned()).or_default()
    }

    /// Notes what the part with this scope exports.
    fn declaration(
        &mut self,
        declaration: &Declaration<'_>,
        space: usize,
        scope: ScopeId,
        is_ambient: bool,
    ) {
        let is_ambient = is_ambient || declaration.declare();
        let is_value = match declaration {
            Declaration::FunctionDeclaration(_)
            | Declaration::VariableDeclaration(_)
            | Declaration::ClassDeclaration(_)
            | Declaration::TSEnumDeclaration(_) => true,
            other => !is_ambient && exists_at_run_time(other),
        };
        if !is_ambient {
            self.refuse(declaration, space, scope);
        }
        for name in declared_names(declaration).into_iter().filter(|_| is_value) {
            let export = self.export(space, name);
            if is_ambient {
                export.declared.push(scope);
            } else {
                export.values.push(scope);
            }
        }
        if let Declaration::TSNamespaceDeclaration(inner) = declaration {
            self.part(inner, Some(space), is_ambient);
        }
    }

    /// A list of exports, which would be left in the function that the namespace becomes. oxc refuses other exports of modules.
    fn refuse_list(&mut self, statement: &Statement<'_>) {
        if let Statement::ExportNamedDeclaration(export) = statement {
            let mistake = OxcDiagnostic::error("a list of exports is not permitted in a namespace")
                .with_help(
                    "write `export` before what the namespace declares, as in `export const a = 1`",
                );
            self.diagnostics.push(mistake.with_label(export.span));
        }
    }

    /// Exports that would have another value than in `tsc`'s output.
    fn refuse(&mut self, declaration: &Declaration<'_>, space: usize, scope: ScopeId) {
        match declaration {
            Declaration::VariableDeclaration(variables) if !variables.kind.is_const() => {
                let kind = variables.kind.as_str();
                for name in declared_names(declaration) {
                    let message = format!(
                        "`export {kind} {name}` in a namespace: what is assigned to `{name}` later would not be seen outside of it"
                    );
                    let help = format!(
                        "write `export const {name}`, or leave `export` out and export functions that read and set `{name}`"
                    );
                    let mistake = OxcDiagnostic::error(message).with_help(help);
                    self.diagnostics.push(mistake.with_label(variables.span));
                }
            }
            Declaration::TSEnumDeclaration(it) => {
                let name = it.id.name;
                let export = self.export(space, &name);
                if export.values.iter().any(|other| *other != scope) {
                    let message = format!(
                        "`{name}` is exported by an earlier part of the namespace, whose members this enum would lose"
                    );
                    let mistake = OxcDiagnostic::error(message)
                        .with_help("write the members of both into one enum");
                    self.diagnostics.push(mistake.with_label(it.id.span));
                }
            }
            _ => {}
        }
    }
}
