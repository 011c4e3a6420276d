//! What a person may write, with damage: everything that parses must read or refuse it.
//!
//! Owns the damage and the tests of all readers of the language. `PROPTEST_CASES` sets how much.
//! Invariants tested: no panic, no stack that runs out; what was read means the same when it is
//! written out and read again; what is refused is refused with a place where there is one.

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use crate::engine::locks;
use crate::engine::query;
use crate::lang::amount::bytes;
use crate::lang::descriptor::{BuildFile, read_exports};
use crate::lang::gitignore::ignored;
use crate::lang::integrity::Integrity;
use crate::lang::label::{Label, LabelPattern};
use crate::lang::lockfile::LockFile;
use crate::lang::manifest::Manifest;
use crate::lang::npmrc::Npmrc;
use crate::lang::package_json::PackageJson;
use crate::lang::packages::Packages;
use crate::lang::pattern::Pattern;
use crate::lang::turbo::Turbo;
use crate::lang::workspace_file::WorkspaceFile;

/// One of `seeds` with up to four pieces replaced: by characters that mean something somewhere, by
/// any text, or by another piece of itself.
pub fn damaged(seeds: &'static [&'static str]) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[]\\[{}()*?!@/:.,;\"'`\\\\#=<>$%&|^~+ \n\t\r0-9a-z-]{0,4}",
        ".{0,4}",
        Just(String::from("\u{1}same")),
    ];
    let edits = prop::collection::vec((any::<Index>(), any::<Index>(), piece), 0..5);
    (prop::sample::select(seeds), edits).prop_map(|(seed, edits)| {
        let mut text: Vec<char> = seed.chars().collect();
        for (start, length, put) in edits {
            let start = start.index(text.len() + 1);
            let end = (start + length.index(12)).min(text.len());
            let put: Vec<char> = match put.as_str() {
                "\u{1}same" => text[start..end].repeat(2),
                put => put.chars().collect(),
            };
            text.splice(start..end, put);
        }
        text.into_iter().collect()
    })
}

/// `whole` with some of its values replaced by others.
fn disturbed(whole: Value) -> impl Strategy<Value = Value> {
    let value = prop_oneof![
        Just(json!(null)),
        Just(json!(true)),
        Just(json!(-1)),
        Just(json!(1e300)),
        Just(json!("")),
        Just(json!("../x")),
        Just(json!("//a:b")),
        Just(json!("/\0")),
        Just(json!([])),
        Just(json!([[]])),
        Just(json!({})),
        Just(json!({"$zako": "command"})),
    ];
    prop::collection::vec((any::<Index>(), value), 0..4).prop_map(move |edits| {
        let mut whole = whole.clone();
        for (at, value) in edits {
            let mut places = Vec::new();
            find_places(&whole, String::new(), &mut places);
            let place = places.swap_remove(at.index(places.len()));
            if let Some(there) = whole.pointer_mut(&place) {
                *there = value;
            }
        }
        whole
    })
}

/// JSON pointers to everything in `value`, itself included.
fn find_places(value: &Value, at: String, places: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                find_places(value, format!("{at}/{name}"), places);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                find_places(value, format!("{at}/{index}"), places);
            }
        }
        _ => {}
    }
    places.push(at);
}

const LABELS: &[&str] = &[
    "//a/b:c",
    "@pkg//x/y:z",
    ":t",
    "//...",
    "//a/...",
    "//a/b/...:lint",
    "//a:*",
    "//a:all",
    "...",
    "name",
];
const PATTERNS: &[&str] = &[
    "src/**/*.ts",
    "a/{b,c/{d,e}}/[!x-z]?.rs",
    "**",
    "*.{js,ts}",
    "[]a-é]*/.x/**",
    "a",
];
const QUERIES: &[&str] = &[
    "deps(//a:b, 2) + rdeps(//...) ^ tests(//a/...)",
    "somepath(//a, //b) - allpaths(:x, @p//y:z)",
    "attr(cmd, \"gcc -c\", kind('test', //...)) union (//a intersect //b)",
];
const GITIGNORE: &[&str] =
    &["# made\ndist/\n*.log\n/build\n!keep.log\n.turbo\ncoverage/**\na/b\n\\#x\n[a-z]?\n"];
