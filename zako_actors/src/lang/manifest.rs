//! The manifest `zako.toml`: who a package is and what it needs.
//!
//! Owns the fields, their validation and the answers to mistakes. Does not fetch dependencies.
//! Invariant: a `Manifest` is complete and valid; unknown fields never pass silently.

use crate::diagnostic::Diagnostic;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use toml::Spanned;

use super::dependency::{self, Dependency, Fields};
pub use super::identity::Identity;
use super::identity::{LOCAL, is_semver};
use super::label::{Label, LabelError};
use super::locate::{At, mistake};
use super::pattern::{Pattern, PatternError};
pub use super::settings::{SandboxMode, Settings};
use super::suggest::did_you_mean;
use super::task::Task;

/// File name of the manifest; the directory that holds one is a workspace root.
pub const MANIFEST: &str = "zako.toml";

/// A validated manifest.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// `group:artifact@version` is the package's id.
    pub group: String,
    /// Second part of the id.
    pub artifact: String,
    /// Semantic version.
    pub version: String,
    /// One line for people.
    pub description: Option<String>,
    /// Names, with mail addresses where they like.
    pub authors: Vec<String>,
    /// SPDX expression.
    pub license: Option<String>,
    /// Build files; `None` leaves the choice to `zako.ts`.
    pub builds: Option<Vec<Pattern>>,
    /// Other packages by the name that labels use after `@`.
    pub dependencies: BTreeMap<String, Dependency>,
    /// Where each of them stands.
    pub dependency_places: BTreeMap<String, At>,
    /// Options of this package.
    pub config: BTreeMap<String, ConfigOption>,
    /// What options that rules declare are set to, as JSON.
    pub config_values: BTreeMap<String, Value>,
    /// How this workspace is built, when not by default.
    pub settings: Settings,
    /// What scripts of packages need and leave behind; instead of `turbo.json`.
    pub tasks: Option<BTreeMap<String, Task>>,
    /// Where each of them stands.
    pub task_places: BTreeMap<String, At>,
}

/// One option with its type and default.
#[derive(Clone, Debug, PartialEq)]
pub enum ConfigOption {
    /// A target.
    Label(Label),
    /// True or false.
    Boolean(bool),
    /// A finite number.
    Number(f64),
    /// A text.
    String(String),
}

impl ConfigOption {
    /// Its default as scripts see it.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Boolean(value) => Value::from(*value),
            Self::Number(value) => Value::from(*value),
            Self::String(value) => Value::from(value.as_str()),
            Self::Label(label) => Value::from(label.to_string()),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    group: Option<Spanned<String>>,
    artifact: Option<Spanned<String>>,
    version: Option<Spanned<String>>,
    configure_script: Option<Spanned<String>>,
    description: Option<String>,
    #[serde(default)]
    authors: Vec<String>,
    license: Option<String>,
    builds: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    rules: Vec<Spanned<String>>,
    #[serde(default)]
    toolchains: Vec<Spanned<String>>,
    #[serde(default)]
    peers: Vec<Spanned<String>>,
    #[serde(default)]
    dependencies: BTreeMap<String, Spanned<Fields>>,
    mount_config: Option<Spanned<String>>,
    #[serde(default)]
    config: BTreeMap<String, Spanned<toml::Value>>,
    #[serde(default)]
    settings: Settings,
    tasks: Option<BTreeMap<String, Spanned<Task>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOption {
    r#type: String,
    default: toml::Value,
}

const CONFIGURE: &str = "options are declared in *.config.ts files and set in [config]";
const RULES: &str = "rule and toolchain files are found where build files import them";
const PEERS: &str = "name packages of this repository in [dependencies], as { path = \"DIR\" }";

struct Reader<'a> {
    text: &'a str,
}

impl Manifest {
    /// Reads a manifest's text.
    ///
    /// # Errors
    /// The first mistake, with its line.
    pub fn parse(text: &str) -> Result<Self, Diagnostic> {
        Self::parse_as(text, Identity::default)
    }

