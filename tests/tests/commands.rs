//! The commands beside `build`.

use std::fs;
use std::process::Command;

use zako_tests::{Outcome, Project, git, succeed, until_so};

const BUILD: &str = r#"
import { target, test } from "zako:build";
export default {
  made: target({ cmd: ["sh", "-c", "echo made >> $RAN; mkdir -p out/deep; echo x > out/deep/x.txt; echo y > y.txt"],
                 outs: ["out/", "y.txt"] }),
  checked: test({ cmd: ["sh", "-c", "echo checked >> $RAN; test -e y.txt"], deps: [":made"] }),
};
"#;

#[test]
fn clean_removes_what_was_built_and_nothing_else() {
    let project = Project::with_build(BUILD);
    project.write("kept.txt", "kept\n");
    project.build();
    assert!(project.has("out/deep/x.txt") && project.has("y.txt"));
    project.zako(&["clean"]).succeeds();
    assert!(!project.has("out") && !project.has("y.txt"));
    assert_eq!(project.read("kept.txt"), "kept\n");
    assert!(project.has("BUILD.ts"));

    project.ran();
    project.build();
    assert!(project.has("out/deep/x.txt"));
    assert!(project.ran().is_empty(), "the cache outlives `clean`");
}

#[test]
fn clean_all_leaves_nothing_of_a_cache_that_lies_elsewhere() {
    let project = Project::with_build(BUILD);
    let cache = project.outside().join("cache");
    let manifest = project.read("zako.toml");
    project.write(
        "zako.toml",
        &format!("{manifest}[settings]\ncache-dir = {cache:?}\n"),
    );
    project.build();
    let states = || fs::read_dir(cache.join("workspaces")).unwrap().count();
    assert!(cache.join("store").exists() && states() == 1);
    project.zako(&["clean", "--all"]).succeeds();
    assert!(!cache.join("store").exists() && states() == 0);
    assert!(!project.has(".zako"));
}

#[test]
fn tests_run_under_test_and_are_cached() {
    let project = Project::with_build(BUILD);
    project.zako(&["test"]).succeeds();
    assert!(project.ran().contains(&"checked".to_owned()));
    project.zako(&["test"]).succeeds();
    assert!(project.ran().is_empty());
}

#[test]
fn a_failing_test_fails_the_command() {
    let project = Project::with_build(&BUILD.replace("test -e y.txt", "echo no such luck; false"));
    project
        .zako(&["test"])
        .fails_saying(&["no such luck", "rerun it: zako test //:checked "]);
}

#[test]
fn init_makes_a_workspace_that_builds() {
    let project = Project::new();
    let fresh = project.outside().join("fresh");
    fs::create_dir(&fresh).unwrap();
    let in_fresh = |arguments: &[&str]| {
        let mut command = project.command(arguments);
        command.current_dir(&fresh);
        Outcome::of(&mut command)
    };
    in_fresh(&["init"]).succeeds();
    assert!(fresh.join("zako.toml").is_file());
    in_fresh(&["build"]).succeeds();
    // Nothing that is there already is overwritten.
    in_fresh(&["init"]).fails_saying(&["zako.toml"]);
}

#[test]
fn the_cache_gives_back_what_was_put_into_it() {
    let project = Project::new();
    for (name, bytes) in [("empty", 0_usize), ("small", 100), ("large", 3 << 20)] {
        let content: Vec<u8> = (0..bytes).map(|i| (i % 251) as u8).collect();
        let file = project.outside().join(name);
        fs::write(&file, &content).unwrap();
        let path = file.to_str().unwrap();
        let digest = project.zako(&["cache", "put", path]).succeeds().stdout;
        let digest = digest
            .split_whitespace()
            .next()
            .expect("a digest")
            .to_owned();

        let back = project.outside().join(format!("{name}.back"));
        project
            .zako(&["cache", "get", &digest, "--output", back.to_str().unwrap()])
            .succeeds();
        assert!(fs::read(&back).unwrap() == content, "{name}");
        let again = project.zako(&["cache", "put", path]).succeeds().stdout;
        assert!(again.starts_with(&digest), "the same bytes have one name");
    }
    let stats = project.zako(&["cache", "stats"]).succeeds().stdout;
    assert!(stats.contains('3'), "{stats}");
    project.store_is_intact();
}

