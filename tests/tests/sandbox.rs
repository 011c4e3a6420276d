//! What commands can reach under `--sandbox`, by each of the kernel's ways.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use zako_tests::{Outcome, Project, is_installed, may_run};

/// A way that `strict` may be made of: by default namespaces where there are any.
const WAYS: [&str; 2] = ["", "landlock"];

/// Runs zako with a sandbox made that way.
fn zako(project: &Project, way: &str, arguments: &[&str]) -> Outcome {
    let mut command = project.command(arguments);
    Outcome::of(command.env("ZAKO_SANDBOX_BY", way))
}

/// `peeps` reads a file of the workspace and one outside by absolute paths.
fn project() -> Project {
    let project = Project::new();
    project.write("declared.txt", "declared\n");
    project.write("secret.txt", "secret\n");
    fs::write(project.outside().join("outside.txt"), "outside\n").unwrap();
    project
}

fn build_file(project: &Project, script: &str, more: &str) {
    let root = project.root().display().to_string();
    let outside = project.outside().display().to_string();
    let script = script.replace("$ROOT", &root).replace("$OUTSIDE", &outside);
    project.write(
        "BUILD.ts",
        &format!(
            "import {{ target }} from \"zako:build\";\nexport default {{\n  peeps: target({{ cmd: [\"sh\", \"-ec\", {script:?}], \
             srcs: [\"declared.txt\"], outs: [\"out.txt\"]{more} }}),\n}};\n"
        ),
    );
}

/// Whether this kernel can do it; says so when not.
fn can_confine(project: &Project, way: &str) -> bool {
    let said = zako(project, way, &["doctor"]).succeeds().stdout;
    let line = said.lines().find(|line| line.contains("strict sandbox"));
    let can = line.is_some_and(|line| line.starts_with("ok") && line.to_lowercase().contains(way));
    let needed = match way {
        "" => "a kernel that confines",
        _ => "Landlock",
    };
    may_run(needed, can)
}

#[test]
fn a_strict_step_reads_and_writes_what_it_may_and_nothing_else() {
    WAYS.iter().for_each(|way| reads_and_writes(way));
}

fn reads_and_writes(way: &str) {
    let project = project();
    if !can_confine(&project, way) {
        return;
    }
    let strict = ["build", "--force", "--sandbox", "strict"];
    build_file(
        &project,
        "cat declared.txt > out.txt; echo x > $TMPDIR/t; echo x > /dev/null; ls / > /dev/null || true; \
         ( cat $ROOT/declared.txt || cat $ROOT/secret.txt || cat $OUTSIDE/outside.txt || touch $OUTSIDE/new ) 2> /dev/null \
         || echo confined >> out.txt",
        "",
    );
    zako(&project, way, &strict).succeeds();
    assert_eq!(project.read("out.txt"), "declared\nconfined\n");
    assert!(!project.outside().join("new").exists());

    build_file(&project, "cat $ROOT/secret.txt > out.txt", "");
    zako(&project, way, &strict).fails_saying(&["//:peeps", "secret.txt: "]);
    // The same without: an absolute path reaches it.
    zako(&project, way, &["build", "--force"]).succeeds();
    assert_eq!(project.read("out.txt"), "secret\n");
    // The manifest can ask for it.
    let manifest = project.read("zako.toml");
    project.write(
        "zako.toml",
        &format!("{manifest}[settings]\nsandbox = \"strict\"\n"),
    );
    zako(&project, way, &["build", "--force"]).fails_saying(&["//:peeps", "secret.txt: "]);
    zako(&project, way, &["build", "--force", "--sandbox", "off"]).succeeds();
}

#[test]
fn a_strict_step_has_no_network_unless_it_asks() {
    WAYS.iter().for_each(|way| has_no_network(way));
}

fn has_no_network(way: &str) {
    let project = project();
    if !can_confine(&project, way) || !is_installed("node") {
        return;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "node -e 'require(\\\"net\\\").connect({port},\\\"127.0.0.1\\\").on(\\\"connect\\\",()=>process.exit(0)).on(\\\"error\\\",\
         e=>{{console.error(e.code);process.exit(3)}})'; echo reached > out.txt"
    )
    .replace("\\\"", "\"");
    let strict = ["build", "--force", "--sandbox", "strict"];
    build_file(&project, &script, "");
    zako(&project, way, &strict).fails_saying(&["exit status 3"]);
    build_file(&project, &script, ", network: true");
    zako(&project, way, &strict).succeeds();
    assert_eq!(project.read("out.txt"), "reached\n");
}

#[test]
fn warn_names_what_is_read_undeclared_and_the_line_to_add() {
    let project = project();
    if !is_installed("strace") {
        return;
    }
    build_file(
        &project,
        "cat declared.txt $ROOT/secret.txt > out.txt; test -r /etc/passwd",
        "",
    );
    let said = project
        .zako(&["build", "--sandbox", "warn"])
        .succeeds()
        .text();
    assert!(
        said.contains("warning: it reads secret.txt, which it does not declare; add \"secret.txt\" to its `srcs` (BUILD.ts:3:3)"),
        "{said}"
    );
    assert_eq!(said.matches("warning:").count(), 1, "{said}");
}