    /// Reads the text of a manifest that need not say who the package is: then it is who `identity` says.
    ///
    /// # Errors
    /// The first mistake, with its line.
    pub fn parse_as(text: &str, identity: impl FnOnce() -> Identity) -> Result<Self, Diagnostic> {
        let reader = Reader { text };
        let raw: Raw = toml::from_str(text).map_err(|error| reader.syntax(&error))?;
        for (field, word) in [("group", &raw.group), ("artifact", &raw.artifact)] {
            word.iter()
                .try_for_each(|word| reader.check_word(field, word))?;
        }
        if let Some(version) = raw.version.as_ref().filter(|it| !is_semver(it.as_ref())) {
            let message = format!("version `{}` is not MAJOR.MINOR.PATCH", version.as_ref());
            return Err(reader.error(version.span().start, message));
        }
        let is_whole = raw.artifact.is_some() && raw.version.is_some();
        let identity = if is_whole {
            Identity::default()
        } else {
            identity()
        };
        let said = |word: Option<Spanned<String>>, usual: fn(&Identity) -> &String| {
            word.map_or_else(|| usual(&identity).clone(), Spanned::into_inner)
        };
        reader.check_elsewhere(&raw)?;
        let mut dependencies = BTreeMap::new();
        let mut dependency_places = BTreeMap::new();
        for (name, fields) in raw.dependencies {
            let start = fields.span().start;
            let read = dependency::read(&name, start, fields.as_ref());
            let read = read.map_err(|(at, message)| reader.error(at, message))?;
            dependency_places.insert(name.clone(), At::offset(MANIFEST, text, start));
            dependencies.insert(name, read);
        }
        let mut config = BTreeMap::new();
        let mut config_values = BTreeMap::new();
        for (name, option) in raw.config {
            let start = option.span().start;
            let wrong = |message: String| {
                let message = with_nearest(message.trim_end().to_owned());
                reader.error(start, format!("config `{name}`: {message}"))
            };
            match option.into_inner() {
                table @ toml::Value::Table(_) => {
                    let raw = table
                        .try_into()
                        .map_err(|e: toml::de::Error| wrong(e.to_string()))?;
                    config.insert(name.clone(), reader.option(&name, start, raw)?);
                }
                value => {
                    let value = serde_json::to_value(value).map_err(|e| wrong(e.to_string()))?;
                    config_values.insert(name, value);
                }
            }
        }
        let mut task_places = BTreeMap::new();
        let tasks = raw.tasks.map(|tasks| {
            let tasks = tasks.into_iter().map(|(name, task)| {
                let at = At::offset(MANIFEST, text, task.span().start);
                task_places.insert(name.clone(), at);
                (name, task.into_inner())
            });
            tasks.collect()
        });
        Ok(Self {
            group: raw
                .group
                .map_or_else(|| LOCAL.to_owned(), Spanned::into_inner),
            artifact: said(raw.artifact, |it| &it.artifact),
            version: said(raw.version, |it| &it.version),
            description: raw.description,
            authors: raw.authors,
            license: raw.license,
            builds: raw.builds.map(|list| reader.patterns(&list)).transpose()?,
            dependencies,
            dependency_places,
            config,
            config_values,
            settings: raw.settings,
            tasks,
            task_places,
        })
    }

    /// The text of a manifest that says no more than who the package is; whatever cannot be part of an id is replaced.
    pub fn derive(group: &str, name: &str, version: &str) -> String {
        let Identity { artifact, version } = Identity::of(name, version);
        let group = Identity::of(group, "").artifact;
        format!("group = \"{group}\"\nartifact = \"{artifact}\"\nversion = \"{version}\"\n")
    }

    /// `group:artifact@version`.
    pub fn id(&self) -> String {
        format!("{}:{}@{}", self.group, self.artifact, self.version)
    }
}

