//! Set-up: system packages and the JavaScript engine, before anything is compiled.
//!
//! Owns what each command of xtask wants from the machine.

use anyhow::Result;

use crate::command::Steps;
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
pub const FOR_EXAMPLES: [&Requirement; 2] = [&packages::NODE, &packages::NPM];

/// Build tools that can use a node as their cache. Their tests run where they are.
const CLIENTS: [&Requirement; 2] = [&packages::CCACHE, &packages::BAZEL];

/// Provides the clients.
///
/// # Errors
/// When one is missing and may not be installed.
pub fn clients() -> Result<()> {
    packages::provide(&CLIENTS, &mut Steps::default())
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
