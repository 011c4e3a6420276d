//! Programs: where they are, and what they are made of.
//!
//! Owns the lookup on PATH. Does not know what runs them.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use rustc_hash::FxHashMap;

use super::{ActionError, Describer, Tool};
use crate::engine::files::{FactError, FileTable};
use crate::engine::hash::Hash;
use crate::engine::record::{Input, InputContent};
use crate::lang::suggest::did_you_mean;
use crate::lang::target::Command;

/// What is known of programs.
#[derive(Debug, Default)]
pub(super) struct Tools {
    /// Where they are, by PATH and name.
    places: FxHashMap<String, FxHashMap<String, Option<PathBuf>>>,
    /// What they were last, by where they are.
    last: FxHashMap<PathBuf, Arc<Tool>>,
}

impl Describer {
    /// The program of `command`, which has this environment and these inputs.
    ///
    /// # Errors
    /// When there is none.
    pub fn tool(
        &self,
        command: &Command,
        env: &BTreeMap<String, String>,
        inputs: &[Input],
        files: &FileTable,
    ) -> Result<Tool, ActionError> {
        let name = &command.argv[0];
        if name.contains('/') && !name.starts_with('/') {
            return declared(&command.dir, name, inputs);
        }
        let search = env.get("PATH").map_or("", String::as_str);
        let program = self.look_up(name, search).ok_or_else(|| {
            if name.starts_with('/') {
                return no_program(name);
            }
            if let Some(found) = find(name, search, |it| it.is_file()) {
                return no_program(&found.to_string_lossy());
            }
            ActionError::NoTool {
                program: name.clone(),
                path: search.to_owned(),
                hint: similar_program(name, search),
            }
        })?;
        // The name that the program was found under may be a link; content is what counts.
        let hash = content(&program, files)?;
        Ok(Tool {
            hash: Some(hash),
            program,
        })
    }

    /// `tool` in memory that all commands with the same one share.
    pub(super) fn share(&self, tool: Tool) -> Arc<Tool> {
        let mut tools = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = tools.last.get(&tool.program)
            && **known == tool
        {
            return Arc::clone(known);
        }
        let tool = Arc::new(tool);
        let place = tool.program.clone();
        tools.last.insert(place, Arc::clone(&tool));
        tool
    }

    fn look_up(&self, name: &str, search: &str) -> Option<PathBuf> {
        let mut tools = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = tools.places.get(search).and_then(|names| names.get(name)) {
            return known.clone();
        }
        let found = find_program(name, search);
        let names = tools.places.entry(search.to_owned()).or_default();
        names.insert(name.to_owned(), found.clone());
        found
    }
}

/// The program `name`, seen from `dir`, which has to be among the inputs.
fn declared(dir: &str, name: &str, inputs: &[Input]) -> Result<Tool, ActionError> {
    let program = name.to_owned();
    let Some(path) = resolve(dir, name) else {
        return Err(ActionError::ToolNotDeclared { program });
    };
    let found = inputs.binary_search_by(|input| (*input.path).cmp(&path));
    if found.is_ok_and(|at| inputs[at].content != InputContent::Directory) {
        return Ok(Tool {
            program: name.into(),
            hash: None,
        });
    }
    let below = format!("{}/", path.trim_end_matches('/'));
    if found.is_ok() || inputs.iter().any(|input| input.path.starts_with(&below)) {
        return Err(ActionError::NoProgram {
            program,
            what: IS_DIRECTORY,
        });
    }
    Err(ActionError::ToolNotDeclared { program })
}

const IS_DIRECTORY: &str = "is a directory; name the program in it";

/// Why the absolute `name` cannot be run.
fn no_program(name: &str) -> ActionError {
    let what = match std::fs::metadata(name) {
        Ok(it) if it.is_dir() => IS_DIRECTORY,
        Ok(_) => "is not executable; chmod +x",
        Err(_) => {
            "does not exist; correct the path, or write its name alone, which is looked for on PATH"
        }
    };
    ActionError::NoProgram {
        program: name.to_owned(),
        what,
    }
}

/// What the program at `path` is made of.
pub(super) fn content(path: &Path, files: &FileTable) -> Result<Hash, ActionError> {
    let fact = path
        .to_str()
        .map_or(Err(FactError::Missing), |path| files.fact(path));
    fact.map(|fact| fact.hash)
        .map_err(|source| ActionError::ToolUnreadable {
            program: path.to_owned(),
            source,
        })
}

/// The program `name` on the search path `search`; an absolute name is itself.
pub fn find_program(name: &str, search: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    find(name, search, |it| {
        it.is_file() && it.permissions().mode() & 0o111 != 0
    })
}

/// The first of what `name` may mean that is `wanted`.
fn find(name: &str, search: &str, wanted: impl Fn(&Metadata) -> bool) -> Option<PathBuf> {
    let wanted = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|it| wanted(&it));
    if name.starts_with('/') {
        return Some(PathBuf::from(name)).filter(wanted);
    }
    // A relative entry of PATH would mean another program in every directory.
    search
        .split(':')
        .filter(|dir| dir.starts_with('/'))
        .map(|dir| PathBuf::from(dir).join(name))
        .find(wanted)
}

fn similar_program(name: &str, search: &str) -> String {
    let names: Vec<String> = search
        .split(':')
        .filter_map(|dir| std::fs::read_dir(dir).ok())
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= 2)
        .collect();
    if name.len() < 3 {
        return String::new();
    }
    did_you_mean(name, names.iter().map(String::as_str))
}

/// `name` as seen from workspace directory `dir`; `None` when it leaves the workspace.
pub fn resolve(dir: &str, name: &str) -> Option<String> {
    let mut segments: Vec<&str> = dir.split('/').filter(|s| !s.is_empty()).collect();
    for segment in name.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()?),
            _ => segments.push(segment),
        }
    }
    Some(segments.join("/"))
}
