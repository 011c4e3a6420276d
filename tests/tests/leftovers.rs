//! What earlier builds left in the workspace: the outcome of a build does not depend on it.

use std::fs;
use std::os::unix::fs::symlink;

use zako_tests::each::EACH;
use zako_tests::{Outcome, Project, git};

/// A rule that joins files, one that makes them, and a test of what a glob takes.
const RULES: &str = r#"
import { attr, rule } from "zako:rule";
export const cat = rule({
  name: "cat",
  attrs: { srcs: attr.sources() },
  implementation(ctx) {
    const out = ctx.file(ctx.label.name);
    ctx.run({ cmd: ["sh", "-ec", 'out=$1; shift; cat "$@" > "$out"', "sh", out, ctx.attrs.srcs], outs: [out] });
    return { files: [out] };
  },
});
export const make = rule({
  name: "make",
  attrs: { name: attr.string() },
  implementation(ctx) {
    const out = ctx.file(ctx.attrs.name);
    ctx.run({ cmd: ["sh", "-c", 'echo made > "$1"', "sh", out], outs: [out] });
    return { files: [out] };
  },
});
export const count = rule({
  name: "count",
  attrs: { src: attr.source() },
  async implementation(ctx) {
    const text = await ctx.read(ctx.attrs.src);
    return { files: [ctx.write(ctx.label.name, `${text.length}`)] };
  },
});
"#;

fn write(project: &Project, targets: &str) {
    project.write("some.rule.ts", RULES);
    project.write("each.rule.ts", EACH);
    project.write(
        "BUILD.ts",
        &format!(
            "import {{ glob, target, transpile }} from \"zako:build\";\nimport {{ each }} from \"./each.rule.ts\";\n\
             import {{ cat, count, make }} from \"./some.rule.ts\";\nexport default {{\n{targets}\n}};\n"
        ),
    );
}

fn project(targets: &str) -> Project {
    let project = Project::new();
    write(&project, targets);
    project
}

/// Has zako forget everything, but for what lies in the workspace.
fn forget(project: &Project) {
    fs::remove_dir_all(project.cache()).unwrap();
}

#[test]
fn outputs_of_rules_that_nobody_remembers_are_no_sources_of_others() {
    let project = project(
        "  all: cat({ srcs: glob(\"*.txt\") }),\n  b: make({ name: \"b.txt\" }),\n  c: make({ name: \"c.txt\" }),",
    );
    project.write("a.txt", "a\n");
    for _ in 0..2 {
        project.build();
        assert_eq!(project.read("all"), "a\n");
        assert_eq!(project.read("b.txt"), "made\n");
        forget(&project);
    }
}

#[test]
fn a_glob_that_never_comes_to_an_end_is_told_so() {
    let project = Project::new();
    project.write(
        "odd.rule.ts",
        r#"
import { attr, rule } from "zako:rule";
export const odd = rule({
  name: "odd",
  attrs: { srcs: attr.sources() },
  implementation(ctx) {
    const all = ctx.attrs.srcs.map((file) => file.name);
    const out = ctx.file(all.includes("b.txt") ? "b.txt" : "other");
    ctx.run({ cmd: ["touch", out], outs: [out] });
    return { files: [out] };
  },
});
"#,
    );
    project.write("BUILD.ts", "import { glob } from \"zako:build\";\nimport { odd } from \"./odd.rule.ts\";\nexport default { all: odd({ srcs: glob(\"*.txt\") }) };\n");
    project.write("a.txt", "");
    project.write("b.txt", "");
    project.zako(&["build"]).fails_saying(&[
        "glob \"*.txt\" of //:all takes files that become outputs",
        "BUILD.ts:3",
    ]);
}