impl Reader<'_> {
    fn error(&self, offset: usize, message: String) -> Diagnostic {
        mistake(&At::offset(MANIFEST, self.text, offset), message, self.text)
    }

    fn syntax(&self, error: &toml::de::Error) -> Diagnostic {
        let message = with_nearest(error.message().replace('\n', "; "));
        match error.span() {
            Some(span) => self.error(span.start, message),
            None => mistake(&At::file(MANIFEST), message, self.text),
        }
    }

    fn check_word(&self, field: &str, word: &Spanned<String>) -> Result<(), Diagnostic> {
        let text = word.as_ref();
        let good = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        if !text.is_empty() && text.chars().all(good) {
            return Ok(());
        }
        Err(self.error(
            word.span().start,
            format!(
                "{field} `{text}` may hold letters, digits, `.`, `_` and `-` only, at least one"
            ),
        ))
    }

    /// What the manifest does not say here: fields that would have no effect are mistakes, each with what has.
    fn check_elsewhere(&self, raw: &Raw) -> Result<(), Diagnostic> {
        let fields = [
            ("configure_script", raw.configure_script.as_ref(), CONFIGURE),
            ("mount_config", raw.mount_config.as_ref(), CONFIGURE),
            ("rules", raw.rules.first(), RULES),
            ("toolchains", raw.toolchains.first(), RULES),
            ("peers", raw.peers.first(), PEERS),
        ];
        for (name, value, instead) in fields {
            if let Some(value) = value {
                let message = format!("`{name}` would have no effect: {instead}; remove the field");
                return Err(self.error(value.span().start, message));
            }
        }
        Ok(())
    }

    fn patterns(&self, list: &[Spanned<String>]) -> Result<Vec<Pattern>, Diagnostic> {
        list.iter()
            .map(|text| {
                Pattern::parse(text.as_ref())
                    .map_err(|e: PatternError| self.error(text.span().start, e.to_string()))
            })
            .collect()
    }

    fn option(&self, name: &str, start: usize, raw: RawOption) -> Result<ConfigOption, Diagnostic> {
        let wrong = |message: String| self.error(start, format!("config `{name}`: {message}"));
        match (raw.r#type.as_str(), raw.default) {
            ("boolean", toml::Value::Boolean(value)) => Ok(ConfigOption::Boolean(value)),
            ("number", toml::Value::Integer(value)) => {
                // Options are JavaScript numbers; beyond 2^53 they would silently change.
                let exact = i32::try_from(value)
                    .map_err(|_| wrong(format!("{value} does not fit; write it as 1.0e9")))?;
                Ok(ConfigOption::Number(f64::from(exact)))
            }
            ("number", toml::Value::Float(value)) if value.is_finite() => {
                Ok(ConfigOption::Number(value))
            }
            ("string", toml::Value::String(value)) => Ok(ConfigOption::String(value)),
            ("label", toml::Value::String(value)) => Label::parse(&value, "")
                .map(ConfigOption::Label)
                .map_err(|e: LabelError| wrong(e.to_string())),
            (kind @ ("boolean" | "number" | "string" | "label"), other) => Err(wrong(format!(
                "the default must be a {kind}, but it is {}",
                other.type_str()
            ))),
            (kind, _) => Err(wrong(format!(
                "type `{kind}` is unknown{}; types are boolean, number, string, label",
                did_you_mean(kind, ["boolean", "number", "string", "label"])
            ))),
        }
    }
}

