//! What earlier runs of a package's script have left, half of a run, or a person beside it, is in no result that others are given.

use std::fs;
use std::path::Path;
use std::process::Command;

use zako_tests::{Project, Web, git, typescript};

/// Copies all sources.
const COPY: &str = "mkdir -p dist && cp src/* dist/";
/// Copies what is not there, or older.
const MAKE: &str =
    "mkdir -p dist; for f in src/*; do t=dist/${f##*/}; [ $t -nt $f ] || cp $f $t; done";
/// Copies what it has not copied yet, as it remembers elsewhere.
const REMEMBER: &str = "mkdir -p dist .done; for f in src/*; do n=${f##*/}; cmp -s $f .done/$n || cp $f dist/; cp $f .done/; done";

fn project(script: &str) -> Project {
    let project = Project::new();
    project.write(".gitignore", "dist\n.done\n*.tsbuildinfo\n");
    project.write("package.json", r#"{"name": "acme", "workspaces": ["a"]}"#);
    let package = serde_json::json!({"name": "a", "scripts": {"build": script}});
    project.write("a/package.json", &package.to_string());
    for name in ["a.js", "b.js"] {
        project.write(&format!("a/src/{name}"), &format!("{name}\n"));
    }
    project
}

fn remove(project: &Project, path: &str) {
    fs::remove_file(project.root().join(path)).unwrap();
}

fn remove_dir(project: &Project, path: &str) {
    fs::remove_dir_all(project.root().join(path)).unwrap();
}

/// The names in `a/dist`, sorted.
fn left(project: &Project) -> Vec<String> {
    let entries = fs::read_dir(project.root().join("a/dist"))
        .into_iter()
        .flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// A build says so, and no other one has anything to do then.
#[track_caller]
fn is_up_to_date(project: &Project) {
    let again = project.build().text();
    assert!(again.contains("1 up to date"), "{again}");
}

/// What is in the cache is what lies there.
#[track_caller]
fn comes_back_from_the_cache(project: &Project) {
    let before = left(project);
    project.zako(&["clean"]).succeeds();
    assert!(left(project).is_empty());
    let said = project.build().text();
    assert!(said.contains("1 from the cache"), "{said}");
    assert_eq!(left(project), before);
}

#[test]
fn the_output_of_a_source_that_is_gone_goes_with_it() {
    for script in [COPY, MAKE] {
        let project = project(&format!("echo ran >> $RAN; {script}"));
        project.build();
        remove(&project, "a/src/b.js");
        let said = project.build().text();
        assert!(!said.contains("warning"), "{said}");
        assert_eq!(left(&project), ["a.js"]);
        comes_back_from_the_cache(&project);
        // Renamed, with what is below a directory of its own.
        remove(&project, "a/src/a.js");
        project.write("a/src/c.js", "a.js\n");
        project.build();
        assert_eq!(left(&project), ["c.js"]);
        is_up_to_date(&project);
        comes_back_from_the_cache(&project);
        project.ran();
        // Nothing is stale: once is enough.
        project.write("a/src/c.js", "new\n");
        project.build();
        assert_eq!(project.ran(), ["ran"]);
        assert_eq!(project.read("a/dist/c.js"), "new\n");
        project.store_is_intact();
    }
}

#[test]
fn a_directory_that_held_stale_files_only_goes_with_them() {
    let project = project("mkdir -p dist && cp -r src/. dist/");
    project.write("a/src/deep/er/x", "1\n");
    project.build();
    remove_dir(&project, "a/src/deep");
    project.build();
    assert_eq!(left(&project), ["a.js", "b.js"]);
    // Or somebody emptied it.
    project.write("a/src/deep/er/x", "2\n");
    project.write("a/src/a.js", "2\n");
    project.build();
    remove_dir(&project, "a/src/deep");
    remove(&project, "a/dist/deep/er/x");
    project.build();
    assert_eq!(left(&project), ["a.js", "b.js"]);
    comes_back_from_the_cache(&project);
}

#[test]
fn another_machine_is_given_what_it_would_have_built() {
    let cache = Web::cache();
    let remote = cache.url("");
    let arguments = ["build", "--remote", &remote];
    for script in [COPY, MAKE] {
        let first = project(script);
        first.zako(&arguments).succeeds();
        remove(&first, "a/src/b.js");
        first.zako(&arguments).succeeds();
        let second = project(script);
        remove(&second, "a/src/b.js");
        let said = second.zako(&arguments).succeeds().text();
        assert!(said.contains("1 from the cache"), "{said}");
        assert_eq!(left(&second), ["a.js"]);
    }
}

#[test]
fn what_a_killed_script_left_is_told_and_cached_for_nobody() {
    let script = "mkdir -p dist; [ -e dist/1 ] || { echo half > dist/1; [ ! -e ../kill ] || { kill -9 $PPID; sleep 600; }; \
        echo whole > dist/1; }; cp src/a.js dist/";
    let project = project(script);
    project.write("kill", "");
    assert!(!project.zako(&["build"]).status.success());
    remove(&project, "kill");
    let said = project.build().text();
    for part in [
        "not cached",
        "a/dist/1 lay where its outputs go",
        "delete it",
        "\"!dist/1\"",
    ] {
        assert!(said.contains(part), "{said}");
    }
    is_up_to_date(&project);
    project.zako(&["clean"]).succeeds();
    assert_eq!(left(&project), ["1"], "it is not known as zako's");
    remove(&project, "a/dist/1");
    let said = project.build().text();
    assert!(
        said.contains("1 ran") && !said.contains("warning"),
        "{said}"
    );
    assert_eq!(project.read("a/dist/1"), "whole\n");
    comes_back_from_the_cache(&project);
}

#[test]
fn a_file_of_a_person_stays_and_goes_to_nobody_unless_git_has_it() {
    let project = project(COPY);
    project.write("a/dist/mine.txt", "mine\n");
    let said = project.build().text();
    assert!(said.contains("a/dist/mine.txt lay where"), "{said}");
    is_up_to_date(&project);
    remove(&project, "a/src/b.js");
    project.build();
    assert_eq!(left(&project), ["a.js", "mine.txt"]);
    project.zako(&["clean"]).succeeds();
    assert_eq!(project.read("a/dist/mine.txt"), "mine\n");
    git(&project.root(), &["init", "-q"]);
    git(&project.root(), &["add", "-f", "a/dist/mine.txt"]);
    let said = project.build().text();
    assert!(
        said.contains("1 ran") && !said.contains("warning"),
        "{said}"
    );
    remove(&project, "a/dist/a.js");
    let said = project.build().text();
    assert!(said.contains("1 from the cache"), "{said}");
}

#[test]
fn a_tool_that_keeps_what_it_did_elsewhere_loses_nothing_and_is_cached_for_nobody() {
    for script in [
        REMEMBER.to_owned(),
        format!("{REMEMBER}; cp package.json dist/"),
    ] {
        let project = project(&format!("echo ran >> $RAN; {script}"));
        project.build();
        let names = left(&project);
        comes_back_from_the_cache(&project);
        project.ran();
        for content in ["2\n", "3\n"] {
            project.write("a/src/a.js", content);
            let said = project.build().text();
            assert!(said.contains("it keeps what it has done outside"), "{said}");
            assert_eq!(project.ran(), ["ran", "ran"]);
            assert_eq!(left(&project), names);
            assert_eq!(project.read("a/dist/a.js"), content);
            assert_eq!(project.read("a/dist/b.js"), "b.js\n");
            is_up_to_date(&project);
        }
        // Nor what it leaves where somebody took its outputs away.
        remove_dir(&project, "a/dist");
        let said = project.build().text();
        assert!(said.contains("not cached"), "{said}");
        // Both gone, it begins anew.
        remove_dir(&project, "a/.done");
        project.zako(&["clean"]).succeeds();
        project.build();
        assert_eq!(left(&project), names);
        comes_back_from_the_cache(&project);
    }
}

#[test]
fn a_memory_beside_a_file_that_is_always_written_loses_nothing() {
    let project = project(&format!("{REMEMBER}; cp README.md dist/"));
    project.write("a/README.md", "1\n");
    project.build();
    project.write("a/README.md", "2\n");
    let said = project.build().text();
    assert!(said.contains("its result is not cached"), "{said}");
    assert_eq!(left(&project), ["README.md", "a.js", "b.js"]);
    is_up_to_date(&project);
    remove_dir(&project, "a/.done");
    project.zako(&["clean"]).succeeds();
    project.build();
    assert_eq!(left(&project), ["README.md", "a.js", "b.js"]);
}

#[test]
fn what_git_has_or_a_person_edited_is_not_moved_away() {
    // It adds a line to what is there, and writes a file only once.
    let merge = "mkdir -p dist; for f in de en; do grep -q hello dist/$f || echo hello= >> dist/$f; done; \
                 grep -q $(cat src/a.js) dist/de || echo $(cat src/a.js) >> dist/de; [ -e dist/index ] || echo > dist/index";
    for is_gits in [false, true] {
        let project = project(merge);
        project.build();
        project.write("a/dist/de", "hello=Hallo\n");
        if is_gits {
            git(&project.root(), &["init", "-q"]);
            git(&project.root(), &["add", "-f", "a/dist/de"]);
        }
        project.write("a/src/a.js", "world\n");
        let said = project.build().text();
        assert!(said.contains("its result is not cached"), "{said}");
        assert_eq!(project.read("a/dist/de"), "hello=Hallo\nworld\n");
        if is_gits {
            project.zako(&["build", "--check-determinism", "2", "--force"]);
            assert!(project.read("a/dist/de").starts_with("hello=Hallo\n"));
        }
    }
}

#[test]
fn one_that_fails_from_nothing_leaves_what_it_left_before() {
    let project = project("cp src/* dist/");
    fs::create_dir(project.root().join("a/dist")).unwrap();
    project.build();
    remove(&project, "a/src/b.js");
    project.write("a/src/a.js", "2\n");
    let said = project.build().text();
    assert!(
        said.contains("not cached: it ends well only where"),
        "{said}"
    );
    assert_eq!(left(&project), ["a.js", "b.js"]);
    assert_eq!(project.read("a/dist/a.js"), "2\n");
    is_up_to_date(&project);
}

#[test]
fn what_was_taken_away_comes_back_or_is_made_again_however_the_build_ends() {
    for (signal, there) in [("INT", true), ("KILL", false)] {
        let stop = format!(
            "[ -e dist/a.js ] || [ ! -e ../stop ] || {{ kill -{signal} $PPID; sleep 600; }}"
        );
        let project = project(&format!("{stop}; {COPY}"));
        project.build();
        remove(&project, "a/src/b.js");
        project.write("stop", "");
        assert!(!project.zako(&["build"]).status.success());
        let expected: &[&str] = if there { &["a.js", "b.js"] } else { &[] };
        assert_eq!(left(&project), expected);
        remove(&project, "stop");
        let said = project.build().text();
        assert!(!said.contains("warning"), "{said}");
        assert_eq!(left(&project), ["a.js"]);
        comes_back_from_the_cache(&project);
        project.store_is_intact();
    }
}

#[test]
fn a_stale_file_makes_no_script_one_that_leaves_something_else_each_time() {
    let project = project(&format!("echo ran >> $RAN; {COPY}"));
    let check = ["build", "--check-determinism", "3"];
    project.zako(&check).succeeds();
    assert_eq!(project.ran().len(), 3);
    remove(&project, "a/src/b.js");
    project.zako(&check).succeeds();
    assert_eq!(project.ran().len(), 4);
    assert_eq!(left(&project), ["a.js"]);
}

#[test]
fn of_scripts_that_share_a_directory_each_loses_what_is_stale_of_its_own() {
    let project = project("");
    let one = |from: &str| format!("mkdir -p dist && cp {from}/* dist/");
    let scripts = serde_json::json!({"build:esm": one("src"), "build:types": one("types")});
    let package = serde_json::json!({"name": "a", "scripts": scripts});
    project.write("a/package.json", &package.to_string());
    project.write("a/types/a.d.ts", "1\n");
    let both = ["build", "//a:build.esm", "//a:build.types"];
    project.zako(&both).succeeds();
    remove(&project, "a/src/b.js");
    let said = project.zako(&both).succeeds().text();
    assert!(!said.contains("warning"), "{said}");
    assert_eq!(left(&project), ["a.d.ts", "a.js"]);
    let again = project.zako(&both).succeeds().text();
    assert!(again.contains("2 up to date"), "{again}");
    project.zako(&["clean"]).succeeds();
    project.zako(&both).succeeds();
    assert_eq!(left(&project), ["a.d.ts", "a.js"]);
}

/// A package of TypeScript with these compiler options, whose `build` is its compiler with these arguments.
fn package_of_typescript(lib: &Path, arguments: &str, options: &serde_json::Value) -> Project {
    let project = project(&format!("node {}/tsc.js {arguments}", lib.display()));
    for name in ["a.js", "b.js"] {
        remove(&project, &format!("a/src/{name}"));
    }
    let config = serde_json::json!({"compilerOptions": options, "include": ["src"]});
    project.write("a/tsconfig.json", &config.to_string());
    for name in ["m", "n"] {
        project.write(
            &format!("a/src/{name}.ts"),
            &format!("export const {name}: number = 1;\n"),
        );
    }
    project
}

#[test]
fn typescript_that_keeps_what_it_did_beside_its_outputs_leaves_all_of_it() {
    let Some(lib) = typescript() else { return };
    let composite =
        serde_json::json!({"composite": true, "rootDir": "src", "outDir": "dist", "types": []});
    let inside =
        serde_json::json!({"composite": true, "rootDir": ".", "outDir": "dist", "types": []});
    let plain =
        serde_json::json!({"declaration": true, "rootDir": "src", "outDir": "dist", "types": []});
    for (arguments, options) in [("-b", composite), ("-b", inside), ("", plain)] {
        let project = package_of_typescript(lib, arguments, &options);
        project.build();
        let names = left(&project);
        comes_back_from_the_cache(&project);
        project.write("a/src/n.ts", "export const n: number = 2;\n");
        remove_dir(&project, "a/dist");
        let said = project.build().text();
        assert!(!said.contains("warning"), "{said}");
        assert_eq!(left(&project), names);
        is_up_to_date(&project);
        comes_back_from_the_cache(&project);
        // A source less, another more, and each alone.
        project.write("a/src/o.ts", "export const o: number = 1;\n");
        project.build();
        remove(&project, "a/src/m.ts");
        project.build();
        let built = files(&project);
        let clean = package_of_typescript(lib, arguments, &options);
        remove(&clean, "a/src/m.ts");
        for name in ["n", "o"] {
            clean.write(
                &format!("a/src/{name}.ts"),
                &project.read(&format!("a/src/{name}.ts")),
            );
        }
        clean.build();
        assert_eq!(built, files(&clean));
        comes_back_from_the_cache(&project);
        assert_eq!(built, files(&project));
    }
}

/// What lies below `a/dist`, as `find` tells it.
fn files(project: &Project) -> String {
    let mut find = Command::new("sh");
    find.args(["-c", "cd a/dist && find . | sort"])
        .current_dir(project.root());
    zako_tests::succeed(&mut find)
}