#[test]
fn the_cache_goes_out_to_files_and_back_and_is_emptied() {
    let project = Project::new();
    let file = project.outside().join("content");
    fs::write(&file, "some content").unwrap();
    project
        .zako(&["cache", "put", file.to_str().unwrap()])
        .succeeds();
    let out = project.outside().join("out");
    let out = out.to_str().unwrap();
    project.zako(&["cache", "export", out]).succeeds();
    let evicted = project
        .zako(&["cache", "gc", "--keep", "0"])
        .succeeds()
        .stdout;
    assert!(evicted.contains("evicted"), "{evicted}");
    let came = project.zako(&["cache", "import", out]).succeeds().stdout;
    assert!(came.starts_with("1 blobs (12 B)"), "{came}");
    project.store_is_intact();
    project
        .zako(&["cache", "import", file.to_str().unwrap()])
        .fails_saying(&["is no directory"]);
    project
        .zako(&["cache", "gc", "--keep", "10X"])
        .fails_saying(&["K, M, G or T"]);
}

#[test]
fn the_cache_refuses_what_is_no_digest_and_what_it_does_not_have() {
    let project = Project::new();
    project.zako(&["cache", "put", "zako.toml"]).succeeds();
    project
        .zako(&["cache", "get", "../../etc/passwd"])
        .fails_saying(&["../../etc/passwd"]);
    let unknown = "0".repeat(64);
    project
        .zako(&["cache", "get", &unknown])
        .fails_saying(&[&unknown[..8]]);
}

#[test]
fn looking_into_a_cache_that_is_not_there_makes_none() {
    let project = Project::new();
    let nope = project.outside().join("nope/x");
    let out = project.outside().join("out");
    let [nope_text, out_text] = [&nope, &out].map(|path| path.to_str().unwrap());
    for command in [
        &["stats"][..],
        &["stats", "--json"],
        &["get", "abcd"],
        &["verify"],
        &["export", out_text],
        &["gc", "--keep", "0"],
    ] {
        for elsewhere in [&["--cache-dir", nope_text][..], &[]] {
            let arguments = [elsewhere, &["cache"], command].concat();
            project
                .zako(&arguments)
                .fails_saying(&["there is no cache at ", "`zako cache put`"]);
        }
        assert!(!project.outside().join("nope").exists() && !out.exists());
        assert!(!project.has(".zako"), "{command:?}");
    }
    project
        .zako(&["--cache-dir", nope_text, "cache", "put", "zako.toml"])
        .succeeds();
    let stats = ["--cache-dir", nope_text, "cache", "stats", "--json"];
    let stats = project.zako(&stats).succeeds().stdout;
    assert!(stats.contains("\"blobs\": 1"), "{stats}");
}

#[test]
fn names_that_are_nearly_right_are_answered_with_the_right_ones() {
    let project = Project::with_build(BUILD);
    for (arguments, said) in [
        (
            &["help", "buidl"][..],
            "there is no command `buidl`; did you mean `build`?",
        ),
        (
            &["help", "cache", "gte"],
            "there is no command `cache gte`; did you mean `get`?",
        ),
        (
            &["help", "quux"],
            "there is no command `quux`; commands are build, test, run",
        ),
        (&["buidl"], "a similar subcommand exists: 'build'"),
        (
            &["build", "--keep-gonig"],
            "a similar argument exists: '--keep-going'",
        ),
        (
            &["build", "//:maed"],
            "no target `//:maed`; did you mean `//:made`?",
        ),
        (
            &["build", "//...:maed"],
            "no target matches `//...:maed`; did you mean `made`?",
        ),
        (&["run", "maed"], "did you mean `//:made`?"),
    ] {
        let failed = project.zako(arguments).fails_saying(&[said]);
        assert_eq!(failed.status.code(), Some(2), "{arguments:?}");
    }
    let help = |arguments: &[&str]| project.zako(arguments).succeeds().stdout;
    assert_eq!(help(&["help", "build"]), help(&["build", "--help"]));
    assert_eq!(
        help(&["help", "cache", "gc"]),
        help(&["cache", "gc", "--help"])
    );
    assert_eq!(help(&["help"]), help(&["--help"]));
}

