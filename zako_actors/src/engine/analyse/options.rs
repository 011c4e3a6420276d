//! Options: what they are set to.
//!
//! Owns the order command line, `zako.toml`, default; and the answers to a wrong name or type. Does
//! not know how options are declared.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::system::file_of;
use crate::diagnostic::Diagnostic;
use crate::engine::flaws::Gaps;
use crate::lang::label::Label;
use crate::lang::manifest::{ConfigOption, Manifest};
use crate::lang::packages::Packages;
use crate::lang::rule_use::RuleUse;
use crate::lang::suggest::did_you_mean;
use crate::lang::target::Target;

/// An option as a `*.config.ts` declares it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// `boolean`, `number`, `string` or `label`.
    pub r#type: String,
    /// What it may be; anything of its type when there are none.
    #[serde(default)]
    pub values: Vec<Value>,
    /// What it is when nobody says anything.
    pub default: Value,
}

impl Declared {
    /// The options of `zako.toml`.
    pub fn of_manifest(manifest: &Manifest) -> Vec<Self> {
        let options = manifest.config.iter();
        options
            .map(|(name, option)| {
                let kind = match option {
                    ConfigOption::Boolean(_) => "boolean",
                    ConfigOption::Number(_) => "number",
                    ConfigOption::String(_) => "string",
                    ConfigOption::Label(_) => "label",
                };
                Self {
                    name: name.clone(),
                    r#type: kind.to_owned(),
                    values: Vec::new(),
                    default: option.to_json(),
                }
            })
            .collect()
    }

    /// `text` as a value of this option.
    fn read(&self, text: &str) -> Result<Value, String> {
        let value = match self.r#type.as_str() {
            "boolean" => text.parse::<bool>().ok().map(Value::from),
            "number" => text
                .parse::<f64>()
                .ok()
                .filter(|n| n.is_finite())
                .map(Value::from),
            _ => Some(Value::from(text)),
        };
        let value = value.ok_or_else(|| {
            let example = if self.r#type == "boolean" {
                "true or false"
            } else {
                "a number"
            };
            format!("option `{}` must be {example}, not `{text}`", self.name)
        })?;
        self.check(value)
    }

    fn is_label(&self) -> bool {
        self.r#type == "label"
    }

    /// The label that `text` is.
    fn label(&self, text: &str) -> Result<Label, String> {
        let wrong = |what: String| format!("option `{}` must be a label: {what}", self.name);
        if text.starts_with(':') {
            return Err(wrong(format!("write \"//path/to{text}\", not \"{text}\"")));
        }
        Label::parse(text, "").map_err(|error| wrong(error.to_string()))
    }

    /// `value`, unless it is the label of no target in `targets`.
    fn find(&self, value: Value, targets: Targets<'_>) -> Result<Value, String> {
        let Some(text) = value.as_str().filter(|_| self.is_label()) else {
            return Ok(value);
        };
        let label = targets.packages.resolve(&self.label(text)?);
        let label = label.map_err(|error| format!("option `{}`: {error}", self.name))?;
        // What cannot be read may have it.
        let is_known = || targets.labels().any(|known| *known == label);
        let may_be = || targets.gaps.of(label.dir()).next().is_some();
        if is_known() || may_be() {
            return Ok(Value::from(label.to_string()));
        }
        let labels: Vec<String> = targets.labels().map(Label::to_string).collect();
        let hint = did_you_mean(&label.to_string(), labels.iter().map(String::as_str));
        Err(format!(
            "option `{}`: there is no target {label}{hint}",
            self.name
        ))
    }

    fn check(&self, value: Value) -> Result<Value, String> {
        let right = match self.r#type.as_str() {
            "boolean" => value.is_boolean(),
            "number" => value.is_number(),
            _ => value.is_string(),
        };
        if !right {
            return Err(format!(
                "option `{}` must be a {}, not {value}",
                self.name, self.r#type
            ));
        }
        let value = match value.as_str().filter(|_| self.is_label()) {
            Some(text) => Value::from(self.label(text)?.to_string()),
            None => value,
        };
        // A label can be written in several ways.
        let is_same = |one: &Value| match one.as_str().filter(|_| self.is_label()) {
            Some(text) => self.label(text).is_ok_and(|it| value == it.to_string()),
            None => *one == value,
        };
        if self.values.is_empty() || self.values.iter().any(is_same) {
            return Ok(value);
        }
        let list: Vec<String> = self.values.iter().map(ToString::to_string).collect();
        let hint = value.as_str().map_or_else(String::new, |text| {
            did_you_mean(text, self.values.iter().filter_map(Value::as_str))
        });
        Err(format!(
            "option `{}` must be one of {}, not {value}{hint}",
            self.name,
            list.join(", ")
        ))
    }
}

/// What build files describe: options may be labels of these.
#[derive(Clone, Copy)]
pub struct Targets<'a> {
    /// By rules.
    pub uses: &'a [Arc<RuleUse>],
    /// Without.
    pub plain: &'a [Arc<Target>],
    /// Those that their labels may name.
    pub packages: &'a Packages,
    /// Where there may be more.
    pub gaps: &'a Gaps<()>,
}