#[test]
fn what_is_going_to_be_described_as_an_output_is_not_taken_for_one_when_it_was_a_source() {
    let project =
        project("  all: each({ srcs: [\"names\"] }),\n  s: cat({ srcs: glob(\"**/*.txt\") }),");
    project.write("names", "b.txt\n");
    project.write("a.txt", "a\n");
    project.build();
    assert_eq!(project.read("s"), "a\n");
    forget(&project);
    fs::remove_file(project.root().join("s")).unwrap();
    // Nobody knows of `all/b.txt` before the list is there.
    let first = project.zako(&["build", "-k"]);
    first.fails_saying(&["all/b.txt exists and zako did not write it", "1 failed"]);
    project.build();
    assert_eq!(project.read("s"), "a\n");
}

#[test]
fn what_a_target_left_that_is_gone_is_no_source_of_a_rule() {
    let project = project(
        "  all: cat({ srcs: glob(\"*.txt\") }),\n  b: target({ cmd: [\"touch\", \"b.txt\"], outs: [\"b.txt\"] }),",
    );
    project.write("a.txt", "a\n");
    project.build();
    let gone = "  all: cat({ srcs: glob(\"*.txt\") }),";
    write(&project, gone);
    // Whoever only looks leaves it where it is.
    project.zako(&["query", "//..."]).succeeds();
    assert!(project.has("b.txt"));
    project.build();
    assert!(!project.has("b.txt"));
    assert_eq!(project.read("all"), "a\n");
}

#[test]
fn results_beside_their_sources_are_no_sources_of_others() {
    for all in [
        "cat({ srcs: glob(\"src/*\") })",
        "target({ cmd: [\"sh\", \"-c\", \"cat src/* > all\"], srcs: glob(\"src/*\"), outs: [\"all\"] })",
    ] {
        let project = project(&format!(
            "  js: transpile({{ srcs: glob(\"src/*.ts\"), root: \"src\", out: \"src\" }}),\n  all: {all},"
        ));
        project.write("src/a.ts", "export const a: number = 1;\n");
        project.write("src/b.js", "b\n");
        for _ in 0..2 {
            project.build();
            assert!(project.has("src/a.js"));
            assert_eq!(project.read("all"), "export const a: number = 1;\nb\n");
            touch(&project, "src/b.js");
        }
    }
}

/// Has the directory look new.
fn touch(project: &Project, path: &str) {
    let text = project.read(path);
    project.write(&format!("{path}.new"), &text);
    fs::rename(
        project.root().join(format!("{path}.new")),
        project.root().join(path),
    )
    .unwrap();
}

#[test]
fn a_rule_does_not_read_what_another_target_writes_unless_it_names_that() {
    let project = project(
        "  gen: target({ cmd: [\"sh\", \"-c\", \"echo 1 > gen.txt\"], outs: [\"gen.txt\"] }),\n  n: count({ src: \"gen.txt\" }),\n\
         \x20 m: make({ name: \"m.txt\" }),\n  o: count({ src: \"m.txt\" }),",
    );
    for _ in 0..2 {
        project.zako(&["build", "//:gen", "//:m"]);
        let said = project.zako(&["build"]);
        for part in ["//:n reads gen.txt", "//:o reads m.txt"] {
            let whole = format!("{part}, which another target writes");
            assert!(said.text().contains(&whole), "{}", said.text());
        }
        assert!(!said.status.success());
        // From elsewhere.
        project.write("gen.txt", "1\n");
        project.write("m.txt", "made\n");
    }
}

/// Has a build of `targets` end while the step that says `$KILL` runs.
fn kill(project: &Project, targets: &str) {
    let stop = format!(
        "test -e {0}/go || {{ kill -9 $PPID; sleep 600; }}",
        project.outside().display()
    );
    write(project, &targets.replace("$KILL", &stop));
    let killed = project.zako(&["build", "-j", "1"]);
    assert_eq!(killed.status.code(), None, "{}", killed.text());
}