#[test]
fn another_directory_can_be_named_from_anywhere() {
    let project = Project::with_build(BUILD);
    let mut command = project.command(&["-C", project.root().to_str().unwrap(), "build"]);
    command.current_dir(project.outside());
    Outcome::of(&mut command).succeeds();
    assert!(project.has("y.txt"));
}

#[test]
fn the_workspace_is_found_from_below() {
    let project = Project::with_build(BUILD);
    project.write("a/b/c.txt", "");
    let mut command = project.command(&["build", "//:made"]);
    command.current_dir(project.root().join("a/b"));
    Outcome::of(&mut command).succeeds();
    assert!(project.has("y.txt"));
}

#[test]
fn a_test_in_parts_runs_and_is_cached_part_by_part() {
    let build = r#"
import { glob, test } from "zako:build";
export default {
  t: test({
    cmd: ["sh", "-c", 'echo $1 of $2 $TEST_SHARD_INDEX $TEST_TOTAL_SHARDS >> $RAN; ! grep -q "$1" bad', "sh", "{shard}", "{shards}"],
    srcs: ["bad"],
    shards: 3,
  }),
};
"#;
    let project = Project::with_build(build);
    project.write("bad", "2\n");
    project
        .zako(&["test", "-k"])
        .fails_saying(&["//:t~2 failed"]);
    assert_eq!(project.ran(), ["1 of 3 0 3", "2 of 3 1 3", "3 of 3 2 3"]);
    project.zako(&["test", "-k"]).fails_saying(&["//:t~2"]);
    assert_eq!(
        project.ran(),
        ["2 of 3 1 3"],
        "the others are known to pass"
    );
    project.write("bad", "\n");
    project.zako(&["test", "//:t"]).succeeds();
    assert_eq!(project.ran().len(), 3);
    project.zako(&["build"]).succeeds();
    project.write(
        "BUILD.ts",
        &build.replace("shards: 3", "shards: 3, outs: [\"log\"]"),
    );
    project
        .zako(&["test"])
        .fails_saying(&["would all write its `outs`", "BUILD.ts:7:"]);
}

#[test]
fn zako_opens_as_many_files_as_it_may_and_its_children_as_many_as_before() {
    // Looks until its parent has as many as it may: a moment after this child was started.
    const PARENT: &str = "until parent=$(while read -r first second third fourth rest; do case $second in open) echo \
                          $fourth;; esac; done < /proc/$PPID/limits); test \"$parent\" = \"$(ulimit -Hn)\"; do :; done; ";
    // In the second case so few are allowed that the limit cannot be lowered again while a child starts; it
    // is set a moment later, so the child looks until it is.
    for (soft, wait) in [
        ("700", ""),
        ("260", "until test \"$(ulimit -Sn)\" = 260; do :; done; "),
    ] {
        let project = Project::with_build(&format!(
            "import {{ target }} from \"zako:build\";\nexport default {{ t: target({{ cmd: [\"sh\", \"-c\", '{wait}ulimit -Sn > \
             own; ulimit -Hn > hard; {PARENT}echo $parent > parent'], outs: [\"own\", \"hard\", \"parent\"] }}) }};\n"
        ));
        let build = format!("ulimit -Sn {soft} && exec \"$ZAKO\" build -j 1");
        Outcome::of(&mut project.shell(&build)).succeeds();
        assert_eq!(project.read("own").trim(), soft);
        assert_eq!(project.read("parent"), project.read("hard"));
        let run = format!("ulimit -Sn {soft} && exec \"$ZAKO\" run //:serve");
        project.write("BUILD.ts", "import { target } from \"zako:build\";\nexport default { serve: target({ cmd: [\"sh\", \"-c\", \
             \"printf '#!/bin/sh\\\\nulimit -Sn\\\\n' > serve; chmod +x serve\"], outs: [\"serve\"] }) };\n");
        let said = Outcome::of(&mut project.shell(&run)).succeeds();
        assert_eq!(said.stdout.trim(), soft, "{}", said.text());
    }
}

