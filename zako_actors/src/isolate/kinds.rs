//! Kinds of build files and what each may import.
//!
//! Owns: the import rules, as pure functions over paths and specifiers.
//! Does not know: the file system, modules' contents, the JavaScript engine.
//! Invariant: what is not allowed here cannot be imported; the loader asks for every import.

use serde::{Deserialize, Serialize};

use super::embedded;
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
pub enum FileKind {
    /// Any file that is nothing else.
    Library,
    /// `*.script.ts`, and what lies in a directory `scripts`: a program of its own.
    Script,
    /// `zako.ts`.
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

/// `zako:` modules that exist in every context.
const CORE_MODULES: [&str; 5] = [
    "zako:core",
    "zako:console",
    "zako:global",
    "zako:rt",
    "zako:semver",
];

/// All `zako:` modules but the rules that ship.
const ALL_MODULES: [&str; 10] = [
    "zako:core",
    "zako:console",
    "zako:global",
    "zako:rt",
    "zako:semver",
    "zako:build",
    "zako:package",
    "zako:rule",
    "zako:toolchain",
    "zako:config",
];

impl FileKind {
    /// Every kind, those first that others are made of.
    pub const ALL: [Self; 7] = [
        Self::Library,
        Self::Config,
        Self::Toolchain,
        Self::Rule,
        Self::Package,
        Self::Build,
        Self::Script,
    ];