#[test]
fn what_a_killed_build_left_is_taken_away() {
    let project = project("  txt: cat({ srcs: glob(\"**/*.txt\") }),");
    project.write("a.txt", "a\n");
    project.build();
    let tree = |names: &str| format!("sh -c 'mkdir tree; touch {names}'");
    let targets = |names: &str| {
        let txt = "txt: cat({ srcs: glob(\"**/*.txt\") }),";
        let tree = tree(names);
        format!(
            "  {txt}\n  tree: target({{ cmd: [\"sh\", \"-c\", {tree:?}], outs: [\"tree/\"] }}),"
        )
    };
    let more = "  d: make({ name: \"d/b.txt\" }),\n  stop: target({ cmd: [\"sh\", \"-c\", \"$KILL\"], deps: [\":d\", \":tree\"] }),";
    kill(&project, &format!("{}\n{more}", targets("tree/x tree/y")));
    assert!(project.has("d/b.txt") && project.has("tree/x"));
    write(&project, &targets("tree/x"));
    // Whoever only looks leaves it where it is.
    let said = project.zako(&["build", "--dry"]).succeeds();
    assert!(project.has("d/b.txt"), "{}", said.text());
    project.zako(&["build", "//:txt"]).succeeds();
    assert!(!project.has("d"), "its directory is gone as well");
    assert!(project.has("tree/y"), "its target may still need it");
    project.build();
    assert!(project.has("tree/x") && !project.has("tree/y"));
    assert_eq!(project.read("txt"), "a\n");
    let again = project.build().text();
    assert!(again.contains("2 up to date"), "{again}");
    project.zako(&["clean"]).succeeds();
    assert!(!project.has("tree") && !project.has("txt"));
}

#[test]
fn what_a_failed_step_left_is_taken_away() {
    let project = project(
        "  t: target({ cmd: [\"sh\", \"-c\", \"touch d/p z/q\"], outs: [\"d/p\", \"z/q\"] }),\n  u: target({ cmd: [\"touch\", \"u\"], outs: [\"u\"] }),",
    );
    // No file can be made there.
    symlink("/proc", project.root().join("z")).unwrap();
    project
        .zako(&["build", "-k"])
        .fails_saying(&["workspace/z", "1 failed"]);
    assert!(project.has("d/p"));
    write(
        &project,
        "  u: target({ cmd: [\"touch\", \"u\"], outs: [\"u\"] }),",
    );
    project.build();
    assert!(!project.has("d") && project.has("z") && project.has("u"));
}

#[test]
fn what_another_cache_knows_is_taken_away() {
    let tree = |names: &str| {
        format!(
            "  tree: target({{ cmd: [\"sh\", \"-c\", \"mkdir tree; touch {names}\"], outs: [\"tree/\"] }}),"
        )
    };
    let project = project(&tree("tree/x tree/y"));
    let other = project.outside().join("cache");
    let other = other.to_str().unwrap();
    project.build();
    write(&project, &tree("tree/x tree/z"));
    project.zako(&["build", "--cache-dir", other]).succeeds();
    assert!(!project.has("tree/y") && project.has("tree/z"));
    write(&project, &tree("tree/x tree/y"));
    project.build();
    assert!(project.has("tree/y") && !project.has("tree/z"));
}

#[test]
fn an_output_is_no_build_file_whatever_its_name_is() {
    let project = project(
        "  dist: target({ cmd: [\"cp\", \"-r\", \"src\", \"dist\"], srcs: [\"src/BUILD.ts\"], outs: [\"dist/\"] }),",
    );
    project.write(
        "src/BUILD.ts",
        "import { target } from \"zako:build\";\nexport default { x: target({ cmd: [\"touch\", \"x\"], outs: [\"x\"] }) };\n",
    );
    for _ in 0..2 {
        project.build();
        assert!(project.has("dist/BUILD.ts"));
        let all = project.zako(&["query", "//..."]).succeeds().stdout;
        assert_eq!(all, "//:dist\n//src:x\n");
        // Also where nobody knows which build files there were.
        fs::remove_file(project.cache().join("state")).unwrap();
    }
}

