//! `zako init`: a workspace that builds.
//!
//! Owns the files' text. Invariant: nothing that exists is overwritten, and either all files are
//! written or none.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

use serde_json::Value;

use super::args::{Global, InitArgs};
use super::options::directory;
use super::{Exit, Failure, print_line};

/// Makes the files.
pub fn run(global: &Global, args: &InitArgs) -> Result<Exit, Failure> {
    let dir = fs::canonicalize(directory(global))
        .map_err(|error| Failure::usage(format!("cannot enter the directory: {error}")))?;
    let package = package_json(&dir)?;
    let text = |field: &str| {
        package
            .as_ref()
            .and_then(|p| p.get(field))
            .and_then(Value::as_str)
    };
    let name = args
        .name
        .as_deref()
        .or_else(|| text("name").map(|name| name.rsplit('/').next().unwrap_or(name)))
        .or_else(|| dir.file_name().and_then(|name| name.to_str()))
        .unwrap_or("workspace");
    let group = args.group.as_deref().unwrap_or("local");
    let files = [
        (
            "zako.toml",
            manifest(group, name, text("version").unwrap_or("0.1.0")),
        ),
        ("zako.ts", PACKAGE_FILE.to_owned()),
        ("BUILD.ts", build_file(package.as_ref())),
    ];
    if let Some((existing, _)) = files.iter().find(|(name, _)| dir.join(name).exists()) {
        return Err(Failure::usage(format!(
            "{existing} exists already in {}; nothing was changed",
            dir.display()
        )));
    }
    for (name, text) in &files {
        write_new(&dir.join(name), text)?;
        print_line(&format!("wrote {name}"))?;
    }
    print_line("next: zako build")?;
    Ok(Exit::Done)
}

fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Failure::work(format!("cannot write {}: {error}", path.display())))
}

fn package_json(dir: &Path) -> Result<Option<Value>, Failure> {
    match fs::read_to_string(dir.join("package.json")) {
        Ok(text) => serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| Failure::usage(format!("package.json: {error}"))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::work(format!("cannot read package.json: {error}"))),
    }
}

fn manifest(group: &str, name: &str, version: &str) -> String {
    let word = |text: &str| -> String {
        let clean = |c: char| {
            if c.is_alphanumeric() || "_-.".contains(c) {
                c
            } else {
                '-'
            }
        };
        text.chars().map(clean).collect()
    };
    format!(
        "group = \"{}\"\nartifact = \"{}\"\nversion = \"{version}\"\n",
        word(group),
        word(name)
    )
}

const PACKAGE_FILE: &str = "\
// The package root: which files are build files.
import { workspace } from \"zako:package\";

export default workspace({ builds: [\"**/BUILD.ts\"] });
";

const FIRST_BUILD_FILE: &str = "\
// What is built in this directory. Inputs are declared, everything else is invisible to a step.
import { target } from \"zako:build\";

export default {
  hello: target({
    cmd: [\"sh\", \"-c\", \"echo hello > hello.txt\"],
    outs: [\"hello.txt\"],
  }),
};
";

/// Scripts of `package.json` that are steps; long-running ones are not.
const STEPS: [&str; 7] = [
    "build",
    "compile",
    "bundle",
    "generate",
    "lint",
    "typecheck",
    "test",
];

fn build_file(package: Option<&Value>) -> String {
    let scripts = package
        .and_then(|p| p.get("scripts"))
        .and_then(Value::as_object);
    let steps: Vec<(&str, &str)> = STEPS
        .iter()
        .filter_map(|step| Some((*step, scripts?.get(*step)?.as_str()?)))
        .collect();
    if steps.is_empty() {
        return FIRST_BUILD_FILE.to_owned();
    }
    let mut text = String::from(
        "// The scripts of package.json as targets. Declare everything that each reads in `srcs`, what\n\
         // it uses of node_modules included, and what it writes in `outs`; then uncomment it.\n\
         import { glob, target, test } from \"zako:build\";\n\n\
         export default {\n",
    );
    for (name, script) in steps {
        let kind = if name == "test" { "test" } else { "target" };
        let shell = serde_json::json!(["sh", "-c", script]);
        let part = format!(
            "{name}: {kind}({{\n  cmd: {shell},\n  srcs: glob(\"package.json\", \"src/**\"),\n}}),"
        );
        for line in part.lines() {
            text.push_str("  // ");
            text.push_str(line);
            text.push('\n');
        }
    }
    text.push_str("};\nvoid [glob, target, test];\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_become_targets_to_be_completed() {
        let package = serde_json::json!({"scripts": {"build": "tsc -b", "start": "node .", "test": "vitest run"}});
        let text = build_file(Some(&package));
        assert!(
            text.contains("// build: target({") && text.contains("// test: test({"),
            "{text}"
        );
        assert!(!text.contains("node ."));
        assert_eq!(build_file(None), FIRST_BUILD_FILE);
    }

    #[test]
    fn a_manifest_is_valid_whatever_the_directory_is_called() {
        let text = manifest("local", "my app (2)", "0.1.0");
        assert!(
            crate::lang::manifest::Manifest::parse(&text).is_ok(),
            "{text}"
        );
    }
}
