//! Packages from elsewhere by their names: `@name//dir:target` is what a person writes, and what a person sees.

use std::fs;
use std::path::Path;

use zako_tests::archive::{Entry, tar};
use zako_tests::{Project, git};

const HEAD: &str =
    "group = \"test\"\nartifact = \"project\"\nversion = \"1.0.0\"\n[dependencies]\n";

const BUILD: &str = r#"
import { target } from "zako:build";
export default {
  up: target({ cmd: ["sh", "-c", "tr a-z A-Z < text > up"], srcs: ["text"], outs: ["up"] }),
  twice: target({ cmd: ["sh", "-c", "cat up up > twice"], deps: [":up"], outs: ["twice"] }),
};
"#;

/// A workspace with the package `x`, whose directory `dir` has targets and whose root has none.
fn project() -> Project {
    let project = Project::new();
    project.write(
        "zako.toml",
        &format!("{HEAD}x = {{ url = \"file:x.tar\" }}\n"),
    );
    let archive = tar(&[
        Entry::File("x-1/dir/BUILD.ts", BUILD),
        Entry::File("x-1/dir/text", "text\n"),
    ]);
    fs::write(project.root().join("x.tar"), archive).unwrap();
    project.write(
        "BUILD.ts",
        r#"
import { target } from "zako:build";
export default { copy: target({ cmd: ["cp", ".zako/packages/x/dir/twice", "out"], deps: ["@x//dir:twice"], outs: ["out"] }) };
"#,
    );
    project
}

/// What a command prints, with nothing of how packages lie in the workspace.
#[track_caller]
fn printed(project: &Project, arguments: &[&str]) -> String {
    let said = project.zako(arguments).succeeds();
    assert!(!said.text().contains("//.zako"), "{}", said.text());
    said.stdout
}

#[test]
fn labels_of_packages_are_taken_and_shown_as_people_write_them() {
    let project = project();
    let built = project.zako(&["build", "--events", "events"]).succeeds();
    assert!(built.text().contains("@x//dir:up"), "{}", built.text());
    let events = project.read("events");
    assert!(
        events.contains("\"@x//dir:up\"") && !events.contains("//.zako"),
        "{events}"
    );
    // Also of what is remembered.
    for _ in 0..2 {
        for (query, answer) in [
            ("//...", "@x//dir:up\n@x//dir:twice\n//:copy\n"),
            ("deps(//:copy, 1)", "@x//dir:twice\n//:copy\n"),
            ("rdeps(@x//dir:up)", "@x//dir:up\n@x//dir:twice\n//:copy\n"),
            (
                "rdeps(//.zako/packages/x/dir:up, 1)",
                "@x//dir:up\n@x//dir:twice\n",
            ),
            (
                "somepath(//:copy, @x//dir:up)",
                "//:copy\n@x//dir:twice\n@x//dir:up\n",
            ),
            ("@x//... ^ deps(:copy)", "@x//dir:up\n@x//dir:twice\n"),
            ("@x//dir:* - @x//dir:up", "@x//dir:twice\n"),
            ("@x//...:twice", "@x//dir:twice\n"),
        ] {
            assert_eq!(printed(&project, &["query", query]), answer, "{query}");
        }
    }
    let json = printed(&project, &["query", "--json", "@x//dir:twice"]);
    assert!(
        json.contains("\"@x//dir:twice\"") && json.contains("\"@x//dir:up\""),
        "{json}"
    );
    assert!(printed(&project, &["graph"]).contains("\"//:copy\" -> \"@x//dir:twice\""));
    let packages = printed(&project, &["graph", "--packages"]);
    assert!(packages.contains("\"//\" -> \"@x//dir\""), "{packages}");
    let why = printed(&project, &["why", "@x//dir:twice"]);
    assert!(why.starts_with("@x//dir:twice\n"), "{why}");
    let why = printed(&project, &["why", "--json", ":copy"]);
    assert!(
        why.contains("\"writtenBy\": \"@x//dir:twice\"") || why.contains("\"causes\""),
        "{why}"
    );
    assert!(printed(&project, &["trace", "@x//dir:twice"]).contains("@x//dir:up"));
    assert!(printed(&project, &["build", "-v", "@x//..."]).is_empty());
    project.write("BUILD.ts", "export default {};\n");
    assert_eq!(
        printed(&project, &["query", "@x//..."]),
        "@x//dir:up\n@x//dir:twice\n"
    );
    // What ran once and is described no more.
    declare_nothing(&project);
    project
        .zako(&["why", "@x//dir:up"])
        .fails_saying(&["`@x//dir:up`: zako.toml declares no dependency `x`"]);
}

fn declare_nothing(project: &Project) {
    project.write("zako.toml", HEAD);
}

#[test]
fn changes_concern_targets_of_packages_by_their_names() {
    let project = project();
    project.write(".gitignore", ".zako\nout\n");
    project.build();
    git(&project.root(), &["init", "--quiet"]);
    git(&project.root(), &["add", "."]);
    git(&project.root(), &["commit", "--quiet", "-m", "one"]);
    let affected = || printed(&project, &["affected", "--since", "HEAD"]);
    assert_eq!(affected(), "");
    project.write(
        "zako.lock",
        &format!("{}# more\n", project.read("zako.lock")),
    );
    assert_eq!(affected(), "@x//dir:up\n@x//dir:twice\n//:copy\n");
}