impl<'a> Targets<'a> {
    fn labels(self) -> impl Iterator<Item = &'a Label> {
        let plain = self.plain.iter().map(|target| &target.label);
        plain.chain(self.uses.iter().map(|used| &used.label))
    }
}

/// What was set, and where.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given {
    /// `--set name=value`.
    pub flags: BTreeMap<String, String>,
    /// `[config]` of `zako.toml`.
    pub manifest: BTreeMap<String, Value>,
}

/// The values of options by `file#name` or, from `zako.toml`, by name; and those whose own default is no value for them.
pub type Settled = (Map<String, Value>, Vec<(String, String)>);

/// The values of `declared` options; whether these are all that are declared says `is_whole`.
///
/// # Errors
/// A name that nobody declares, and what was set to a value that the option cannot have, or to a label that no target has.
pub fn settle(
    declared: &[(String, Declared)],
    given: &Given,
    targets: Targets<'_>,
    is_whole: bool,
) -> Result<Settled, Diagnostic> {
    let names: Vec<&str> = declared
        .iter()
        .map(|(_, option)| option.name.as_str())
        .collect();
    let set = given.flags.keys().map(|name| ("--set", name));
    let set = set.chain(
        given
            .manifest
            .keys()
            .map(|name| ("[config] of zako.toml", name)),
    );
    for (place, name) in set {
        if names.contains(&name.as_str()) || !is_whole {
            continue;
        }
        let hint = match (did_you_mean(name, names.iter().copied()), names.as_slice()) {
            (hint, _) if !hint.is_empty() => hint,
            (_, []) => "; no rule in use declares options".into(),
            (_, names) => format!("; options are {}", names.join(", ")),
        };
        return Err(Diagnostic::error(format!(
            "{place}: there is no option `{name}`{hint}"
        )));
    }
    let (mut settled, mut wrong) = (Map::new(), Vec::new());
    for (id, option) in declared {
        let is_set =
            given.flags.contains_key(&option.name) || given.manifest.contains_key(&option.name);
        let value = match (
            given.flags.get(&option.name),
            given.manifest.get(&option.name),
        ) {
            (Some(text), _) => option.read(text).map_err(|error| format!("--set: {error}")),
            (None, Some(value)) => option
                .check(value.clone())
                .map_err(|error| format!("[config] of zako.toml: {error}")),
            (None, None) => Ok(option.default.clone()),
        };
        match value.and_then(|value| option.find(value, targets)) {
            Ok(value) => drop(settled.insert(id.clone(), value)),
            Err(error) if file_of(id).is_some() && !is_set => wrong.push((id.clone(), error)),
            Err(error) => return Err(Diagnostic::error(error)),
        }
    }
    Ok((settled, wrong))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mode() -> (String, Declared) {
        let declared = json!({ "name": "mode", "type": "string", "values": ["debug", "release"], "default": "debug" });
        ("c#mode".into(), serde_json::from_value(declared).unwrap())
    }

    fn value(flags: &[(&str, &str)], manifest: &[(&str, Value)]) -> Result<Value, String> {
        let pair = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        let given = Given {
            flags: flags.iter().map(pair).collect(),
            manifest: manifest
                .iter()
                .map(|(n, v)| ((*n).to_owned(), v.clone()))
                .collect(),
        };
        let none = Targets {
            uses: &[],
            plain: &[],
            packages: &Packages::NONE,
            gaps: &Gaps::default(),
        };
        let settled = settle(&[mode()], &given, none, true).map_err(|error| error.message)?;
        Ok(settled.0["c#mode"].clone())
    }

    #[test]
    fn flags_win_over_the_manifest_and_that_over_the_default() {
        assert_eq!(value(&[], &[]).unwrap(), "debug");
        assert_eq!(
            value(&[], &[("mode", json!("release"))]).unwrap(),
            "release"
        );
        let both = value(&[("mode", "debug")], &[("mode", json!("release"))]);
        assert_eq!(both.unwrap(), "debug");
    }

    #[test]
    fn wrong_names_and_values_are_answered() {
        let error = value(&[("mdoe", "debug")], &[]).unwrap_err();
        assert_eq!(
            error,
            "--set: there is no option `mdoe`; did you mean `mode`?"
        );
        let error = value(&[("mode", "relase")], &[]).unwrap_err();
        assert!(
            error.contains("must be one of \"debug\", \"release\""),
            "{error}"
        );
        assert!(error.contains("did you mean `release`?"), "{error}");
        let error = value(&[], &[("mode", json!(true))]).unwrap_err();
        assert!(
            error.starts_with("[config] of zako.toml: option `mode` must be a string"),
            "{error}"
        );
    }

    #[test]
    fn a_label_is_the_same_however_it_is_written() {
        let declared = json!({ "name": "cc", "type": "label", "values": ["//a/gcc", "//a:clang"], "default": "//a/gcc" });
        let option: Declared = serde_json::from_value(declared).unwrap();
        for text in ["//a/gcc", "//a/gcc:gcc"] {
            assert_eq!(option.read(text).unwrap(), "//a/gcc:gcc");
        }
        let error = option.read("//a:gcc").unwrap_err();
        assert!(error.contains("must be one of \"//a/gcc\""), "{error}");
    }
}
