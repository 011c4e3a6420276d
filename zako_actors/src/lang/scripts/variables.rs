//! What a package manager tells a script: `npm_*` in its environment.
//!
//! Owns which of these variables follow from the files of the workspace, and the shell line of a script with its hooks, each of which
//! is told its own name. Does not know those that name places of the machine (`engine::step::manager`).
//! Invariant: the values are the same on every machine: they are part of keys.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::lang::package_json::PackageJson;
use crate::lang::target::{Command, EnvValue};

/// The fields of `package.json` that become variables beside name and version.
const FIELDS: [&str; 3] = ["config", "engines", "bin"];

/// By what tools tell which package manager runs them.
pub const USER_AGENT: &str = "npm_config_user_agent";

/// What installs the packages of a workspace, and runs their scripts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    name: String,
    version: Option<String>,
}

impl Default for Manager {
    fn default() -> Self {
        Self::of("npm")
    }
}

impl Manager {
    /// The one of this name, in whichever version.
    pub fn of(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: None,
        }
    }

    /// The one that `packageManager` names, as `pnpm@9.1.0+sha512.…`.
    pub fn named(text: &str) -> Self {
        let (name, version) = text.split_once('@').unwrap_or((text, ""));
        let version = version.split('+').next().filter(|it| !it.is_empty());
        Self {
            version: version.map(str::to_owned),
            ..Self::of(name)
        }
    }

    /// How it presents itself, but for the version of Node.js, which is the machine's.
    fn user_agent(&self) -> String {
        let Self { name, version } = self;
        let version = version.as_deref().unwrap_or("?");
        let npm = if name == "npm" { "" } else { " npm/?" };
        let os = match std::env::consts::OS {
            "macos" => "darwin",
            os => os,
        };
        let arch = match std::env::consts::ARCH {
            "x86_64" => "x64",
            "aarch64" => "arm64",
            arch => arch,
        };
        format!("{name}/{version}{npm} node/? {os} {arch}")
    }
}

/// What the fields of a `package.json` become.
pub fn of_package(fields: &Map<String, Value>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for field in ["name", "version"] {
        if let Some(value @ Value::String(_)) = fields.get(field) {
            add(&format!("npm_package_{field}"), value, &mut found);
        }
    }
    for field in FIELDS {
        match fields.get(field) {
            // One program without a name has that of the package.
            Some(program @ Value::String(_)) if field == "bin" => {
                let name = fields.get("name").and_then(Value::as_str);
                let name = name.and_then(|name| name.rsplit('/').next());
                let name = format!("npm_package_bin_{}", name.unwrap_or_default());
                add(&name, program, &mut found);
            }
            Some(value @ (Value::Object(_) | Value::Array(_))) => {
                add(&format!("npm_package_{field}"), value, &mut found);
            }
            _ => {}
        }
    }
    found
}

fn add(name: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    let text = match value {
        Value::Object(fields) => {
            let inner = fields.iter();
            return inner.for_each(|(key, value)| add(&format!("{name}_{key}"), value, found));
        }
        Value::Array(list) => {
            let inner = list.iter().enumerate();
            return inner.for_each(|(at, value)| add(&format!("{name}_{at}"), value, found));
        }
        Value::Null | Value::Bool(false) => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    // A shell takes no other names from its environment; no process can be given a text with NUL.
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    if !text.contains('\0') {
        found.insert(name.chars().map(plain).collect(), text);
    }
}

/// The variables of one script.
pub fn of_script(
    package: &PackageJson,
    script: &str,
    manager: &Manager,
) -> BTreeMap<String, EnvValue> {
    let own = [
        (USER_AGENT, manager.user_agent()),
        ("npm_command", "run-script".to_owned()),
        ("npm_lifecycle_event", script.to_owned()),
        ("npm_lifecycle_script", package.scripts[script].clone()),
    ];
    let own = own.map(|(name, value)| (name.to_owned(), value));
    let of_package = package.variables.clone().into_iter();
    let all = of_package.chain(own);
    all.map(|(name, value)| (name, EnvValue::Text(value)))
        .collect()
}

/// The shell line of a script with its hooks before and after it: each in a shell of its own, and told its own name.
pub fn line(package: &PackageJson, script: &str) -> String {
    let main = &package.scripts[script];
    let hook = |hook: &str| {
        let name = format!("{hook}{script}");
        let line = package.scripts.get(&name)?;
        Some(told(&name, line, line))
    };
    match (hook("pre"), hook("post")) {
        (None, None) => main.clone(),
        (pre, post) => {
            let all = [pre, Some(told(script, main, main)), post];
            all.into_iter().flatten().collect::<Vec<_>>().join(" && ")
        }
    }
}

/// The shell line of the script that `command` is, which is given `arguments`, as a shell reads them; its hooks are not.
pub fn line_with(command: &Command, arguments: &str) -> String {
    let line = command.argv.last().map_or("", String::as_str);
    let text = |name| match command.env.get(name) {
        Some(EnvValue::Text(text)) => text.as_str(),
        _ => "",
    };
    let (name, script) = (text("npm_lifecycle_event"), text("npm_lifecycle_script"));
    let alone = told(name, script, script);
    if line.contains(&alone) {
        let given = told(name, script, &format!("{script} {arguments}"));
        line.replacen(&alone, &given, 1)
    } else {
        format!("{line} {arguments}")
    }
}

/// `line` in a shell of its own that is told this.
fn told(name: &str, script: &str, line: &str) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let (event, script) = (quoted(name), quoted(script));
    format!("(npm_lifecycle_event={event} npm_lifecycle_script={script}\n{line}\n)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_become_variables_as_npm_has_them() {
        let package = json!({
            "name": "@acme/p", "version": "1.2.3", "bin": "cli.js", "engines": { "node": ">=18" }, "description": "no",
            "config": { "port": 8080, "deep": { "a": [1, "x"], "b": null, "c": false, "d": true }, "my-key": "v", "nul": "\0" },
        });
        let found = of_package(package.as_object().unwrap());
        let expected = [
            ("bin_p", "cli.js"),
            ("config_deep_a_0", "1"),
            ("config_deep_a_1", "x"),
            ("config_deep_b", ""),
            ("config_deep_c", ""),
            ("config_deep_d", "true"),
            ("config_my_key", "v"),
            ("config_port", "8080"),
            ("engines_node", ">=18"),
            ("name", "@acme/p"),
            ("version", "1.2.3"),
        ];
        let expected = expected.map(|(name, value)| (format!("npm_package_{name}"), value.into()));
        assert_eq!(found, BTreeMap::from(expected));
    }

    #[test]
    fn managers_present_themselves() {
        let agent = |text: &str| Manager::named(text).user_agent();
        assert!(agent("pnpm@9.1.0+sha512.abc").starts_with("pnpm/9.1.0 npm/? node/? "));
        assert!(agent("yarn").starts_with("yarn/? npm/? "));
        assert!(Manager::default().user_agent().starts_with("npm/? node/? "));
    }
}
