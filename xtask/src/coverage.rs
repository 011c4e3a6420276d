//! How much of a package its tests run, line by line.
//!
//! Owns the instrumented build, in a target directory of its own, the search for LLVM's tools, and how much of which
//! package is to be covered. Knows nothing of what the tests contain.
//!
//! Unit and integration tests count, examples in the documentation do not. Files that hold nothing but tests are left out. A
//! process that aborts leaves no profile behind, so what only such a process runs counts as not run.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::command::{Steps, output};
use crate::tidy::is_test;
use crate::workspace::Workspace;

/// What is looked at unless it is said.
const USUAL: &str = "actor_rt";

/// Percent of the lines of a package that are to be covered; of others, none.
const GOALS: [(&str, f64); 1] = [("actor_rt", 90.0)];

/// Builds the tests of a package with counters, runs them, and prints how many lines of each of its files they ran.
///
/// # Errors
/// When LLVM's tools are not there, a test fails, or too few lines were run.
pub fn run(workspace: &Workspace, package: Option<&str>) -> Result<()> {
    let package = package.unwrap_or(USUAL);
    let sources = sources_of(workspace, package)?;
    let tools = Tools::find()?;
    let place = workspace.target().join("coverage");
    let profiles = place.join("profiles");
    if profiles.exists() {
        std::fs::remove_dir_all(&profiles).context("cannot remove the profiles of the last run")?;
    }
    let tests = |arguments: &[&str]| {
        let mut tests = workspace.cargo(&["test", "--locked", "--tests", "--package", package]);
        tests
            .args(arguments)
            .env("CARGO_TARGET_DIR", &place)
            .env("RUSTFLAGS", "-Cinstrument-coverage")
            // One file for each process.
            .env("LLVM_PROFILE_FILE", profiles.join("%p-%m.profraw"));
        tests
    };
    let mut steps = Steps::default();
    steps.run("tests with counters", &mut tests(&["--no-run"]))?;
    let built = output(&mut tests(&["--no-run", "--message-format=json"]))?;
    steps.run("what they run", &mut tests(&[]))?;

    let merged = place.join("merged.profdata");
    let mut merge = Command::new(&tools.profdata);
    merge.args(["merge", "--sparse", "--output"]);
    merge.arg(&merged).args(profiles_in(&profiles)?);
    steps.run("profiles into one", &mut merge)?;

    let mut export = Command::new(&tools.cov);
    export.args(["export", "--summary-only", "--instr-profile"]);
    export.arg(&merged);
    for program in programs(&built) {
        export.arg("--object").arg(program);
    }
    let summary = output(export.arg("--sources").arg(&sources))?;
    let files = files(&summary, workspace.root())?;
    print(&files);
    judge(package, &files)
}

/// The folder of a package's sources, by cargo's word.
fn sources_of(workspace: &Workspace, package: &str) -> Result<PathBuf> {
    let metadata = workspace.cargo(&["metadata", "--locked", "--no-deps", "--format-version=1"]);
    let metadata: Value = serde_json::from_str(&output(&mut { metadata })?)?;
    let packages = metadata["packages"].as_array();
    let named = |it: &&Value| it["name"] == package;
    let manifest = packages.and_then(|all| all.iter().find(named));
    let manifest = manifest.and_then(|it| it["manifest_path"].as_str());
    let manifest = manifest.with_context(|| format!("no package `{package}` in this workspace"))?;
    Ok(Path::new(manifest).with_file_name("src"))
}

fn profiles_in(place: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(place).context("the tests left no profiles behind")?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    paths.collect()
}

/// The programs that cargo's messages name.
fn programs(messages: &str) -> Vec<String> {
    let program = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        Some(message["executable"].as_str()?.to_owned())
    };
    messages.lines().filter_map(program).collect()
}

/// One file's lines that could run, and those of them that did.
#[derive(Debug, PartialEq, Eq)]
struct File {
    path: String,
    lines: u64,
    covered: u64,
}

