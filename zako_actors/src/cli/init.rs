//! `zako init`: a workspace that builds.
//!
//! Owns the files' text. Packages of npm and pnpm need none of them but the manifest: their scripts
//! are targets, and what `turbo.json` says about tasks moves into `[tasks]`. Invariant: nothing that exists is overwritten, and either all files are
//! written or none.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

use serde_json::Value;

use super::args::{Global, InitArgs};
use super::options::directory;
use super::{Exit, Failure, print_line};
use crate::diagnostic::Diagnostic;
use crate::lang::manifest::{MANIFEST, Manifest};
use crate::lang::package_json::{PACKAGE_JSON, PNPM_WORKSPACE, PackageJson};
use crate::lang::turbo::{TURBO_FILES, TURBO_JSON, Turbo};
use crate::texts::read_text;

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
    let mut manifest = Manifest::derive(group, name, text("version").unwrap_or("0.1.0"));
    let files = if package.as_ref().is_some_and(has_scripts) || lists_packages(&dir) {
        manifest.push_str(&tasks(&dir)?);
        vec![(MANIFEST, manifest)]
    } else {
        manifest.push_str(&settings(&toml::Table::new())?);
        vec![
            (MANIFEST, manifest),
            ("zako.ts", PACKAGE_FILE.to_owned()),
            ("BUILD.ts", FIRST_BUILD_FILE.to_owned()),
        ]
    };
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
    if files.len() == 1 {
        print_line("the scripts of package.json are targets; `zako query //...` lists them")?;
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
    match read_text(&dir.join(PACKAGE_JSON)) {
        Ok(text) => {
            let mistake = |mistake: Diagnostic| Failure::rendered(mistake.to_string());
            PackageJson::parse("", &text).map_err(mistake)?;
            serde_json::from_str(text.trim_start_matches('\u{feff}'))
                .map(Some)
                .map_err(Failure::usage)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::work(format!("cannot read package.json: {error}"))),
    }
}

/// Whether the package, or a package of its workspace, may have scripts.
fn has_scripts(package: &Value) -> bool {
    ["scripts", "workspaces"]
        .iter()
        .any(|field| package.get(field).is_some())
}

/// Whether files of pnpm or Turborepo say that there are packages.
fn lists_packages(dir: &Path) -> bool {
    [PNPM_WORKSPACE]
        .iter()
        .chain(&TURBO_FILES)
        .any(|file| dir.join(file).exists())
}

/// What `turbo.json` says about tasks, as a part of the manifest; a hint where it says nothing.
fn tasks(dir: &Path) -> Result<String, Failure> {
    let name = TURBO_FILES.into_iter().find(|name| dir.join(name).exists());
    let name = name.unwrap_or(TURBO_JSON);
    let text = match read_text(&dir.join(name)) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(settings(&toml::Table::new())? + TASKS_HINT);
        }
        Err(error) => return Err(Failure::work(format!("cannot read {name}: {error}"))),
    };
    let turbo =
        Turbo::parse(name, &text).map_err(|mistake| Failure::rendered(mistake.to_string()))?;
    let left_out: Vec<&str> = turbo.left_out.iter().map(String::as_str).collect();
    let left_out = match left_out[..] {
        [] => String::new(),
        _ => format!(
            "\n# Not taken over, since zako has nothing like it: {}.",
            left_out.join(", ")
        ),
    };
    let tasks = turbo.into_tasks();
    let mut found = toml::Table::new();
    for (name, list) in [
        ("pass-env", &tasks.global_env),
        ("untracked-env", &tasks.global_untracked_env),
        ("script-inputs", &tasks.global_inputs),
    ] {
        if !list.is_empty() {
            let list = list.iter().cloned().map(toml::Value::String).collect();
            found.insert(name.into(), toml::Value::Array(list));
        }
    }
    let by_name = toml::Value::try_from(&tasks.by_name).map_err(Failure::work)?;
    let part = toml::Table::from_iter([("tasks".to_owned(), by_name)]);
    let text = toml::to_string(&part).map_err(Failure::work)?;
    Ok(format!(
        "\n# From {name}, which is not read any more.{left_out}{}\n{text}",
        settings(&found)?
    ))
}

/// The one table of settings, with what was `found`, and a hint.
fn settings(found: &toml::Table) -> Result<String, Failure> {
    let found = toml::to_string(found).map_err(Failure::work)?;
    Ok(format!("\n[settings]\n{found}{PATH_HINT}"))
}

const PATH_HINT: &str = "\
# Where steps find programs, part of every key. Without it that is the PATH of whoever builds, so that
# another PATH builds everything again:
# path = [\"/usr/local/bin\", \"/usr/bin\", \"/bin\"]
";

const TASKS_HINT: &str = "
# What scripts need and leave behind, when the usual does not hold:
# [tasks.build]
# depends-on = [\"^build\"]      # `^`: of the packages that this one depends on
# outputs = [\"dist/**\"]
# env = [\"NODE_ENV\"]
";

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_of_turbo_json_become_part_of_the_manifest() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"globalEnv": ["CI"], "tasks": {"build": {"dependsOn": ["^build"], "outputs": ["dist/**"]},
            "web#dev": {"cache": false, "persistent": true}}}"#;
        fs::write(dir.path().join(TURBO_JSON), text).unwrap();
        let manifest = Manifest::derive("g", "a", "1.0.0") + &tasks(dir.path()).unwrap();
        let manifest =
            Manifest::parse(&manifest).unwrap_or_else(|error| panic!("{error}\n{manifest}"));
        let read = Turbo::parse(TURBO_JSON, text).unwrap().into_tasks();
        assert_eq!(manifest.tasks, Some(read.by_name));
        assert_eq!(manifest.settings.pass_env, ["CI"]);
    }

    #[test]
    fn hints_can_be_taken_up_as_they_stand() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = || {
            let text = Manifest::derive("g", "a", "1.0.0") + &tasks(dir.path()).unwrap();
            let taken = text.replace("# path =", "path =").replace("# [", "[");
            let taken = taken.replace("# depends-on", "depends-on");
            Manifest::parse(&taken).unwrap_or_else(|error| panic!("{error}\n{taken}"))
        };
        let path = Some("/usr/local/bin:/usr/bin:/bin");
        let of = |manifest: &Manifest| manifest.settings.path.clone();
        let plain = manifest();
        assert_eq!(of(&plain).as_ref().map(|it| it.as_str()), path);
        assert_eq!(plain.tasks.unwrap()["build"].depends_on, ["^build"]);
        let text = r#"{"globalEnv": ["CI"], "tasks": {"build": {}}}"#;
        fs::write(dir.path().join(TURBO_JSON), text).unwrap();
        let moved = manifest();
        assert_eq!(of(&moved).as_ref().map(|it| it.as_str()), path);
        assert_eq!(moved.settings.pass_env, ["CI"]);
    }

    #[test]
    fn a_manifest_is_valid_whatever_the_directory_is_called() {
        let text = Manifest::derive("local", "my app (2)", "0.1.0");
        assert!(Manifest::parse(&text).is_ok(), "{text}");
        let hint = format!("{text}{TASKS_HINT}");
        assert!(Manifest::parse(&hint).is_ok(), "{hint}");
    }
}
