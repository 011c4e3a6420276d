//! Real lock files of one workspace, as each package manager writes it, with changes whose consequences are known.

use std::collections::BTreeSet;

use super::*;
use crate::engine::cause::{Cause, changed_parts, short};

/// One workspace as each of them locks it: `@m/web` needs `@m/ui`, and `@m/core` stands alone.
const SAMPLES: [(&str, &str); 6] = [
    (
        "package-lock.json",
        include_str!("samples/package-lock.json"),
    ),
    ("pnpm-lock.yaml", include_str!("samples/pnpm-6.yaml")),
    ("pnpm-lock.yaml", include_str!("samples/pnpm-9.yaml")),
    ("yarn.lock", include_str!("samples/classic.lock")),
    ("yarn.lock", include_str!("samples/berry.lock")),
    ("bun.lock", include_str!("samples/bun.lock")),
];

const ROOT: &str = "";
const WEB: &str = "apps/web";
const UI: &str = "packages/ui";
const CORE: &str = "packages/core";

/// The beginnings of what tells a package's content in most of them, and in the newer ones of Yarn; who needs it.
const CHANGES: [([&str; 2], &[&str]); 9] = [
    (["PRWFHuSU3e", "cedbec4529"], &[WEB]),     // debug
    (["sGkPx+VjMt", "a437714e2f"], &[WEB]),     // its ms
    (["RdJUflcE3c", "e248708d37"], &[WEB]),     // js-tokens of loose-envify
    (["Tpp60P6IUJ", "f8fda810b3"], &[UI, WEB]), // ms of @m/ui
    (["41Cifkg6e8", "b4686d0d30"], &[UI, WEB]), // is-number, which it calls lg
    (["NB1ctGL5rl", "7e581d6795"], &[UI, WEB]), // semver
    (["3wdGidZyq5", "2286b5e8db"], &[UI, WEB]), // yallist of lru-cache of semver
    (["6FlzubTLZG", "d924b57e73"], &[CORE]),    // ms of @m/core
    (["Wu1VHeILBK", "5da4c68401"], &[ROOT, WEB, UI, CORE]), // is-number of the root's is-odd
];

fn needs(dir: &str, name: &str, needs: &[(&str, &str)]) -> Needs {
    let needs = needs.iter();
    Needs {
        dir: dir.into(),
        name: name.into(),
        needs: needs.map(|(a, b)| ((*a).into(), (*b).into())).collect(),
        overridden: Vec::new(),
    }
}

fn members() -> Vec<Needs> {
    vec![
        needs(ROOT, "root", &[("is-odd", "3.0.0")]),
        needs(
            WEB,
            "@m/web",
            &[
                ("@m/ui", "1.0.0"),
                ("debug", "4.3.4"),
                ("loose-envify", "1.4.0"),
            ],
        ),
        needs(
            UI,
            "@m/ui",
            &[
                ("ms", "2.0.0"),
                ("lg", "npm:is-number@7.0.0"),
                ("semver", "7.3.8"),
            ],
        ),
        needs(CORE, "@m/core", &[("fsevents", "2.3.2"), ("ms", "2.1.3")]),
    ]
}

fn graph(name: &str, text: &str) -> LockGraph {
    read(name, text, &members()).unwrap_or_else(|why| panic!("{name}: {why}"))
}

/// The directories of packages that resolve to something else in `after`.
fn changed(name: &str, before: &str, after: &str) -> BTreeSet<String> {
    let (before, after) = (graph(name, before).digests(), graph(name, after).digests());
    assert_eq!(before.len(), 4, "{name}");
    let changed = after
        .iter()
        .filter(|(dir, digest)| before[*dir] != **digest);
    changed.map(|(dir, _)| dir.to_string()).collect()
}

fn set(dirs: &[&str]) -> BTreeSet<String> {
    dirs.iter().map(|dir| (*dir).to_owned()).collect()
}

#[test]
fn a_package_is_concerned_by_what_it_and_the_packages_that_it_needs_resolve_to() {
    for (name, text) in SAMPLES {
        for (marks, dirs) in CHANGES {
            let mark = marks.iter().find(|mark| text.contains(**mark));
            let mark = mark.unwrap_or_else(|| panic!("{name} has none of {marks:?}"));
            let after = text.replace(mark, &mark.chars().rev().collect::<String>());
            assert_eq!(changed(name, text, &after), set(dirs), "{name}: {mark}");
        }
    }
}

