//! `package.json`, as far as a build needs it.
//!
//! Owns the fields and the list of a workspace's packages as npm, pnpm, Yarn and Bun write it, and what is said of mistakes there.
//! Does not know what becomes of a script.
//! Invariants: a field of another type than expected is a mistake, not silence, where leaving it out would change what is
//! built; a mistake says where it stands, and only for that a file is read a second time.

use std::collections::BTreeMap;

use jsonc_parser::ast;
use jsonc_parser::common::{Range, Ranged};
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use serde_json::{Map, Value};

use super::locate::At;
use super::scripts::variables::{Manager, of_package};
use super::target::join;
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
    /// The package manager that it wants.
    pub manager: Option<Manager>,
    /// What its scripts are told of it.
    pub variables: BTreeMap<String, String>,
}

/// Fields that name other packages. What a peer is found as is said by the others.
const DEPENDENCIES: [&str; 4] = [
    "peerDependencies",
    "optionalDependencies",
    "devDependencies",
    "dependencies",
];

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
        let file = Written::new(dir, text);
        let value = serde_json::from_str(file.text).map_err(|error| file.no_json(&error))?;
        let Value::Object(fields) = value else {
            return Err(file.wrong(&[], "a package is described by an object, `{ … }`"));
        };
        let text = |field: &str| match fields.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(file.wrong(&[field], &format!("`{field}` must be a text"))),
        };
        let mut dependencies = BTreeMap::new();
        for field in DEPENDENCIES {
            match fields.get(field) {
                None | Some(Value::Null) => {}
                Some(Value::Object(names)) => {
                    let meant = names.iter().map(|(name, spec)| {
                        let spec = spec.as_str().unwrap_or_default();
                        (name.clone(), Meant::of(dir, name, spec))
                    });
                    dependencies.extend(meant);
                }
                // Nothing, in the words of some programs.
                Some(Value::Array(list)) if list.is_empty() => {}
                Some(_) => {
                    let message = format!("`{field}` must be an object of names and versions");
                    return Err(file.wrong(&[field], &message));
                }
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
            name: text("name")?.unwrap_or_default(),
            version: text("version")?,
            scripts: scripts(&fields, &file)?,
            dependencies,
            workspaces: workspaces(&fields, &file)?,
            manager: text("packageManager")?.as_deref().map(Manager::named),
            variables: of_package(&fields),
        })
    }

    /// What is said of two packages of one name, each with its text.
    pub fn both(first: (&Self, &str), second: (&Self, &str)) -> Diagnostic {
        let [first, second] = [first, second].map(|(it, text)| (it, Written::new(&it.dir, text)));
        let place = |(_, file): &(&Self, Written<'_>)| match file.range(&["name"]) {
            Some(range) => At::offset(file.path.as_str(), file.text, range.start),
            None => At::file(file.path.as_str()),
        };
        let name = &second.0.name;
        let message = format!(
            "two packages of this workspace are named `{name}`: {} and {}",
            place(&first),
            place(&second)
        );
        second.1.wrong(&["name"], &message).with_help(format!(
            "give one of them another name, or leave one out of the list of packages: \"!{}\"",
            second.0.dir
        ))
    }
}

fn scripts(
    fields: &Map<String, Value>,
    file: &Written<'_>,
) -> Result<BTreeMap<String, String>, Diagnostic> {
    let scripts = match fields.get("scripts") {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(scripts)) => scripts,
        Some(_) => {
            let message = "`scripts` must be an object of names and shell lines";
            return Err(file.wrong(&["scripts"], message));
        }
    };
    let line = |(name, value): (&String, &Value)| match value {
        Value::String(line) => Ok((name.clone(), line.clone())),
        _ => {
            let message = format!("script `{name}` must be a shell line, which is a text");
            Err(file.wrong(&["scripts", name], &message))
        }
    };
    scripts.iter().map(line).collect()
}

fn workspaces(
    fields: &Map<String, Value>,
    file: &Written<'_>,
) -> Result<Option<Vec<String>>, Diagnostic> {
    let list = match fields.get("workspaces") {
        None | Some(Value::Null) => return Ok(None),
        Some(list) => list,
    };
    // Yarn also writes { packages: [...], nohoist: [...] }.
    let list = list.get("packages").unwrap_or(list);
    let globs = list.as_array().and_then(|list| {
        let texts = list.iter().map(|glob| glob.as_str().map(str::to_owned));
        texts.collect::<Option<Vec<String>>>()
    });
    let wrong = || file.wrong(&["workspaces"], "`workspaces` must be a list of globs");
    globs.map(Some).ok_or_else(wrong)
}

/// The name in the text of a `package.json` that cannot be read, as far as it stands there.
pub fn name_in(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("\"name\"")?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start();
    let (name, _) = rest.strip_prefix('"')?.split_once('"')?;
    (!name.is_empty() && !name.contains('\n')).then(|| name.to_owned())
}

/// A file as somebody wrote it, for what is said of mistakes.
struct Written<'t> {
    path: String,
    /// Without the mark that editors may put before it.
    text: &'t str,
}

impl<'t> Written<'t> {
    fn new(dir: &str, text: &'t str) -> Self {
        Self {
            path: join(dir, PACKAGE_JSON),
            text: text.trim_start_matches('\u{feff}'),
        }
    }

