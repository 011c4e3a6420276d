//! `turbo.json`: what Turborepo is told about tasks.
//!
//! Owns its keys, those that zako leaves to Turborepo too, and what a package's file inherits from the root's. Does not know
//! which packages there are. Invariant: what cannot be read, or looks like a slip, is a mistake with its place; a key that is
//! left out is named in [`Turbo::left_out`].

use std::collections::{BTreeMap, BTreeSet};

use jsonc_parser::ast::{Array, Object, ObjectProp, Value};
use jsonc_parser::common::{Range, Ranged};
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use super::suggest::nearest;
use super::task::{ROOT_PACKAGE, Task, Tasks};
use crate::diagnostic::Diagnostic;

/// Where Turborepo keeps its tasks.
pub const TURBO_JSON: &str = "turbo.json";
/// The names that the file may have.
pub const TURBO_FILES: [&str; 2] = [TURBO_JSON, "turbo.jsonc"];

/// In a list of a package's file: all of the root's list.
const INHERITED: &str = "$TURBO_EXTENDS$";
/// What begins like a word of Turborepo's has to be one.
const WORDS: &str = "$TURBO_";
const KNOWN_WORDS: [&str; 3] = [INHERITED, "$TURBO_DEFAULT$", "$TURBO_ROOT$"];

/// Keys that are read, of the file and of a task.
const FILE_KEYS: [&str; 7] = [
    "$schema",
    "extends",
    "globalDependencies",
    "globalEnv",
    "globalPassThroughEnv",
    "pipeline",
    "tasks",
];
const TASK_KEYS: [&str; 8] = [
    "cache",
    "dependsOn",
    "env",
    "extends",
    "inputs",
    "outputs",
    "passThroughEnv",
    "persistent",
];
/// Keys that are about Turborepo itself or about the terminal, of the file and of a task.
const OTHER_FILE_KEYS: [&str; 13] = [
    "boundaries",
    "cacheDir",
    "cacheMaxAge",
    "concurrency",
    "daemon",
    "dangerouslyDisablePackageManagerCheck",
    "envMode",
    "futureFlags",
    "globalDotEnv",
    "noUpdateNotifier",
    "remoteCache",
    "tags",
    "ui",
];
const OTHER_TASK_KEYS: [&str; 7] = [
    "description",
    "dotEnv",
    "interactive",
    "interruptible",
    "outputLogs",
    "outputMode",
    "with",
];

/// A file as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turbo {
    /// By `name`, or `package#name`.
    pub tasks: BTreeMap<String, TurboTask>,
    global_inputs: Vec<String>,
    global_env: Vec<String>,
    global_untracked_env: Vec<String>,
    /// Packages whose files it adds to, beside the root's.
    pub extends: Vec<String>,
    /// Keys that zako does nothing with, those of tasks as `task.key`.
    pub left_out: BTreeSet<String>,
}

/// What one file says about a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurboTask {
    depends_on: Option<Vec<String>>,
    outputs: Option<Vec<String>>,
    inputs: Option<Vec<String>>,
    env: Option<Vec<String>>,
    untracked_env: Option<Vec<String>>,
    cache: Option<bool>,
    persistent: Option<bool>,
    /// Whether it adds to what the root's file says.
    inherits: bool,
}

