//! Tasks: what the scripts of packages need, leave behind, and depend on.
//!
//! Owns the model, as `[tasks]` of `zako.toml` has it, and the defaults for a workspace that has neither that nor a
//! `turbo.json` (see [`super::turbo`]). Does not know which packages there are.
//! Invariant: unknown fields never pass silently.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::package_json::PackageJson;

/// What is said about the scripts of one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Task {
    /// `name` (of the same package), `^name` (of the packages that it depends on), `package#name`, or a label.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
    /// Globs of what it leaves behind, from the package's directory; `!` leaves out again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Vec<String>>,
    /// Globs of what it reads, from the package's directory; everything when there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Vec<String>>,
    /// Variables that it is given and that are part of its key; `*` at the end means all that
    /// begin so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Variables that it is given and that are not part of its key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub untracked_env: Vec<String>,
    /// Whether its result may be used again.
    #[serde(skip_serializing_if = "std::clone::Clone::clone")]
    pub cache: bool,
    /// Whether it runs until it is stopped, such as a development server.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub persistent: bool,
}

impl Default for Task {
    fn default() -> Self {
        Self {
            depends_on: Vec::new(),
            outputs: None,
            inputs: None,
            env: Vec::new(),
            untracked_env: Vec::new(),
            cache: true,
            persistent: false,
        }
    }
}

/// All tasks of a workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tasks {
    /// By `name`, or `package#name` for one package's.
    pub by_name: BTreeMap<String, Task>,
    /// Globs of files that every task reads, from the workspace root.
    pub global_inputs: Vec<String>,
    /// Variables of every task, part of every key.
    pub global_env: Vec<String>,
    /// Variables of every task, part of no key.
    pub global_untracked_env: Vec<String>,
    /// Scripts, as `name` or `package#name`, that a strict sandbox lets use the network.
    pub networked: Vec<String>,
    /// Whether a person wrote them; defaults apply otherwise.
    pub declared: bool,
    /// Whether it was for Turborepo.
    pub of_turbo: bool,
}

/// What the package of the root is called in names of tasks.
pub const ROOT_PACKAGE: &str = "//";
/// Scripts that run until they are stopped.
const SERVERS: [&str; 5] = ["dev", "start", "serve", "watch", "preview"];
/// Scripts whose point is a change outside the build.
const DEEDS: [&str; 9] = [
    "clean", "deploy", "publish", "release", "version", "format", "fix", "install", "update",
];

impl Tasks {
    /// What is said about script `name` of package `package`.
    pub fn of(&self, package: &str, name: &str) -> Task {
        match self.said(package, name) {
            Some(task) => task.clone(),
            None if self.declared => Task {
                cache: !is_server(name) && !DEEDS.contains(&name),
                persistent: is_server(name),
                ..Task::default()
            },
            None => by_custom(name),
        }
    }

    /// What somebody said about script `name` of package `package`.
    pub fn said(&self, package: &str, name: &str) -> Option<&Task> {
        let own = self.by_name.get(&format!("{package}#{name}"));
        own.or_else(|| self.by_name.get(name))
    }

    /// Whether a strict sandbox lets script `name` of `package` use the network.
    pub fn opens_network(&self, package: &PackageJson, name: &str) -> bool {
        let mut named = self.networked.iter();
        named.any(|it| is_named(it, package, name))
    }
}

/// Whether `text`, which is `name` or `package#name`, means script `name` of `package`; that of the root is `//`, too.
pub fn is_named(text: &str, package: &PackageJson, name: &str) -> bool {
    let is_root = package.dir.is_empty();
    match text.rsplit_once('#') {
        Some((of, script)) => {
            script == name && (of == package.name || (is_root && of == ROOT_PACKAGE))
        }
        None => text == name,
    }
}

/// Whether what a task depends on is written as a label: `//py:table`, `@zlib//:files`.
pub fn is_label(dependency: &str) -> bool {
    let has_place = dependency.starts_with("//") || dependency.starts_with('@');
    has_place && dependency.contains("//") && !dependency.contains('#')
}

/// Whether a script of this name, such as `dev` or `test:watch`, runs until it is stopped by custom.
fn is_server(name: &str) -> bool {
    SERVERS.contains(&name) || name.ends_with(":watch") || name.starts_with("watch:")
}

/// What scripts of usual names need where nobody says anything.
fn by_custom(name: &str) -> Task {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let is = |stem: &str| name == stem || name.starts_with(&format!("{stem}:"));
    let depends_on = if is("test") || name == "start" || name == "preview" {
        words(&["build", "^build"])
    } else {
        words(&["^build"])
    };
    Task {
        depends_on,
        cache: !is_server(name) && !DEEDS.iter().any(|deed| is(deed)),
        persistent: is_server(name),
        ..Task::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_of_the_root_has_two_names() {
        let tasks = Tasks {
            networked: vec!["//#e2e".to_owned(), "acme#lint".to_owned()],
            ..Tasks::default()
        };
        let package = |dir: &str| PackageJson::parse(dir, r#"{"name": "acme"}"#).unwrap();
        let opens = |dir: &str, name: &str| tasks.opens_network(&package(dir), name);
        assert!(opens("", "e2e") && opens("", "lint") && opens("a", "lint"));
        assert!(!opens("a", "e2e") && !opens("", "build"));
    }

    #[test]
    fn without_a_word_scripts_are_judged_by_their_names() {
        let tasks = Tasks::default();
        assert_eq!(tasks.of("a", "build").depends_on, ["^build"]);
        assert_eq!(tasks.of("a", "test").depends_on, ["build", "^build"]);
        assert!(tasks.of("a", "dev").persistent && tasks.of("a", "test:watch").persistent);
        assert!(!tasks.of("a", "start:ci").persistent && !tasks.of("a", "watcher").persistent);
        assert!(!tasks.of("a", "clean").cache && tasks.of("a", "lint").cache);
    }
}
