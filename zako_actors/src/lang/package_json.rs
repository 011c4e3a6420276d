//! `package.json`, as far as a build needs it.
//!
//! Owns the fields and the list of a workspace's packages as npm, pnpm, Yarn and Bun write it.
//! Does not know what becomes of a script.
//! Invariant: a field of another type than expected is a mistake that names the file, not silence,
//! where leaving it out would change what is built.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::scripts::variables::{Manager, of_package};
use crate::diagnostic::Diagnostic;

/// File name of a package.
pub const PACKAGE_JSON: &str = "package.json";
/// Where pnpm lists its packages.
pub const PNPM_WORKSPACE: &str = "pnpm-workspace.yaml";

/// One package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackageJson {
    /// Directory, workspace-relative.
    pub dir: String,
    /// Its name; empty when it has none.
    pub name: String,
    /// Its version.
    pub version: Option<String>,
    /// Shell lines by name.
    pub scripts: BTreeMap<String, String>,
    /// Names of everything that it depends on, for whatever purpose.
    pub dependencies: BTreeSet<String>,
    /// Globs of the packages that belong to it.
    pub workspaces: Option<Vec<String>>,
    /// The package manager that it wants.
    pub manager: Option<Manager>,
    /// What its scripts are told of it.
    pub variables: BTreeMap<String, String>,
}

impl PackageJson {
    /// Reads the text of the `package.json` in `dir`.
    ///
    /// # Errors
    /// When it is no JSON, or a field has the wrong type.
    pub fn parse(dir: &str, text: &str) -> Result<Self, Diagnostic> {
        let path = super::target::join(dir, PACKAGE_JSON);
        let value: Value = serde_json::from_str(text.trim_start_matches('\u{feff}'))
            .map_err(|error| Diagnostic::error(format!("{path}: {error}")))?;
        let Value::Object(fields) = value else {
            return Err(Diagnostic::error(format!("{path}: expected an object")));
        };
        let wrong = |field: &str, expected: &str| {
            Diagnostic::error(format!("{path}: `{field}` must be {expected}"))
        };
        let text = |field: &str| fields.get(field).and_then(Value::as_str);
        let scripts = match fields.get("scripts") {
            None | Some(Value::Null) => BTreeMap::new(),
            Some(scripts) => strings(scripts)
                .ok_or_else(|| wrong("scripts", "an object of names and shell lines"))?,
        };
        let mut dependencies = BTreeSet::new();
        for field in [
            "dependencies",
            "devDependencies",
            "optionalDependencies",
            "peerDependencies",
        ] {
            if let Some(Value::Object(names)) = fields.get(field) {
                dependencies.extend(names.keys().cloned());
            }
        }
        let workspaces = match fields.get("workspaces") {
            None | Some(Value::Null) => None,
            Some(list) => {
                // Yarn also writes { packages: [...], nohoist: [...] }.
                let list = list.get("packages").unwrap_or(list);
                let globs = list.as_array().and_then(|list| {
                    let texts = list.iter().map(|glob| glob.as_str().map(str::to_owned));
                    texts.collect::<Option<Vec<String>>>()
                });
                Some(globs.ok_or_else(|| wrong("workspaces", "a list of globs"))?)
            }
        };
        Ok(Self {
            dir: dir.to_owned(),
            name: text("name").unwrap_or_default().to_owned(),
            version: text("version").map(str::to_owned),
            scripts,
            dependencies,
            workspaces,
            manager: text("packageManager").map(Manager::named),
            variables: of_package(&fields),
        })
    }
}

fn strings(value: &Value) -> Option<BTreeMap<String, String>> {
    let fields: &Map<String, Value> = value.as_object()?;
    fields
        .iter()
        .map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// The globs in the text of a `pnpm-workspace.yaml`.
///
/// # Errors
/// When it is no YAML, or `packages` is no list of texts.
pub fn pnpm_packages(text: &str) -> Result<Vec<String>, Diagnostic> {
    #[derive(serde::Deserialize)]
    struct File {
        #[serde(default)]
        packages: Vec<String>,
    }
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_norway::from_str::<File>(text)
        .map(|file| file.packages)
        .map_err(|error| Diagnostic::error(format!("{PNPM_WORKSPACE}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_needs_is_read() {
        let package = PackageJson::parse(
            "packages/ui",
            r#"{"name": "@acme/ui", "version": "2.0.0", "scripts": {"build": "tsc -b"},
                "dependencies": {"@acme/core": "workspace:*"}, "peerDependencies": {"react": "*"},
                "workspaces": {"packages": ["libs/*"]}}"#,
        )
        .unwrap();
        assert_eq!(package.name, "@acme/ui");
        assert_eq!(package.scripts["build"], "tsc -b");
        assert!(package.dependencies.contains("react"));
        assert_eq!(package.workspaces, Some(vec!["libs/*".to_owned()]));
    }

    #[test]
    fn mistakes_name_the_file() {
        let error = |text: &str| PackageJson::parse("a", text).unwrap_err().message;
        assert!(error("{").starts_with("a/package.json: "));
        assert!(error("[]").contains("expected an object"));
        assert!(error(r#"{"scripts": ["tsc"]}"#).contains("`scripts` must be an object"));
        assert!(error(r#"{"workspaces": "libs/*"}"#).contains("`workspaces` must be a list"));
    }

    #[test]
    fn pnpm_lists_its_packages_in_a_file_of_its_own() {
        let text = "packages:\n  - 'apps/*'\n  - \"!apps/old\"\ncatalog:\n  react: ^19.0.0\n";
        assert_eq!(pnpm_packages(text).unwrap(), ["apps/*", "!apps/old"]);
        assert!(pnpm_packages("").unwrap().is_empty());
        assert!(
            pnpm_packages("packages: {a: 1}")
                .unwrap_err()
                .message
                .contains("pnpm-workspace.yaml")
        );
    }
}
