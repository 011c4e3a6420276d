//! Lock files of package managers: a change runs the scripts of the packages that use what changed, and no others.

use std::fs;

use zako_tests::{Project, Running, git};

/// The packages of an npm lock file, with the versions of what lies in `node_modules`.
fn npm_lock(vite: &str, esbuild: &str, lodash: &str, typescript: &str) -> String {
    serde_json::json!({
        "name": "acme", "lockfileVersion": 3, "requires": true,
        "packages": {
            "": {"name": "acme", "workspaces": ["*/*"], "devDependencies": {"typescript": "^5.0.0"}},
            "apps/web": {"name": "@m/web", "dependencies": {"@m/ui": "*"}, "devDependencies": {"vite": "^5.0.0"}},
            "apps/api": {"name": "@m/api"},
            "packages/ui": {"name": "@m/ui", "dependencies": {"lodash": "^4.0.0"}},
            "node_modules/@m/web": {"resolved": "apps/web", "link": true},
            "node_modules/@m/api": {"resolved": "apps/api", "link": true},
            "node_modules/@m/ui": {"resolved": "packages/ui", "link": true},
            "node_modules/vite": {"version": vite, "integrity": format!("sha512-v{vite}"), "dev": true, "dependencies": {"esbuild": "*"}},
            "node_modules/esbuild": {"version": esbuild, "integrity": format!("sha512-e{esbuild}"), "dev": true},
            "node_modules/lodash": {"version": lodash, "integrity": format!("sha512-l{lodash}")},
            "node_modules/typescript": {"version": typescript, "integrity": format!("sha512-t{typescript}"), "dev": true},
        },
    })
    .to_string()
}

/// The same of pnpm.
fn pnpm_lock(vite: &str, esbuild: &str, lodash: &str, typescript: &str) -> String {
    let member = |needs: &[(&str, &str)]| {
        let needs = needs.iter();
        let needs = needs.map(|(name, version)| {
            format!("      '{name}':\n        specifier: '*'\n        version: {version}\n")
        });
        format!("    dependencies:\n{}", needs.collect::<String>())
    };
    let version = |name: &str, version: &str| {
        format!("  {name}@{version}:\n    resolution: {{integrity: sha512-{version}}}\n\n")
    };
    let all = [
        ("vite", vite),
        ("esbuild", esbuild),
        ("lodash", lodash),
        ("typescript", typescript),
    ];
    let packages: String = all.iter().map(|(name, it)| version(name, it)).collect();
    let [_, rest @ ..] = all;
    let rest: String = rest
        .iter()
        .map(|(name, it)| format!("  {name}@{it}: {{}}\n\n"))
        .collect();
    format!(
        "lockfileVersion: '9.0'\n\nimporters:\n\n  .:\n{}\n  apps/api: {{}}\n\n  apps/web:\n{}\n  packages/ui:\n{}\n\
         packages:\n\n{packages}snapshots:\n\n  vite@{vite}:\n    dependencies:\n      esbuild: {esbuild}\n\n{rest}",
        member(&[("typescript", typescript)]),
        member(&[("@m/ui", "link:../../packages/ui"), ("vite", vite)]),
        member(&[("lodash", lodash)]),
    )
}

