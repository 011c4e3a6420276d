//! Mistakes in `package.json`: each is told with its place, and no package stands for another of its name.

use zako_tests::Project;

fn project(app: &str) -> Project {
    let project = Project::new();
    project.write(
        "package.json",
        "{ \"name\": \"root\", \"workspaces\": [\"p/*\"] }\n",
    );
    project.write("p/app/package.json", app);
    project
}

#[test]
fn mistakes_are_told_with_line_and_column() {
    for (text, words) in [
        (
            "{\n  \"name\": \"app\",\n  \"scripts\": {\n    \"build\": \"true\",\n  }\n}\n",
            [
                "package.json is no JSON: trailing comma",
                "p/app/package.json:5:3",
                "5 |   }",
            ],
        ),
        (
            "{\n  \"name\": \"app\"\n",
            [
                "package.json is no JSON: EOF",
                "p/app/package.json:2:15",
                "2 |   \"name\": \"app\"",
            ],
        ),
        (
            "{\n  \"scripts\": [\"true\"]\n}\n",
            [
                "`scripts` must be an object of names and shell lines",
                "p/app/package.json:2:14",
                "^^^^^^^^",
            ],
        ),
        (
            "{\n  \"scripts\": {\n    \"build\": true\n  }\n}\n",
            [
                "script `build` must be a shell line",
                "p/app/package.json:3:14",
                "^^^^",
            ],
        ),
        (
            "{ \"devDependencies\": \"x\" }",
            [
                "`devDependencies` must be an object",
                "p/app/package.json:1:22",
                "^^^",
            ],
        ),
        (
            "{ \"name\": [] }",
            ["`name` must be a text", "p/app/package.json:1:11", "^^"],
        ),
        (
            "[]",
            [
                "a package is described by an object",
                "p/app/package.json:1:1",
                "^^",
            ],
        ),
    ] {
        let project = project(text);
        // The second time the rest is remembered.
        for arguments in [["build"].as_slice(), &["build", "-k"], &["query", "//..."]] {
            project.zako(arguments).fails_saying(&words);
        }
    }
    let project = project("{}");
    project.write("package.json", "{ \"workspaces\": \"p/*\" }");
    let words = ["`workspaces` must be a list of globs", "package.json:1:17"];
    project.zako(&["build"]).fails_saying(&words);
    // Nor without a manifest.
    std::fs::remove_file(project.root().join("zako.toml")).unwrap();
    project.zako(&["build"]).fails_saying(&words);
    project.zako(&["init"]).fails_saying(&words);
    assert!(!project.has("zako.toml"));
}

const LIB: &str = "{ \"name\": \"lib\", \"scripts\": { \"build\": \"echo lib >> $RAN\" } }";

#[test]
fn two_packages_of_one_name_are_refused_with_both_places() {
    let project = project("{ \"name\": \"app\", \"dependencies\": { \"lib\": \"*\" } }");
    project.write("p/lib/package.json", LIB);
    project.build();
    assert_eq!(project.ran(), ["lib"]);
    project.write("p/other/package.json", &LIB.replace(", ", ",\n  "));
    let words = [
        "two packages of this workspace are named `lib`: p/lib/package.json:1:11 and p/other/package.json:1:11",
        "--> p/other/package.json:1:11",
        "give one of them another name, or leave one out of the list of packages: \"!p/other\"",
    ];
    for arguments in [
        ["build"].as_slice(),
        &["build"],
        &["build", "-k"],
        &["query", "//..."],
    ] {
        project.zako(arguments).fails_saying(&words);
    }
    // As it says.
    project.write(
        "package.json",
        "{ \"workspaces\": [\"p/*\", \"!p/other\"] }\n",
    );
    project.build();
    project.write("package.json", "{ \"workspaces\": [\"p/*\"] }\n");
    project.write(
        "p/other/package.json",
        &LIB.replace("\"lib\",", "\"other\","),
    );
    project.build();
    assert_eq!(project.ran(), ["lib"]);
}

#[test]
fn the_root_may_be_called_as_one_of_its_packages_which_is_then_meant() {
    let project = project(
        "{ \"name\": \"app\", \"dependencies\": { \"lib\": \"*\" }, \"scripts\": { \"build\": \"echo app >> $RAN\" } }",
    );
    project.write("p/lib/package.json", LIB);
    project.write(
        "package.json",
        "{ \"name\": \"lib\", \"workspaces\": [\"p/*\"], \"scripts\": { \"build\": \"echo root >> $RAN\" } }",
    );
    project.write(
        "turbo.json",
        "{ \"tasks\": { \"build\": { \"dependsOn\": [\"^build\"] } } }",
    );
    let needed = project.zako(&["query", "deps(//p/app:build)"]).succeeds();
    assert_eq!(needed.stdout, "//p/lib:build\n//p/app:build\n");
}

#[test]
fn a_watch_tells_of_them_and_goes_on() {
    let project = project("{}");
    project.write("p/lib/package.json", LIB);
    let mut watch = project.start(&["watch"]);
    let mut settled = || assert!(watch.line().starts_with("watching "));
    settled();
    assert_eq!(project.ran(), ["lib"]);
    project.write("p/app/package.json", LIB);
    settled();
    project.write("p/app/package.json", "{ \"scripts\": 3 }");
    settled();
    project.write("p/app/package.json", &LIB.replace("\"lib\",", "\"app\","));
    settled();
    assert_eq!(project.ran(), ["lib"]);
    watch.signal("INT");
    let said = watch.wait().stderr;
    for words in [
        "are named `lib`: p/app/package.json:1:11 and p/lib/package.json:1:11",
        "--> p/app/package.json:1:14",
    ] {
        assert!(said.contains(words), "{said}");
    }
}