const MANIFESTS: &[&str] = &[
    "group = \"g\"\nartifact = \"a\"\nversion = \"1.2.3-pre+5\"\nbuilds = [\"**/BUILD.ts\"]\n\
    [dependencies]\nzlib = { path = \"third/zlib\" }\nx = { repo = \"r\", checkout = \"c\" }\n\
    y = { url = \"https://a.org/b.tgz\", integrity = \"sha256-x\" }\nz = { package = \"npm:@a/b@1.0.0\", build = \"b.ts\" }\n\
    [config]\nmode = { type = \"string\", default = \"fast\" }\nmany = 3\n\
    [settings]\njobs = 4\nsandbox = \"strict\"\n[settings.resources]\ngpu = 1\n\
    [tasks.build]\ndepends-on = [\"^build\"]\noutputs = [\"dist/**\", \"!dist/x\"]\n",
];
const PACKAGES: &[&str] = &[
    r#"{"name": "@a/b", "version": "1.0.0", "scripts": {"build": "tsc -b", "test": "vitest"},
    "dependencies": {"@a/c": "workspace:*"}, "workspaces": ["packages/*", "!x"]}"#,
];
const TURBO: &[&str] = &[
    r#"{"tasks": {"build": {"dependsOn": ["^build", "a#b"], "outputs": ["dist/**", "!dist/x"],
    "env": ["CI", "X_*"], "cache": false}, "//#root": {}, "dev": {"persistent": true}}, "globalEnv": ["A"]}"#,
];
const LOCKS: &[&str] = &[
    "# x\nversion = 1\n\n[package.\"a\"]\nsource = \"https://a.org/\\\"b\\\".tgz\"\n\
    integrity = \"sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=\"\n\
    tree = \"blake3-af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262/0\"\n\
    [package.b]\nsource = \"git:r#c\"\ncommit = \"0123456789abcdef0123456789abcdef01234567\"\n\
    tree = \"blake3-af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262/0\"\n",
];
/// Of package managers, by the names of their files.
const FOREIGN_LOCKS: &[(&str, &[&str])] = &[
    (
        "package-lock.json",
        &[
            r#"{"lockfileVersion": 3, "packages": {"": {"dependencies": {"a": "^1.0.0"}}, "b": {"name": "@m/b"},
        "node_modules/@m/b": {"resolved": "b", "link": true}, "node_modules/a": {"version": "1.0.0", "dependencies": {"c": "*"}},
        "node_modules/a/node_modules/c": {"version": "2.0.0", "peerDependencies": {"a": "*"}}}}"#,
        ],
    ),
    (
        "pnpm-lock.yaml",
        &[
            "lockfileVersion: '9.0'\nimporters:\n  .:\n    dependencies:\n      a:\n        version: 1.0.0(c@2.0.0)\n  p/b:\n    \
        dependencies:\n      r:\n        version: link:../..\npatchedDependencies:\n  a@1.0.0: x\npackages:\n  a@1.0.0: {}\n\
        snapshots:\n  a@1.0.0(c@2.0.0):\n    dependencies:\n      c: 2.0.0\n  c@2.0.0: {}\n",
        ],
    ),
    (
        "yarn.lock",
        &[
            "# yarn lockfile v1\n\n\n\"@a/b@^1.0.0 || 2\", c@*:\n  version \"1.0.0\"\n  integrity sha512-x==\n  dependencies:\n    d \"^2\"\n\nd@^2:\n  version \"2.0.0\"\n",
            "__metadata:\n  version: 8\n\n\"a@npm:^1, a@npm:*\":\n  version: 1.0.0\n  resolution: \"a@npm:1.0.0\"\n  dependencies:\n    b: \"*\"\n\n\
            \"b@patch:b@npm%3A*#x\":\n  resolution: \"b@patch:b@npm%3A*#x::h\"\n\n\"r@workspace:.\":\n  resolution: \"r@workspace:.\"\n  linkType: soft\n  \
            peerDependencies:\n    a: \"^1\"\n",
        ],
    ),
    (
        "bun.lock",
        &[
            r#"{"lockfileVersion": 1, "workspaces": {"": {"dependencies": {"a": "1"}}, "w": {"name": "@m/w", "peerDependencies": {"c": "*"}},},
        "patchedDependencies": {"a@1.0.0": "p"}, "packages": {"@m/w": ["@m/w@workspace:w"], "a": ["a@1.0.0", "", {"dependencies": {"c": "*"}}, "sha512-x"],
        "a/c": ["c@2.0.0", "", {}, ""], "@m/w/c": ["c@1.0.0"],}}"#,
        ],
    ),
];
const INTEGRITIES: &[&str] = &[
    "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
    "sha1-x sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==",
    "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
];
const NPMRCS: &[&str] = &[
    "registry=https://a.org/npm/\n@b:registry = \"http://b.org\"\n//a.org/npm/:_authToken=${TOKEN}\n;x\n//b.org/:_auth=eA==\n",
];
const SIZES: &[&str] = &["1g", "512 MiB", "1.5k", "12"];

