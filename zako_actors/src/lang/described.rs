//! What a rule said about a target: actions as targets of their own.
//!
//! Owns the way from the rule's JSON to typed targets, and how they are named. Does not know how
//! the rule was asked.
//! Invariants: the target's own label is the test that it is, its only action unless the rule reads what that writes,
//! or the group of its files; other actions are named after what they write, so that a new source renames none.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::descriptor::{BuildFile, Reader};
use super::file_ref::FileRef;
use super::label::{Label, is_within};
use super::rule_use::RuleUse;
use super::target::{Command, EnvValue, Output, Source, Special, Target, Transpile, Work};
use crate::diagnostic::Diagnostic;
use crate::transpile::TranspileOptions;

/// Stands for the target that is being described.
const OWN: &str = "#";

/// A described target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Described {
    /// Its actions, and the target itself.
    pub targets: Vec<Arc<Target>>,
    /// What depends on it reads these.
    pub files: Vec<FileRef>,
    /// Values of providers by `file#name`; files in them name their writers.
    pub providers: Map<String, Value>,
    /// Questions that the rule has put and that were not answered when it put them, as JSON.
    pub open: Vec<String>,
    /// Whether the rule came to its end.
    pub done: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawResult {
    open: Vec<String>,
    #[serde(default)]
    done: bool,
    actions: Vec<RawAction>,
    #[serde(default)]
    files: Vec<RawFile>,
    #[serde(default)]
    providers: Map<String, Value>,
}

#[derive(Deserialize, PartialEq, Eq)]
struct RawFile {
    #[serde(rename = "$file")]
    path: String,
    from: Option<String>,
    #[serde(default)]
    directory: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
enum RawAction {
    Run(RawRun),
    Transpile(RawTranspile),
}

#[derive(Deserialize)]
struct RawRun {
    cmd: Vec<String>,
    dir: String,
    inputs: Vec<RawFile>,
    outs: Vec<RawFile>,
    tools: Vec<String>,
    depfile: Option<String>,
    worker: Option<Vec<String>>,
    retries: Option<u32>,
    /// What is written as in a build file.
    #[serde(flatten)]
    common: Map<String, Value>,
}

#[derive(Deserialize)]
struct RawTranspile {
    inputs: Vec<RawFile>,
    outs: Vec<RawFile>,
    root: String,
    out: String,
    settings: TranspileOptions,
}

impl RawAction {
    fn inputs(&self) -> &[RawFile] {
        match self {
            Self::Run(action) => &action.inputs,
            Self::Transpile(action) => &action.inputs,
        }
    }

    fn outs(&self) -> &[RawFile] {
        match self {
            Self::Run(action) => &action.outs,
            Self::Transpile(action) => &action.outs,
        }
    }

