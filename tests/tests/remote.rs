//! Builds that share a cache on another machine.

use std::time::{Duration, Instant};

use zako_tests::{Answer, Node, Outcome, Project, Web, is_installed};

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
            Outcome::of(&mut command).succeeds()
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
    Outcome::of(named.env("MY_TOKEN", "t0ken")).succeeds();
}

#[test]
fn a_cache_that_is_down_or_wrong_does_not_fail_a_build() {
    // A port that was free a moment ago: nobody answers there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    for scheme in ["http", "grpc"] {
        let remote = format!("{scheme}://{address}");
        for (project, steps) in [(project(), 3), (chain(8), 8), (chain(1), 1)] {
            let said = project
                .zako(&["build", "--json", "--remote", &remote])
                .succeeds();
            let executed = format!("\"executed\": {steps}");
            assert!(said.stdout.contains(&executed), "{}", said.stdout);
            let warning = warned(&said);
            for part in [&remote, "Connection refused", "goes on without it"] {
                assert!(warning.contains(part), "{part}: {warning}");
            }
        }
    }
    project()
        .zako(&["build", "--remote", "ftp://somewhere"])
        .fails_saying(&["remote cache `ftp://somewhere`", "grpc://HOST:PORT"]);
}

/// The one warning of a build, which is about the remote cache.
#[track_caller]
fn warned(said: &Outcome) -> String {
    let lines = said.stderr.lines();
    let warnings: Vec<_> = lines
        .filter(|line| line.contains("WARN") || line.contains("remote cache"))
        .collect();
    assert_eq!(warnings.len(), 1, "{}", said.stderr);
    warnings[0].to_owned()
}

/// Steps each of which needs the one before it.
fn chain(count: usize) -> Project {
    let steps = (0..count).map(|n| {
        let deps = n.checked_sub(1).map_or(String::new(), |before| format!("deps: [\":s{before}\"], "));
        format!("  s{n}: target({{ cmd: [\"sh\", \"-c\", \"seq {n} 2000 > {n}.txt\"], {deps}outs: [\"{n}.txt\"] }}),\n")
    });
    Project::with_build(&format!(
        "import {{ target }} from \"zako:build\";\nexport default {{\n{}}};\n",
        steps.collect::<String>()
    ))
}

/// Has every file of a step come a byte at a time, so that the whole would take minutes.
fn trickle(cache: &Web) {
    for path in cache.paths() {
        match cache.answer_of(&path) {
            Some(Answer::Body(body)) if path.starts_with("/cas/") && body.len() > 1000 => {
                cache.answer(&path, Answer::Trickle(body));
            }
            _ => {}
        }
    }
}

#[test]
fn a_server_that_stops_answering_is_left_alone_for_the_rest_of_the_build() {
    let cache = Web::cache();
    // It has said which hash it knows: the probe is answered, and nothing after it.
    summary(&chain(1), &cache.url(""));
    cache.answer_below("/ac/", Answer::Never);
    cache.asked();
    let said = chain(20)
        .zako(&["build", "--json", "--remote", &cache.url("")])
        .succeeds();
    assert!(said.stdout.contains("\"executed\": 20"), "{}", said.stdout);
    assert!(
        warned(&said).contains("goes on without it"),
        "{}",
        said.stderr
    );
    let asked = cache.asked();
    let lookups = asked.iter().filter(|(path, _)| path.starts_with("/ac/"));
    // Three seconds each, ten in all: steps beyond those do not ask.
    let lookups = lookups.count();
    assert!((1..=8).contains(&lookups), "{lookups} look-ups");
}

