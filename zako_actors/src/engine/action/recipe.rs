//! Recipes: the part of a key that is not inputs.
//!
//! Owns what goes into one, and the same by its parts for explanations. Does not know inputs.
//! Invariant: among the parts are no values of the environment that zako was started in, and nothing that looks like a secret.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use super::tool::content;
use super::{ActionError, Describer, Tool};
use crate::engine::cause::{RecipeParts, short};
use crate::engine::files::FileTable;
use crate::engine::hash::{Hash, KeyWriter};
use crate::engine::locks;
use crate::engine::record::{Input, InputContent};
use crate::engine::secrets::{hidden, is_secret, shown, shown_words};
use crate::lang::pattern::Pattern;
use crate::lang::target::{Command, EnvValue, Installed, Output, Target, Transpile, Work};

/// Characters that are remembered of a word: enough of a script to see what was changed.
const KEPT_CHARS: usize = 2000;
/// Raised when the same action would be run in another way than before.
const RECIPE_FORMAT: u64 = 2;

impl Describer {
    pub(super) fn command_recipe(
        &self,
        command: &Command,
        env: &BTreeMap<String, String>,
        tool: &Tool,
        files: &FileTable,
    ) -> Result<Hash, ActionError> {
        let mut key = recipe("command");
        key.text(&command.dir);
        key.texts(command.argv.iter().map(String::as_str));
        match &tool.hash {
            Some(hash) => key.number(1).hash(hash),
            None => key.number(0),
        };
        key.number(env.len() as u64);
        for (name, value) in env {
            key.text(name).text(value);
        }
        if let Some(arguments) = &command.special.worker {
            key.text("worker")
                .texts(arguments.iter().map(String::as_str));
        }
        key.number(command.special.tools.len() as u64);
        for path in &command.special.tools {
            key.text(path).hash(&content(Path::new(path), files)?);
        }
        if let Some(path) = &command.special.depfile {
            key.text("depfile").text(path);
        }
        if let Some(step) = &command.in_place {
            key.text("in place")
                .texts(step.bins.iter().map(String::as_str))
                .texts(step.out_exclude.iter().map(Pattern::as_str));
            // Which files its outputs are is decided otherwise.
            if step.shares {
                key.text("shares");
            }
            for installed in &step.installed {
                key.text("installed")
                    .text(&installed.lock)
                    .bytes(&installed.digest);
            }
        }
        key.number(command.outs.len() as u64);
        for out in &command.outs {
            match out {
                Output::File(path) => key.number(0).text(path),
                Output::Tree(path) => key.number(1).text(path),
                Output::Glob(pattern) => key.number(2).text(pattern.as_str()),
            };
        }
        Ok(key.finish())
    }

    /// The recipe of `target` by its parts, for [`changed_parts`](super::cause::changed_parts).
    pub fn parts(&self, target: &Target, tool: Option<&Tool>, files: &FileTable) -> RecipeParts {
        let mut parts = RecipeParts::new();
        let mut add = |name: String, value: &str| drop(parts.insert(name.into(), value.into()));
        add("the version of zako".into(), env!("CARGO_PKG_VERSION"));
        match &target.work {
            Work::Command(command) => {
                for (index, word) in shown_words(&command.argv).enumerate() {
                    add(format!("cmd[{index}]"), &kept(&word));
                }
                let worker = command.special.worker.as_deref().unwrap_or_default();
                for (index, word) in shown_words(worker).enumerate() {
                    add(format!("worker[{index}]"), &kept(&word));
                }
                for out in &command.outs {
                    add(format!("output {}", out.show()), "declared");
                }
                if command.in_place.as_ref().is_some_and(|step| step.shares) {
                    add(
                        "another script that writes where it does".into(),
                        "declared",
                    );
                }
                let installed = command.in_place.iter().flat_map(|step| &step.installed);
                for Installed { lock, digest } in installed {
                    add(locks::part(lock), &short(&Hash::new(*digest)));
                }
                for (name, value) in self.environment(command).iter() {
                    // The command is it.
                    if name == "npm_lifecycle_script" {
                        continue;
                    }
                    let value = match self.is_written(command, name, value) && !is_secret(name) {
                        true => kept(&shown(value)).into_owned(),
                        false => hidden(value),
                    };
                    add(format!("env.{name}"), &value);
                }
                for path in &command.special.tools {
                    let made_of = content(Path::new(path), files);
                    let made_of = made_of.map_or("unreadable".into(), |hash| short(&hash));
                    add(format!("tool {path}"), &made_of);
                }
                add("its directory".into(), &command.dir);
                if let Some(path) = &command.special.depfile {
                    add("its depfile".into(), path);
                }
                if let Some(Tool {
                    program,
                    hash: Some(hash),
                }) = tool
                {
                    add(format!("tool {}", program.display()), &short(hash));
                }
            }
            Work::Transpile(step) => {
                add("the transpiler".into(), &self.transpiler);
                add("root".into(), &step.root);
                add("out".into(), &step.out);
                for pattern in &step.include {
                    add(format!("include {}", pattern.as_str()), "declared");
                }
                let options = serde_json::to_value(&step.options).unwrap_or_default();
                for (name, value) in options.as_object().into_iter().flatten() {
                    if !value.is_null() {
                        add(format!("option {name}"), &kept(&value.to_string()));
                    }
                }
            }
            Work::Group | Work::Unfinished { .. } => {}
        }
        parts
    }

    /// Whether variable `name` has its value of a build file, and not of somebody's environment. PATH is no secret.
    fn is_written(&self, command: &Command, name: &str, value: &str) -> bool {
        match command.env.get(name).or_else(|| self.env.get(name)) {
            Some(EnvValue::Text(text)) => text == value,
            Some(EnvValue::Pass {
                name: outer,
                default: Some(text),
            }) => text == value && !self.outer.variables.contains_key(outer),
            _ => name == "PATH",
        }
    }

    /// Everything but the sources that decides what a transpile step writes.
    pub fn transpile_recipe(&self, transpile: &Transpile) -> Hash {
        let mut key = recipe("transpile");
        key.text(&self.transpiler)
            .text(&transpile.root)
            .text(&transpile.out);
        // Two equal values have equal texts.
        key.text(&format!("{:?}", transpile.options));
        key.texts(transpile.include.iter().map(Pattern::as_str));
        key.finish()
    }
}

/// So much of `text` as is remembered; what is behind it counts by its digest.
fn kept(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(KEPT_CHARS) {
        None => Cow::Borrowed(text),
        Some((end, _)) => {
            let rest = short(&Hash::of(text.as_bytes()));
            Cow::Owned(format!("{}… <{rest}>", &text[..end]))
        }
    }
}

pub(super) fn recipe(kind: &str) -> KeyWriter {
    let mut key = KeyWriter::new("zako recipe");
    key.number(RECIPE_FORMAT)
        .text(env!("CARGO_PKG_VERSION"))
        .text(std::env::consts::OS)
        .text(std::env::consts::ARCH)
        .text(kind);
    key
}

/// Adds one input to a key.
pub fn write_input(key: &mut KeyWriter, input: &Input) {
    key.text(&input.path);
    match &input.content {
        InputContent::File { hash, executable } => {
            key.number(u64::from(*executable)).hash(hash);
        }
        InputContent::Link(to) => {
            key.number(2).text(to);
        }
        InputContent::Directory => {
            key.number(3);
        }
    }
}