    fn is_test(&self) -> bool {
        matches!(
            self,
            Self::Run(RawRun {
                retries: Some(_),
                ..
            })
        )
    }
}

/// Reads the rule's answer about `used`; `text` is the build file's. Once it `reads_own` outputs, no action of it
/// that is not a test gets the target's own label: who waits for one knows it by its name from the beginning.
///
/// # Errors
/// A mistake of the rule, told at the target.
pub fn read_described(
    used: &RuleUse,
    answer: Value,
    text: &str,
    reads_own: bool,
) -> Result<Described, Box<Diagnostic>> {
    let reader = Reader {
        name: used.label.name(),
        file: BuildFile {
            path: &used.at.path,
            dir: used.label.dir(),
            text,
            packages: &crate::lang::packages::Packages::NONE,
        },
    };
    let result: RawResult = serde_json::from_value(answer)
        .map_err(|error| reader.mistake(None, format!("rule {}: {error}", used.rule)))?;
    let main = main_action(&result, reads_own);
    let labels =
        labels(used, &result, main).map_err(|error| reader.mistake(None, error.to_string()))?;
    let describing = Describing {
        used,
        reader,
        writers: result
            .actions
            .iter()
            .zip(&labels)
            .flat_map(|(action, label)| action.outs().iter().map(move |out| (&*out.path, label)))
            .collect(),
    };
    let mut targets = Vec::with_capacity(result.actions.len() + 1);
    for (index, action) in result.actions.iter().enumerate() {
        let is_main = main == Some(index);
        let target = describing.action(action, &labels[index], is_main)?;
        targets.push(Arc::new(target.without_room()));
    }
    let files = describing.files(&result.files)?;
    if main.is_none() && result.done {
        let target = describing.target(&used.label, &files, Work::Group, false);
        targets.push(Arc::new(target.without_room()));
    }
    let mut providers = Value::Object(result.providers);
    describing.name_writers(&mut providers)?;
    let Value::Object(providers) = providers else {
        unreachable!("an object stays one");
    };
    Ok(Described {
        targets,
        files,
        providers,
        open: result.open,
        done: result.done,
    })
}

/// The action that is the target itself.
fn main_action(result: &RawResult, reads_own: bool) -> Option<usize> {
    if !result.done {
        return None;
    }
    let test = result.actions.iter().position(RawAction::is_test);
    test.or_else(|| match result.actions.as_slice() {
        [only] if only.outs() == result.files && !reads_own => Some(0),
        _ => None,
    })
}

fn labels(
    used: &RuleUse,
    result: &RawResult,
    main: Option<usize>,
) -> Result<Vec<Label>, super::label::LabelError> {
    let mut labels: Vec<Label> = Vec::with_capacity(result.actions.len());
    for (index, action) in result.actions.iter().enumerate() {
        if main == Some(index) {
            labels.push(used.label.clone());
            continue;
        }
        let out = action.outs().first().map_or("", |out| out.path.as_str());
        let below = out.strip_prefix(used.label.dir()).unwrap_or(out);
        let word: String = below
            .trim_start_matches('/')
            .chars()
            .map(|c| {
                if c.is_alphanumeric() || "-.+=@".contains(c) {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        let name = format!("{}~{word}", used.label.name());
        let mut label = Label::new(used.label.dir(), &name)?;
        if labels.contains(&label) || word.is_empty() {
            label = Label::new(used.label.dir(), &format!("{name}~{index}"))?;
        }
        labels.push(label);
    }
    Ok(labels)
}

struct Describing<'a> {
    used: &'a RuleUse,
    reader: Reader<'a>,
    /// Of the target's own outputs.
    writers: BTreeMap<&'a str, &'a Label>,
}

impl Describing<'_> {
    fn mistake(&self, message: impl Into<String>) -> Box<Diagnostic> {
        Box::new(self.reader.mistake(None, message))
    }

    fn file(&self, file: &RawFile) -> Result<FileRef, Box<Diagnostic>> {
        let from = match file.from.as_deref() {
            None => None,
            Some(OWN) => Some(self.writer(&file.path)?.clone()),
            Some(label) => {
                let label = Label::parse(label, "").map_err(|e| self.mistake(e.to_string()))?;
                Some(label)
            }
        };
        Ok(FileRef {
            path: file.path.clone(),
            from,
            directory: file.directory,
        })
    }

    fn files(&self, files: &[RawFile]) -> Result<Vec<FileRef>, Box<Diagnostic>> {
        files.iter().map(|file| self.file(file)).collect()
    }

    fn writer(&self, path: &str) -> Result<&Label, Box<Diagnostic>> {
        let mut at = path;
        loop {
            if let Some(label) = self.writers.get(at) {
                return Ok(label);
            }
            at = match at.rsplit_once('/') {
                Some((above, _)) => above,
                None => {
                    return Err(self.mistake(format!(
                        "rule {} uses {path}, which none of its actions writes",
                        self.used.rule
                    )));
                }
            };
        }
    }

    /// Replaces what stands for the target itself in the values of providers.
    fn name_writers(&self, value: &mut Value) -> Result<(), Box<Diagnostic>> {
        match value {
            Value::Array(list) => list.iter_mut().try_for_each(|one| self.name_writers(one)),
            Value::Object(fields) => {
                let own = fields.get("from").and_then(Value::as_str) == Some(OWN);
                if let Some(path) = fields.get("$file").and_then(Value::as_str).filter(|_| own) {
                    let writer = self.writer(path)?.to_string();
                    fields.insert("from".into(), writer.into());
                }
                fields
                    .values_mut()
                    .try_for_each(|one| self.name_writers(one))
            }
            _ => Ok(()),
        }
    }

    fn target(&self, label: &Label, inputs: &[FileRef], work: Work, manual: bool) -> Target {
        let mut deps: Vec<Label> = Vec::new();
        for writer in inputs.iter().filter_map(|file| file.from.as_ref()) {
            if !deps.contains(writer) {
                deps.push(writer.clone());
            }
        }
        let srcs = inputs
            .iter()
            .map(|file| Source::File(file.path.as_str().into()));
        Target {
            label: label.clone(),
            at: self.used.at.clone(),
            srcs: srcs.collect(),
            deps,
            work,
            manual,
            rule: Some(self.used.rule.as_str().into()),
        }
    }

    fn action(
        &self,
        action: &RawAction,
        label: &Label,
        is_main: bool,
    ) -> Result<Target, Box<Diagnostic>> {
        let work = match action {
            RawAction::Run(run) => Work::Command(self.command(run)?),
            RawAction::Transpile(step) => Work::Transpile(Box::new(Transpile {
                root: step.root.clone(),
                out: step.out.clone(),
                include: Vec::new(),
                options: step.settings.clone(),
            })),
        };
        let inputs = self.files(action.inputs())?;
        Ok(self.target(label, &inputs, work, !is_main))
    }

    fn command(&self, run: &RawRun) -> Result<Command, Box<Diagnostic>> {
        let outside = run
            .outs
            .iter()
            .find(|out| !is_within(&out.path, self.used.label.dir()));
        if let Some(out) = outside {
            return Err(self.mistake(format!("output {} leaves the package", out.path)));
        }
        let env = run
            .common
            .get("env")
            .map_or(Ok(BTreeMap::new()), EnvValue::read_all);
        let env = env.map_err(|expected| self.mistake(format!("`env` must be {expected}")))?;
        let outs = run.outs.iter().map(|out| match out.directory {
            true => Output::Tree(out.path.as_str().into()),
            false => Output::File(out.path.as_str().into()),
        });
        Ok(Command {
            argv: run.cmd.clone(),
            dir: run.dir.as_str().into(),
            outs: outs.collect(),
            env,
            special: Special {
                tools: run.tools.clone(),
                depfile: run.depfile.clone(),
                timeout_ms: self.reader.milliseconds(&run.common, "timeoutSeconds")?,
                test_retries: run.retries,
                uses: self.reader.uses(&run.common)?,
                network: run.common.get("network") == Some(&Value::Bool(true)),
                multiplex: self.reader.multiplex(&run.common, run.worker.is_some())?,
                worker: run.worker.clone(),
            }
            .into(),
            in_place: None,
        })
    }
}

/// The target `used` as long as its rule has not said everything: nobody builds it.
pub fn unfinished(used: &RuleUse) -> Arc<Target> {
    Arc::new(Target {
        label: used.label.clone(),
        at: used.at.clone(),
        srcs: used.sources().cloned().collect(),
        deps: used.deps().into_iter().cloned().collect(),
        work: Work::Unfinished { test: used.test },
        manual: false,
        rule: Some(used.rule.as_str().into()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::lang::locate::At;

    fn used() -> RuleUse {
        RuleUse {
            label: Label::new("a", "lib").unwrap(),
            at: At::file("a/BUILD.ts"),
            file: "cc.rule.ts".into(),
            rule: "cc".into(),
            test: false,
            config: Vec::new(),
            toolchains: Vec::new(),
            attrs: BTreeMap::new(),
        }
    }

    fn run(inputs: &Value, out: &str) -> Value {
        json!({ "kind": "run", "cmd": ["cc"], "dir": "", "inputs": inputs, "tools": [], "env": {},
            "outs": [{ "$file": out, "from": "#" }] })
    }

    fn read(value: Value) -> Result<Described, String> {
        read_described(&used(), value, "", false).map_err(|e| crate::lang::locate::flat(&e))
    }

    #[test]
    fn actions_are_named_after_what_they_write_and_linked_by_files() {
        let object = json!([{ "$file": "a/o/m.o", "from": "#" }]);
        let described = read(json!({
            "open": [], "done": true,
            "actions": [run(&json!([{ "$file": "a/m.c" }]), "a/o/m.o"), run(&object, "a/lib.a")],
            "files": [{ "$file": "a/lib.a", "from": "#" }],
            "providers": { "cc.rule.ts#Info": { "all": object } },
        }))
        .unwrap();
        let labels: Vec<_> = described
            .targets
            .iter()
            .map(|t| t.label.to_string())
            .collect();
        assert_eq!(labels, ["//a:lib~o_m.o", "//a:lib~lib.a", "//a:lib"]);
        assert!(described.targets[0].manual && !described.targets[2].manual);
        assert_eq!(described.targets[1].deps[0].to_string(), "//a:lib~o_m.o");
        assert_eq!(described.targets[2].work, Work::Group);
        let info = &described.providers["cc.rule.ts#Info"]["all"][0]["from"];
        assert_eq!(info, "//a:lib~o_m.o");
    }

    #[test]
    fn a_single_action_is_the_target_itself() {
        let described = read(json!({
            "open": [], "done": true,
            "actions": [run(&json!([]), "a/x")],
            "files": [{ "$file": "a/x", "from": "#" }],
        }))
        .unwrap();
        assert_eq!(described.targets.len(), 1);
        assert_eq!(described.targets[0].label.to_string(), "//a:lib");
        assert!(!described.targets[0].manual);
    }

    #[test]
    fn what_nobody_writes_is_named() {
        let files = json!([{ "$file": "a/ghost", "from": "#" }]);
        let error =
            read(json!({ "open": [], "done": true, "actions": [], "files": files })).unwrap_err();
        assert!(
            error.contains("uses a/ghost, which none of its actions writes"),
            "{error}"
        );
    }
}