#[test]
fn warn_names_what_a_command_looks_for_in_vain_and_who_writes_it() {
    let project = project();
    if !is_installed("strace") {
        return;
    }
    project.write("BUILD.ts", WANTING);
    project.write("p/own.txt", "own\n");
    project.write("p/other.txt", "");
    project.zako(&["build", "//:made"]).succeeds();
    let warn = ["build", "-k", "--force", "--sandbox", "warn"];
    // Twice: what is there from before is no undeclared source.
    for _ in 0..2 {
        let said = project.zako(&warn).text();
        for words in [
            "it reads secret.txt, which it does not declare; add \"secret.txt\" to its `srcs` (BUILD.ts:4:3)",
            "it reads p/own.txt, which it does not declare; add \"p/own.txt\" to its `srcs` (BUILD.ts:4:3)",
            "it reads made.txt, which it does not declare; add \":made\", which writes it, to its `deps` (BUILD.ts:5:3)",
            "command: sh -ec 'cat made.txt > wants.txt'",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert_eq!(said.matches("it reads ").count(), 3, "{said}");
    }
}

/// `looks` goes on without two sources, and asks for its own output; `wants` fails without the output of another.
const WANTING: &str = r#"
import { target } from "zako:build";
export default {
  looks: target({ cmd: ["sh", "-ec", "test -e out.txt || cat declared.txt > out.txt; cat secret.txt no.txt || true; cd p; cat own.txt || true"], srcs: ["declared.txt", "p/other.txt"], outs: ["out.txt"] }),
  wants: target({ cmd: ["sh", "-ec", "cat made.txt > wants.txt"], outs: ["wants.txt"] }),
  made: target({ cmd: ["sh", "-ec", "echo made > made.txt"], outs: ["made.txt"] }),
};
"#;

#[test]
fn a_banner_says_that_workers_are_not_watched() {
    let project = project();
    if !is_installed("strace") {
        return;
    }
    let worker = "import { target } from \"zako:build\";\nexport default { w: target({ cmd: [\"false\"], worker: [], outs: [\"w\"] }) };\n";
    project.write("BUILD.ts", worker);
    let said = project.zako(&["build", "--sandbox", "warn"]).text();
    assert!(said.contains("and not at steps with `worker`"), "{said}");
}

#[test]
fn a_command_that_fails_is_told_what_it_does_not_declare() {
    let project = project();
    project.write("BUILD.ts", WANTING);
    project.write("p/other.txt", "");
    project.zako(&["build", "//:made"]).succeeds();
    let advice = [
        "the workspace has made.txt, but it does not declare that; add \":made\", which writes it, to its `deps` (BUILD.ts:5:3)",
    ];
    project.zako(&["build", "//:wants"]).fails_saying(&advice);
    build_file(&project, "cat secret.txt > out.txt", "");
    let secret = [
        "the workspace has secret.txt, but it does not declare that; add \"secret.txt\" to its `srcs` (BUILD.ts:3:3)",
    ];
    project.zako(&["build"]).fails_saying(&secret);
    if can_confine(&project, "") {
        let strict = ["build", "--sandbox", "strict"];
        let hint = "--sandbox warn names what it reads undeclared";
        project.zako(&strict).fails_saying(&[secret[0], hint]);
        build_file(
            &project,
            "echo 'connect: Network is unreachable'; exit 1",
            "",
        );
        let said = project.zako(&strict);
        said.fails_saying(&["`network: true` in the target gives it one (BUILD.ts:3:3)"]);
        build_file(
            &project,
            "echo 'connect: Network is unreachable'; exit 1",
            ", network: true",
        );
        let said = project.zako(&strict).fails_saying(&[hint]).text();
        assert!(!said.contains("gives it one"), "{said}");
    }
}

#[test]
fn warn_names_what_a_script_reads_undeclared_and_the_line_to_add() {
    let project = Project::new();
    if !is_installed("strace") {
        return;
    }
    project.write("package.json", r#"{"name": "w", "workspaces": ["p"]}"#);
    let script = "cat ../q.txt x.txt > out.txt; (cd .. && cat r.txt); echo > made; cat made; cat node_modules/m";
    project.write(
        "p/package.json",
        &format!(r#"{{"name": "p", "scripts": {{"build": "{script}"}}}}"#),
    );
    for name in ["q.txt", "r.txt", "p/x.txt", "p/node_modules/m"] {
        project.write(name, "text\n");
    }
    let warn = ["build", "--sandbox", "warn"];
    let said = project.zako(&warn).succeeds().text();
    for name in ["q.txt", "r.txt"] {
        let words = format!(
            "warning: it reads {name}, which it does not declare; add \"{name}\" to `script-inputs` in [settings] of zako.toml (p/package.json"
        );
        assert!(said.contains(&words), "{said}");
    }
    assert_eq!(said.matches("warning: it reads").count(), 2, "{said}");
    assert!(!said.contains("outside of the sandbox"), "{said}");

    let manifest = project.read("zako.toml");
    let line = "[settings]\nscript-inputs = [\"q.txt\", \"r.txt\"]\n";
    project.write("zako.toml", &format!("{manifest}{line}"));
    let said = project.zako(&warn).succeeds().text();
    assert!(!said.contains("warning: it reads"), "{said}");
    project.write("q.txt", "edited\n");
    project.zako(&warn).succeeds();
    assert_eq!(project.read("p/out.txt"), "edited\ntext\n");
}

#[test]
fn a_directory_of_programs_in_a_home_does_not_give_the_home_away() {
    for way in WAYS {
        let project = project();
        if !can_confine(&project, way) {
            return;
        }
        let home = project.outside().join("home");
        fs::create_dir_all(home.join("bin")).unwrap();
        fs::write(home.join("secret"), "secret\n").unwrap();
        build_file(&project, "cat $OUTSIDE/home/secret > out.txt", "");
        let search = std::env::var("PATH").unwrap();
        let mut command = project.command(&["build", "--sandbox", "strict"]);
        command
            .env("ZAKO_SANDBOX_BY", way)
            .env("PATH", format!("{}:{search}", home.join("bin").display()));
        Outcome::of(&mut command).fails_saying(&["//:peeps", "home/secret: "]);
    }
}

#[test]
fn a_build_says_what_confines_its_steps() {
    for way in WAYS {
        let project = project();
        if !can_confine(&project, way) {
            return;
        }
        build_file(&project, "echo > out.txt", "");
        let said = zako(&project, way, &["build", "--sandbox", "strict"])
            .succeeds()
            .stderr;
        let by = if way.is_empty() {
            "user namespaces"
        } else {
            "Landlock"
        };
        assert_eq!(
            said.matches(&format!("sandbox strict: {by}")).count(),
            1,
            "{said}"
        );
        let off = zako(&project, way, &["build", "--force"]).succeeds().stderr;
        assert!(!off.contains("sandbox"), "{off}");
    }
}

/// A home with a program behind two links, one behind one link and one that starts what lies elsewhere.
fn linked(project: &Project) -> std::path::PathBuf {
    let home = project.outside().join("home");
    for dir in ["bin", "apps/v1/bin", "apps/v1/lib", "shims"] {
        fs::create_dir_all(home.join(dir)).unwrap();
    }
    let at = |path: &str| home.join(path).display().to_string();
    let script = |path: &str, line: String| {
        fs::write(home.join(path), format!("#!/bin/sh\n{line}\n")).unwrap();
        fs::set_permissions(home.join(path), fs::Permissions::from_mode(0o755)).unwrap();
    };
    fs::write(home.join("secret"), "secret\n").unwrap();
    fs::write(home.join("apps/v1/lib/word"), "word\n").unwrap();
    fs::write(home.join("shims/word"), "shim\n").unwrap();
    let lib = at("apps/v1/lib/word");
    script(
        "apps/v1/bin/tool",
        format!("cat {lib} {} > out.txt; true", at("secret")),
    );
    script("bin/shim", format!("cat {} > out.txt", at("shims/word")));
    symlink("v1", home.join("apps/current")).unwrap();
    symlink(at("apps/current/bin/tool"), home.join("bin/chained")).unwrap();
    symlink("../apps/v1/bin/tool", home.join("bin/linked")).unwrap();
    home
}

#[test]
fn programs_behind_links_are_found_with_what_belongs_to_them() {
    for way in WAYS {
        let project = project();
        if !can_confine(&project, way) {
            return;
        }
        let home = linked(&project);
        let search = format!("{}/bin:{}", home.display(), std::env::var("PATH").unwrap());
        let build = |cmd: &[&str]| {
            project.write(
                "BUILD.ts",
                &format!(
                    "import {{ target }} from \"zako:build\";\nexport default {{ t: target({{ cmd: {cmd:?}, outs: [\"out.txt\"] }}) }};\n"
                ),
            );
            let mut command = project.command(&["build", "--force", "--sandbox", "strict"]);
            Outcome::of(command.env("ZAKO_SANDBOX_BY", way).env("PATH", &search))
        };
        // They read what lies beside them, and nothing else of the home: `cat` says so and goes on.
        for cmd in [
            &["chained"][..],
            &["sh", "-c", "chained"],
            &["sh", "-c", "linked"],
        ] {
            let text = build(cmd).succeeds().text();
            assert!(text.contains("home/secret: "), "{way} {cmd:?}: {text}");
            assert_eq!(project.read("out.txt"), "word\n", "{way} {cmd:?}");
        }
        // What no link tells can be said.
        build(&["shim"]).fails_saying(&["shims/word: "]);
        let manifest = project.read("zako.toml");
        let with = |read: &str| {
            let settings = format!("{manifest}[settings]\nsandbox-read = [{read:?}]\n");
            project.write("zako.toml", &settings);
            build(&["shim"])
        };
        with("~/shims").succeeds();
        assert_eq!(project.read("out.txt"), "shim\n");
        with("shims").fails_saying(&["sandbox-read", "\"shims\"", "is not absolute"]);
        with("/").fails_saying(&["sandbox-read", "holds the workspace"]);
        project.write("zako.toml", &manifest);
    }
}