    /// The kind in one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Library => "library",
            Self::Script => "script",
            Self::Package => "package",
            Self::Build => "build",
            Self::Rule => "rule",
            Self::Toolchain => "toolchain",
            Self::Config => "config",
        }
    }

    /// The kind of a file by its path relative to the workspace.
    pub fn of(path: &str) -> Self {
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

    /// The `zako:` modules that such a file may import but the topics of `zako:rules`.
    pub fn modules(self) -> Vec<&'static str> {
        let rules = self.may_import(Self::Rule).then_some(embedded::ALL);
        match self {
            Self::Script => Vec::new(),
            Self::Library => vec!["zako:core"],
            _ => {
                let own = self.own_module().into_iter().chain(rules);
                CORE_MODULES.into_iter().chain(own).collect()
            }
        }
    }

    /// The topics of `zako:rules` that such a file may import: each is a file of the kind that its own name says.
    pub fn topics(self) -> impl Iterator<Item = &'static str> {
        let has_rules = self.modules().contains(&embedded::ALL);
        let topics = embedded::topics().filter(move |_| has_rules);
        let topics = topics.filter(move |(_, path)| self.may_import(Self::of(path)));
        topics.map(|(specifier, _)| specifier)
    }

    /// Whether such a file may import one of kind `other`. Rules stand between those who use them and what they are made
    /// of; nothing points back.
    pub fn may_import(self, other: Self) -> bool {
        let others: &[Self] = match self {
            Self::Script => &[Self::Script],
            Self::Library => &[],
            Self::Package | Self::Build => &[Self::Rule],
            Self::Rule => &[Self::Rule, Self::Toolchain, Self::Config],
            Self::Toolchain => &[Self::Toolchain, Self::Config],
            Self::Config => &[Self::Config],
        };
        other == Self::Library || others.contains(&other)
    }

    fn allowed_text(self) -> String {
        let files = match self {
            Self::Script => "library files and other scripts",
            Self::Library => "library files (*.ts)",
            Self::Package | Self::Build => "library files (*.ts), rules (*.rule.ts)",
            Self::Rule => {
                "library files (*.ts), rules (*.rule.ts), toolchains (*.toolchain.ts), configuration (*.config.ts)"
            }
            Self::Toolchain => {
                "library files (*.ts), toolchains (*.toolchain.ts), configuration (*.config.ts)"
            }
            Self::Config => "library files (*.ts), configuration (*.config.ts)",
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
    let mut allowed = importer.modules();
    let has_rules = allowed.contains(&embedded::ALL);
    allowed.extend(importer.topics());
    if !ALL_MODULES.contains(&specifier) && embedded::path_of(specifier).is_none() {
        return Err(Refusal {
            message: format!("there is no module `{specifier}`"),
            help: match nearest(specifier, allowed.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => importer.allowed_text(),
            },
        });
    }
    if !allowed.contains(&specifier) {
        if let Some(path) = embedded::path_of(specifier).filter(|_| has_rules) {
            return refuse(cannot_import(importer, specifier, FileKind::of(path)));
        }
        return refuse(format!(
            "`{specifier}` is not available in {}",
            importer.describe()
        ));
    }
    Ok(())
}

fn cannot_import(importer: FileKind, name: &str, kind: FileKind) -> String {
    let (kind, importer) = (kind.describe(), importer.describe());
    format!("`{name}` is {kind}, which {importer} cannot import")
}

/// Checks an import of a file of the workspace.
pub(super) fn check_file(importer: FileKind, imported_path: &str) -> Result<(), Refusal> {
    let imported = FileKind::of(imported_path);
    if importer.may_import(imported) {
        return Ok(());
    }
    Err(Refusal {
        message: cannot_import(importer, imported_path, imported),
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
        for kind in FileKind::ALL {
            for module in FileKind::ALL.iter().filter_map(|kind| kind.own_module()) {
                let own = kind.own_module() == Some(module);
                assert_eq!(check_module(kind, module).is_ok(), own, "{kind:?} {module}");
            }
            let core = kind != FileKind::Script;
            assert_eq!(check_module(kind, "zako:core").is_ok(), core);
            let uses_rules = matches!(kind, FileKind::Package | FileKind::Build | FileKind::Rule);
            assert_eq!(check_module(kind, "zako:rules").is_ok(), uses_rules);
            assert_eq!(check_module(kind, "zako:rules/cc").is_ok(), uses_rules);
            let is_rule = kind == FileKind::Rule;
            for topic in ["zako:rules/cc.toolchain", "zako:rules/cc.config"] {
                assert_eq!(
                    check_module(kind, topic).is_ok(),
                    is_rule,
                    "{kind:?} {topic}"
                );
            }
        }
        assert!(check_module(FileKind::Build, "zako:syscall").is_err());
    }

    #[test]
    fn files_import_what_they_are_made_of_and_nothing_that_uses_them() {
        use FileKind::{Build, Config, Library, Package, Rule, Script, Toolchain};
        let path = |kind| match kind {
            Library => "a/lib.ts",
            Script => "a/x.script.ts",
            Package => "zako.ts",
            Build => "a/BUILD.ts",
            Rule => "a/x.rule.ts",
            Toolchain => "a/x.toolchain.ts",
            Config => "a/x.config.ts",
        };
        let allowed = |importer| -> Vec<FileKind> {
            let may = |kind: &FileKind| check_file(importer, path(*kind)).is_ok();
            FileKind::ALL.into_iter().filter(may).collect()
        };
        assert_eq!(allowed(Library), [Library]);
        assert_eq!(allowed(Script), [Library, Script]);
        assert_eq!(allowed(Package), [Library, Rule]);
        assert_eq!(allowed(Build), [Library, Rule]);
        assert_eq!(allowed(Rule), [Library, Config, Toolchain, Rule]);
        assert_eq!(allowed(Toolchain), [Library, Config, Toolchain]);
        assert_eq!(allowed(Config), [Library, Config]);
    }

    #[test]
    fn refusals_name_what_is_allowed() {
        let refusal = check_module(FileKind::Build, "zako:biuld").unwrap_err();
        assert_eq!(refusal.help, "did you mean `zako:build`?");
        let refusal = check_module(FileKind::Build, "node:fs").unwrap_err();
        assert!(refusal.help.contains("zako:core") && refusal.help.contains("zako:build"));
        let refusal = check_file(FileKind::Library, "a/BUILD.ts").unwrap_err();
        assert!(refusal.message.contains("`a/BUILD.ts`"));
        let refusal = check_module(FileKind::Build, "zako:rules/cc.toolchain").unwrap_err();
        let told =
            "`zako:rules/cc.toolchain` is a toolchain file (*.toolchain.ts), which a build file";
        assert!(refusal.message.starts_with(told), "{}", refusal.message);
        assert!(check_module(FileKind::Build, "zako:internal/check").is_err());
        assert!(check_module(FileKind::Build, "ext:core/ops").is_err());
    }
}
