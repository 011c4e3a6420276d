//! Every mistake a person can make in a workspace ends in one clear error, a status that is not 0,
//! and an intact store.

use std::fs;

use zako_tests::{Outcome, Project};

const IMPORT: &str = "import { target, glob, transpile } from \"zako:build\";\n";

/// A workspace with targets in its root, in the notation of a build file.
fn project(targets: &str) -> Project {
    Project::with_build(&format!("{IMPORT}export default {{\n{targets}\n}};\n"))
}

#[track_caller]
fn fails(project: &Project, arguments: &[&str], words: &[&str]) -> Outcome {
    let outcome = project.zako(arguments).fails_saying(words);
    project.store_is_intact();
    outcome
}

#[test]
fn an_output_among_the_sources_needs_its_writer_among_the_dependencies() {
    let writers = |deps: &str| {
        project(&format!(
            "  any: target({{ cmd: [\"sh\", \"-c\", \"echo > o1\"], outs: [\"o*\"] }}),\n\
             \x20 one: target({{ cmd: [\"sh\", \"-c\", \"echo > o2\"], outs: [\"o2*\"] }}),\n\
             \x20 use: target({{ cmd: [\"cat\", \"o2\"], srcs: [\"o2\"], deps: [{deps}] }}),"
        ))
    };
    let written = ["BUILD.ts:5:", "source o2 of //:use is written by //:any;"];
    fails(&writers(""), &["build"], &written);
    // Either of two that declare it will do.
    let project = writers("\":one\"");
    project.build().succeeds();
}

#[test]
fn a_syntax_error_is_shown_with_its_place_and_line() {
    let project = Project::with_build(&format!(
        "{IMPORT}export default {{\n  a: target({{ cmd: [ }}),\n}};\n"
    ));
    fails(
        &project,
        &["build"],
        &["BUILD.ts:3:", "a: target({ cmd: [ }),"],
    );
}

#[test]
fn an_exception_is_shown_with_its_place_in_typescript() {
    let build = "type Name = string;\ninterface Unused { a: Name }\n\nconst names: Name[] = [];\nexport default { a: (names[0] as Name).length };\n";
    let project = Project::with_build(build);
    fails(&project, &["build"], &["BUILD.ts:5:", "length"]);
}

#[test]
fn an_unknown_import_names_the_file_that_is_missing() {
    let project =
        Project::with_build("import { x } from \"./nowhere.ts\";\nexport default { x };\n");
    fails(&project, &["build"], &["BUILD.ts:1:", "nowhere.ts"]);
}

#[test]
fn an_unknown_built_in_module_is_refused() {
    let project = Project::with_build("import { x } from \"zako:biuld\";\nexport default { x };\n");
    fails(
        &project,
        &["build"],
        &["BUILD.ts:1:", "zako:biuld", "zako:build"],
    );
}

#[test]
fn a_build_file_must_not_import_the_system() {
    let project = Project::with_build("import fs from \"node:fs\";\nexport default { fs };\n");
    fails(&project, &["build"], &["BUILD.ts:1:", "node:fs"]);
}

#[test]
fn a_library_must_not_import_the_build_language() {
    let project =
        Project::with_build("import { steps } from \"./steps.ts\";\nexport default steps;\n");
    project.write("steps.ts", "import { target } from \"zako:build\";\nexport const steps = { a: target({ cmd: [\"true\"] }) };\n");
    fails(&project, &["build"], &["steps.ts:1:", "zako:build"]);
}

#[test]
fn a_build_file_must_not_import_another_build_file() {
    let project =
        Project::with_build("import other from \"./sub/BUILD.ts\";\nexport default other;\n");
    project.write("sub/BUILD.ts", &format!("{IMPORT}export default {{}};\n"));
    fails(&project, &["build"], &["BUILD.ts:1:", "sub/BUILD.ts"]);
}

#[test]
fn a_build_file_that_never_ends_is_stopped() {
    let project = Project::with_build("for (;;) {}\nexport default {};\n");
    project.write(
        "zako.ts",
        "import { workspace } from \"zako:package\";\nexport default workspace({});\n",
    );
    let mut command = project.command(&["build"]);
    command.env("ZAKO_EVALUATION_SECONDS", "1");
    let stopped = Outcome::of(&mut command).fails_saying(&["BUILD.ts"]);
    // By its processor time, or by the clock where others have the processors.
    let text = stopped.text();
    let limits = [
        "computed for longer than its limit of 1s",
        "took longer than its limit of 1s allows: 4s have gone by",
    ];
    assert!(limits.iter().any(|limit| text.contains(limit)), "{text}");
    project.store_is_intact();
}