#[test]
fn what_others_use_a_package_for_does_not_concern_whoever_uses_it_too() {
    let (npm, npm_text) = SAMPLES[0];
    let dev = npm_text.replacen("\"dev\": true,", "\"devOptional\": true,", 9);
    assert_ne!(dev, npm_text);
    assert_eq!(changed(npm, npm_text, &dev), set(&[]));
    let (pnpm, pnpm_text) = SAMPLES[1];
    let dev = pnpm_text.replace("dev: true", "dev: false");
    assert_ne!(dev, pnpm_text);
    assert_eq!(changed(pnpm, pnpm_text, &dev), set(&[]));
}

#[test]
fn a_patch_concerns_whoever_needs_what_is_patched() {
    let (pnpm, text) = SAMPLES[2];
    let patched = text.replace("dc45cf84", "dc45cf85");
    assert_eq!(changed(pnpm, text, &patched), set(&[ROOT, WEB, UI, CORE]));
    let (berry, text) = SAMPLES[4];
    let patched = text.replace("&hash=9bd1a5", "&hash=9bd1a6");
    assert_eq!(changed(berry, text, &patched), set(&[CORE]));
    let (bun, text) = SAMPLES[5];
    let patched = |path: &str| {
        let patches = format!("\"patchedDependencies\": {{ \"debug@4.3.4\": \"{path}\" }},\n  ");
        text.replace("\"packages\": {", &format!("{patches}\"packages\": {{"))
    };
    let (one, other) = (patched("one.patch"), patched("other.patch"));
    assert_eq!(changed(bun, &one, &other), set(&[WEB]));
}

#[test]
fn a_package_of_npm_that_lies_elsewhere_is_another_one() {
    let (npm, text) = SAMPLES[0];
    let moved = text.replace("packages/ui/node_modules/ms", "apps/web/node_modules/ms");
    // What @m/ui finds now is what lies in the root.
    assert_eq!(changed(npm, text, &moved), set(&[UI, WEB]));
}

#[test]
fn what_yarn_is_not_told_to_resolve_is_everything_of_that_name() {
    let text = SAMPLES[3].1;
    let digests = |text: &str| {
        let mut members = members();
        // The lock file is older than this.
        members[3].needs[1].1 = "^2.1.0".into();
        read("yarn.lock", text, &members).unwrap().digests()
    };
    let after = text.replace("sGkPx+VjMt", "sGkPx+VjMu");
    assert_ne!(digests(text)[CORE], digests(&after)[CORE]);
}