/// What evaluating a build file may return.
fn exports() -> Value {
    json!({
        "c": {"$zako": "command", "cmd": ["cc", "-c", "a.c"], "srcs": ["a.c", {"$glob": {"include": ["**/*.h"], "exclude": ["x"]}}],
              "deps": [":t", "//b:b"], "outs": ["a.o", "gen/", "d/*.x"], "env": {"A": "1", "B": {"$env": "B*", "default": "0"}},
              "timeoutSeconds": 5.5, "uses": {"cpu": 2, "memory": "1g", "gpu": 1}, "network": true},
        "u": {"$zako": "test", "cmd": ["x", "{shard}"], "retries": 2, "shards": 3, "worker": ["@a"]},
        "t": {"$zako": "transpile", "srcs": ["a.ts"], "root": ".", "out": "dist", "include": ["*.ts"], "sourceMaps": true, "target": "es2022"},
        "r": {"$zako": "rule", "rule": "x.rule.ts#x", "attrs": {"srcs": ["a"]}}
    })
}

const FILE: BuildFile<'static> = BuildFile {
    path: "a/BUILD.ts",
    dir: "a",
    text: "export default {\n  c: target({}),\n};\n",
    packages: &Packages::NONE,
};

proptest! {
    #[test]
    fn labels_are_read_back_as_they_are_written(text in damaged(LABELS)) {
        if let Ok(label) = Label::parse(&text, "here") {
            prop_assert_eq!(Label::parse(&label.to_string(), "elsewhere"), Ok(label));
        }
        if let Ok(pattern) = LabelPattern::parse(&text, "here") {
            prop_assert_eq!(LabelPattern::parse(&pattern.to_string(), "elsewhere"), Ok(pattern));
        }
    }

    #[test]
    fn patterns_match_any_path_or_not(text in damaged(PATTERNS), path in damaged(&["src/a/b.ts", "a/é/.x/y", "a/b/q.rs"])) {
        if let Ok(pattern) = Pattern::parse(&text) {
            if pattern.matches(&path) {
                prop_assert!(pattern.may_match_below(path.rsplit_once('/').map_or("", |(dir, _)| dir)), "{text} {path}");
            }
            let base = pattern.base();
            prop_assert!(base.is_empty() || pattern.may_match_below(base), "{} {}", text, base);
        }
    }

    #[test]
    fn queries_are_read_or_refused(text in damaged(QUERIES)) {
        if let Err(error) = query::parse(&text, "here", &Packages::NONE) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn every_line_of_gitignore_means_something_or_nothing(text in damaged(GITIGNORE), path in damaged(&["a/dist/x.log"])) {
        for pattern in ignored(&text, [&*path]) {
            pattern.matches(&path);
        }
    }

    #[test]
    fn a_manifest_is_whole_or_refused_with_a_place(text in damaged(MANIFESTS)) {
        match Manifest::parse(&text) {
            Ok(manifest) => prop_assert!(manifest.id().contains('@')),
            Err(mistake) => prop_assert!(mistake.location.is_some() || mistake.message.starts_with("missing field"), "{}", mistake.message),
        }
    }

    #[test]
    fn packages_and_tasks_of_others_are_read_or_refused(package in damaged(PACKAGES), turbo in damaged(TURBO)) {
        if let Err(mistake) = PackageJson::parse("a", &package) {
            let at = mistake.location.as_ref().map(|at| at.path.as_str());
            prop_assert_eq!(at, Some("a/package.json"), "{}", mistake.message);
        }
        if let Err(mistake) = Turbo::parse("turbo.json", &turbo) {
            prop_assert!(mistake.location.is_some(), "{}", mistake.message);
        }
    }

    #[test]
    fn a_lock_file_is_whole_or_refused_with_a_place(text in damaged(LOCKS)) {
        match LockFile::parse(&text) {
            Ok(lock) => prop_assert_eq!(LockFile::parse(&lock.text()), Ok(lock)),
            Err(mistake) => prop_assert!(mistake.location.is_some() && mistake.help.is_some(), "{}", mistake.message),
        }
    }

    #[test]
    fn lock_files_of_package_managers_are_read_or_refused(
        (name, text) in prop::sample::select(FOREIGN_LOCKS).prop_flat_map(|(name, seeds)| (Just(name), damaged(seeds))),
    ) {
        match locks::read(name, &text, &[]) {
            Ok(graph) => drop(graph.digests()),
            Err(why) => prop_assert!(why.to_string().contains("cannot be read: ") || why.to_string().contains("is not known"), "{}", why),
        }
    }

    #[test]
    fn a_digest_is_read_back_as_it_is_written(text in damaged(INTEGRITIES)) {
        match Integrity::parse(&text) {
            Ok(digest) => prop_assert_eq!(Integrity::parse(&digest.to_string()), Ok(digest)),
            Err(expected) => prop_assert!(expected.contains("is no digest"), "{}", expected),
        }
    }

    #[test]
    fn npmrc_is_read_and_tokens_stay_with_their_hosts(text in damaged(NPMRCS)) {
        let mut npmrc = Npmrc::default();
        npmrc.add(&text, &|name| Some(format!("of {name}")));
        if let Ok(registry) = npmrc.registry("@b/c") {
            prop_assert!(registry.has_host());
        }
        let strange = "https://elsewhere.example/npm/x".parse().unwrap();
        prop_assert_eq!(npmrc.authorization(&strange), None);
    }

    #[test]
    fn sizes_are_numbers_or_nothing(text in damaged(SIZES)) {
        if let Some(size) = bytes(&text) {
            prop_assert_eq!(bytes(&size.to_string()), Some(size));
        }
    }

    #[test]
    fn whatever_a_script_returns_is_read_or_refused_with_a_place(value in disturbed(exports())) {
        match read_exports(&value, FILE) {
            Ok(exports) => for target in exports.targets {
                prop_assert_eq!(target.label.dir(), "a");
                for output in target.command().iter().flat_map(|command| &command.outs) {
                    prop_assert!(output.show().starts_with("a/"), "{}", output.show());
                }
            },
            Err(mistake) => prop_assert!(
                mistake.location.is_some() || mistake.message.starts_with("a/BUILD.ts"),
                "{}",
                mistake.message
            ),
        }
    }

    #[test]
    fn whatever_the_root_returns_is_read_or_refused(value in disturbed(json!({
        "$zako": "workspace", "builds": ["**/BUILD.ts"], "env": {"A": "1"}, "targets": {"t": {"$zako": "command", "cmd": ["x"]}}
    }))) {
        if let Err(mistake) = WorkspaceFile::read(&value, FILE) {
            prop_assert!(!mistake.message.is_empty());
        }
    }
}

#[test]
fn what_is_nested_or_joined_without_end_is_refused() {
    let nested = format!("{}//a{}", "(".repeat(100_000), ")".repeat(100_000));
    let refused = query::parse(&nested, "", &Packages::NONE)
        .unwrap_err()
        .to_string();
    assert!(refused.contains("nested too deeply"), "{refused}");
    let joined = vec!["//a"; 100_000].join(" + ");
    let refused = query::parse(&joined, "", &Packages::NONE)
        .unwrap_err()
        .to_string();
    assert!(refused.contains("too many parts"), "{refused}");
}
