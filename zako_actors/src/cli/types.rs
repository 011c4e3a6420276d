//! `zako types`: type definitions for editors.
//!
//! Owns where they are written and what an editor is told. Does not know the language server.
//! Invariant: a file that a person wrote is never changed.

use std::fs;
use std::path::Path;

use super::args::Global;
use super::opened::{Opened, Targets};
use super::{Exit, Failure, print_line, say};
use crate::engine::workspace::PRIVATE_DIR;
use crate::lang::packages::Packages;

/// What scripts can import, with a place for the labels.
const DEFINITIONS: &str = include_str!("types.d.ts");

/// What rules, toolchains and options are made of.
const RULES: &str = include_str!("rules.d.ts");

const TSCONFIG: &str = r#"{
  "compilerOptions": {
    "target": "es2022",
    "module": "esnext",
    "moduleResolution": "bundler",
    "lib": ["es2022"],
    "types": [],
    "strict": true,
    "noEmit": true,
    "allowImportingTsExtensions": true,
    "skipLibCheck": true
  },
  "include": [
    "./zako.d.ts",
    "./rules.d.ts",
    "../../zako.ts",
    "../../**/BUILD.ts",
    "../../**/*.rule.ts",
    "../../**/*.toolchain.ts",
    "../../**/*.config.ts"
  ],
  "exclude": ["../../**/node_modules", "../scratch"]
}
"#;

/// Writes them.
pub fn run(global: &Global) -> Result<Exit, Failure> {
    Opened::look(global, write)
}

fn write(opened: &mut Opened) -> Result<Exit, Failure> {
    let targets = opened.load()?;
    let root = opened.session.workspace.root.clone();
    let dir = root.join(PRIVATE_DIR).join("types");
    fs::create_dir_all(&dir).map_err(|error| cannot_write(&dir, &error))?;
    let packages = Packages::new(&opened.session.workspace.manifest.dependencies);
    let text = DEFINITIONS.replace("\"$LABELS\"", &labels(&targets, &packages));
    put(&dir.join("zako.d.ts"), &text)?;
    put(&dir.join("rules.d.ts"), RULES)?;
    put(&dir.join("tsconfig.json"), TSCONFIG)?;
    print_line(&format!(
        "wrote {PRIVATE_DIR}/types: {} labels",
        targets.graph.len()
    ))?;
    let own = root.join("tsconfig.json");
    if own.exists() {
        say(
            "tsconfig.json is yours and was left alone; for labels in editors, add \
             \".zako/types/zako.d.ts\" to its `include` (`tsc -p .zako/types` checks build files without it)",
        );
    } else {
        put(
            &own,
            "{\n  \"extends\": \"./.zako/types/tsconfig.json\"\n}\n",
        )?;
        print_line("wrote tsconfig.json")?;
    }
    Ok(Exit::Done)
}

/// Every way to write a label of the workspace, as a union of texts.
fn labels(targets: &Targets, packages: &Packages) -> String {
    let mut all = std::collections::BTreeSet::new();
    // Actions of rules are nobody's dependencies but the rules'.
    let all_targets = targets.graph.targets().iter();
    for target in all_targets.filter(|target| target.rule.is_none() || !target.manual) {
        let label = &target.label;
        if let Some((written, only)) = packages.written(label) {
            all.insert(written);
            if only {
                continue;
            }
        }
        all.insert(label.to_string());
        all.insert(format!(":{}", label.name()));
        if label.dir().rsplit('/').next() == Some(label.name()) {
            all.insert(format!("//{}", label.dir()));
        }
    }
    if all.is_empty() {
        return "string".into();
    }
    let quoted: Vec<String> = all
        .into_iter()
        .map(|label| serde_json::Value::String(label).to_string())
        .collect();
    quoted.join(" | ")
}

fn put(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::work(format!("cannot write {}: {error}", path.display()))
}