#[test]
fn a_cycle_is_named_in_order() {
    let project = project(
        "  a: target({ cmd: [\"true\"], deps: [\":b\"] }),\n\
         \x20 b: target({ cmd: [\"true\"], deps: [\":c\"] }),\n\
         \x20 c: target({ cmd: [\"true\"], deps: [\":a\"] }),",
    );
    fails(
        &project,
        &["build"],
        &["BUILD.ts:3:", "//:a → //:b → //:c → //:a"],
    );
}

#[test]
fn a_cycle_of_rules_reads_the_same_wherever_it_is_found() {
    let project = Project::new();
    project.write(
        "group.rule.ts",
        "import { attr, rule } from \"zako:rule\";\n\
         export const group = rule({ name: \"group\", attrs: { of: attr.deps() }, implementation() {} });\n",
    );
    for (dir, name, of) in [
        ("0", "w", "//b:y"),
        ("a", "x", "//b:y"),
        ("b", "y", "//a:x"),
    ] {
        project.write(
            &format!("{dir}/BUILD.ts"),
            &format!("import {{ group }} from \"../group.rule.ts\";\nexport default {{ {name}: group({{ of: [\"{of}\"] }}) }};\n"),
        );
    }
    fails(
        &project,
        &["build"],
        &["dependency cycle: //a:x → //b:y → //a:x;", "a/BUILD.ts:2"],
    );
}

#[test]
fn a_missing_source_is_named() {
    let project = project("  a: target({ cmd: [\"true\"], srcs: [\"main.c\"] }),");
    fails(&project, &["build"], &["//:a", "main.c"]);
}

#[test]
fn two_targets_must_not_write_one_output() {
    let project = project(
        "  a: target({ cmd: [\"true\"], outs: [\"out/x\"] }),\n\
         \x20 b: target({ cmd: [\"true\"], outs: [\"out/\"] }),",
    );
    fails(&project, &["build"], &["//:a", "//:b", "out"]);
}

#[test]
fn a_source_must_not_be_overwritten() {
    let project = project(
        "  a: target({ cmd: [\"sh\", \"-c\", \"echo made > a.txt\"], outs: [\"a.txt\"] }),",
    );
    project.write("a.txt", "written by hand\n");
    fails(&project, &["build"], &["a.txt"]);
    assert_eq!(project.read("a.txt"), "written by hand\n");
}

#[test]
fn a_failing_command_shows_its_output_once_and_how_to_rerun_it() {
    let project = project(
        "  a: target({ cmd: [\"sh\", \"-c\", \"echo to stdout; echo to stderr >&2; exit 3\"] }),",
    );
    let text = fails(&project, &["build"], &["//:a", "exit status 3"]).text();
    for words in ["to stdout\n", "to stderr\n"] {
        let shown = text
            .lines()
            .filter(|line| line.trim() == words.trim())
            .count();
        assert_eq!(shown, 1, "{words:?}:\n{text}");
    }
    assert!(
        text.contains("sh -c 'echo to stdout; echo to stderr >&2; exit 3'"),
        "{text}"
    );
}

#[test]
fn a_command_that_does_not_exist_is_named() {
    let project = project("  a: target({ cmd: [\"no-such-compiler\", \"-c\"] }),");
    fails(&project, &["build"], &["//:a", "no-such-compiler"]);
}

#[test]
fn a_command_that_makes_less_than_it_declared_fails() {
    let project = project("  a: target({ cmd: [\"true\"], outs: [\"a.txt\"] }),");
    fails(&project, &["build"], &["//:a", "a.txt"]);
}

#[test]
fn a_command_that_takes_too_long_is_killed() {
    let project = project("  a: target({ cmd: [\"sleep\", \"600\"], timeout: 1 }),");
    fails(&project, &["build"], &["//:a", "1 s"]);
}

#[test]
fn an_unknown_label_suggests_the_nearest() {
    let project =
        project("  library: target({ cmd: [\"true\"] }),\n  tests: target({ cmd: [\"true\"] }),");
    fails(
        &project,
        &["build", "//:libary"],
        &["//:libary", "did you mean `//:library`?"],
    );
}

#[test]
fn an_unknown_dependency_is_shown_in_its_build_file() {
    let project = project(
        "  library: target({ cmd: [\"true\"] }),\n  a: target({ cmd: [\"true\"], deps: [\":libary\"] }),",
    );
    fails(
        &project,
        &["build"],
        &["BUILD.ts:4:", ":libary", "//:library"],
    );
}