#[test]
fn what_yarn_takes_instead_of_what_is_asked_for_is_everything_of_that_name() {
    for name in ["ms", "debug/ms", "**/ms", "debug/ms@^2"] {
        let package = PackageJson::parse("", r#"{"name": "root"}"#).unwrap();
        let text = format!(
            r#"{{"dependencies": {{"is-odd": "3.0.0"}}, "resolutions": {{"{name}": "2.1.3"}}}}"#
        );
        let mut members = members();
        members[0] = Needs::of(&package, &text);
        for (file, text, mark) in [
            ("yarn.lock", SAMPLES[3].1, "6FlzubTLZG"),
            ("yarn.lock", SAMPLES[4].1, "d924b57e73"),
        ] {
            let digests = |text: &str| read(file, text, &members).unwrap().digests();
            let (was, now) = (digests(text), digests(&text.replace(mark, "other")));
            let changed = now.iter().filter(|(dir, digest)| was[*dir] != **digest);
            let changed: Vec<&str> = changed.map(|(dir, _)| &**dir).collect();
            assert_eq!(changed, [WEB, CORE, UI], "{name}");
        }
    }
    let patterns = ["a/**/@b/c@npm:^1", "@b/c", "a@npm:1/@b/c", "@b/c@^1"];
    for pattern in patterns {
        let names = names_in(pattern);
        assert!(names.iter().any(|name| name == "@b/c"), "{pattern}");
    }
    assert!(names_in("a@1/c").contains(&"c".to_owned()));
}

#[test]
fn what_is_not_understood_is_refused() {
    let refused = |name: &str, text: &str| read(name, text, &[]).unwrap_err().to_string();
    for (name, text) in SAMPLES {
        let cut = text.split_at(text.len() / 2).0;
        if name != "yarn.lock" {
            assert!(
                refused(name, cut).starts_with("it cannot be read: "),
                "{name}"
            );
        }
        let conflict = format!("<<<<<<< HEAD\n{text}=======\n>>>>>>> other\n");
        let found = refused(name, &conflict);
        assert!(found.starts_with("it cannot be read: "), "{name}: {found}");
        assert!(read(name, "", &[]).is_err(), "{name}");
    }
    let (npm, text) = SAMPLES[0];
    let first = text.replace("\"lockfileVersion\": 3", "\"lockfileVersion\": 1");
    assert_eq!(refused(npm, &first), "version 1 of its format is not known");
    let old = SAMPLES[1].1.replace("'6.0'", "5.4");
    assert_eq!(
        refused("pnpm-lock.yaml", &old),
        "version 5.4 of its format is not known"
    );
    let next = SAMPLES[4].1.replace("version: 10", "version: 99");
    assert_eq!(
        refused("yarn.lock", &next),
        "version 99 of its format is not known"
    );
    let next = SAMPLES[5]
        .1
        .replace("\"lockfileVersion\": 2", "\"lockfileVersion\": 9");
    assert_eq!(
        refused("bun.lock", &next),
        "version 9 of its format is not known"
    );
    let found = refused("yarn.lock", "# yarn lockfile v1\n\na@1:\n  version \"1\n");
    assert_eq!(found, "it cannot be read: line 4 is not understood");
}

#[test]
fn what_pnpm_refers_to_in_words_that_are_not_known_is_the_whole_file() {
    let (pnpm, text) = SAMPLES[2];
    for unknown in ["version: new:4.3.4", "version: 4", "version: [debug]"] {
        let before = text.replacen("version: 4.3.4", unknown, 1);
        let after = before.replace("6FlzubTLZG", "6FlzubTLZH");
        assert_eq!(
            changed(pnpm, &before, &after),
            set(&[WEB, CORE]),
            "{unknown}"
        );
    }
}

#[test]
fn pnpm_may_write_what_it_is_made_of_before_the_packages() {
    let (pnpm, text) = SAMPLES[2];
    let own = |version: &str| {
        format!(
            "lockfileVersion: '9.0'\n\nimporters:\n\n  .:\n    configDependencies:\n      x: {version}\n\n---\n{text}"
        )
    };
    assert_eq!(changed(pnpm, &own("1.0.0"), &own("1.0.0")), set(&[]));
    let all = set(&[ROOT, WEB, UI, CORE]);
    assert_eq!(changed(pnpm, &own("1.0.0"), &own("1.0.1")), all);
}

#[test]
fn a_change_is_told_by_the_packages_that_changed_the_nearest_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("locks");
    let (npm, text) = SAMPLES[0];
    let bumped = text
        .replace("\"version\": \"4.3.4\"", "\"version\": \"4.3.5\"")
        .replace("sGkPx+VjMt", "sGkPx+VjMu")
        .replace("\"node_modules/js-tokens\"", "\"node_modules/js-tokens2\"");
    let learnt = [text, &bumped].map(|text| {
        let graph = graph(npm, text);
        let digests = graph.digests();
        LockMemory::new(path.clone()).learn(npm, &digests, graph);
        digests
    });
    let causes = |dir: &str| {
        let [was, now] = [&learnt[0], &learnt[1]].map(|digests| {
            let value = digests.get(dir).map_or("gone".into(), short);
            std::iter::once((part(npm).into(), value)).collect()
        });
        let causes = changed_parts(&was, &now);
        let told = LockMemory::new(path.clone()).explain(dir, causes);
        told.iter().map(Cause::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        causes(WEB),
        [
            "debug 4.3.4 → 4.3.5 in package-lock.json",
            "what package-lock.json says of ms 2.1.2 changed",
            "js-tokens 4.0.0 is gone from package-lock.json",
        ]
    );
    assert!(causes(UI).is_empty() && causes(CORE).is_empty());
    // Nobody remembers: it is still said what it was.
    fs::write(&path, "no such thing").unwrap();
    assert_eq!(causes(WEB), ["what is needed by package-lock.json changed"]);
}

#[test]
fn only_the_latest_lock_files_are_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let known = LockMemory::new(dir.path().join("locks"));
    let (npm, text) = SAMPLES[0];
    let learn = |version: u32| {
        let graph = graph(npm, &text.replace("4.3.4", &format!("4.3.{version}")));
        let digests = graph.digests();
        known.learn(npm, &digests, graph);
        std::iter::once((part(npm).into(), short(&digests[WEB]))).collect()
    };
    let versions: Vec<_> = (0..12).map(learn).collect();
    let told = |was: usize| {
        let causes = changed_parts(&versions[was], &versions[11]);
        known.explain(WEB, causes)[0].to_string()
    };
    assert_eq!(told(4), "debug 4.3.4 → 4.3.11 in package-lock.json");
    assert_eq!(told(0), "what is needed by package-lock.json changed");
}