impl Turbo {
    /// Reads the text of the file at `path`, comments and all.
    ///
    /// # Errors
    /// The first mistake, with its place.
    pub fn parse(path: &str, text: &str) -> Result<Self, Diagnostic> {
        let file = File { path, text };
        let parsed = parse_to_ast(text, &CollectOptions::default(), &ParseOptions::default());
        let parsed =
            parsed.map_err(|error| file.mistake(error.range(), &error.kind().to_string()))?;
        let Some(value) = parsed.value else {
            return Ok(Self::default());
        };
        let mut turbo = Self::default();
        let entries = file.object(&value, "the file")?;
        for entry in &entries.properties {
            let (key, value) = (entry.name.as_str(), &entry.value);
            match key {
                "extends" => {
                    let mut names = file.list(key, value)?;
                    names.retain(|name| name != ROOT_PACKAGE);
                    turbo.extends = names;
                }
                "globalDependencies" => turbo.global_inputs = file.list(key, value)?,
                "globalEnv" => turbo.global_env = file.list(key, value)?,
                "globalPassThroughEnv" => turbo.global_untracked_env = file.list(key, value)?,
                // Before version 2 the tasks were called a pipeline.
                "tasks" | "pipeline" => {
                    for task in &file.object(value, "`tasks`")?.properties {
                        let read = file.task(task, &mut turbo.left_out)?;
                        turbo.tasks.insert(task.name.as_str().to_owned(), read);
                    }
                }
                _ if FILE_KEYS.contains(&key) => {}
                _ => {
                    file.check_key(entry, &FILE_KEYS, &OTHER_FILE_KEYS)?;
                    turbo.left_out.insert(key.to_owned());
                }
            }
        }
        Ok(turbo)
    }

    /// The tasks of the root's file.
    pub fn into_tasks(self) -> Tasks {
        let tasks = self.tasks.into_iter();
        Tasks {
            by_name: tasks.map(|(name, task)| (name, task.over(None))).collect(),
            global_inputs: self.global_inputs,
            global_env: self.global_env,
            global_untracked_env: self.global_untracked_env,
            declared: true,
            of_turbo: true,
            ..Tasks::default()
        }
    }
}

impl Default for TurboTask {
    fn default() -> Self {
        Self {
            depends_on: None,
            outputs: None,
            inputs: None,
            env: None,
            untracked_env: None,
            cache: None,
            persistent: None,
            inherits: true,
        }
    }
}

impl TurboTask {
    /// Whether it says no more than that the package has no such task.
    pub fn is_left_out(&self) -> bool {
        let nothing = Self {
            inherits: false,
            ..Self::default()
        };
        *self == nothing
    }

    /// The task: what is not said here is as `inherited` says, that of the root's file.
    pub fn over(&self, inherited: Option<&Task>) -> Task {
        let nothing = Task {
            outputs: Some(Vec::new()),
            ..Task::default()
        };
        let base = inherited.filter(|_| self.inherits).unwrap_or(&nothing);
        let list = |own: &Option<Vec<String>>, base: &[String]| match own {
            Some(own) => {
                let extends = own.iter().any(|it| it == INHERITED);
                let inherited = base.iter().filter(|_| extends);
                let own = own.iter().filter(|it| *it != INHERITED);
                inherited.chain(own).cloned().collect()
            }
            None => base.to_vec(),
        };
        let maybe = |own: &Option<Vec<String>>, base: &Option<Vec<String>>| match (own, base) {
            (None, base) => base.clone(),
            (Some(_), base) => Some(list(own, base.as_deref().unwrap_or_default())),
        };
        let depends_on = list(&self.depends_on, &base.depends_on);
        // Once, variables were dependencies.
        let (variables, depends_on): (Vec<_>, Vec<_>) =
            depends_on.into_iter().partition(|it| it.starts_with('$'));
        let mut env: Vec<String> = list(&self.env, &base.env);
        env.extend(variables.iter().map(|it| it[1..].to_owned()));
        Task {
            depends_on,
            outputs: maybe(&self.outputs, &base.outputs),
            inputs: maybe(&self.inputs, &base.inputs).filter(|inputs| !inputs.is_empty()),
            env,
            untracked_env: list(&self.untracked_env, &base.untracked_env),
            cache: self.cache.unwrap_or(base.cache),
            persistent: self.persistent.unwrap_or(base.persistent),
        }
    }
}

/// A file that is being read.
struct File<'a> {
    path: &'a str,
    text: &'a str,
}