#[test]
fn a_label_with_dots_is_refused() {
    let project = project("  a: target({ cmd: [\"true\"] }),");
    fails(&project, &["build", "//../x:y"], &["//../x:y"]);
}

#[test]
fn a_wrong_argument_is_shown_where_it_was_written() {
    let project = project("  a: target({ cmd: \"gcc -c main.c\" }),");
    fails(&project, &["build"], &["BUILD.ts:3:", "cmd"]);
}

#[test]
fn a_misspelt_argument_suggests_the_right_one() {
    let project = project("  a: target({ cmd: [\"true\"], sources: [] }),");
    fails(&project, &["build"], &["BUILD.ts:3:", "sources", "srcs"]);
}

#[test]
fn typescript_that_cannot_be_compiled_is_told_with_every_error() {
    let project = project("  js: transpile({ srcs: [\"a.ts\", \"b.ts\"], out: \"dist\" }),");
    project.write("a.ts", "export const a: = 1;\n");
    project.write("b.ts", "export const = 2;\n");
    fails(&project, &["build"], &["a.ts:1:", "b.ts:1:"]);
}

#[test]
fn decorators_that_nobody_decided_on_are_shown_with_the_option_to_set() {
    let transpiled = |options: &str| {
        let project = project(&format!(
            "  js: transpile({{ srcs: [\"a.ts\"], out: \"dist\", sourceMaps: false{options} }})"
        ));
        // TypeScript 5 calls it with the method and a context, `experimentalDecorators` with the class.
        project.write(
            "a.ts",
            "function logged(it: any, context: any) {}\nclass A {\n  @logged m() {}\n}\n",
        );
        project
    };
    fails(
        &transpiled(""),
        &["build"],
        &[
            "a.ts:3:3",
            "@logged m() {}",
            "decorators: \"legacy\"",
            "\"preserve\"",
        ],
    );
    let preserved = ", decorators: \"preserve\"";
    for options in [", target: \"esnext\"", preserved] {
        let project = transpiled(options);
        project.build();
        assert!(project.read("dist/a.js").contains("@logged m() {}"));
    }
    let project = transpiled(", decorators: \"legacy\"");
    project.build();
    assert!(!project.read("dist/a.js").contains("@logged"));
    let project =
        Project::with_build("const f = (a: any) => a;\n@f class A {}\nexport default {};\n");
    fails(
        &project,
        &["build"],
        &["BUILD.ts:2:1", "build files have no decorators"],
    );
}

#[test]
fn a_wrong_manifest_is_shown_with_its_line() {
    let project = project("  a: target({ cmd: [\"true\"] }),");
    project.write(
        "zako.toml",
        "group = \"test\"\nartefact = \"x\"\nversion = \"1.0.0\"\n",
    );
    project
        .zako(&["build"])
        .fails_saying(&["zako.toml:2:", "artefact", "artifact"]);
}

#[test]
fn outside_a_workspace_the_error_says_how_to_make_one() {
    let project = Project::new();
    let mut command = project.command(&["build"]);
    command.current_dir(project.outside());
    Outcome::of(&mut command).fails_saying(&["zako.toml", "zako init"]);
}

#[test]
fn an_unknown_option_is_refused_by_name() {
    let project = Project::new();
    let outcome = project.zako(&["build", "--kepp-going"]);
    outcome.fails_saying(&["--kepp-going", "--keep-going"]);
}

#[test]
fn a_target_without_a_name_is_refused() {
    let project = project("  \"\": target({ cmd: [\"true\"] }),");
    fails(&project, &["build"], &["BUILD.ts", "no target name"]);
}

#[test]
fn the_private_directory_is_no_place_for_outputs() {
    let project = project("  a: target({ cmd: [\"true\"], outs: [\".zako/lock\"] }),");
    fails(
        &project,
        &["build"],
        &["BUILD.ts:3:", "//:a", ".zako/lock", "choose another place"],
    );
}

/// The list of what zako wrote has a line for each file; half a name could be somebody else's.
#[test]
fn a_line_break_in_the_name_of_an_output_costs_nobody_a_file() {
    let project = project(
        "  a: target({ cmd: [\"sh\", \"-c\", \"mkdir d; touch \\\"d/$(printf 'x\\\\nb.txt')\\\"\"], outs: [\"d/\"] }),",
    );
    project.write("b.txt", "written by hand\n");
    fails(&project, &["build"], &["//:a", "line break"]);
    project.zako(&["clean"]).succeeds();
    assert_eq!(project.read("b.txt"), "written by hand\n");
}

