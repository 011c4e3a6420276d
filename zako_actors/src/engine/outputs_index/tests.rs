//! Who may write what: clashes, sources, and private places.

use super::*;
use crate::engine::graph::tests::targets;
use crate::lang::locate::flat;

fn index(list: &[(&str, &[&str], &[&str])]) -> Result<OutputIndex, String> {
    let (index, mistakes) = OutputIndex::new(&targets(list), &|_| String::new());
    let mistake = mistakes.first().map(|(_, mistake)| flat(mistake));
    mistake.map_or(Ok(index), Err)
}

#[test]
fn two_writers_of_one_path_are_refused() {
    let error = index(&[("//a:x", &[], &["o"]), ("//a:y", &[], &["o"])]).unwrap_err();
    assert!(error.contains("//a:x and //a:y both write a/o"), "{error}");
    let error = index(&[("//a:x", &[], &["d/"]), ("//a:y", &[], &["d/o"])]).unwrap_err();
    assert!(error.contains("both write a/d/o"), "{error}");
    assert!(index(&[("//a:x", &[], &["d/"]), ("//b:y", &[], &["d/"])]).is_ok());
    assert!(index(&[("//a:x", &[], &["d/", "d/e"])]).is_ok());
}

#[test]
fn nothing_lies_in_what_is_declared_as_a_file() {
    for outs in [["o", "o/p"], ["o/q/p", "o"], ["o", "o/p/"], ["o", "o/*.h"]] {
        let error = index(&[("//a:x", &[], &outs)]).unwrap_err();
        let said = "//a:x declares a/o as a file, and a/o/";
        assert!(error.contains(said), "{error}");
        assert!(error.contains("declare it as `o/`"), "{error}");
    }
    let error = index(&[("//a:x", &[], &["o", "o/"])]).unwrap_err();
    assert!(
        error.contains("a/o as a file and as a directory"),
        "{error}"
    );
    for (one, other) in [("//a:x", "//a:y"), ("//a:y", "//a:x")] {
        let error = index(&[(one, &[], &["o"]), (other, &[], &["o/p"])]).unwrap_err();
        let said = format!("{one} declares a/o as a file, and {other} writes a/o/p in it");
        assert!(error.contains(&said), "{error}");
    }
    assert!(index(&[("//a:x", &[], &["o", "op", "p/o", "p/q/o"])]).is_ok());
    assert!(index(&[("//a:x", &[], &["o/", "o/p", "o/q/", "o/*.h"])]).is_ok());
}

#[test]
fn of_many_clashes_the_first_path_is_named() {
    let outs: Vec<String> = (0..9).rev().map(|n| format!("d/{n}")).collect();
    let outs: Vec<&str> = outs.iter().map(String::as_str).collect();
    let error = index(&[("//a:x", &[], &["d/"]), ("//a:y", &[], &outs)]).unwrap_err();
    assert!(error.contains("both write a/d/0;"), "{error}");
}

#[test]
fn writers_are_found_by_file_tree_and_pattern() {
    let targets = targets(&[
        ("//a:file", &[], &["o"]),
        ("//a:glob", &[], &["gen/*.h"]),
        ("//a:root", &[], &["*.out"]),
        ("//a:tree", &[], &["d/"]),
    ]);
    let writers = Writers::new(&targets);
    let of = |path: &str| {
        let found = writers.of(path).into_iter();
        let names = found.map(|id| targets[id.index()].label.name().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(of("a/o"), ["file"]);
    assert_eq!(of("a/gen/x.h"), ["glob"]);
    assert_eq!(of("a/x.out"), ["root"]);
    assert_eq!(of("a/d/e/f"), ["tree"]);
    assert!(of("a/gen/x.c").is_empty() && of("b/o").is_empty());
}

#[test]
fn what_belongs_to_zako_and_git_is_no_output() {
    for out in [".zako/x", ".git/", ".zako/*.txt"] {
        let error = index(&[("//:x", &[], &[out])]).unwrap_err();
        assert!(error.contains("not for outputs"), "{error}");
    }
    assert!(index(&[("//:x", &[], &[".gitignore", ".zakorc"])]).is_ok());
    assert!(index(&[("//.zako/packages/p/a:x", &[], &["x"])]).is_ok());
    assert!(index(&[("//.zako/other:x", &[], &["x"])]).is_err());
}

#[test]
fn outputs_are_no_sources() {
    let index = index(&[
        ("//a:x", &[], &["o", "d/", "gen/*.h"]),
        ("//:r", &[], &["*.out"]),
    ])
    .unwrap();
    for output in ["a/o", "a/d", "a/d/e/f", "a/gen/x.h", "z.out"] {
        assert!(index.covers(output), "{output}");
    }
    for source in ["a/p", "a/dd", "a/gen/x.c", "a/z.out"] {
        assert!(!index.covers(source), "{source}");
    }
}