#[test]
fn a_download_that_trickles_is_given_up_and_said_once() {
    let cache = Web::cache();
    summary(&chain(2), &cache.url(""));
    // Every piece comes within the patience of a call.
    trickle(&cache);
    let results = || {
        let paths = cache.paths().into_iter();
        paths.filter(|path| path.starts_with("/ac/")).count()
    };
    let before = results();
    let began = Instant::now();
    let said = chain(3)
        .zako(&["build", "--json", "--remote", &cache.url("")])
        .succeeds();
    assert!(said.stdout.contains("\"executed\": 3"), "{}", said.text());
    assert!(warned(&said).contains("is asked no more until the end of this build"));
    // What others have not built is handed on all the same.
    assert!(results() > before);
    assert!(
        began.elapsed() < Duration::from_secs(100),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn ctrl_c_ends_a_wait_for_the_cache() {
    let cache = Web::cache();
    summary(&chain(1), &cache.url(""));
    trickle(&cache);
    cache.asked();
    let project = chain(1);
    let running = project.start(&["build", "--remote", &cache.url("")]);
    let is_file = |(path, _): &(String, _)| {
        let answer = cache.answer_of(path);
        matches!(answer, Some(Answer::Trickle(_)))
    };
    while !cache.asked().iter().any(is_file) {
        std::thread::yield_now();
    }
    let began = Instant::now();
    running.signal("INT");
    assert_eq!(running.wait().status.code(), Some(130));
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn a_second_machine_compiles_no_c() {
    if !is_installed("gcc") {
        return;
    }
    let machine = |other: &str| {
        let project = Project::with_build(
            "import { ccLibrary } from \"zako:rules\";\nexport default {\n\
             lib: ccLibrary({ srcs: [\"a.c\", \"b.c\"], hdrs: [\"a.h\", \"other.h\"] }),\n};\n",
        );
        project.write("a.h", "int a(void);\n");
        project.write("other.h", other);
        project.write("a.c", "#include \"a.h\"\nint a(void) { return 1; }\n");
        project.write("b.c", "#include \"a.h\"\nint b(void) { return a(); }\n");
        project
    };
    for scheme in ["http", "grpc"] {
        let node = Node::open();
        let remote = format!("{scheme}://{}", node.address());
        let first = summary(&machine("#define OTHER 1\n"), &remote);
        assert!(first.contains("\"cached\": 0"), "{first}");
        let second = machine("#define OTHER 1\n");
        let said = summary(&second, &remote);
        assert!(said.contains("\"executed\": 0"), "{said}");
        // What it is made of is known there as well.
        let said = second.zako(&["build"]).succeeds().text();
        assert!(
            said.contains("up to date") && !said.contains("cache"),
            "{said}"
        );
        second.write("a.h", "int a(void); // more\n");
        let said = summary(&second, &remote);
        assert!(!said.contains("\"executed\": 0"), "{said}");
        // Nobody reads this header, so that what it says makes no difference.
        let said = summary(&machine("#define OTHER 2\n"), &remote);
        assert!(said.contains("\"executed\": 0"), "{said}");
    }
}

#[test]
fn watch_and_run_use_the_cache_as_build_does() {
    let node = Node::open();
    let remote = format!("http://{}", node.address());
    let watched = chain(2);
    let events = watched.outside().join("events");
    let arguments = [
        "watch",
        "--sandbox",
        "off",
        "--events",
        events.to_str().unwrap(),
    ];
    let mut command = watched.command(&arguments);
    let mut watch = zako_tests::Running::start(command.env("ZAKO_REMOTE", &remote));
    assert!(watch.line().starts_with("watching "));
    watched.write("zako.toml", &format!("{}\n", watched.read("zako.toml")));
    assert!(watch.line().starts_with("watching "));
    watch.signal("INT");
    watch.wait();
    let told = std::fs::read_to_string(&events).unwrap();
    assert!(told.matches("build_started").count() >= 2, "{told}");
    let said = summary(&chain(2), &remote);
    assert!(said.contains("\"cached\": 2"), "{said}");

    let build = |project: &Project| {
        project.write("BUILD.ts", "import { target } from \"zako:build\";\nexport default { p: target({ cmd: [\"sh\", \"-c\", \"printf '#!/bin/sh\\necho ran\\n' > p; chmod +x p\"], outs: [\"p\"] }) };\n");
    };
    let runs = Project::new();
    build(&runs);
    let mut command = runs.command(&["run", "//:p"]);
    let said = Outcome::of(command.env("ZAKO_REMOTE", &remote)).succeeds();
    assert_eq!(said.stdout, "ran\n");
    let other = Project::new();
    build(&other);
    let said = summary(&other, &remote);
    assert!(said.contains("\"cached\": 1"), "{said}");
}

/// Replaces the first `old` by `new`, of equal length, in every result that `cache` has.
fn poison(cache: &Web, old: &str, new: &str) {
    for path in cache.paths() {
        let Some(Answer::Body(mut body)) = cache.answer_of(&path) else {
            continue;
        };
        let found = body.windows(old.len()).position(|it| it == old.as_bytes());
        if let Some(at) = found.filter(|_| path.starts_with("/ac/")) {
            body[at..at + old.len()].copy_from_slice(new.as_bytes());
            cache.answer(&path, Answer::Body(body));
        }
    }
}

#[test]
fn a_result_that_its_step_cannot_have_left_is_not_used() {
    let build = r#"
import { glob, target, transpile } from "zako:build";
export default {
  a: target({ cmd: ["sh", "-c", "cat a.txt > out_a.txt; ln -s out_a.txt zli"], srcs: ["a.txt"], outs: ["out_a.txt", "zli"] }),
  d: target({ cmd: ["sh", "-c", "mkdir -p dir/sub; cat a.txt > dir/sub/one; cat a.txt > dir/two"], srcs: ["a.txt"], outs: ["dir/"] }),
  t: transpile({ srcs: glob("src/*.ts"), root: "src", out: "js" }),
};
"#;
    let machine = || {
        let project = Project::with_build(build);
        project.write("a.txt", "abc\n");
        project.write("src/mod.ts", "export const m: number = 1;\n");
        project
    };
    let poisons = [
        ("out_a.txt", "../.tttxt"),
        ("out_a.txt", "/tmp/.ttt"),
        ("out_a.txt", ".git/hook"),
        ("out_a.txt", "undeclare"),
        ("dir/sub/one", "dir/../../x"),
        ("js/mod.js", "js/../m.x"),
        ("js/mod.js", "js/abc.js"),
    ];
    for (old, new) in poisons {
        let cache = Web::cache();
        summary(&machine(), &cache.url(""));
        poison(&cache, old, new);
        let project = machine();
        let arguments = ["build", "--json", "--remote", &cache.url("")];
        let said = project.zako(&arguments).succeeds();
        assert!(
            said.stdout.contains("\"executed\": 1") && said.stdout.contains("\"cached\": 2"),
            "{new}: {}",
            said.text()
        );
        let warning = warned(&said);
        for part in [cache.address(), "cannot have left", new] {
            assert!(warning.contains(part), "{part}: {warning}");
        }
        assert_eq!(project.read("out_a.txt"), "abc\n");
        assert_eq!(project.read("dir/sub/one"), "abc\n");
        assert!(project.has("js/mod.js"));
        assert!(
            new.starts_with('/') || !project.root().join(new).exists(),
            "{new}"
        );
        // The right result is there again.
        let healed = summary(&machine(), &cache.url(""));
        assert!(healed.contains("\"cached\": 3"), "{new}: {healed}");
    }
    assert!(!std::path::Path::new("/tmp/.ttt").exists());
}