    fn no_json(&self, error: &serde_json::Error) -> Diagnostic {
        let message = error.to_string();
        let what = message.rsplit_once(" at line ");
        let what = what.map_or(message.as_str(), |(what, _)| what);
        let before = self
            .text
            .split_inclusive('\n')
            .take(error.line().max(1) - 1);
        let start = before.map(str::len).sum::<usize>();
        let offset = match error.is_eof() {
            true => self.text.trim_end().len().saturating_sub(1),
            false => start + error.column().saturating_sub(1),
        };
        Diagnostic::error(format!("{PACKAGE_JSON} is no JSON: {what}"))
            .at(&self.path, self.text, offset, 1)
    }

    /// A mistake of the value at `keys`.
    fn wrong(&self, keys: &[&str], message: &str) -> Diagnostic {
        match self.range(keys) {
            Some(range) => {
                let first_line = self.text[range.start..range.end].lines().next();
                let length = first_line.map_or(1, str::len);
                Diagnostic::error(message).at(&self.path, self.text, range.start, length)
            }
            None => Diagnostic::error(format!("{}: {message}", self.path)),
        }
    }

    /// Where the value at `keys` stands.
    fn range(&self, keys: &[&str]) -> Option<Range> {
        let options = (CollectOptions::default(), ParseOptions::default());
        let parsed = parse_to_ast(self.text, &options.0, &options.1).ok()?;
        let mut value = &parsed.value?;
        for key in keys {
            let ast::Value::Object(object) = value else {
                return None;
            };
            // Of several the last one counts.
            let mut properties = object.properties.iter().rev();
            value = &properties.find(|it| it.name.as_str() == *key)?.value;
        }
        Some(value.range())
    }
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
        .map_err(|error| match error.location() {
            Some(at) => {
                Diagnostic::error(error.to_string()).at(PNPM_WORKSPACE, text, at.index(), 1)
            }
            None => Diagnostic::error(format!("{PNPM_WORKSPACE}: {error}")),
        })
}

#[cfg(test)]
mod tests {
    use crate::lang::locate::flat;

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
    fn mistakes_name_their_place() {
        let error = |text: &str| flat(&PackageJson::parse("a", text).unwrap_err());
        for (text, said) in [
            ("{", "1:1: package.json is no JSON: EOF while parsing"),
            (
                "{\n  \"name\": \"x\",\n}\n",
                "3:1: package.json is no JSON: trailing comma",
            ),
            (
                "\u{feff}{\"é\": x}",
                "1:7: package.json is no JSON: expected value",
            ),
            ("[]", "1:1: a package is described by an object"),
            ("{\"name\": 3}", "1:10: `name` must be a text"),
            (
                "{\"scripts\": [\"tsc\"]}",
                "1:13: `scripts` must be an object",
            ),
            (
                "{\n \"scripts\": {\"a\": \"\", \"b\": 1}}",
                "2:28: script `b` must be a shell line",
            ),
            (
                "{\"dependencies\": [\"x\"]}",
                "1:18: `dependencies` must be an object",
            ),
            (
                "{\"workspaces\": \"libs/*\"}",
                "1:16: `workspaces` must be a list",
            ),
        ] {
            let found = error(text);
            assert!(
                found.starts_with(&format!("a/package.json:{said}")),
                "{found}"
            );
        }
        let nothing = r#"{"dependencies": [], "name": null, "scripts": null}"#;
        assert!(PackageJson::parse("", nothing).is_ok());
    }

    #[test]
    fn two_of_one_name_are_both_told() {
        let texts = ["{\"name\": \"x\"}", "{\n  \"name\": \"x\"\n}"];
        let read = |dir: &str, text: &str| PackageJson::parse(dir, text).unwrap();
        let (a, b) = (read("a", texts[0]), read("libs/b", texts[1]));
        let found = PackageJson::both((&a, texts[0]), (&b, texts[1]));
        assert_eq!(
            flat(&found),
            "libs/b/package.json:2:11: two packages of this workspace are named `x`: a/package.json:1:10 and \
             libs/b/package.json:2:11"
        );
        assert!(found.help.is_some_and(|help| help.contains("\"!libs/b\"")));
    }

    #[test]
    fn a_name_is_found_in_what_is_no_json() {
        let name = |text: &str| name_in(text);
        assert_eq!(
            name(r#"{ "name" : "@acme/ui", "scripts": {"#).as_deref(),
            Some("@acme/ui")
        );
        for text in [
            "",
            "{",
            r#"{"name": 1}"#,
            r#"{"name": ""}"#,
            "{\"name\": \"a\n",
        ] {
            assert_eq!(name(text), None, "{text}");
        }
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
    fn pnpm_lists_its_packages_in_a_file_of_its_own() {
        let text = "packages:\n  - 'apps/*'\n  - \"!apps/old\"\ncatalog:\n  react: ^19.0.0\n";
        assert_eq!(pnpm_packages(text).unwrap(), ["apps/*", "!apps/old"]);
        assert!(pnpm_packages("").unwrap().is_empty());
        let wrong = flat(&pnpm_packages("\npackages: {a: 1}").unwrap_err());
        assert!(wrong.starts_with("pnpm-workspace.yaml:2:11: "), "{wrong}");
    }
}