#[test]
fn mistakes_with_labels_of_packages_are_told_as_they_are_written() {
    let project = project();
    project.build();
    let query = |text: &str, words: &[&str]| {
        project.zako(&["query", text]).fails_saying(words);
        let pattern = text.trim_start_matches("rdeps(").trim_end_matches(')');
        project.zako(&["build", pattern]).fails_saying(words);
    };
    query(
        "@x//dir:uq",
        &["no target `@x//dir:uq`; did you mean `@x//dir:up`?"],
    );
    query(
        "@x//dri/...",
        &["no target matches `@x//dri/...`; did you mean `@x//dir`?"],
    );
    query(
        "@x//dir:quite_something_else",
        &["no target `@x//dir:quite_something_else`; @x//dir has @x//dir:twice, @x//dir:up"],
    );
    query(
        "rdeps(@y//dir:up)",
        &["`@y//dir:up`: zako.toml declares no dependency `y`; did you mean `x`?"],
    );
    // A step that fails, a dependency that there is not, and a mistake in the package's own file.
    let own = ".zako/packages/x/dir/BUILD.ts";
    project.write(own, &BUILD.replace("cat up up", "exit 3"));
    project
        .zako(&["build"])
        .fails_saying(&["@x//dir:twice failed"]);
    project.write(
        "BUILD.ts",
        &project
            .read("BUILD.ts")
            .replace("\"@x//dir:twice\"", "\"@x//dir:none\""),
    );
    project.zako(&["build"]).fails_saying(&[
        "//:copy depends on @x//dir:none, which does not exist",
        "BUILD.ts:3:",
    ]);
    project.write(own, &BUILD.replace("\":up\"", "\"//dir:down\""));
    project.zako(&["build", "@x//dir:twice"]).fails_saying(&[
        "@x//dir:twice depends on @x//dir:down, which does not exist",
        &format!("{own}:5:"),
    ]);
    project.write(own, "export default {");
    project
        .zako(&["build", "-k", "@x//..."])
        .fails_saying(&[own]);
}

/// What `@near//:files` gathers.
#[track_caller]
fn gathered(project: &Project) -> String {
    project.zako(&["build"]).succeeds();
    project.read("all")
}

#[test]
fn a_directory_without_a_build_file_is_a_group_of_its_files() {
    let project = Project::new();
    let manifest = format!(
        "{HEAD}near = {{ path = \"third/near\" }}\nagain = {{ path = \"./third/near/\" }}\nnone = {{ path = \"third/none\" }}\n"
    );
    project.write("zako.toml", &manifest);
    project.write("third/near/a", "a\n");
    project.write("third/near/sub/b", "b\n");
    let gather = |label: &str| {
        format!(
            "import {{ target }} from \"zako:build\";\nexport default {{ all: target({{ cmd: [\"sh\", \"-c\", \
             \"cat $(find third -type f | sort) > all\"], deps: [\"{label}\"], outs: [\"all\"] }}) }};\n"
        )
    };
    project.write("BUILD.ts", &gather("@near//:files"));
    assert_eq!(gathered(&project), "a\nb\n");
    let nothing = project.build();
    assert!(
        nothing.text().contains("2 up to date"),
        "{}",
        nothing.text()
    );
    project.write("third/near/sub/c", "c\n");
    assert_eq!(gathered(&project), "a\nb\nc\n");
    fs::remove_dir_all(project.cache()).unwrap();
    project
        .zako(&["build", "--overwrite", "@again//:files", ":all"])
        .succeeds();
    let who = project.zako(&["query", "rdeps(@near//:files)"]).succeeds();
    assert_eq!(who.stdout, "//third/near:files\n//:all\n");
    project.zako(&["types"]).succeeds();
    assert!(
        project
            .read(".zako/types/zako.d.ts")
            .contains("\"@near//:files\"")
    );
    // A target of that name elsewhere is another one.
    project.write("BUILD.ts", &gather("@none//:files"));
    project
        .zako(&["build"])
        .fails_saying(&["//third/none:files, which does not exist", "BUILD.ts:2:"]);
    // With a build file, wherever in it, what is not described is not there.
    project.write("BUILD.ts", &gather("@near//:files"));
    let own = r#"import { target } from "zako:build"; export default { x: target({ cmd: ["true"], outs: [] }) };"#;
    project.write("third/near/sub/BUILD.ts", own);
    project
        .zako(&["build"])
        .fails_saying(&["//third/near:files, which does not exist"]);
    fs::remove_file(project.root().join("third/near/sub/BUILD.ts")).unwrap();
    assert_eq!(gathered(&project), "a\nb\nc\n");
}

#[test]
fn a_script_of_that_name_is_that_target() {
    let project = Project::new();
    project.write(
        "zako.toml",
        &format!("{HEAD}near = {{ path = \"near\" }}\n"),
    );
    project.write("package.json", r#"{ "workspaces": ["near"] }"#);
    project.write(
        "near/package.json",
        r#"{ "name": "near", "scripts": { "files": "echo x > made" } }"#,
    );
    project.zako(&["build", "@near//:files"]).succeeds();
    assert!(Path::new(&project.root().join("near/made")).exists());
}

#[test]
fn a_watch_sees_the_files_of_such_a_directory() {
    let project = Project::new();
    project.write(
        "zako.toml",
        &format!("{HEAD}near = {{ path = \"near\" }}\n"),
    );
    project.write("near/a", "a\n");
    project.write(
        "BUILD.ts",
        "import { target } from \"zako:build\";\nexport default { all: target({ cmd: [\"sh\", \"-c\", \"cat near/* > all\"], \
         deps: [\"@near//:files\"], outs: [\"all\"] }) };\n",
    );
    let mut watch = project.start(&["watch"]);
    assert!(watch.line().starts_with("watching "));
    assert_eq!(project.read("all"), "a\n");
    for text in ["b\n", "c\n"] {
        project.write("near/b", text);
        while project.read("all") != format!("a\n{text}") {
            assert!(watch.line().starts_with("watching "));
        }
    }
}
