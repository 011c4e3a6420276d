//! Uses of rules: targets that are described by calling a rule of the build language.
//!
//! Owns what a build file says about one: the rule, and attributes with their files and labels
//! still to be resolved. Does not know what the rule makes of them.
//! Invariant: files and labels among the attributes are found without asking the rule.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::descriptor::Reader;
use super::label::Label;
use super::locate::At;
use super::target::Source;
use crate::diagnostic::Diagnostic;

/// A target that a rule has to describe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleUse {
    /// Its name.
    pub label: Label,
    /// Where it is defined.
    pub at: At,
    /// The file that defines the rule; `zako:rules/…` for one that ships.
    pub file: String,
    /// The rule's name.
    pub rule: String,
    /// Whether what it describes is a test.
    pub test: bool,
    /// Options that the rule and its toolchains read: `file#name`, or a name of `zako.toml`.
    pub config: Vec<String>,
    /// Toolchains that the rule uses: `file#name`.
    pub toolchains: Vec<String>,
    /// Attributes by name.
    pub attrs: BTreeMap<String, Attr>,
}

/// One attribute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Attr {
    /// A value as JSON.
    Plain(String),
    /// Files.
    Sources {
        /// As written.
        items: Vec<AttrSource>,
        /// Whether the attribute is one file rather than a list.
        one: bool,
    },
    /// Targets.
    Deps {
        /// As written.
        labels: Vec<Label>,
        /// Whether the attribute is one target rather than a list.
        one: bool,
        /// Providers that each must have: `file#name`.
        provides: Vec<String>,
    },
}

/// An element of an attribute of files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AttrSource {
    /// Files of the source tree.
    Source(Source),
    /// What a target leaves behind.
    Target(Label),
}

/// The rule that ships for files under one name.
const FILE_GROUP: (&str, &str) = ("zako:rules/files.rule.ts", "file_group");

impl RuleUse {
    /// `files` under one name, as nobody wrote it in a build file.
    pub fn of_files(label: Label, at: At, files: Source) -> Self {
        let srcs = Attr::Sources {
            items: vec![AttrSource::Source(files)],
            one: false,
        };
        let deps = Attr::Deps {
            labels: Vec::new(),
            one: false,
            provides: Vec::new(),
        };
        Self {
            label,
            at,
            file: FILE_GROUP.0.to_owned(),
            rule: FILE_GROUP.1.to_owned(),
            test: false,
            config: Vec::new(),
            toolchains: Vec::new(),
            attrs: BTreeMap::from([("deps".to_owned(), deps), ("srcs".to_owned(), srcs)]),
        }
    }

    /// What it names of the source tree.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        let items = self.attrs.values().filter_map(|attr| match attr {
            Attr::Sources { items, .. } => Some(items),
            Attr::Plain(_) | Attr::Deps { .. } => None,
        });
        items.flatten().filter_map(|item| match item {
            AttrSource::Source(source) => Some(source),
            AttrSource::Target(_) => None,
        })
    }

    /// The targets that it names, in order, each once.
    pub fn deps(&self) -> Vec<&Label> {
        let mut labels: Vec<&Label> = Vec::new();
        let mut add = |label| {
            if !labels.contains(&label) {
                labels.push(label);
            }
        };
        for attr in self.attrs.values() {
            match attr {
                Attr::Plain(_) => {}
                Attr::Sources { items, .. } => items.iter().for_each(|item| {
                    if let AttrSource::Target(label) = item {
                        add(label);
                    }
                }),
                Attr::Deps { labels, .. } => labels.iter().for_each(&mut add),
            }
        }
        labels
    }
}

impl Reader<'_> {
    /// Reads what calling a rule returned, at `at`.
    pub(super) fn rule_use(&self, value: &Value, at: At) -> Result<RuleUse, Diagnostic> {
        let text = |field: &str| {
            value
                .get(field)
                .and_then(Value::as_str)
                .map(str::to_owned)
                .ok_or_else(|| {
                    self.mistake(None, format!("`{}` was not made by a rule", self.name))
                })
        };
        let texts = |field: &str| -> Vec<String> {
            let list = value.get(field).and_then(Value::as_array);
            let texts = list.into_iter().flatten().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        };
        let mut attrs = BTreeMap::new();
        for (name, attr) in value
            .get("attrs")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            attrs.insert(name.clone(), self.attr(attr)?);
        }
        Ok(RuleUse {
            label: self.label()?,
            at,
            file: text("file")?,
            rule: text("rule")?,
            test: value.get("test") == Some(&Value::Bool(true)),
            config: texts("config"),
            toolchains: texts("toolchains"),
            attrs,
        })
    }

    fn attr(&self, value: &Value) -> Result<Attr, Diagnostic> {
        let list = |field: &str| value.get(field).and_then(Value::as_array);
        let one = value.get("one") == Some(&Value::Bool(true));
        if let Some(items) = list("$sources") {
            let items = items.iter().map(|item| match item.get("$label") {
                Some(label) => self.dep(label).map(AttrSource::Target),
                None => self.source(item).map(AttrSource::Source),
            });
            let items = items.collect::<Result<_, _>>()?;
            return Ok(Attr::Sources { items, one });
        }
        if let Some(labels) = list("$deps") {
            let labels = labels.iter().map(|label| self.dep(label));
            let provides = list("provides").into_iter().flatten();
            return Ok(Attr::Deps {
                labels: labels.collect::<Result<_, _>>()?,
                one,
                provides: provides
                    .filter_map(|p| Some(p.as_str()?.to_owned()))
                    .collect(),
            });
        }
        Ok(Attr::Plain(value.to_string()))
    }

    fn dep(&self, value: &Value) -> Result<Label, Diagnostic> {
        let text = value.as_str().unwrap_or_default();
        self.file
            .packages
            .parse(text, self.file.dir)
            .map_err(|error| self.mistake(Some(text), error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::descriptor::{BuildFile, read_exports};
    use super::*;

    #[test]
    fn files_and_labels_are_found_among_the_attributes() {
        let file = BuildFile {
            path: "a/BUILD.ts",
            dir: "a",
            text: "",
            packages: &crate::lang::packages::Packages::NONE,
        };
        let value = json!({ "t": {
            "$zako": "rule", "file": "x.rule.ts", "rule": "r", "test": true, "config": ["c.config.ts#m"], "toolchains": [],
            "attrs": {
                "srcs": { "$sources": ["m.c", { "$label": ":gen" }] },
                "dep": { "$deps": ["//b"], "one": true, "provides": ["x.rule.ts#Info"] },
                "level": 3,
            },
        }});
        let exports = read_exports(&value, file).unwrap();
        let used = &exports.uses[0];
        assert_eq!(used.label.to_string(), "//a:t");
        assert!(used.test);
        assert_eq!(used.sources().count(), 1);
        let deps: Vec<_> = used.deps().iter().map(ToString::to_string).collect();
        assert_eq!(deps, ["//b:b", "//a:gen"]);
        assert_eq!(used.attrs["level"], Attr::Plain("3".into()));
        let source = AttrSource::Source(Source::File("a/m.c".into()));
        assert!(
            matches!(&used.attrs["srcs"], Attr::Sources { items, one: false } if items[0] == source)
        );
    }
}
