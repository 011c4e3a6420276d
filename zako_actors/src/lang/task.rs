//! Tasks: what the scripts of packages need, leave behind, and depend on.
//!
//! Owns the model and its three sources: `[tasks]` of `zako.toml`, `turbo.json`, and defaults for
//! a workspace that has neither. Does not know which packages there are.
//! Invariant: unknown fields of `zako.toml` never pass silently; those of `turbo.json` that do not
//! change what is built do.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::package_json::PackageJson;
use crate::diagnostic::Diagnostic;

/// Where Turborepo keeps its tasks.
pub const TURBO_JSON: &str = "turbo.json";

/// What is said about the scripts of one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Task {
    /// `name` (of the same package), `^name` (of the packages that it depends on), `package#name`.
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
        let own = self.by_name.get(&format!("{package}#{name}"));
        match own.or_else(|| self.by_name.get(name)) {
            Some(task) => task.clone(),
            None if self.declared => Task {
                cache: !SERVERS.contains(&name) && !DEEDS.contains(&name),
                persistent: SERVERS.contains(&name),
                ..Task::default()
            },
            None => by_custom(name),
        }
    }

    /// Whether a strict sandbox lets script `name` of `package` use the network.
    pub fn opens_network(&self, package: &PackageJson, name: &str) -> bool {
        let mut named = self.networked.iter();
        named.any(|it| is_named(it, package, name))
    }

    /// Reads the text of a `turbo.json`, comments and all.
    ///
    /// # Errors
    /// When it cannot be read as such.
    pub fn from_turbo(path: &str, text: &str) -> Result<Self, Diagnostic> {
        let wrong = |message: String| Diagnostic::error(format!("{path}: {message}"));
        let options = jsonc_parser::ParseOptions::default();
        let value: Option<Value> =
            jsonc_parser::parse_to_serde_value(text, &options).map_err(|e| wrong(e.to_string()))?;
        let value = value.unwrap_or(Value::Null);
        let list = |value: &Value, field: &str| -> Result<Option<Vec<String>>, Diagnostic> {
            match value.get(field) {
                None | Some(Value::Null) => Ok(None),
                Some(value) => serde_json::from_value(value.clone())
                    .map(Some)
                    .map_err(|_| wrong(format!("`{field}` must be a list of texts"))),
            }
        };
        let flag = |value: &Value, field: &str| value.get(field).and_then(Value::as_bool);
        let mut tasks = Self {
            global_inputs: list(&value, "globalDependencies")?.unwrap_or_default(),
            global_env: list(&value, "globalEnv")?.unwrap_or_default(),
            global_untracked_env: list(&value, "globalPassThroughEnv")?.unwrap_or_default(),
            declared: true,
            ..Self::default()
        };
        // Before version 2 the tasks were called a pipeline.
        let entries = value.get("tasks").or_else(|| value.get("pipeline"));
        for (name, entry) in entries.and_then(Value::as_object).into_iter().flatten() {
            let mut task = Task {
                outputs: list(entry, "outputs")?.or_else(|| Some(Vec::new())),
                inputs: list(entry, "inputs")?.filter(|inputs| !inputs.is_empty()),
                env: list(entry, "env")?.unwrap_or_default(),
                untracked_env: list(entry, "passThroughEnv")?.unwrap_or_default(),
                cache: flag(entry, "cache").unwrap_or(true),
                persistent: flag(entry, "persistent").unwrap_or(false),
                ..Task::default()
            };
            for dependency in list(entry, "dependsOn")?.unwrap_or_default() {
                match dependency.strip_prefix('$') {
                    Some(variable) => task.env.push(variable.to_owned()),
                    None => task.depends_on.push(dependency),
                }
            }
            tasks.by_name.insert(name.clone(), task);
        }
        Ok(tasks)
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
        cache: !SERVERS.contains(&name) && !DEEDS.iter().any(|deed| is(deed)),
        persistent: SERVERS.contains(&name),
        ..Task::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turbo_json_is_read_with_its_comments() {
        let tasks = Tasks::from_turbo(
            "turbo.json",
            r#"{ // the schema
              "globalEnv": ["CI"], "globalDependencies": ["tsconfig.json"],
              "tasks": {
                "build": { "dependsOn": ["^build", "$MODE"], "outputs": ["dist/**", "!dist/cache/**"], "env": ["API_*"] },
                "web#build": { "dependsOn": [], "passThroughEnv": ["TOKEN"] },
                "dev": { "cache": false, "persistent": true, },
              },
            }"#,
        )
        .unwrap();
        let build = tasks.of("ui", "build");
        assert_eq!(build.depends_on, ["^build"]);
        assert_eq!(build.env, ["API_*", "MODE"]);
        assert_eq!(build.outputs.unwrap().len(), 2);
        assert_eq!(tasks.of("web", "build").untracked_env, ["TOKEN"]);
        let dev = tasks.of("ui", "dev");
        assert!(dev.persistent && !dev.cache);
        assert_eq!(tasks.global_env, ["CI"]);
    }

    #[test]
    fn the_pipeline_of_older_files_is_read_too_and_mistakes_are_named() {
        let tasks = Tasks::from_turbo("turbo.json", r#"{"pipeline": {"lint": {}}}"#).unwrap();
        assert!(tasks.by_name.contains_key("lint"));
        let error = |text: &str| Tasks::from_turbo("turbo.json", text).unwrap_err().message;
        assert!(error(r#"{"tasks": {"a": {"outputs": "dist"}}}"#).contains("`outputs` must be"));
        assert!(error("{").starts_with("turbo.json: "));
    }

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
        assert!(tasks.of("a", "dev").persistent);
        assert!(!tasks.of("a", "clean").cache && tasks.of("a", "lint").cache);
    }
}