#[test]
fn a_long_cycle_is_told_by_its_ends() {
    let targets: Vec<String> = (0..100)
        .map(|n| {
            format!(
                "  t{n}: target({{ cmd: [\"true\"], deps: [\":t{}\"] }}),",
                (n + 1) % 100
            )
        })
        .collect();
    let outcome = fails(
        &project(&targets.join("\n")),
        &["build"],
        &["//:t0 → //:t1 →", "more", "→ //:t0"],
    );
    assert!(
        outcome
            .text()
            .lines()
            .next()
            .is_some_and(|line| line.len() < 400)
    );
}

#[test]
fn a_file_is_no_directory_to_work_in() {
    let project = Project::new();
    project
        .zako(&["-C", "zako.toml", "build"])
        .fails_saying(&["cannot enter zako.toml", "Not a directory"]);
}

#[test]
fn an_event_file_that_cannot_be_written_is_named() {
    let project = project("  a: target({ cmd: [\"true\"] }),");
    project
        .zako(&["build", "--events", "/nowhere/events"])
        .fails_saying(&["/nowhere/events"]);
}

#[test]
fn a_program_that_does_not_start_is_told_with_the_remedy() {
    let run = |script: &str| {
        let build = format!(
            "  a: target({{ cmd: [\"sh\", \"-c\", \"{script} chmod +x p\"], outs: [\"p\"] }}),\n  b: target({{ cmd: [\"./p\"], deps: [\":a\"] }}),"
        );
        project(&build)
    };
    let missing = run("echo '#!/no/such/shell' > p;");
    fails(
        &missing,
        &["build"],
        &["//:b", "./p", "names a program that is not there"],
    );
    let plain = project("  b: target({ cmd: [\"./p\"], srcs: [\"p\"] }),");
    plain.write("p", "#!/bin/sh\n");
    fails(&plain, &["build"], &["//:b", "chmod +x"]);
}

#[test]
fn a_thrown_value_that_is_no_error_is_told_with_a_place_and_advice() {
    let build = format!("{IMPORT}// A comment.\nif (glob) throw null;\nexport default {{}};\n");
    let project = Project::with_build(&build);
    fails(
        &project,
        &["build"],
        &["BUILD.ts:3:11", "not an Error: null", "throw new Error("],
    );
}

#[test]
fn a_directory_is_no_program() {
    let declared = project("  a: target({ cmd: [\"./tools\"], srcs: glob(\"tools/**\") }),");
    declared.write("tools/run", "#!/bin/sh\n");
    let words = ["//:a", "`./tools` is a directory", "name the program in it"];
    fails(&declared, &["build"], &words);
    let absolute = project("  a: target({ cmd: [\"/tmp\"] }),");
    let words = ["//:a", "`/tmp` is a directory", "name the program in it"];
    fails(&absolute, &["build"], &words);
}

#[test]
fn no_steps_at_a_time_is_refused_with_what_is_possible() {
    let project = project("  a: target({ cmd: [\"true\"] }),");
    let words = ["'0'", "--jobs", "a whole number from 1", "one step per CPU"];
    project.zako(&["build", "-j", "0"]).fails_saying(&words);
}

#[test]
fn a_node_says_that_its_configuration_is_missing() {
    let project = Project::new();
    project
        .zako(&["node", "--config", "nowhere.toml"])
        .fails_saying(&[
            "nowhere.toml",
            "--config",
            "No such file",
            "examples/node.toml",
        ]);
}

#[test]
fn the_memory_of_build_files_is_limited_as_the_manifest_says() {
    let project = Project::with_build("const a: unknown[] = []; while (true) a.push({ x: 1 });\n");
    let manifest = project.read("zako.toml");
    let settings = |heap: &str| format!("{manifest}[settings]\nevaluation-heap = \"{heap}\"\n");
    project.write("zako.toml", &settings("64m"));
    project
        .zako(&["build"])
        .fails_saying(&["BUILD.ts needs more memory than its limit of 64 MiB"]);
    for wrong in ["31m", "100t"] {
        project.write("zako.toml", &settings(wrong));
        let words = [
            "`evaluation-heap` in [settings] of zako.toml",
            "a size from 32m to",
        ];
        project.zako(&["build"]).fails_saying(&words);
    }
}

