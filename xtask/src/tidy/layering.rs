//! Who may depend on whom.
//!
//! Owns the dependency direction of the workspace and the folders to which each large dependency
//! is confined. Knows nothing of versions or features.

use anyhow::{Context, Result};
use toml::{Table, Value};

use super::Finding;

/// Members from the bottom up: a member may depend on those before it only.
const LAYERS: [&str; 5] = [
    "actor_rt",
    "cas_actor",
    "zako_actors",
    "bench_harness",
    "zako_tests",
];

/// A crate that only one folder may name, so that it could be replaced there.
struct Confined {
    /// As the crate is called in a path; a longer name that starts with it and `_` is meant too.
    name: &'static str,
    folder: &'static str,
}

const CONFINED: [Confined; 5] = [
    Confined {
        name: "deno_core",
        folder: "zako_actors/src/isolate",
    },
    Confined {
        name: "deno_v8",
        folder: "zako_actors/src/isolate",
    },
    Confined {
        name: "oxc",
        folder: "zako_actors/src/transpile",
    },
    Confined {
        name: "tonic",
        folder: "cas_actor/src/front/grpc",
    },
    Confined {
        name: "hwlocality",
        folder: "actor_rt/src",
    },
];

/// What the bottom layer must not know, even optionally.
const NOT_IN_THE_RUNTIME: [&str; 6] = [
    "serde_json",
    "deno_core",
    "deno_v8",
    "oxc",
    "tonic",
    "hyper",
];

/// The benchmarks call other people's crates directly, as peers to measure against.
const FREE_TO_NAME_ANY_CRATE: &str = "bench_harness/";

/// Checks the dependencies that a member declares.
pub fn check_manifest(path: &str, text: &str) -> Result<Vec<Finding>> {
    let manifest: Table = text.parse().with_context(|| format!("{path} is no TOML"))?;
    let Some(member) = manifest
        .get("package")
        .and_then(|package| package.get("name"))
        .and_then(Value::as_str)
    else {
        return Ok(Vec::new());
    };
    let layer_of = |name: &str| LAYERS.iter().position(|layer| *layer == name);
    let own_layer = match path.strip_suffix("/fuzz/Cargo.toml") {
        // Fuzz targets stand right above the crate that they feed.
        Some(subject) => layer_of(subject).map(|layer| layer + 1),
        None => layer_of(member),
    };
    let mut findings = Vec::new();
    for dependency in dependencies(&manifest) {
        let layer = LAYERS.iter().position(|layer| *layer == dependency);
        let breach = match (own_layer, layer) {
            // xtask, and whatever else stands beside the layers.
            (None, Some(_)) => true,
            (Some(own), Some(other)) => other >= own,
            (_, None) => member == "actor_rt" && NOT_IN_THE_RUNTIME.contains(&dependency),
        };
        if breach {
            findings.push(Finding::new(
                path,
                0,
                format!("`{member}` must not depend on `{dependency}`"),
            ));
        }
    }
    Ok(findings)
}

/// The names under every kind of dependency table, those of single targets included.
fn dependencies(manifest: &Table) -> Vec<&str> {
    let mut scopes = vec![manifest];
    if let Some(Value::Table(targets)) = manifest.get("target") {
        scopes.extend(targets.values().filter_map(Value::as_table));
    }
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    scopes
        .iter()
        .flat_map(|scope| kinds.iter().filter_map(|kind| scope.get(*kind)))
        .filter_map(Value::as_table)
        .flat_map(|table| table.keys().map(String::as_str))
        .collect()
}

/// Checks that a file names a confined crate only inside that crate's folder.
pub fn check_source(path: &str, text: &str) -> Vec<Finding> {
    // A build script generates what the folder then holds.
    let is_tool = path.starts_with("xtask/") || path.ends_with("/build.rs");
    if path.starts_with(FREE_TO_NAME_ANY_CRATE) || is_tool {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for Confined { name, folder } in &CONFINED {
            if names_crate(code, name) && !is_inside(path, folder) {
                let message = format!("`{name}` may be named under {folder} only");
                findings.push(Finding::new(path, index + 1, message));
            }
        }
    }
    findings
}