/// What is said of a field that is not known, with the nearest one of those that are known there.
fn with_nearest(message: String) -> String {
    let unknown = message.strip_prefix("unknown field `");
    let Some((name, expected)) = unknown.and_then(|unknown| unknown.split_once('`')) else {
        return message;
    };
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    match did_you_mean(name, known.iter().copied()) {
        hint if hint.is_empty() => {
            format!(
                "unknown field `{name}`; known fields are {}",
                known.join(", ")
            )
        }
        hint => format!("unknown field `{name}`{hint}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::locate::flat;

    const HEAD: &str = "group = \"org.example\"\nartifact = \"app\"\nversion = \"1.0.0\"\n";

    fn message(tail: &str) -> String {
        flat(&Manifest::parse(&format!("{HEAD}{tail}")).unwrap_err())
    }

    #[test]
    fn every_field_is_read() {
        let manifest = Manifest::parse(&format!(
            "{HEAD}description = \"d\"\nauthors = [\"x\"]\nlicense = \"MIT\"\n\
             builds = [\"**/BUILD.ts\"]\nrules = []\ntoolchains = []\npeers = []\n\
             [dependencies]\na = {{ package = \"npm:a@1.0.0\" }}\nb = {{ repo = \"r\", checkout = \"main\" }}\n\
             c = {{ url = \"file:u\" }}\nd = {{ path = \"p\" }}\n\
             [config.fast]\ntype = \"boolean\"\ndefault = true\n\
             [config.cc]\ntype = \"label\"\ndefault = \"//tools:cc\"\n\
             [settings]\njobs = 3\ncache-dir = \"x\"\n"
        ))
        .unwrap();
        assert_eq!(manifest.id(), "org.example:app@1.0.0");
        assert_eq!(manifest.dependencies.len(), 4);
        assert_eq!(manifest.config["fast"], ConfigOption::Boolean(true));
        assert_eq!(manifest.settings.jobs, Some(3));
    }

    #[test]
    fn mistakes_name_the_line_and_the_nearest_field() {
        let text = message("licence = \"MIT\"\n");
        assert!(
            text.starts_with("zako.toml:4:1: unknown field `licence`; did you mean `license`?"),
            "{text}"
        );
        assert!(message("builds = [\"../x\"]\n").starts_with("zako.toml:4:11: glob `../x`"));
        assert!(
            message("[config.x]\ntype = \"bool\"\ndefault = 1\n")
                .contains("type `bool` is unknown")
        );
        assert!(
            message("[dependencies]\na = { git = \"x\" }\n")
                .contains("dependency `a` needs one of")
        );
        let version = flat(&Manifest::parse(&HEAD.replace("1.0.0", "1.0")).unwrap_err());
        assert!(
            version.starts_with("zako.toml:3:11: version `1.0` is not"),
            "{version}"
        );
    }

    #[test]
    fn who_a_package_is_need_not_be_said() {
        let identity = || Identity::of("@acme/web app", "3.1.0");
        let id = |text: &str| Manifest::parse_as(text, identity).unwrap().id();
        assert_eq!(id("[settings]\njobs = 2\n"), "local:-acme-web-app@3.1.0");
        assert_eq!(id("artifact = \"a\"\n"), "local:a@3.1.0");
        assert_eq!(id(HEAD), "org.example:app@1.0.0");
        assert_eq!(Manifest::parse("").unwrap().id(), "local:workspace@0.0.0");
    }

    #[test]
    fn unknown_fields_of_tables_are_told_with_the_nearest_of_the_table() {
        for (tail, place, said) in [
            (
                "[settings]\njbos = 3\n",
                "5:1",
                "`jbos`; did you mean `jobs`?",
            ),
            (
                "[settings.remote-access]\ntokn-env = \"x\"\n",
                "5:1",
                "did you mean `token-env`?",
            ),
            (
                "[tasks.build]\ndepends_on = []\n",
                "5:1",
                "did you mean `depends-on`?",
            ),
            (
                "[tasks]\nbuild = { output = [] }\n",
                "5:11",
                "did you mean `outputs`?",
            ),
            (
                "[settings.packages]\nzzzzzz = 1\n",
                "5:1",
                "known fields are max-download, max-size, max-files",
            ),
            (
                "[config.x]\ntipe = \"boolean\"\n",
                "4:1",
                "config `x`: unknown field `tipe`; did you mean `type`?",
            ),
        ] {
            let text = message(tail);
            assert!(text.starts_with(&format!("zako.toml:{place}: ")), "{text}");
            assert!(text.contains(said), "{text}");
        }
    }

    #[test]
    fn fields_without_effect_are_mistakes_that_say_what_has_one() {
        for (field, place, instead) in [
            ("configure_script = \"c.ts\"", 20, "set in [config]"),
            ("mount_config = \"c\"", 16, "set in [config]"),
            (
                "rules = [\"*.rule.ts\"]",
                10,
                "where build files import them",
            ),
            ("toolchains = [\"a\"]", 15, "where build files import them"),
            ("peers = [\"libs/*\"]", 10, "in [dependencies]"),
        ] {
            let text = message(field);
            assert!(
                text.starts_with(&format!("zako.toml:4:{place}: `")),
                "{text}"
            );
            assert!(
                text.contains("would have no effect") && text.contains(instead),
                "{text}"
            );
        }
    }

    #[test]
    fn versions_follow_semver() {
        for good in ["0.1.0", "1.2.3-rc.1", "1.0.0+b.7", "10.20.30-a-b+c"] {
            assert!(is_semver(good), "{good}");
        }
        for bad in ["1", "1.0", "01.0.0", "1.0.0-", "1.0.0.0", "v1.0.0", "1.0.x"] {
            assert!(!is_semver(bad), "{bad}");
        }
    }
}