#[test]
fn what_is_there_but_cannot_be_used_is_said_to_be_so() {
    let project = Project::with_build(
        r#"
import { target } from "zako:build";
export default {
  dangling: target({ cmd: ["cat", "gone"], srcs: ["gone"], outs: ["a"] }),
};
"#,
    );
    std::os::unix::fs::symlink("nowhere", project.root().join("gone")).unwrap();
    let said = project.zako(&["build"]).fails_saying(&[
        "source gone of //:dangling is a symbolic link to nowhere, which does not exist",
    ]);
    assert!(!said.text().contains("did you mean"), "{}", said.text());

    project.write(
        "BUILD.ts",
        r#"
import { target } from "zako:build";
export default {
  tool: target({ cmd: ["mytool"], outs: ["b"] }),
  link: target({ cmd: ["sh", "-c", "echo linking; mkdir real; ln -s real linked"], outs: ["linked/"] }),
};
"#,
    );
    project.write("bin/mytool", "#!/bin/sh\n");
    let search = format!(
        "{}:{}",
        project.root().join("bin").display(),
        std::env::var("PATH").unwrap()
    );
    let mut command = project.command(&["build", "//:tool"]);
    let said = Outcome::of(command.env("PATH", search));
    said.fails_saying(&["bin/mytool` is not executable; chmod +x"]);
    project.zako(&["build", "//:link"]).fails_saying(&[
        "linked is a symbolic link; declare it without the `/`",
        "output:\n    linking",
    ]);

    project.write("zako.toml", "artifact = \"a b\"\n");
    project
        .zako(&["build"])
        .fails_saying(&["artifact `a b` may hold letters", "zako.toml:1:12"]);
}

#[test]
fn an_output_in_one_that_is_a_file_is_refused() {
    let project = Project::new();
    let step = |name: &str, script: &str, outs: &str| {
        format!(
            "  {name}: target({{ cmd: [\"sh\", \"-c\", \"echo {name} >> $RAN; {script}\"], outs: [{outs}] }}),\n"
        )
    };
    let targets = |steps: &[String]| {
        let steps = steps.concat();
        project.write(
            "BUILD.ts",
            &format!(
                "import {{ target, transpile }} from \"zako:build\";\nexport default {{\n{steps}}};\n"
            ),
        );
    };
    let make = "mkdir -p o; echo 1 > o/p; echo 2 > o/q";
    for outs in ["'o', 'o/p'", "'o/p', 'o'", "'o', 'o/*'"] {
        targets(&[step("x", make, outs)]);
        for _ in 0..2 {
            project.zako(&["build"]).fails_saying(&[
                "//:x declares o as a file, and o/",
                "if o is a directory, declare it as `o/`",
                "BUILD.ts:3:",
            ]);
        }
    }
    targets(&[step("x", make, "'o', 'o/'")]);
    project
        .zako(&["build"])
        .fails_saying(&["//:x declares o as a file and as a directory"]);
    // Of two targets, whichever would come first, and also where one is transpiled.
    let file = step("x", "echo 1 > o", "'o'");
    project.write("src/a.ts", "export {};\n");
    let transpiled =
        "  y: transpile({ srcs: [\"src/a.ts\"], root: \"src\", out: \"o/js\" }),\n".to_owned();
    for (other, path) in [
        (step("y", make, "'o/p'"), "o/p in it"),
        (step("y", make, "'o/*'"), "o/* in it"),
        (step("a", make, "'o/p/'"), "o/p in it"),
        (transpiled.replace("o/js", "o"), "it a directory"),
        (transpiled, "o/js in it"),
    ] {
        targets(&[file.clone(), other]);
        let said = project.zako(&["build"]).fails_saying(&[
            "//:x declares o as a file, and //:",
            &format!(" {path}; give one of them another output"),
            "BUILD.ts:",
        ]);
        assert_eq!(project.ran(), [""; 0], "{}", said.text());
    }
    // With `-k` whatever else there is is built.
    targets(&[file, step("y", make, "'o/p'"), step("z", "true", "")]);
    let said = project.zako(&["build", "-k"]).text();
    assert!(
        said.contains("writes o/p in it") && said.contains("2 failed, 1 ran"),
        "{said}"
    );
    assert_eq!(project.ran(), ["z"]);
    // What lies in a directory may be named as well.
    for outs in ["'o/', 'o/p'", "'o/*', 'o/'", "'o/', 'o/*', 'o/q'"] {
        targets(&[step("x", make, outs)]);
        project.build();
        assert_eq!(project.read("o/p") + &project.read("o/q"), "1\n2\n");
        let _ = fs::remove_dir_all(project.root().join("o"));
        project.build();
        assert_eq!(project.read("o/p") + &project.read("o/q"), "1\n2\n");
        assert_eq!(project.ran(), ["x"]);
    }
}