/// A folder `a/b` may also be the single file `a/b.rs`.
fn is_inside(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}

/// Whether code holds `name::`, `name_more::` or imports the crate whole.
fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let is_start = !before.is_some_and(|c| c.is_alphanumeric() || "_\".:-/".contains(c))
            || code[..at].ends_with(" ::");
        let rest = &code[at + name.len()..];
        let rest = match rest.strip_prefix('_') {
            Some(more) => more.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'),
            None => rest,
        };
        let import = code[..at].trim_end().ends_with("use");
        let imported_whole = import && rest.starts_with([';', ' ']);
        is_start && (rest.starts_with("::") || imported_whole)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str, rest: &str) -> Vec<String> {
        let text = format!("[package]\nname = \"{name}\"\n{rest}");
        let findings = check_manifest("x/Cargo.toml", &text).unwrap();
        findings
            .into_iter()
            .map(|finding| finding.message)
            .collect()
    }

    #[test]
    fn a_layer_may_use_what_is_below_it() {
        let rest = "[dependencies]\nactor_rt.workspace = true\nserde_json = \"1\"";
        assert!(manifest("cas_actor", rest).is_empty());
        let rest = "[dev-dependencies]\nzako_actors.workspace = true";
        assert!(manifest("zako_tests", rest).is_empty());
    }

    #[test]
    fn fuzz_targets_may_use_the_crate_that_they_feed_and_no_higher_one() {
        let found = |dependency: &str| {
            let text =
                format!("[package]\nname = \"f\"\n[dependencies]\n{dependency}.path = \"..\"");
            check_manifest("cas_actor/fuzz/Cargo.toml", &text).unwrap()
        };
        assert!(found("cas_actor").is_empty() && found("actor_rt").is_empty());
        assert_eq!(found("zako_actors").len(), 1);
    }

    #[test]
    fn a_layer_must_not_use_what_is_above_it_in_any_table() {
        for table in [
            "dependencies",
            "dev-dependencies",
            "build-dependencies",
            "target.'cfg(unix)'.dependencies",
        ] {
            let found = manifest(
                "actor_rt",
                &format!("[{table}]\ncas_actor.workspace = true"),
            );
            assert_eq!(
                found,
                ["`actor_rt` must not depend on `cas_actor`"],
                "{table}"
            );
        }
    }

    #[test]
    fn the_runtime_knows_no_json_and_xtask_no_layer() {
        let json = "[dependencies]\nserde_json = { version = \"1\", optional = true }";
        assert_eq!(manifest("actor_rt", json).len(), 1);
        assert_eq!(
            manifest("xtask", "[dependencies]\nactor_rt = \"0\"").len(),
            1
        );
    }

    #[test]
    fn a_confined_crate_is_seen_however_it_is_named() {
        let outside = "zako_actors/src/engine/mod.rs";
        for code in [
            "use oxc::parser::Parser;",
            "    let p = oxc_parser::Parser::new();",
            "pub use oxc as compiler;",
            "fn f(x: &oxc::Ast) {}",
            "use ::oxc::Ast;",
        ] {
            assert_eq!(check_source(outside, code).len(), 1, "{code}");
        }
        for code in [
            "// oxc::parser is elsewhere",
            "let oxcart = 1;",
            "println!(\"oxc\");",
            "let boxc::x = 1;",
        ] {
            assert!(check_source(outside, code).is_empty(), "{code}");
        }
    }

    #[test]
    fn a_confined_crate_may_be_named_in_its_folder() {
        let code = "use oxc::parser::Parser;";
        assert!(check_source("zako_actors/src/transpile/mod.rs", code).is_empty());
        assert!(check_source("zako_actors/src/transpile.rs", code).is_empty());
        assert!(check_source("bench_harness/src/transpile.rs", code).is_empty());
        assert_eq!(check_source("zako_actors/src/transpiler.rs", code).len(), 1);
    }
}
