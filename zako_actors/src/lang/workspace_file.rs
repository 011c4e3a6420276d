//! The package root `zako.ts`: what it says about the whole workspace.
//!
//! Owns the reading of its default export. Does not know how it is evaluated, nor the build files
//! that its patterns find.

use crate::diagnostic::Diagnostic;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::descriptor::{BuildFile, Exports, read_exports};
use super::locate::{At, mistake};
use super::pattern::Pattern;
use super::target::EnvValue;

/// File name of the package root.
pub const PACKAGE_FILE: &str = "zako.ts";

/// What the package root said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkspaceFile {
    /// Which files are build files, from the workspace root.
    pub builds: Vec<Pattern>,
    /// Variables for every command; a target's own win.
    pub env: BTreeMap<String, EnvValue>,
    /// Targets of the root directory.
    pub exports: Exports,
}

impl Default for WorkspaceFile {
    /// A workspace without `zako.ts`: every `BUILD.ts` counts.
    fn default() -> Self {
        Self {
            builds: default_builds(),
            env: BTreeMap::new(),
            exports: Exports::default(),
        }
    }
}

fn default_builds() -> Vec<Pattern> {
    Pattern::parse("**/BUILD.ts").into_iter().collect()
}

impl WorkspaceFile {
    /// Reads the default export of `zako.ts`.
    ///
    /// # Errors
    /// The first mistake, with its line.
    pub fn read(exported: &Value, file: BuildFile<'_>) -> Result<Self, Diagnostic> {
        let wrong = |needle: Option<&str>, message: String| {
            let at = needle.map_or_else(
                || At::file(file.path),
                |needle| At::in_target(file.path, file.text, needle, Some(needle)),
            );
            mistake(&at, message, file.text)
        };
        if exported.get("$zako").and_then(Value::as_str) != Some("workspace") {
            return Err(wrong(
                None,
                "the default export must be `workspace({…})` from \"zako:package\"".into(),
            ));
        }
        let builds = match exported.get("builds").filter(|v| !v.is_null()) {
            None => default_builds(),
            Some(Value::Array(list)) => list
                .iter()
                .map(|value| {
                    let text = value.as_str().unwrap_or_default();
                    Pattern::parse(text).map_err(|error| wrong(Some(text), error.to_string()))
                })
                .collect::<Result<_, _>>()?,
            Some(_) => {
                return Err(wrong(
                    Some("builds"),
                    "`builds` must be a list of globs".into(),
                ));
            }
        };
        let env = match exported.get("env").filter(|value| !value.is_null()) {
            None => BTreeMap::new(),
            Some(value) => EnvValue::read_all(value)
                .map_err(|expected| wrong(Some("env"), format!("`env` must be {expected}")))?,
        };
        let exports = match exported.get("targets").filter(|v| !v.is_null()) {
            None => Exports::default(),
            Some(targets) => read_exports(targets, file)?,
        };
        Ok(Self {
            builds,
            env,
            exports,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::locate::flat;
    use serde_json::json;

    const FILE: BuildFile<'static> = BuildFile {
        path: "zako.ts",
        dir: "",
        text: "export default workspace({\n  builds: [\"/abs\"],\n});\n",
        packages: &crate::lang::packages::Packages::NONE,
    };

    #[test]
    fn defaults_and_targets() {
        let file = WorkspaceFile::read(
            &json!({"$zako": "workspace", "targets": {"a": {"$zako": "command", "cmd": ["true"]}}}),
            FILE,
        )
        .unwrap();
        assert_eq!(file.builds[0].as_str(), "**/BUILD.ts");
        assert_eq!(file.exports.targets[0].label.to_string(), "//:a");
    }

    #[test]
    fn mistakes_point_at_the_line() {
        let text = |value| flat(&WorkspaceFile::read(&value, FILE).unwrap_err());
        assert!(text(json!({})).contains("must be `workspace({…})`"));
        let absolute = text(json!({"$zako": "workspace", "builds": ["/abs"]}));
        assert!(
            absolute.starts_with("zako.ts:2:13: glob `/abs` is absolute"),
            "{absolute}"
        );
    }
}
