//! Kinds of build files and what each may import.
//!
//! Owns: the import rules, as pure functions over paths and specifiers.
//! Does not know: the file system, modules' contents, the JavaScript engine.
//! Invariant: what is not allowed here cannot be imported; the loader asks for every import.

use serde::{Deserialize, Serialize};

use crate::lang::suggest::nearest;

/// What an evaluation is for. It decides which `zako:` modules exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContextKind {
    /// `zako.ts`, the root of a workspace.
    Package,
    /// `BUILD.ts`.
    Build,
    /// `*.rule.ts`.
    Rule,
    /// `*.toolchain.ts`.
    Toolchain,
    /// `*.config.ts`.
    Config,
}

impl ContextKind {
    /// The name that scripts see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Package => "package",
            Self::Build => "build",
            Self::Rule => "rule",
            Self::Toolchain => "toolchain",
            Self::Config => "config",
        }
    }

    /// The kind of the entry file, whatever its name is.
    pub(super) fn entry_kind(self) -> FileKind {
        match self {
            Self::Package => FileKind::Package,
            Self::Build => FileKind::Build,
            Self::Rule => FileKind::Rule,
            Self::Toolchain => FileKind::Toolchain,
            Self::Config => FileKind::Config,
        }
    }
}

/// What a file is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum FileKind {
    Library,
    Script,
    Package,
    Build,
    Rule,
    Toolchain,
    Config,
}

/// `zako:` modules that exist in every context.
const CORE_MODULES: [&str; 5] = [
    "zako:core",
    "zako:console",
    "zako:global",
    "zako:rt",
    "zako:semver",
];

/// All `zako:` modules, the ones still to come included.
const ALL_MODULES: [&str; 11] = [
    "zako:core",
    "zako:console",
    "zako:global",
    "zako:rt",
    "zako:semver",
    "zako:syscall",
    "zako:build",
    "zako:package",
    "zako:rule",
    "zako:toolchain",
    "zako:config",
];

/// Modules that are planned and have no implementation in this version.
const MISSING_MODULES: [&str; 4] = ["zako:syscall", "zako:rule", "zako:toolchain", "zako:config"];

impl FileKind {
    /// The kind of a file by its path relative to the workspace.
    pub(super) fn of(path: &str) -> Self {
        let (directories, name) = path.rsplit_once('/').unwrap_or(("", path));
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        if directories.split('/').any(|part| part == "scripts") {
            return Self::Script;
        }
        match stem {
            "zako" => Self::Package,
            "BUILD" => Self::Build,
            _ => match stem.rsplit_once('.').map(|(_, kind)| kind) {
                Some("script") => Self::Script,
                Some("rule") => Self::Rule,
                Some("toolchain") => Self::Toolchain,
                Some("config") => Self::Config,
                _ => Self::Library,
            },
        }
    }

    /// What a person calls such a file.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Library => "a library file",
            Self::Script => "a script",
            Self::Package => "the package root (zako.ts)",
            Self::Build => "a build file (BUILD.ts)",
            Self::Rule => "a rule file (*.rule.ts)",
            Self::Toolchain => "a toolchain file (*.toolchain.ts)",
            Self::Config => "a configuration file (*.config.ts)",
        }
    }

    fn own_module(self) -> Option<&'static str> {
        match self {
            Self::Library | Self::Script => None,
            Self::Package => Some("zako:package"),
            Self::Build => Some("zako:build"),
            Self::Rule => Some("zako:rule"),
            Self::Toolchain => Some("zako:toolchain"),
            Self::Config => Some("zako:config"),
        }
    }

    /// The `zako:` modules that such a file may import.
    pub(super) fn modules(self) -> Vec<&'static str> {
        match self {
            Self::Script => Vec::new(),
            Self::Library => vec!["zako:core"],
            _ => CORE_MODULES.into_iter().chain(self.own_module()).collect(),
        }
    }

    fn may_import(self, other: Self) -> bool {
        match self {
            Self::Script => matches!(other, Self::Library | Self::Script),
            _ => other == Self::Library,
        }
    }

    fn allowed_text(self) -> String {
        let files = match self {
            Self::Script => "library files and other scripts",
            _ => "library files (*.ts)",
        };
        match self.modules().as_slice() {
            [] => format!(
                "{} may import {files} only, no zako: module",
                self.describe()
            ),
            modules => format!(
                "{} may import {files} and {}",
                self.describe(),
                modules.join(", ")
            ),
        }
    }
}

/// Why an import is refused: message and advice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub message: String,
    pub help: String,
}

