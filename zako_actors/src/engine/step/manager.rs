//! What a package manager tells its scripts of the machine.
//!
//! Owns these variables, which are no part of any key: places alone, which differ from one machine to the next. Does not know
//! those that follow from the files of the workspace (`lang::scripts`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::engine::action::find_program;
use crate::lang::package_json::PACKAGE_JSON;
use crate::lang::scripts::variables::USER_AGENT;

/// The variables of a script of the package in `dir` of the workspace at `root`, which looks for programs on `path`; `env` tells
/// what its package manager is called.
pub fn of_machine(
    (root, dir): (&Path, &str),
    env: &BTreeMap<String, String>,
    path: &str,
) -> BTreeMap<String, String> {
    let dir = match dir {
        "" => root.to_owned(),
        dir => root.join(dir),
    };
    let mut found = BTreeMap::new();
    let mut tell = |name: &str, place: &Path| {
        found.insert(name.to_owned(), place.display().to_string());
    };
    tell("INIT_CWD", &dir);
    tell("npm_package_json", &dir.join(PACKAGE_JSON));
    if let Some(node) = find_program("node", path) {
        tell("NODE", &node);
        tell("npm_node_execpath", &node);
    }
    let manager = env.get(USER_AGENT).and_then(|text| text.split('/').next());
    if let Some(manager) = manager.and_then(|name| find_program(name, path)) {
        tell("npm_execpath", &program(manager));
    }
    found
}

/// What tools are to start for the program at `link`: a script behind it with Node.js, anything else by the name that it has.
fn program(link: PathBuf) -> PathBuf {
    let behind = std::fs::canonicalize(&link).ok();
    let is_script = |path: &PathBuf| {
        let end = path.extension().and_then(|end| end.to_str());
        matches!(end, Some("js" | "cjs" | "mjs"))
    };
    behind.filter(is_script).unwrap_or(link)
}
