//! Targets out of scripts: of a small workspace, and of what `turbo.json` says of it.

use super::*;
use crate::lang::target::Output;
use crate::lang::turbo::Turbo;
use serde_json::json;

fn member(dir: &str, value: serde_json::Value) -> Member {
    Member {
        package: PackageJson::parse(dir, &value.to_string()).unwrap(),
        ..Member::default()
    }
}

fn turbo(text: &str) -> Tasks {
    Turbo::parse("turbo.json", text).unwrap().into_tasks()
}

fn world() -> Members {
    Members {
        members: vec![
            member(
                "",
                json!({"name": "root", "scripts": {"build": "turbo run build"}}),
            ),
            member(
                "packages/core",
                json!({"name": "core", "scripts": {"build": "tsc", "test:unit": "vitest", "prebuild": "echo pre"}}),
            ),
            member(
                "packages/mid",
                json!({"name": "mid", "dependencies": {"core": "*"}, "scripts": {"lint": "eslint ."}}),
            ),
            member(
                "apps/web",
                json!({"name": "web", "devDependencies": {"mid": "*"}, "scripts": {"build": "vite build", "dev": "vite"}}),
            ),
        ],
        gitignore: "dist\nnode_modules\n".into(),
        ..Members::default()
    }
}

/// The targets, unless one of them has a mistake.
fn targets(all: &Members) -> Result<Vec<Arc<Target>>, Diagnostic> {
    let made = super::targets(all, &Described::default())?;
    made.mistakes
        .into_iter()
        .next()
        .map_or(Ok(made.targets), Err)
}

fn find<'a>(targets: &'a [Arc<Target>], label: &str) -> &'a Target {
    let found = targets
        .iter()
        .find(|target| target.label.to_string() == label);
    found.unwrap_or_else(|| panic!("no {label}"))
}

#[test]
fn scripts_become_targets_in_the_order_of_packages() {
    let all = targets(&world()).unwrap();
    let labels: Vec<String> = all.iter().map(|target| target.label.to_string()).collect();
    assert_eq!(
        labels,
        [
            "//apps/web:build",
            "//apps/web:dev",
            "//packages/core:build",
            "//packages/core:test.unit",
            "//packages/mid:lint",
        ]
    );
    let web = find(&all, "//apps/web:build");
    // `mid` has no build: the dependency reaches through it.
    assert_eq!(web.deps[0].to_string(), "//packages/core:build");
    assert!(!web.manual && find(&all, "//apps/web:dev").manual);
    let core = find(&all, "//packages/core:build");
    assert_eq!(
        core.command().unwrap().argv[2],
        "(npm_lifecycle_event='prebuild' npm_lifecycle_script='echo pre'\necho pre\n) && \
         (npm_lifecycle_event='build' npm_lifecycle_script='tsc'\ntsc\n)"
    );
    assert_eq!(
        core.command().unwrap().outs,
        [Output::Tree("packages/core/dist".into())]
    );
    assert!(find(&all, "//packages/core:test.unit").is_test());
}

#[test]
fn what_tests_a_package_is_its_test() {
    let mut world = world();
    let mut tests = |scripts, tasks| {
        world.members[1] = member("packages/core", json!({"name": "core", "scripts": scripts}));
        world.tasks = turbo(tasks);
        let all = targets(&world).unwrap();
        let tests = all.iter().filter(|it| it.is_test() && !it.manual);
        let tests: Vec<String> = tests.map(|it| it.label.to_string()).collect();
        tests
    };
    let none = r#"{"tasks": {}}"#;
    let many = json!({"test": "jest", "test:unit": "jest unit", "test:update": "jest -u", "test:watch": "jest --watch"});
    assert_eq!(tests(many, none), ["//packages/core:test"]);
    let parts = json!({"test:unit": "jest unit", "test:watch": "jest --watch"});
    assert_eq!(tests(parts, none), ["//packages/core:test.unit"]);
    let one = json!({"test": "jest"});
    let always = r#"{"tasks": {"test": {"cache": false}}}"#;
    assert_eq!(tests(one.clone(), always), ["//packages/core:test"]);
    let serving = r#"{"tasks": {"test": {"cache": false, "persistent": true}}}"#;
    assert!(tests(one, serving).is_empty());
}

#[test]
fn scripts_that_write_to_one_place_know_of_it() {
    let mut world = world();
    world.members[1] = member(
        "packages/core",
        json!({"name": "core", "scripts": {"build": "tsc", "build:esm": "tsc", "test:unit": "vitest", "docs": "typedoc"}}),
    );
    let shares = |world: &Members, label: &str| {
        let all = targets(world).unwrap();
        find(&all, label).in_place().unwrap().shares
    };
    assert!(shares(&world, "//packages/core:build") && shares(&world, "//packages/core:build.esm"));
    assert!(!shares(&world, "//packages/core:test.unit") && !shares(&world, "//apps/web:build"));
    world.tasks = turbo(
        r#"{"tasks": {
            "build": {"outputs": ["dist/cjs/**"]},
            "build:esm": {"outputs": ["dist/esm/**"]},
            "docs": {"outputs": ["*/esm/*.html"]}
        }}"#,
    );
    assert!(!shares(&world, "//packages/core:build"));
    assert!(shares(&world, "//packages/core:build.esm") && shares(&world, "//packages/core:docs"));
}

