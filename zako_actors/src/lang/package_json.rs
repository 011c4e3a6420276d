//! `package.json`, as far as a build needs it.
//!
//! Owns the fields and the list of a workspace's packages as npm, pnpm, Yarn and Bun write it.
//! Does not know what becomes of a script.
//! Invariant: a field of another type than expected is a mistake that names the file, not silence,
//! where leaving it out would change what is built.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

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
    /// Everything that it depends on, for whatever purpose, by the name that it has there.
    pub dependencies: BTreeMap<String, Meant>,
    /// Globs of the packages that belong to it.
    pub workspaces: Option<Vec<String>>,
}

/// What a dependency means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meant {
    /// The package of this name, which may be one of the workspace.
    Named(String),
    /// The package of this name, of a registry unless something else is installed.
    Alias(String),
    /// What lies there, workspace-relative.
    Place(String),
    /// What lies there, outside the workspace.
    Outside(String),
}

impl Meant {
    /// What `spec` means in the package in `dir` that calls it `name`.
    fn of(dir: &str, name: &str, spec: &str) -> Self {
        let named = || Self::Named(name.to_owned());
        // `a@1` and `@x/a@1` name a package; `^1` is a range.
        let other = |text: &str| {
            let (other, _) = text.rsplit_once('@').filter(|(it, _)| !it.is_empty())?;
            Some(other.to_owned()).filter(|other| other != name)
        };
        let place = |path: &str| Self::place(dir, path);
        if let Some(text) = spec.strip_prefix("workspace:") {
            return match other(text) {
                Some(other) => Self::Named(other),
                None if text.starts_with('.') => place(text),
                // Yarn's is from the root.
                None if text.contains('/') => Self::place("", text),
                None => named(),
            };
        }
        if let Some(text) = spec.strip_prefix("npm:") {
            // Without a version; a single word is a tag, as `latest` is.
            let bare = text.starts_with('@') && text.rfind('@') == Some(0) && text != name;
            let bare = bare.then(|| text.to_owned());
            return other(text).or(bare).map_or_else(named, Self::Alias);
        }
        let protocols = ["link:", "file:", "portal:"];
        let path = protocols.iter().find_map(|it| spec.strip_prefix(it));
        let is_path = ["./", "../", "/"].iter().any(|it| spec.starts_with(it));
        match path.or(Some(spec).filter(|_| is_path)) {
            Some(path) => place(path),
            None => named(),
        }
    }

    fn place(dir: &str, path: &str) -> Self {
        let outside = || Self::Outside(path.to_owned());
        if path.starts_with(['/', '~']) {
            return outside();
        }
        let mut parts: Vec<&str> = Vec::new();
        // Yarn adds who asks, behind `::`.
        let path_alone = path.split("::").next().unwrap_or(path);
        for part in dir.split('/').chain(path_alone.split('/')) {
            match part {
                "" | "." => {}
                ".." if parts.pop().is_none() => return outside(),
                ".." => {}
                part => parts.push(part),
            }
        }
        Self::Place(parts.join("/"))
    }
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
        let mut dependencies = BTreeMap::new();
        // What a peer is found as is said by the others.
        for field in [
            "peerDependencies",
            "optionalDependencies",
            "devDependencies",
            "dependencies",
        ] {
            if let Some(Value::Object(names)) = fields.get(field) {
                let meant = names.iter().map(|(name, spec)| {
                    let spec = spec.as_str().unwrap_or_default();
                    (name.clone(), Meant::of(dir, name, spec))
                });
                dependencies.extend(meant);
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
        assert!(package.dependencies.contains_key("react"));
        assert_eq!(package.workspaces, Some(vec!["libs/*".to_owned()]));
    }

    #[test]
    fn a_dependency_may_have_another_name_than_what_it_means() {
        let named = |name: &str| Meant::Named(name.into());
        let alias = |name: &str| Meant::Alias(name.into());
        let place = |dir: &str| Meant::Place(dir.into());
        for (spec, meant) in [
            ("^1.0.0", named("lg")),
            ("*", named("lg")),
            ("catalog:", named("lg")),
            ("workspace:*", named("lg")),
            ("workspace:^1.0.0", named("lg")),
            ("workspace:@m/log@*", named("@m/log")),
            ("workspace:log@^1", named("log")),
            ("workspace:../log", place("packages/log")),
            ("workspace:tools/log", place("tools/log")),
            ("npm:@m/log@^1.0.0", alias("@m/log")),
            ("npm:@m/log", alias("@m/log")),
            ("npm:log@1", alias("log")),
            ("npm:latest", named("lg")),
            ("npm:lg@1", named("lg")),
            ("npm:^1.0.0", named("lg")),
            ("npm:1.x", named("lg")),
            ("link:../log", place("packages/log")),
            ("file:../../tools/log/", place("tools/log")),
            ("portal:./own", place("packages/a/own")),
            ("../log", place("packages/log")),
            ("file:../../../log", Meant::Outside("../../../log".into())),
            ("link:/srv/log", Meant::Outside("/srv/log".into())),
            ("git+ssh://git@host/x.git", named("lg")),
        ] {
            assert_eq!(Meant::of("packages/a", "lg", spec), meant, "{spec}");
        }
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