/// Checks an import of something that is not a file of the workspace.
pub(super) fn check_module(importer: FileKind, specifier: &str) -> Result<(), Refusal> {
    let refuse = |message: String| {
        Err(Refusal {
            message,
            help: importer.allowed_text(),
        })
    };
    if !specifier.starts_with("zako:") {
        return refuse(match specifier.split_once(':').map(|(scheme, _)| scheme) {
            Some("node") => format!(
                "`{specifier}` cannot be imported: Node.js modules do not exist in build files"
            ),
            Some("http" | "https" | "data" | "blob") => {
                format!("`{specifier}` cannot be imported: modules come from the workspace only")
            }
            Some("npm" | "jsr") => {
                format!("`{specifier}` cannot be imported: packages do not exist in build files")
            }
            Some("file" | "workspace") => {
                format!(
                    "`{specifier}` cannot be imported: write a relative path, such as \"./lib.ts\""
                )
            }
            Some(_) => format!("`{specifier}` cannot be imported from a build file"),
            None if specifier.starts_with('/') => {
                format!(
                    "`{specifier}` cannot be imported: absolute paths leave the workspace; write a relative one"
                )
            }
            None => format!(
                "`{specifier}` cannot be imported: packages do not exist in build files; a file of the workspace is written \"./{specifier}\""
            ),
        });
    }
    let allowed = importer.modules();
    if !ALL_MODULES.contains(&specifier) {
        return Err(Refusal {
            message: format!("there is no module `{specifier}`"),
            help: match nearest(specifier, allowed.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => importer.allowed_text(),
            },
        });
    }
    if !allowed.contains(&specifier) {
        return refuse(format!(
            "`{specifier}` is not available in {}",
            importer.describe()
        ));
    }
    if MISSING_MODULES.contains(&specifier) {
        return Err(Refusal {
            message: format!("`{specifier}` is not implemented in this version of Zako"),
            help: "targets are described with zako:build in BUILD.ts files".to_owned(),
        });
    }
    Ok(())
}

/// Checks an import of a file of the workspace.
pub(super) fn check_file(importer: FileKind, imported_path: &str) -> Result<(), Refusal> {
    let imported = FileKind::of(imported_path);
    if importer.may_import(imported) {
        return Ok(());
    }
    Err(Refusal {
        message: format!(
            "`{imported_path}` is {}, which {} cannot import",
            imported.describe(),
            importer.describe()
        ),
        help: format!(
            "{}; move what both need to a library file",
            importer.allowed_text()
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_names() {
        for (path, kind) in [
            ("zako.ts", FileKind::Package),
            ("libs/ui/BUILD.ts", FileKind::Build),
            ("a/cc.rule.ts", FileKind::Rule),
            ("gcc.toolchain.ts", FileKind::Toolchain),
            ("x.config.ts", FileKind::Config),
            ("x.script.ts", FileKind::Script),
            ("scripts/release.ts", FileKind::Script),
            ("lib.ts", FileKind::Library),
            ("configuration.ts", FileKind::Library),
        ] {
            assert_eq!(FileKind::of(path), kind, "{path}");
        }
    }

    #[test]
    fn each_kind_has_its_module_only() {
        let own = [
            (FileKind::Package, "zako:package"),
            (FileKind::Build, "zako:build"),
        ];
        for (kind, module) in own {
            assert_eq!(check_module(kind, module), Ok(()));
            for (other, other_module) in own {
                assert_eq!(check_module(kind, other_module).is_ok(), kind == other);
            }
        }
        assert!(check_module(FileKind::Library, "zako:core").is_ok());
        assert!(check_module(FileKind::Library, "zako:build").is_err());
        assert!(check_module(FileKind::Script, "zako:core").is_err());
        let missing = check_module(FileKind::Rule, "zako:rule").unwrap_err();
        assert!(missing.message.contains("not implemented"));
    }

    #[test]
    fn refusals_name_what_is_allowed() {
        let refusal = check_module(FileKind::Build, "zako:biuld").unwrap_err();
        assert_eq!(refusal.help, "did you mean `zako:build`?");
        let refusal = check_module(FileKind::Build, "node:fs").unwrap_err();
        assert!(refusal.help.contains("zako:core") && refusal.help.contains("zako:build"));
        let refusal = check_file(FileKind::Library, "a/BUILD.ts").unwrap_err();
        assert!(refusal.message.contains("`a/BUILD.ts`"));
        assert!(check_module(FileKind::Build, "zako:internal/check").is_err());
        assert!(check_module(FileKind::Build, "ext:core/ops").is_err());
    }
}