#[test]
fn what_a_person_put_where_an_output_was_is_a_source() {
    let targets = |first: &str| {
        format!(
            "{first}\n  use: target({{ cmd: [\"sh\", \"-c\", \"cat *.h > use\"], srcs: glob(\"*.h\"), outs: [\"use\"] }}),"
        )
    };
    let gen_to = |out: &str| {
        format!(
            "  gen: target({{ cmd: [\"sh\", \"-c\", \"echo made > {out}\"], outs: [\"{out}\"] }}),"
        )
    };
    // Its target is gone, or writes elsewhere.
    for then in [String::new(), gen_to("other")] {
        let project = project(&targets(&gen_to("gen.h")));
        project.write("a.h", "a\n");
        project.build();
        assert_eq!(project.read("use"), "a\n");
        write(&project, &targets(&then));
        project.write("gen.h", "by hand\n");
        for _ in 0..2 {
            project.build();
            assert_eq!(project.read("gen.h"), "by hand\n");
            assert_eq!(project.read("use"), "a\nby hand\n");
        }
    }
}

#[test]
fn what_a_person_put_where_an_output_was_is_a_source_of_rules_at_once() {
    let all = "  all: cat({ srcs: glob(\"*.h\") }),";
    let gen_h =
        "  gen: target({ cmd: [\"sh\", \"-c\", \"echo made > gen.h\"], outs: [\"gen.h\"] }),";
    // With a source beside it, and as the only one: the glob means nothing without it.
    for beside in [true, false] {
        let project = project(&format!("{gen_h}\n{}", if beside { all } else { "" }));
        if beside {
            project.write("a.h", "a\n");
        }
        project.build();
        write(&project, all);
        project.write("gen.h", "by hand\n");
        project.build();
        let expected = if beside { "a\nby hand\n" } else { "by hand\n" };
        assert_eq!(project.read("all"), expected);
        assert_eq!(project.read("gen.h"), "by hand\n");
        let again = project.build().text();
        assert!(again.contains("1 up to date"), "{again}");
    }
}

#[test]
fn a_build_file_that_a_person_put_where_an_output_was_counts_at_once() {
    const BY_HAND: &str = "import { target } from \"zako:build\";\nexport default { x: target({ cmd: [\"sh\", \"-c\", \"echo x > x\"], outs: [\"x\"] }) };\n";
    let dist = "  dist: target({ cmd: [\"sh\", \"-c\", \"mkdir dist; echo // > dist/BUILD.ts\"], outs: [\"dist/\"] }),";
    let user = "  user: target({ cmd: [\"cp\", \"dist/x\", \"user\"], deps: [\"//dist:x\"], outs: [\"user\"] }),";
    // Whoever asks for it by name, or needs it, has it as well as whoever asks for everything.
    for (then, asked) in [("", "//..."), ("", "//dist:x"), (user, "//:user")] {
        let project = project(&format!("{dist}\n{NO_GEN}"));
        project.build();
        write(&project, &format!("{then}\n{NO_GEN}"));
        project.write("dist/BUILD.ts", BY_HAND);
        project.zako(&["query", "//..."]).succeeds();
        project.zako(&["build", asked]).succeeds();
        assert_eq!(project.read("dist/x"), "x\n", "{asked}");
        assert_eq!(project.read("dist/BUILD.ts"), BY_HAND);
    }
    // What a target may still write is an output, whatever it holds.
    let project = project(&format!("{dist}\n{NO_GEN}"));
    project.build();
    project.write("dist/BUILD.ts", BY_HAND);
    let all = project.zako(&["query", "//..."]).succeeds().stdout;
    assert_eq!(all, "//:dist\n//:u\n");
    project.build();
    assert_eq!(project.read("dist/BUILD.ts"), "//\n");
}

#[test]
fn what_git_knows_where_an_output_was_is_a_source_of_rules_at_once() {
    let all = "  all: cat({ srcs: glob(\"*.h\") }),";
    let project = project(&format!("{GEN}\n{all}"));
    project.write("a.h", "a\n");
    project.build();
    commit(&project, "gen.h");
    write(&project, &format!("{NO_GEN}\n{all}"));
    project.build();
    assert_eq!(project.read("all"), "a\nmade\n");
}

