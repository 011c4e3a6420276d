//! Tells the program which commit it is compiled from, with `-dirty` where files differ from it; `unknown` without git.

use std::path::Path;
use std::process::Command;

/// What is compiled: when any of it changes, whether it is in a commit is asked again.
const COMPILED: [&str; 8] = [
    "src",
    "Cargo.toml",
    "../Cargo.toml",
    "../Cargo.lock",
    "../actor_rt/src",
    "../cas_actor/src",
    "../cas_actor/proto",
    "../zako_actors/src",
];

/// What git prints, if it is there and this is a repository.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        // To ask must not write the index, which would look like a change to the next build.
        .env("GIT_OPTIONAL_LOCKS", "0")
        .args(arguments)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn commit() -> Option<String> {
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    let changes = git(&["status", "--porcelain", "--untracked-files=no"])?;
    let dirty = if changes.is_empty() { "" } else { "-dirty" };
    Some(commit + dirty)
}

fn main() {
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    let of_git = ["HEAD", "index", "packed-refs"].into_iter();
    let of_git = of_git.chain(branch.as_deref());
    let of_git = of_git.filter_map(|name| git(&["rev-parse", "--git-path", name]));
    for path in of_git.chain(COMPILED.map(String::from)) {
        // What is not there would look changed for ever.
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let commit = commit().unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env=BENCH_HARNESS_COMMIT={commit}");
}