/// `@m/web` needs `@m/ui`; `@m/api` needs nobody.
fn project() -> Project {
    let project = Project::new();
    fs::remove_file(project.root().join("zako.toml")).unwrap();
    project.write(
        "package.json",
        r#"{"name": "acme", "workspaces": ["*/*"], "devDependencies": {"typescript": "^5.0.0"}}"#,
    );
    project.write(
        "pnpm-workspace.yaml",
        "packages: ['apps/*', 'packages/*']\n",
    );
    project.write(".gitignore", "dist\n.zako\n");
    for (dir, name, needs) in [
        (
            "apps/web",
            "web",
            r#""dependencies": {"@m/ui": "*"}, "devDependencies": {"vite": "^5.0.0"}"#,
        ),
        ("apps/api", "api", r#""dependencies": {}"#),
        (
            "packages/ui",
            "ui",
            r#""dependencies": {"lodash": "^4.0.0"}"#,
        ),
    ] {
        let build = format!("echo {name} >> $RAN; mkdir -p dist; echo {name} > dist/out");
        let package =
            format!(r#"{{"name": "@m/{name}", {needs}, "scripts": {{"build": "{build}"}}}}"#);
        project.write(&format!("{dir}/package.json"), &package);
    }
    project
}

const NPM: &str = "package-lock.json";

#[test]
fn a_bump_runs_whoever_uses_what_was_bumped_and_why_names_it() {
    type Lock = fn(&str, &str, &str, &str) -> String;
    let both: [(&str, Lock); 2] = [(NPM, npm_lock), ("pnpm-lock.yaml", pnpm_lock)];
    for (file, lock) in both {
        let project = project();
        let write = |versions: [&str; 4]| {
            let [vite, esbuild, lodash, typescript] = versions;
            project.write(file, &lock(vite, esbuild, lodash, typescript));
        };
        let why = |label: &str| project.zako(&["why", label]).succeeds().stdout;
        write(["5.4.1", "0.21.0", "4.17.20", "5.6.2"]);
        project.build();
        assert_eq!(project.ran(), ["api", "ui", "web"], "{file}");
        project.build();
        assert!(project.ran().is_empty(), "{file}");

        write(["5.4.2", "0.21.0", "4.17.20", "5.6.2"]);
        let dry = project.zako(&["build", "--dry"]).succeeds().stdout;
        assert_eq!(
            dry,
            format!("//apps/web:build: vite 5.4.1 → 5.4.2 in {file}\n")
        );
        let now = format!("now: not up to date: vite 5.4.1 → 5.4.2 in {file}\n");
        assert!(why("//apps/web:build").contains(&now), "{file}");
        project.build();
        assert_eq!(project.ran(), ["web"], "{file}");
        let last = format!("because:\n    vite 5.4.1 → 5.4.2 in {file}\n");
        assert!(why("//apps/web:build").contains(&last), "{file}");
        assert!(
            why("//apps/api:build").contains("now: up to date"),
            "{file}"
        );

        // What it needs in turn, and what a package of the workspace that it needs does.
        write(["5.4.2", "0.21.1", "4.17.20", "5.6.2"]);
        project.build();
        assert_eq!(project.ran(), ["web"], "{file}");
        write(["5.4.2", "0.21.1", "4.17.21", "5.6.2"]);
        project.build();
        assert_eq!(project.ran(), ["ui", "web"], "{file}");
        // Programs of the root are everybody's.
        write(["5.4.2", "0.21.1", "4.17.21", "5.6.3"]);
        project.build();
        assert_eq!(project.ran(), ["api", "ui", "web"], "{file}");
        let why = why("//apps/api:build");
        assert!(
            why.contains(&format!("typescript 5.6.2 → 5.6.3 in {file}")),
            "{why}"
        );
        // As it was: nothing has to run for that.
        write(["5.4.2", "0.21.1", "4.17.21", "5.6.2"]);
        project.build();
        assert!(project.ran().is_empty(), "{file}");
    }
}

#[test]
fn a_lock_file_that_is_not_understood_counts_as_a_whole() {
    let project = project();
    let lock = npm_lock("5.4.1", "0.21.0", "4.17.20", "5.6.2");
    project.write(NPM, &lock);
    project.build();
    project.ran();
    let damaged = lock.replacen("\"lockfileVersion\":3", "\"lockfileVersion\":", 1);
    assert_ne!(damaged, lock);
    for text in [damaged.as_str(), &lock[..lock.len() / 2], "<<<<<<< HEAD\n"] {
        project.write(NPM, text);
        let said = project.build().text();
        let warning = "warning: package-lock.json: it cannot be read: ";
        assert!(said.contains(warning), "{said}");
        assert!(
            said.contains("every change of it runs the scripts of all packages again"),
            "{said}"
        );
        assert_eq!(project.ran(), ["api", "ui", "web"]);
        let again = project.build().text();
        assert!(again.contains(warning), "{again}");
        assert!(project.ran().is_empty());
    }
    // A version that nobody knows yet is no mistake of whoever has it.
    let newer = lock.replacen("\"lockfileVersion\":3", "\"lockfileVersion\":9", 1);
    project.write(NPM, &newer);
    let said = project.build().text();
    assert!(!said.contains("warning"), "{said}");
    assert_eq!(project.ran(), ["api", "ui", "web"]);
    project.write(NPM, &format!("{newer}\n"));
    project.build();
    assert_eq!(project.ran(), ["api", "ui", "web"]);
    let doctor = project.zako(&["doctor"]).succeeds().stdout;
    assert!(
        doctor.contains("version 9 of its format is not known"),
        "{doctor}"
    );
    project.write(NPM, &lock);
    let doctor = project.zako(&["doctor"]).succeeds().stdout;
    assert!(doctor.contains("ok    package-lock.json"), "{doctor}");
}

#[test]
fn a_package_that_the_lock_file_does_not_name_counts_all_of_it() {
    let project = project();
    let lock = npm_lock("5.4.1", "0.21.0", "4.17.20", "5.6.2");
    let without = lock.replace("\"apps/api\":{\"name\":\"@m/api\"},", "");
    assert_ne!(without, lock);
    project.write(NPM, &without);
    project.write("bun.lockb", "1");
    project.build();
    project.ran();
    project.write(NPM, &without.replace("5.4.1", "5.4.2"));
    project.build();
    assert_eq!(project.ran(), ["api", "web"]);
    // Only Bun knows what that says.
    project.write("bun.lockb", "2");
    project.build();
    assert_eq!(project.ran(), ["api", "ui", "web"]);
    fs::remove_file(project.root().join(NPM)).unwrap();
    project.build();
    assert_eq!(project.ran(), ["api", "ui", "web"]);
}

#[test]
fn a_task_that_names_the_lock_file_reads_all_of_it() {
    let project = project();
    project.write(
        "turbo.json",
        r#"{"tasks": {"@m/api#build": {"inputs": ["$TURBO_ROOT$/package-lock.json"]}}}"#,
    );
    project.write(NPM, &npm_lock("5.4.1", "0.21.0", "4.17.20", "5.6.2"));
    project.build();
    project.ran();
    project.write(NPM, &npm_lock("5.4.2", "0.21.0", "4.17.20", "5.6.2"));
    project.build();
    assert_eq!(project.ran(), ["api", "web"]);
}

#[test]
fn affected_compares_with_what_the_lock_file_said_then() {
    let project = project();
    let root = project.root();
    let commit = || {
        git(&root, &["add", "-A"]);
        git(
            &root,
            &[
                "-c",
                "user.name=a",
                "-c",
                "user.email=a@b",
                "commit",
                "-qm",
                "x",
            ],
        );
    };
    git(&root, &["init", "-q"]);
    commit();
    project.write(NPM, &npm_lock("5.4.1", "0.21.0", "4.17.20", "5.6.2"));
    commit();
    let affected = |reference: &str| {
        let outcome = project.zako(&["affected", "--since", reference]);
        outcome.succeeds().stdout
    };
    let all = "//apps/api:build\n//packages/ui:build\n//apps/web:build\n";
    assert_eq!(affected("HEAD"), "");
    assert_eq!(affected("HEAD~1"), all, "it is new");
    project.build();
    project.ran();
    project.write(NPM, &npm_lock("5.4.2", "0.21.0", "4.17.20", "5.6.2"));
    assert_eq!(affected("HEAD"), "//apps/web:build\n");
    project.zako(&["build", "--since", "HEAD"]).succeeds();
    assert_eq!(project.ran(), ["web"]);
    project.write(NPM, &npm_lock("5.4.1", "0.21.0", "4.17.20", "5.6.3"));
    assert_eq!(affected("HEAD"), all);
    project.write(NPM, "{");
    assert_eq!(affected("HEAD"), all);
    fs::remove_file(root.join(NPM)).unwrap();
    assert_eq!(affected("HEAD"), all);
}

#[test]
fn watch_builds_whoever_uses_what_was_bumped() {
    let project = project();
    let settled = |watch: &mut Running| {
        let line = watch.line();
        assert!(line.starts_with("watching "), "{line:?}");
    };
    let mut watch = project.start(&["watch"]);
    settled(&mut watch);
    assert_eq!(project.ran(), ["api", "ui", "web"]);
    // It was not there before.
    project.write(NPM, &npm_lock("5.4.1", "0.21.0", "4.17.20", "5.6.2"));
    settled(&mut watch);
    assert_eq!(project.ran(), ["api", "ui", "web"]);
    project.write(NPM, &npm_lock("5.4.2", "0.21.0", "4.17.20", "5.6.2"));
    settled(&mut watch);
    assert_eq!(project.ran(), ["web"]);
    watch.signal("INT");
    let said = watch.wait().text();
    assert!(said.contains("package-lock.json changed"), "{said}");
}