#[test]
fn what_a_killed_build_wrote_anew_is_taken_away_with_its_target() {
    let targets = |word: &str| {
        format!(
            "  d: target({{ cmd: [\"sh\", \"-c\", \"echo {word} > d.txt\"], outs: [\"d.txt\"] }}),"
        )
    };
    let project = project(&targets("one"));
    project.build();
    let stop = "  stop: target({ cmd: [\"sh\", \"-c\", \"$KILL\"], deps: [\":d\"] }),";
    kill(&project, &format!("{}\n{stop}", targets("two")));
    assert_eq!(project.read("d.txt"), "two\n");
    write(
        &project,
        "  e: target({ cmd: [\"touch\", \"e\"], outs: [\"e\"] }),",
    );
    project.build();
    assert!(!project.has("d.txt"));
}

/// How a build comes not to know what the one before left.
const UNSURE: [fn(&Project); 3] = [
    |project| fs::remove_file(project.cache().join("state")).unwrap(),
    |project| {
        let other = project.outside().join("other");
        let other = other.to_str().unwrap();
        project.zako(&["build", "--cache-dir", other]).succeeds();
    },
    // The list was gone through for another file.
    |project| {
        let listed = project.cache().join("outputs");
        let copy = project.cache().join("copy");
        fs::copy(&listed, &copy).unwrap();
        fs::rename(copy, listed).unwrap();
    },
];

const GEN: &str = "  gen: target({ cmd: [\"sh\", \"-c\", \"echo made > gen.h\"], outs: [\"gen.h\"] }),\n  u: target({ cmd: [\"touch\", \"u\"], outs: [\"u\"] }),";
const NO_GEN: &str = "  u: target({ cmd: [\"touch\", \"u\"], outs: [\"u\"] }),";

#[test]
fn what_a_person_wrote_stays_where_nobody_knows_what_was_there() {
    for (number, unsure) in UNSURE.into_iter().enumerate() {
        let project = project(GEN);
        project.build();
        write(&project, NO_GEN);
        fs::remove_file(project.root().join("gen.h")).unwrap();
        project.write("gen.h", "by hand\n");
        unsure(&project);
        project.build();
        assert_eq!(project.read("gen.h"), "by hand\n", "{number}");
        // Nor does anything else take it away.
        project.zako(&["clean"]).succeeds();
        assert_eq!(project.read("gen.h"), "by hand\n", "{number}");
        assert!(!project.has("u"));
    }
}

#[test]
fn what_zako_wrote_goes_where_nobody_knows_what_was_there() {
    for (number, unsure) in UNSURE.into_iter().enumerate() {
        let project = project(GEN);
        project.build();
        write(&project, NO_GEN);
        unsure(&project);
        project.build();
        assert!(!project.has("gen.h"), "{number}");
    }
}

/// Has git know `path`.
fn commit(project: &Project, path: &str) {
    commit_in(&project.root(), &["add", "--force", path]);
}

/// Has git know in `dir` what is `added`.
fn commit_in(dir: &std::path::Path, added: &[&str]) {
    git(dir, &["init", "--quiet"]);
    git(dir, added);
    git(dir, &["commit", "--quiet", "-m", "all"]);
}

#[test]
fn what_git_knows_or_a_target_names_stays_whatever_it_holds() {
    for other in [NO_GEN, &GEN.replace("gen.h", "gen2.h")] {
        let committed = project(GEN);
        committed.build();
        commit(&committed, "gen.h");
        write(&committed, other);
        committed.build();
        assert_eq!(committed.read("gen.h"), "made\n", "{other}");
    }

    let named = project(GEN);
    named.build();
    let user =
        "  use: target({ cmd: [\"cp\", \"gen.h\", \"use\"], srcs: [\"gen.h\"], outs: [\"use\"] }),";
    write(&named, user);
    named.build();
    assert_eq!(named.read("use"), "made\n");
}