/// The files of an export of `llvm-cov`, by path, without those of tests.
fn files(summary: &str, root: &Path) -> Result<Vec<File>> {
    let summary: Value = serde_json::from_str(summary).context("llvm-cov prints no JSON")?;
    let listed = summary["data"][0]["files"].as_array();
    let file = |it: &Value| {
        let path = Path::new(it["filename"].as_str()?);
        let path = path.strip_prefix(root).unwrap_or(path).to_str()?;
        let lines = &it["summary"]["lines"];
        Some(File {
            path: path.to_owned(),
            lines: lines["count"].as_u64()?,
            covered: lines["covered"].as_u64()?,
        })
    };
    let files = listed.context("llvm-cov names no files")?.iter();
    let mut files: Vec<File> = files.filter_map(file).collect();
    files.retain(|file| !is_test(&file.path));
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn percent(covered: u64, lines: u64) -> f64 {
    100.0 * covered as f64 / lines.max(1) as f64
}

fn total(files: &[File]) -> (u64, u64) {
    let sum = |part: fn(&File) -> u64| files.iter().map(part).sum();
    (sum(|file| file.covered), sum(|file| file.lines))
}

fn print(files: &[File]) {
    println!("\n covered   lines");
    for file in files {
        let share = percent(file.covered, file.lines);
        println!("{share:>6.1} %  {:>6}  {}", file.lines, file.path);
    }
}

/// Says how much was covered in all, and whether that is enough.
fn judge(package: &str, files: &[File]) -> Result<()> {
    let (covered, lines) = total(files);
    let share = percent(covered, lines);
    println!("{share:>6.1} %  {lines:>6}  {package}");
    let goal = GOALS.iter().find(|(name, _)| *name == package);
    match goal {
        Some((_, goal)) if share < *goal => {
            bail!("the tests of {package} run {share:.1} % of its lines; {goal} % is the least")
        }
        _ if lines == 0 => bail!("no line of {package} could have run"),
        _ => Ok(()),
    }
}

/// LLVM's tools that read profiles.
struct Tools {
    profdata: PathBuf,
    cov: PathBuf,
}

impl Tools {
    /// Those of the toolchain, or those of the system if they are new enough: a profile is read by the LLVM that the compiler has
    /// inside, or a newer one.
    fn find() -> Result<Self> {
        let version = output(Command::new("rustc").arg("-vV"))?;
        let field = |name: &str| version.lines().find_map(|line| line.strip_prefix(name));
        let needed = field("LLVM version: ").and_then(major);
        let needed = needed.context("`rustc -vV` names no version of LLVM")?;
        let host = field("host: ").context("`rustc -vV` names no host")?;
        let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
        let own = Path::new(sysroot.trim()).join("lib/rustlib").join(host);
        let mut old = Vec::new();
        for (profdata, cov) in candidates(&own.join("bin"), needed) {
            let Some(found) = version_of(&profdata) else {
                continue;
            };
            if found >= needed && version_of(&cov).is_some() {
                return Ok(Self { profdata, cov });
            }
            old.push(format!("{} is of LLVM {found}", profdata.display()));
        }
        bail!("{}", missing(needed, &old))
    }
}

/// Where the two tools may be, best first.
fn candidates(own: &Path, needed: u32) -> Vec<(PathBuf, PathBuf)> {
    // Debian's packages have the version in the name.
    let newer = (needed..needed + 4).map(|major| format!("-{major}"));
    let suffixes = newer.chain(std::iter::once(String::new()));
    let of_system = suffixes.map(|suffix| {
        let tool = |name: &str| PathBuf::from(format!("llvm-{name}{suffix}"));
        (tool("profdata"), tool("cov"))
    });
    let of_toolchain = (own.join("llvm-profdata"), own.join("llvm-cov"));
    std::iter::once(of_toolchain).chain(of_system).collect()
}

/// The major version that a tool of LLVM says it has; `None` if it cannot be started.
fn version_of(tool: &Path) -> Option<u32> {
    let said = output(Command::new(tool).arg("--version")).ok()?;
    said.split("version ").nth(1).and_then(major)
}

/// The number before the first dot.
fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.trim().parse().ok()
}

fn missing(needed: u32, old: &[String]) -> String {
    let mut text = format!(
        "coverage needs llvm-profdata and llvm-cov of LLVM {needed} or newer; either of these brings them:\n    \
         rustup component add llvm-tools\n    \
         apt-get install llvm-{needed}"
    );
    for tool in old {
        text.push_str("\n(too old: ");
        text.push_str(tool);
        text.push(')');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMMARY: &str = r#"{"data": [{"files": [
        {"filename": "/w/a/src/z.rs", "summary": {"lines": {"count": 10, "covered": 9}}},
        {"filename": "/w/a/src/b.rs", "summary": {"lines": {"count": 30, "covered": 28}}},
        {"filename": "/w/a/src/tests.rs", "summary": {"lines": {"count": 100, "covered": 1}}}
    ]}]}"#;

    #[test]
    fn files_are_read_without_tests() {
        let files = files(SUMMARY, Path::new("/w")).unwrap();
        let paths: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["a/src/b.rs", "a/src/z.rs"]);
        assert_eq!(total(&files), (37, 40));
    }

    #[test]
    fn too_few_lines_are_an_error_where_there_is_a_goal() {
        let file = |covered| {
            let path = "a/src/b.rs".to_owned();
            [File {
                path,
                lines: 1000,
                covered,
            }]
        };
        let error = judge("actor_rt", &file(899)).unwrap_err().to_string();
        assert!(
            error.contains("89.9 %") && error.contains("90 %"),
            "{error}"
        );
        judge("actor_rt", &file(900)).unwrap();
        judge("xtask", &file(1)).unwrap();
        assert!(judge("xtask", &[]).is_err(), "nothing was looked at");
    }

    #[test]
    fn programs_are_those_that_cargo_names() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":\"/t/a-1\"}\n\
                        {\"reason\":\"compiler-artifact\",\"executable\":null}\nnot JSON\n";
        assert_eq!(programs(messages), ["/t/a-1"]);
    }

    #[test]
    fn versions_are_compared_by_their_first_number() {
        assert_eq!(major("22.1.2"), Some(22));
        assert_eq!(major("14.0.6\n  Optimized build."), Some(14));
        assert_eq!(major("x"), None);
    }

    #[test]
    fn the_toolchain_comes_before_the_system_and_its_version_before_any() {
        let names: Vec<_> = candidates(Path::new("/own"), 22)
            .into_iter()
            .map(|(profdata, cov)| format!("{} {}", profdata.display(), cov.display()))
            .collect();
        assert_eq!(names[0], "/own/llvm-profdata /own/llvm-cov");
        assert_eq!(names[1], "llvm-profdata-22 llvm-cov-22");
        assert_eq!(names.last().unwrap(), "llvm-profdata llvm-cov");
    }

    #[test]
    fn who_lacks_the_tools_is_told_what_to_install() {
        let text = missing(22, &["llvm-profdata is of LLVM 14".to_owned()]);
        for part in ["rustup component add llvm-tools", "llvm-22", "LLVM 14"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