impl File<'_> {
    fn mistake(&self, at: Range, what: &str) -> Diagnostic {
        let length = at.end.saturating_sub(at.start);
        Diagnostic::error(what).at(self.path, self.text, at.start, length)
    }

    fn object<'v, 'a>(
        &self,
        value: &'v Value<'a>,
        what: &str,
    ) -> Result<&'v Object<'a>, Diagnostic> {
        let object = value.as_object();
        object.ok_or_else(|| {
            self.mistake(value.range(), &format!("{what} must be an object, `{{…}}`"))
        })
    }

    fn task(
        &self,
        entry: &ObjectProp<'_>,
        left_out: &mut BTreeSet<String>,
    ) -> Result<TurboTask, Diagnostic> {
        let name = entry.name.as_str();
        let mut task = TurboTask::default();
        for entry in &self
            .object(&entry.value, &format!("the task `{name}`"))?
            .properties
        {
            let (key, value) = (entry.name.as_str(), &entry.value);
            match key {
                "dependsOn" => task.depends_on = Some(self.list(key, value)?),
                "outputs" => task.outputs = Some(self.list(key, value)?),
                "inputs" => task.inputs = Some(self.list(key, value)?),
                "env" => task.env = Some(self.list(key, value)?),
                "passThroughEnv" => task.untracked_env = Some(self.list(key, value)?),
                "cache" => task.cache = Some(self.flag(key, value)?),
                "persistent" => task.persistent = Some(self.flag(key, value)?),
                "extends" => task.inherits = self.flag(key, value)?,
                _ => {
                    self.check_key(entry, &TASK_KEYS, &OTHER_TASK_KEYS)?;
                    left_out.insert(format!("{name}.{key}"));
                }
            }
        }
        Ok(task)
    }

    fn flag(&self, key: &str, value: &Value<'_>) -> Result<bool, Diagnostic> {
        let flag = value.as_boolean_lit().map(|flag| flag.value);
        flag.ok_or_else(|| self.mistake(value.range(), &format!("`{key}` must be true or false")))
    }

    fn list(&self, key: &str, value: &Value<'_>) -> Result<Vec<String>, Diagnostic> {
        let wrong = |at| self.mistake(at, &format!("`{key}` must be a list of texts"));
        let elements = match value {
            Value::Array(Array { elements, .. }) => elements,
            Value::NullKeyword(_) => return Ok(Vec::new()),
            _ => return Err(wrong(value.range())),
        };
        let texts = elements.iter().map(|element| {
            let text = element
                .as_string_lit()
                .ok_or_else(|| wrong(element.range()))?;
            let known = |word: &&str| text.value.starts_with(*word);
            if text.value.starts_with(WORDS) && !KNOWN_WORDS.iter().any(known) {
                let hint = nearest(&text.value, KNOWN_WORDS);
                let help = hint.map_or_else(
                    || format!("the words are {}", KNOWN_WORDS.join(", ")),
                    |word| format!("did you mean `{word}`?"),
                );
                let what = format!("`{}` is no word of turbo.json", text.value);
                return Err(self.mistake(element.range(), &what).with_help(help));
            }
            Ok(text.value.to_string())
        });
        texts.collect()
    }

    /// Whether a key that is not read may stand there: one that is nearly another is a slip.
    fn check_key(
        &self,
        entry: &ObjectProp<'_>,
        read: &[&'static str],
        others: &[&str],
    ) -> Result<(), Diagnostic> {
        let key = entry.name.as_str();
        let meant = nearest(key, read.iter().copied()).filter(|_| !others.contains(&key));
        let Some(meant) = meant else {
            return Ok(());
        };
        let mistake = self.mistake(
            entry.name.range(),
            &format!("`{key}` is no key of turbo.json here"),
        );
        Err(mistake.with_help(format!("did you mean `{meant}`?")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(text: &str) -> Tasks {
        let turbo = Turbo::parse(TURBO_JSON, text);
        turbo
            .unwrap_or_else(|mistake| panic!("{mistake}"))
            .into_tasks()
    }

    #[test]
    fn it_is_read_with_its_comments() {
        let tasks = tasks(
            r#"{ // the schema
              "globalEnv": ["CI"], "globalDependencies": ["tsconfig.json"],
              "tasks": {
                "build": { "dependsOn": ["^build", "$MODE"], "outputs": ["dist/**", "!dist/cache/**"], "env": ["API_*"] },
                "web#build": { "dependsOn": [], "passThroughEnv": ["TOKEN"] },
                "dev": { "cache": false, "persistent": true, },
              },
            }"#,
        );
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
    fn the_pipeline_of_older_files_is_read_too() {
        assert!(
            tasks(r#"{"pipeline": {"lint": {}}}"#)
                .by_name
                .contains_key("lint")
        );
        assert_eq!(Turbo::parse(TURBO_JSON, "// nothing"), Ok(Turbo::default()));
    }

    #[test]
    fn mistakes_and_slips_have_a_place_and_a_hint() {
        for (text, place, said) in [
            (
                r#"{"tasks": {"a": {"outputs": "dist"}}}"#,
                "1:29",
                "`outputs` must be a list of texts",
            ),
            (
                r#"{"tasks": {"a": {"env": [1]}}}"#,
                "1:26",
                "`env` must be a list of texts",
            ),
            (
                r#"{"tasks": {"a": {"cache": "no"}}}"#,
                "1:27",
                "`cache` must be true or false",
            ),
            (
                r#"{"tasks": {"a": {"dependson": []}}}"#,
                "1:18",
                "did you mean `dependsOn`?",
            ),
            (r#"{"task": {}}"#, "1:2", "did you mean `tasks`?"),
            (
                r#"{"tasks": {"a": {"inputs": ["$TURBO_DEFAULTS$"]}}}"#,
                "1:29",
                "did you mean `$TURBO_DEFAULT$`?",
            ),
            (r#"{"tasks": []}"#, "1:11", "`tasks` must be an object"),
            ("[]", "1:1", "the file must be an object"),
            ("{", "1:1", ""),
        ] {
            let told = Turbo::parse("a/turbo.json", text).unwrap_err().to_string();
            let place = format!("--> a/turbo.json:{place}");
            assert!(
                told.contains(&place) && told.contains(said),
                "{text}: {told}"
            );
        }
    }

    #[test]
    fn keys_about_turborepo_itself_are_left_out_and_named() {
        let text = r#"{"ui": "tui", "tasks": {"dev": {"with": ["api#dev"], "interactive": true}}, "next": 1}"#;
        let turbo = Turbo::parse(TURBO_JSON, text).unwrap();
        let left_out: Vec<&str> = turbo.left_out.iter().map(String::as_str).collect();
        assert_eq!(left_out, ["dev.interactive", "dev.with", "next", "ui"]);
    }

    #[test]
    fn a_package_adds_to_what_the_root_says() {
        let root = tasks(
            r#"{"tasks": {"build": {"dependsOn": ["^build"], "outputs": ["dist/**"], "env": ["MODE"], "cache": false}}}"#,
        );
        let root = root.of("ui", "build");
        let of = |text: &str| {
            let text = format!(r#"{{"extends": ["//"], "tasks": {{"build": {text}}}}}"#);
            Turbo::parse("ui/turbo.json", &text).unwrap().tasks["build"].over(Some(&root))
        };
        let own = of(r#"{"outputs": ["out/**"]}"#);
        assert_eq!(
            (&own.outputs, own.cache),
            (&Some(vec!["out/**".to_owned()]), false)
        );
        assert_eq!((&own.depends_on, &own.env), (&root.depends_on, &root.env));
        let more = of(r#"{"outputs": ["$TURBO_EXTENDS$", "out/**"], "cache": true}"#);
        assert_eq!(more.outputs.unwrap(), ["dist/**", "out/**"]);
        assert!(more.cache);
        let alone = of(r#"{"extends": false, "cache": true}"#);
        assert_eq!((alone.depends_on, alone.outputs), (vec![], Some(vec![])));
        let text = r#"{"extends": ["//", "base"], "tasks": {"build": {"extends": false}}}"#;
        let turbo = Turbo::parse("ui/turbo.json", text).unwrap();
        assert_eq!(turbo.extends, ["base"]);
        assert!(turbo.tasks["build"].is_left_out());
    }
}
