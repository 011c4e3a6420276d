//! Builds that share a cache on another machine.

use zako_tests::{Node, Project, Web};

const BUILD: &str = r#"
import { glob, target, transpile } from "zako:build";
export default {
  js: transpile({ srcs: glob("src/*.ts"), root: "src", out: "dist" }),
  large: target({ cmd: ["sh", "-c", "echo large >> $RAN; seq 1 300000 > large.txt; ln -s large.txt link; chmod +x large.txt"], outs: ["large.txt", "link"] }),
  upper: target({ cmd: ["sh", "-c", "echo upper >> $RAN; tr a-z A-Z < a.txt > upper.txt"], srcs: ["a.txt"], deps: [":js"], outs: ["upper.txt"] }),
};
"#;

fn project() -> Project {
    let project = Project::new();
    // The same text in every project: `$RAN` is replaced by a path of its own, so it is passed on.
    project.write("BUILD.ts", &BUILD.replace("$RAN", "/dev/null"));
    project.write("a.txt", "abc\n");
    project.write("src/m.ts", "export const m: number = 1;\n");
    project
}

fn summary(project: &Project, remote: &str) -> String {
    let outcome = project.zako(&["build", "--json", "--remote", remote]);
    outcome.succeeds().stdout
}

fn shares(scheme: &str, mut node: Node) {
    let remote = format!("{scheme}://{}", node.address());
    let first = summary(&project(), &remote);
    assert!(first.contains("\"executed\": 3"), "{first}");
    let other = project();
    let second = summary(&other, &remote);
    assert!(second.contains("\"executed\": 0"), "{second}");
    assert!(second.contains("\"cached\": 3"), "{second}");
    assert_eq!(other.read("upper.txt"), "ABC\n");
    assert!(other.read("large.txt").ends_with("300000\n") && other.has("dist/m.js"));
    assert_eq!(other.read("link").len(), other.read("large.txt").len());
    other.store_is_intact();
    // What was acknowledged outlives the node's process.
    node.kill_and_restart();
    let third = summary(&project(), &remote);
    assert!(third.contains("\"executed\": 0"), "{third}");
}

#[test]
fn a_second_machine_runs_nothing_over_grpc() {
    shares("grpc", Node::open());
}

#[test]
fn a_second_machine_runs_nothing_over_grpc_without_blake3() {
    shares("grpc", Node::with("[dialects]\nblake3 = false\n"));
}

#[test]
fn a_second_machine_runs_nothing_over_http_without_blake3() {
    let cache = Web::cache();
    let first = summary(&project(), &cache.url(""));
    assert!(first.contains("\"executed\": 3"), "{first}");
    let blobs = |paths: &[String]| {
        paths
            .iter()
            .filter(|path| path.starts_with("/cas/"))
            .count()
    };
    // What was transpiled has two files, and one says which hash is known.
    let kept = cache.paths();
    assert_eq!(
        (kept.len() - blobs(&kept), blobs(&kept)),
        (3, 5),
        "{kept:?}"
    );
    cache.asked();
    let other = project();
    let second = summary(&other, &cache.url(""));
    assert!(second.contains("\"executed\": 0"), "{second}");
    assert_eq!(other.read("upper.txt"), "ABC\n");
    assert!(other.read("large.txt").ends_with("300000\n") && other.has("dist/m.js"));
    other.store_is_intact();
    assert_eq!(cache.paths(), kept, "nothing is put there that is there");
}

#[test]
fn a_second_machine_runs_nothing_over_http() {
    shares("http", Node::open());
}

#[test]
fn secrets_come_from_the_environment_and_are_never_said() {
    let node = Node::closed();
    for scheme in ["http", "grpc"] {
        let remote = format!("{scheme}://{}", node.address());
        let build = |variables: &[(&str, &str)]| {
            let project = project();
            // Results of its own for each protocol.
            project.write("a.txt", scheme);
            let mut command = project.command(&["build", "-v", "--json", "--remote", &remote]);
            command
                .envs(variables.iter().copied())
                .env("RUST_LOG", "debug");
            zako_tests::Outcome::of(&mut command).succeeds()
        };
        let mine = [
            ("ZAKO_REMOTE_USER", "ada"),
            ("ZAKO_REMOTE_PASSWORD", "s3cret"),
        ];
        assert!(build(&[]).stdout.contains("\"executed\": 3"));
        assert!(!build(&mine).text().contains("s3cret"));
        let ci = build(&[("ZAKO_REMOTE_TOKEN", "t0ken")]);
        assert!(ci.stdout.contains("\"cached\": 3"), "{}", ci.text());
        assert!(!ci.text().contains("t0ken"));
    }
    let project = project();
    let manifest = project.read("zako.toml");
    let access = "[settings.remote-access]\ntoken-env = \"MY_TOKEN\"\n";
    project.write("zako.toml", &format!("{manifest}{access}"));
    let remote = format!("http://{}", node.address());
    let arguments = ["build", "--remote", &remote];
    project
        .zako(&arguments)
        .fails_saying(&["MY_TOKEN, which is not set"]);
    let mut named = project.command(&arguments);
    zako_tests::Outcome::of(named.env("MY_TOKEN", "t0ken")).succeeds();
}

#[test]
fn a_cache_that_is_down_or_wrong_does_not_fail_a_build() {
    // A port that was free a moment ago: nobody answers there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    for scheme in ["http", "grpc"] {
        let said = summary(&project(), &format!("{scheme}://{address}"));
        assert!(said.contains("\"executed\": 3"), "{said}");
    }
    project()
        .zako(&["build", "--remote", "ftp://somewhere"])
        .fails_saying(&["remote cache `ftp://somewhere`", "grpc://HOST:PORT"]);
}
