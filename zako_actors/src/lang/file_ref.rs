//! Files that one target hands to another.
//!
//! Owns what rules see of them. Does not know whether they exist.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::label::Label;
use super::target::{Output, Target, Work};

/// A file that one target hands to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    /// Workspace-relative.
    pub path: String,
    /// The target that writes it; none writes a source.
    pub from: Option<Label>,
    /// Whether it is a directory with everything below it.
    pub directory: bool,
}

impl FileRef {
    /// As rules see it.
    pub fn to_json(&self) -> Value {
        let mut fields = Map::new();
        fields.insert("$file".into(), self.path.as_str().into());
        if let Some(label) = &self.from {
            fields.insert("from".into(), label.to_string().into());
        }
        if self.directory {
            fields.insert("directory".into(), true.into());
        }
        Value::Object(fields)
    }

    /// What `target` leaves behind, as far as it says so.
    pub fn outputs_of(target: &Target) -> Vec<Self> {
        let from = |path: &str, directory| Self {
            path: path.to_owned(),
            from: Some(target.label.clone()),
            directory,
        };
        match &target.work {
            Work::Command(command) => command
                .outs
                .iter()
                .map(|out| match out {
                    Output::File(path) => from(path, false),
                    Output::Tree(path) => from(path, true),
                    Output::Glob(pattern) => from(pattern.base(), true),
                })
                .collect(),
            Work::Transpile(step) => vec![from(&step.out, true)],
            Work::Group | Work::Unfinished { .. } => Vec::new(),
        }
    }
}
