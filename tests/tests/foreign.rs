//! Caches that are nobody's here, nginx with WebDAV and BuildGrid: behind builds and behind nodes.

use std::fs;

use zako_tests::wire::{field, http, sha256};
use zako_tests::{Node, Outcome, Project, Server, until_so};

const BUILD: &str = r#"
import { target, transpile, glob } from "zako:build";
export default {
  js: transpile({ srcs: glob("src/*.ts"), root: "src", out: "dist" }),
  large: target({ cmd: ["sh", "-c", "seq 1 1000000 > large.txt; ln -s large.txt link; chmod +x large.txt"], outs: ["large.txt", "link"] }),
  upper: target({ cmd: ["sh", "-c", "tr a-z A-Z < a.txt > upper.txt"], srcs: ["a.txt"], deps: [":js"], outs: ["upper.txt"] }),
};
"#;
const STEPS: usize = 3;

fn project() -> Project {
    let project = Project::with_build(BUILD);
    project.write("a.txt", "abc\n");
    project.write("src/m.ts", "export const m: number = 1;\n");
    project
}

/// Removes all that was built, and all that zako knows of it.
fn wipe(project: &Project) {
    for directory in [project.root().join("dist"), project.cache()] {
        fs::remove_dir_all(directory).unwrap();
    }
    for file in ["large.txt", "link", "upper.txt"] {
        fs::remove_file(project.root().join(file)).unwrap();
    }
}

fn build(project: &Project, remote: &str) -> Outcome {
    project
        .zako(&["build", "--json", "--remote", remote])
        .succeeds()
}

/// How many steps ran, and how many came from a cache.
#[track_caller]
fn expect(built: &Outcome, executed: usize, cached: usize) {
    for part in [
        format!("\"executed\": {executed},"),
        format!("\"cached\": {cached},"),
    ] {
        assert!(built.stdout.contains(&part), "{part}: {}", built.text());
    }
}

fn check_outputs(project: &Project) {
    assert_eq!(project.read("upper.txt"), "ABC\n");
    assert!(
        project
            .read("dist/m.js")
            .starts_with("export const m = 1;\n")
    );
    let large = project.read("large.txt");
    assert!(large.ends_with("\n1000000\n"));
    assert_eq!(project.read("link").len(), large.len());
    project.store_is_intact();
}

/// A build fills it, the next one has everything from it, and without it everything is built here.
fn shares_builds(mut server: Server) {
    let remote = server.url();
    let project = project();
    expect(&build(&project, &remote), STEPS, 0);
    check_outputs(&project);
    let kept = server.files();
    // Contents and results of three steps, of which one has two files.
    assert!(kept >= 2 * STEPS, "{kept}");
    wipe(&project);
    let again = build(&project, &remote);
    expect(&again, 0, STEPS);
    assert!(!again.stderr.contains("WARN"), "{}", again.stderr);
    check_outputs(&project);
    assert_eq!(server.files(), kept, "nothing is put there that is there");
    server.kill();
    wipe(&project);
    let alone = build(&project, &remote);
    expect(&alone, STEPS, 0);
    for part in [&remote, "goes on without it"] {
        assert!(alone.stderr.contains(part), "{part}: {}", alone.stderr);
    }
    check_outputs(&project);
}

#[test]
fn builds_share_an_nginx() {
    if let Some(server) = Server::nginx() {
        shares_builds(server);
    }
}

#[test]
fn builds_share_a_buildgrid() {
    if let Some(server) = Server::buildgrid() {
        shares_builds(server);
    }
}

/// A node behind which it lies, which hands on what is stored in it or does not. Neither server knows BLAKE3, so that builds
/// must not name anything by it.
fn behind(server: &Server, write: &str) -> Node {
    let url = server.url();
    Node::with(&format!(
        "[upstream]\naddress = \"{url}\"\nwrite = \"{write}\"\npatience_seconds = 20\n\
         [dialects]\nblake3 = false\n"
    ))
}

fn get(node: &Node, path: &str) -> (u16, Vec<u8>) {
    http(node.address(), "GET", path, b"").expect("an answer")
}

#[track_caller]
fn put(node: &Node, path: &str, content: &[u8]) {
    let answer = http(node.address(), "PUT", path, content);
    assert_eq!(answer.map(|(status, _)| status), Some(200), "{path}");
}

/// What one node stores is found by another one that has nothing of its own; a server that is gone costs neither anything.
fn stands_behind_nodes(mut server: Server) {
    let here = behind(&server, "background");
    let small = b"a small blob".to_vec();
    let large: Vec<u8> = (0..1_000_000_u64).flat_map(u64::to_le_bytes).collect();
    let action = sha256(b"an action");
    let puts = [
        (format!("/cas/{}", sha256(&small)), small),
        (format!("/cas/{}", sha256(&large)), large),
        (format!("/ac/{action}"), field(5, b"what it printed")),
        ("/ccache/0123".to_owned(), b"of a compiler".to_vec()),
        ("/gradle/4567".to_owned(), b"of another tool".to_vec()),
    ];
    for (path, content) in &puts {
        put(&here, path, content);
    }
    let there = behind(&server, "never");
    // Whoever asks at /cas/ or /ac/ says no size, without which the Remote Execution API has no name for anything.
    let has_size = |path: &str| !(path.starts_with("/cas/") || path.starts_with("/ac/"));
    let scheme = server.url().split(':').next().unwrap().to_owned();
    let has_names = |path: &str| scheme == "http" || has_size(path);
    for (path, content) in puts.iter().filter(|(path, _)| has_names(path)) {
        until_so(path, || get(&there, path) == (200, content.clone()));
    }
    assert_eq!(here.figure("upstream_not_handed_on_total"), 0);
    assert_eq!(get(&there, &format!("/cas/{}", sha256(b"absent"))).0, 404);
    assert_eq!(get(&there, "/ccache/89ab").0, 404);
    assert_eq!(there.figure("upstream_failures_total"), 0);

    let project = project();
    let first = build(&project, &format!("{scheme}://{}", here.address()));
    expect(&first, STEPS, 0);
    // A node that has nothing of its own and hands nothing on.
    until_so("the build is there", || {
        wipe(&project);
        let fresh = behind(&server, "never");
        let again = build(&project, &format!("grpc://{}", fresh.address()));
        again.stdout.contains(&format!("\"cached\": {STEPS},"))
    });
    check_outputs(&project);

    server.kill();
    let (path, content) = &puts[4];
    assert_eq!(get(&there, path), (200, content.clone()), "it was kept");
    for number in 0..9 {
        assert_eq!(get(&there, &format!("/ccache/ab{number:02x}")).0, 404);
    }
    put(&there, "/ccache/cdef", b"alone");
    assert_eq!(get(&there, "/ccache/cdef"), (200, b"alone".to_vec()));
    assert_eq!(there.figure("upstream_up"), 0);
}

#[test]
fn nodes_stand_before_an_nginx() {
    if let Some(server) = Server::nginx() {
        // What a node hands on lies there as Bazel would put it.
        let (address, node) = (server.address().to_owned(), behind(&server, "background"));
        let path = format!("/cas/{}", sha256(b"by a node"));
        put(&node, &path, b"by a node");
        until_so("it is handed on", || {
            http(&address, "GET", &path, b"") == Some((200, b"by a node".to_vec()))
        });
        drop(node);
        stands_behind_nodes(server);
    }
}

#[test]
fn nodes_stand_before_a_buildgrid() {
    if let Some(server) = Server::buildgrid() {
        stands_behind_nodes(server);
    }
}