#[test]
fn a_variable_that_is_set_to_nothing_is_as_one_that_is_not_set() {
    let project = Project::with_build(
        "import { target } from \"zako:build\";\nexport default { x: target({ cmd: [\"touch\", \"x\"], outs: [\"x\"] }) };\n",
    );
    for name in [
        "ZAKO_SANDBOX",
        "ZAKO_JOBS",
        "ZAKO_REMOTE",
        "ZAKO_OTEL",
        "ZAKO_EVALUATION_SECONDS",
        "ZAKO_EVALUATION_HEAP",
        "ZAKO_MAX_WORKERS",
    ] {
        Outcome::of(project.command(&["build"]).env(name, "")).succeeds();
    }
    // One that says something wrong does count.
    let wrong = Outcome::of(project.command(&["build"]).env("ZAKO_SANDBOX", "x"));
    wrong.fails_saying(&["invalid value 'x' for '--sandbox"]);
}

#[test]
fn a_time_below_nothing_is_told_by_what_it_has_to_be() {
    let project = Project::new();
    let manifest = project.read("zako.toml");
    let settings = "[settings]\nevaluation-seconds = -1\n";
    project.write("zako.toml", &format!("{manifest}{settings}"));
    project
        .zako(&["build"])
        .fails_saying(&["zako.toml:", "`-1`, expected a whole number, at least 1"]);
}

#[test]
fn with_json_failures_are_told_to_scripts_as_well() {
    let project = Project::with_build(
        r#"import { target } from "zako:build";
export default { bad: target({ cmd: ["sh", "-c", "echo why; exit 3"], outs: ["bad"], env: { A: "1" } }) };"#,
    );
    let parsed = |arguments: &[&str]| -> serde_json::Value {
        let stdout = project.zako(arguments).stdout;
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
    };
    let built = parsed(&["build", "--json"]);
    assert_eq!(built["failures"][0]["label"], "//:bad");
    let failure = built["failures"][0]["failure"].as_str().unwrap();
    assert!(
        failure.contains("exit status 3") && failure.contains("why"),
        "{failure}"
    );
    for arguments in [
        &["build", "--json", "//:bda"][..],
        &["query", "--json", "deps("],
        &["affected", "--json", "--since", "HEAD"],
    ] {
        let error = parsed(arguments)["error"].as_str().unwrap().to_owned();
        assert!(
            !error.is_empty() && !error.starts_with("error"),
            "{arguments:?}: {error}"
        );
    }
    let outcome = project.zako(&["affected", "--since", "HEAD"]);
    outcome.fails_saying(&["no git repository"]);
    assert_eq!(
        project.zako(&["build", "-C", "/no/such"]).status.code(),
        Some(2)
    );
}

#[test]
fn a_pipe_that_nobody_reads_does_not_keep_a_build_from_ending() {
    let project = Project::with_build(
        r#"import { target } from "zako:build";
export default { a: target({ cmd: ["sh", "-c", "touch a"], outs: ["a"] }) };"#,
    );
    succeed(Command::new("mkfifo").arg(project.root().join("pipe")));
    for flag in ["--events", "--trace"] {
        let running = project.start(&["build", flag, "pipe"]);
        // It takes signals from the moment on when it looks for a reader.
        until_so("it waits for a signal", || catches_interrupts(running.id()));
        running.signal("INT");
        let outcome = running.wait();
        outcome.fails_saying(&["nobody has opened the pipe"]);
    }
    assert!(!project.has("a"));
}