#[test]
fn what_git_knows_stays_whichever_repository_calls() {
    let other = Project::new();
    other.write("other", "other\n");
    commit(&other, "other");
    let its = other.root().join(".git");
    for (name, value) in [
        ("GIT_DIR", its.clone()),
        ("GIT_WORK_TREE", other.root()),
        ("GIT_INDEX_FILE", its.join("index")),
        ("GIT_PREFIX", "elsewhere/".into()),
    ] {
        for command in ["build", "clean"] {
            let project = project(GEN);
            project.build();
            commit(&project, "gen.h");
            write(&project, NO_GEN);
            let mut zako = project.command(&[command]);
            Outcome::of(zako.env(name, &value)).succeeds();
            assert_eq!(project.read("gen.h"), "made\n", "{name} {command}");
        }
    }
}

#[test]
fn what_a_submodule_knows_stays() {
    let project = project(
        &GEN.replace("gen.h", "sub/gen.h")
            .replace("echo", "mkdir sub; echo"),
    );
    project.build();
    commit_in(&project.root().join("sub"), &["add", "gen.h"]);
    commit_in(&project.root(), &["submodule", "--quiet", "add", "./sub"]);
    write(&project, NO_GEN);
    project.build();
    assert_eq!(project.read("sub/gen.h"), "made\n");
}

#[test]
fn nothing_is_removed_where_git_does_not_tell_what_it_knows() {
    let project = project(GEN);
    project.build();
    commit(&project, "gen.h");
    let index = project.root().join(".git/index");
    let whole = fs::read(&index).unwrap();
    fs::write(&index, "no index\n").unwrap();
    write(&project, NO_GEN);
    for command in ["build", "build", "clean"] {
        let said = project.zako(&[command]).succeeds().stderr;
        let warnings = said
            .matches("git does not say which files it knows")
            .count();
        assert_eq!(warnings, 1, "{said}");
        assert_eq!(project.read("gen.h"), "made\n");
    }
    fs::write(&index, whole).unwrap();
    fs::remove_dir_all(project.root().join(".git")).unwrap();
    let said = project.build().stderr;
    assert!(!said.contains("git"), "{said}");
    assert!(!project.has("gen.h"));
}

#[test]
fn clean_leaves_what_git_knows() {
    for all in [&["clean"][..], &["clean", "--all"]] {
        let project = project(GEN);
        project.write("gen.h", "made\n");
        commit(&project, "gen.h");
        project.build();
        let said = project.zako(all).succeeds().text();
        assert!(said.contains("kept 1 that git knows"), "{said}");
        assert_eq!(project.read("gen.h"), "made\n");
        assert!(!project.has("u"));
        // What zako wrote before it may write again.
        let other = GEN.replace("made", "other");
        write(&project, &other);
        project.build();
        assert_eq!(project.read("gen.h"), "other\n");
        // What a person put where an output was counts as theirs once everything is forgotten.
        project.write("u", "by hand\n");
        project.zako(all).succeeds();
        assert_eq!(project.read("u"), "by hand\n");
        if all.len() > 1 {
            project
                .zako(&["build"])
                .fails_saying(&["u exists and zako did not write it"]);
        }
    }
}

#[test]
fn nothing_is_removed_behind_a_link() {
    let tree = "  tree: target({ cmd: [\"sh\", \"-c\", \"mkdir tree; touch tree/x\"], outs: [\"tree/\"] }),";
    for command in ["build", "clean"] {
        let project = project(tree);
        project.build();
        let elsewhere = project.outside().join("elsewhere");
        fs::rename(project.root().join("tree"), &elsewhere).unwrap();
        symlink(&elsewhere, project.root().join("tree")).unwrap();
        write(&project, NO_GEN);
        project.zako(&[command]).succeeds();
        assert!(elsewhere.join("x").exists(), "{command}");
    }
}

#[test]
fn results_beside_sources_of_a_target_that_was_not_asked_for_stay() {
    let project = project(&format!(
        "  js: transpile({{ srcs: glob(\"src/*.ts\"), root: \"src\", out: \"src\" }}),\n{NO_GEN}"
    ));
    project.write("src/a.ts", "export const a: number = 1;\n");
    project.build();
    let other = project.outside().join("other");
    let other = other.to_str().unwrap();
    project
        .zako(&["build", "--cache-dir", other, "//:u"])
        .succeeds();
    assert!(project.has("src/a.js"));
}