#[test]
fn a_package_that_is_not_built_is_read() {
    let all = targets(&world()).unwrap();
    let reads = |label: &str, wanted: &str| {
        find(&all, label)
            .srcs
            .iter()
            .any(|source| matches!(source, Source::Glob { dir, .. } if **dir == *wanted))
    };
    assert!(reads("//apps/web:build", "packages/mid"));
    assert!(!reads("//apps/web:build", "packages/core"));
    assert!(!reads("//packages/core:build", "packages/mid"));
}

#[test]
fn what_tasks_name_beyond_their_package_is_found_or_a_mistake() {
    let of_web = |inputs: &[&str], outputs: &[&str]| {
        let task = json!({ "inputs": inputs, "outputs": outputs });
        let text = json!({ "tasks": { "web#build": task } }).to_string();
        let tasks = turbo(&text);
        targets(&Members { tasks, ..world() })
    };
    let inputs = [
        "$TURBO_DEFAULT$",
        "$TURBO_ROOT$/base.json",
        "../../shared/**",
        "!../../shared/old/**",
        "./src/../conf",
    ];
    let made = of_web(&inputs, &["../../site/**", "$TURBO_ROOT$/report.txt"]).unwrap();
    let web = find(&made, "//apps/web:build");
    let outs = ["site", "report.txt"].map(|tree| Output::Tree(tree.into()));
    assert_eq!(web.command().unwrap().outs, outs);
    let texts = |wanted: &str| {
        let found = web.srcs.iter().filter_map(|source| match source {
            Source::Glob {
                dir,
                include,
                exclude,
                ..
            } if **dir == *wanted => Some([include, exclude]),
            _ => None,
        });
        let patterns = found.flatten().flatten();
        patterns.map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(texts("").starts_with(&["base.json", "shared/**", "shared/old/**"].map(String::from)));
    assert!(texts("apps/web").contains(&"conf".to_owned()));
    for (input, output, said) in [
        (
            "../../../x",
            "dist",
            "input `../../../x` leaves the workspace",
        ),
        ("/etc/x", "dist", "input `/etc/x` leaves the workspace"),
        ("a[", "dist", "glob `a[`"),
        (
            "x",
            "../../../out",
            "output `../../../out` leaves the workspace",
        ),
        ("x", "..", "output `..` would hold the package itself"),
        ("x", "**", "output `**` would hold the package itself"),
    ] {
        let error = of_web(&[input], &[output]).unwrap_err().message;
        assert!(
            error.starts_with("script `build`: ") && error.contains(said),
            "{error}"
        );
    }
    let text = r#"{"tasks": {"build": {"dependsOn": ["croe#build"]}}}"#;
    let tasks = turbo(text);
    let error = targets(&Members { tasks, ..world() }).unwrap_err().message;
    assert!(
        error.contains("no package `croe`; did you mean `core`?"),
        "{error}"
    );
    let mut all = world();
    all.tasks.global_inputs = vec!["../x".to_owned()];
    let error = targets(&all).unwrap_err().message;
    assert!(error.contains("`../x` leaves the workspace"), "{error}");
}

#[test]
fn packages_extend_others_and_leave_tasks_out() {
    let own = |text: &str| Turbo::parse("turbo.json", text).unwrap();
    let mut all = world();
    all.tasks = turbo(r#"{"tasks": {"build": {"env": ["MODE"]}}}"#);
    let core = all.members.iter_mut().find(|it| it.package.name == "core");
    core.unwrap().tasks = own(r#"{"tasks": {"build": {"outputs": ["lib/**"]}}}"#).tasks;
    let web = all.members.iter_mut().find(|it| it.package.name == "web");
    let web = web.unwrap();
    web.extends = vec!["core".to_owned()];
    let made = targets(&all).unwrap();
    let built = find(&made, "//apps/web:build").command().unwrap();
    assert_eq!(built.outs, [Output::Tree("apps/web/lib".into())]);
    assert!(built.env.contains_key("MODE"));
    let web = all.members.iter_mut().find(|it| it.package.name == "web");
    web.unwrap().tasks = own(r#"{"tasks": {"build": {"extends": false}}}"#).tasks;
    let made = targets(&all).unwrap();
    let is_there = |label: &str| made.iter().any(|it| it.label.to_string() == label);
    assert!(!is_there("//apps/web:build") && is_there("//packages/core:build"));
    let web = all.members.iter_mut().find(|it| it.package.name == "web");
    web.unwrap().extends = vec!["cores".to_owned()];
    let error = targets(&all).unwrap_err().message;
    assert!(
        error.contains("it extends `cores`") && error.contains("did you mean `core`?"),
        "{error}"
    );
}

#[test]
fn tasks_say_what_is_left_behind_and_passed_on() {
    let mut all = world();
    all.tasks = turbo(
        r#"{"globalEnv": ["CI"], "tasks": {"build": {"dependsOn": ["^build"], "outputs": ["out/**", "!out/tmp/**"], "env": ["MODE"]},
            "web#build": {"dependsOn": ["core#build"], "cache": false}}}"#,
    );
    let targets = targets(&all).unwrap();
    let core = find(&targets, "//packages/core:build").command().unwrap();
    assert_eq!(core.outs, [Output::Tree("packages/core/out".into())]);
    let step = core.in_place.as_ref().unwrap();
    assert!(step.shared_env == ["CI"] && core.env.contains_key("MODE"));
    assert_eq!(step.out_exclude.len(), 1);
    let web = find(&targets, "//apps/web:build");
    assert_eq!(web.deps[0].to_string(), "//packages/core:build");
    assert!(!web.manual, "it is built, in each build anew");
}