/// Whether a process has a handler for SIGINT.
fn catches_interrupts(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    caught.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & 2 != 0)
}

#[test]
fn doctor_tells_what_every_build_would_refuse() {
    let project = Project::with_build("export default {};");
    let mut doctor = project.command(&["doctor"]);
    doctor
        .env("ZAKO_REMOTE", "foo")
        .env("ZAKO_OTEL", "bar")
        .env("ZAKO_LOCKED", "yes");
    let told = Outcome::of(&mut doctor).succeeds().stdout;
    for line in [
        "warn  remote cache       foo (ZAKO_REMOTE)",
        "warn  spans              bar (ZAKO_OTEL)",
        "ok    locked             yes",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
}

#[test]
fn what_a_script_reads_has_nothing_else_in_it() {
    let project = Project::with_build(BUILD);
    let pairs = [
        &["--json", "--otel", "stdout"][..],
        &["--json", "--events", "/dev/stdout"],
        &["--otel", "stdout", "--trace", "/dev/stdout"],
    ];
    for pair in pairs {
        let said = project.zako(&[&["build"][..], pair].concat());
        let said = said.fails_saying(&["both write to the standard output", "--otel"]);
        assert_eq!(said.status.code(), Some(2), "{pair:?}");
    }
    let mut from_outside = project.command(&["build", "--json"]);
    Outcome::of(from_outside.env("ZAKO_OTEL", "stdout")).fails_saying(&["ZAKO_OTEL"]);
    assert!(project.ran().is_empty());
    project
        .zako(&["build", "--dry", "--json", "--otel", "stdout"])
        .succeeds();
}

#[test]
fn a_file_that_is_somebodys_work_is_not_written_over() {
    let project = Project::with_build(
        "import { target } from \"zako:build\";\nimport { name } from \"./names\";\nexport default {\n  \
         a: target({ cmd: [\"sh\", \"-c\", \"echo a >> $RAN; cat src.txt > a\"], srcs: [name], outs: [\"a\"] }),\n};\n",
    );
    project.write("names.ts", "export const name = \"src.txt\";\n");
    project.write("src.txt", "text\n");
    project.write("known.txt", "known\n");
    git(&project.root(), &["init", "-q"]);
    git(&project.root(), &["add", "known.txt"]);
    let written = [
        ("BUILD.ts", "says what the targets are"),
        ("zako.toml", "says what the targets are"),
        ("names.ts", "the targets are described in"),
        ("src.txt", "a source of //:a"),
        ("known.txt", "git tracks"),
    ];
    let commands = [
        &["build", "--events"][..],
        &["build", "--trace"],
        &["watch", "--events"],
        &["run", "//:a", "--events"],
        &["graph", "-o"],
        &["trace", "-o"],
    ];
    for (file, why) in written {
        let before = project.read(file);
        for command in commands {
            // That one goes on until it is stopped.
            if command[0] == "watch" && ["names.ts", "src.txt"].contains(&file) {
                continue;
            }
            let mut arguments = [command, &[file]].concat();
            if command[0] == "graph" {
                arguments.extend(["--format", "dot"]);
            }
            let said = project.zako(&arguments);
            said.fails_saying(&["would overwrite", file, why]);
            assert_eq!(project.read(file), before, "{command:?}");
        }
    }
    assert!(project.ran().is_empty());
    let both = project.zako(&["build", "--events", "one", "--trace", "./one"]);
    both.fails_saying(&["both write to one"]);
    let mut watch = project.start(&["watch", "--events", "src.txt"]);
    assert!(watch.line().starts_with("watching "));
    watch.signal("INT");
    watch.wait();
    assert_eq!(project.read("src.txt"), "text\n");
    // What an earlier command wrote is written anew.
    for _ in 0..2 {
        project
            .zako(&["build", "--events", "events", "--trace", "trace"])
            .succeeds();
        assert_eq!(project.read("events").matches("build_started").count(), 1);
    }
}
