//! Sound results: whether a step can have left what a cache says that it left.
//!
//! Owns that question, which is asked before anything of a result is used. Does not know where a result comes from, nor what is said
//! of one that is not sound.
//! Invariants: the outputs of a sound result are sorted, lie in the workspace outside of what is zako's and git's, where the target
//! declares them, and none lies below one that is no directory; of a command's none is lacking. Links may lead anywhere, as those that
//! commands leave do: nothing of the same result lies behind one.

use std::ops::Range;

use crate::engine::ledger::may_be_output;
use crate::engine::record::{Input, OutputItem, OutputKind, item_at};
use crate::lang::label::{FETCHED_DIR, is_within};
use crate::lang::target::{Command, Output, Target, Transpile, Work, join};
use crate::lang::text::Text;
use crate::transpile::{declaration_path, source_paths};

/// What of `outputs` the step of `target`, which reads `inputs`, cannot have left, or has to have left and did not.
pub fn flaw(target: &Target, inputs: &[Input], outputs: &[OutputItem]) -> Option<String> {
    if !outputs.is_sorted_by(|before, item| before.path < item.path) {
        return Some(format!("{}: its outputs are in no order", target.label));
    }
    let mut passed = None;
    let mut items = outputs.iter();
    let misplaced = items.find(|item| {
        let parent = item.path.rsplit_once('/').map(|(parent, _)| parent);
        let is_new = parent != passed;
        passed = parent;
        !is_place(target, &item.path) || !is_whole(item) || is_new && is_behind(outputs, &item.path)
    });
    let misplaced = misplaced.map(|item| item.path.as_str());
    let wrong = misplaced.or_else(|| match &target.work {
        Work::Command(command) => undeclared(command, outputs),
        Work::Transpile(step) => {
            let mut items = outputs.iter();
            let stranger = items.find(|item| !may_become(step, inputs, item));
            stranger.map(|item| item.path.as_str())
        }
        Work::Group | Work::Unfinished { .. } => outputs.first().map(|item| item.path.as_str()),
    });
    let wrong = wrong.map(|path| format!("{}: {path:?}", target.label));
    let lacking = || match &target.work {
        Work::Command(command) if command.in_place.is_none() => {
            let mut outs = command.outs.iter();
            let lacking = outs.find(|out| !is_left(out, outputs))?;
            Some(format!("{}: no {}", target.label, lacking.show()))
        }
        _ => None,
    };
    wrong.or_else(lacking)
}

/// Whether `items` are what becomes of one file whose code goes to `out`.
pub fn is_of_file(out: &str, items: &[OutputItem]) -> bool {
    let mut places = [out.to_owned(), format!("{out}.map"), declaration_path(out)].into_iter();
    let has_code = items.first().is_some_and(|item| item.path == *out);
    has_code
        && items
            .iter()
            .all(|item| is_file(item) && places.any(|place| item.path == *place))
}

/// Whether an output of `target` may lie at `path`. A package that was fetched has its outputs beside its sources.
fn is_place(target: &Target, path: &str) -> bool {
    let dir = target.label.dir();
    let below = path
        .strip_prefix(dir)
        .filter(|_| is_within(dir, FETCHED_DIR));
    may_be_output(below.and_then(|it| it.strip_prefix('/')).unwrap_or(path))
}

/// Whether it is something that can be written.
fn is_whole(item: &OutputItem) -> bool {
    match &item.kind {
        OutputKind::Link(to) => !to.is_empty() && !to.contains('\0'),
        OutputKind::File { .. } | OutputKind::Directory => true,
    }
}

fn is_file(item: &OutputItem) -> bool {
    matches!(item.kind, OutputKind::File { .. })
}

/// Whether `path` lies below one of `outputs` that is no directory.
fn is_behind(outputs: &[OutputItem], path: &str) -> bool {
    let mut above = path.match_indices('/').map(|(end, _)| &path[..end]);
    above.any(|dir| item_at(outputs, dir).is_some_and(|item| item.kind != OutputKind::Directory))
}

/// The first of `outputs` that `command` does not declare, or declares as something else.
fn undeclared<'a>(command: &Command, outputs: &'a [OutputItem]) -> Option<&'a str> {
    let script = command.in_place.as_deref();
    let mut declared = vec![false; outputs.len()];
    for out in &command.outs {
        match out {
            Output::File(path) | Output::Tree(path) => {
                // What a script declares may be a directory or a file, whichever it says.
                let is_tree = script.is_some() || matches!(out, Output::Tree(_));
                if let Ok(place) = place_of(outputs, path) {
                    let is_directory = outputs[place].kind == OutputKind::Directory;
                    declared[place] |= script.is_some() || is_directory == is_tree;
                }
                if is_tree {
                    declared[below(outputs, path)].fill(true);
                }
            }
            Output::Glob(pattern) => {
                for (declared, item) in declared.iter_mut().zip(outputs) {
                    *declared |= pattern.matches(&item.path);
                }
            }
        }
    }
    let is_excluded = |path: &str| {
        let mut excluded = script.iter().flat_map(|script| &script.out_exclude);
        excluded.any(|pattern| pattern.matches(path))
    };
    let mut items = outputs.iter().zip(declared);
    let found = items.find(|(item, is_declared)| !is_declared || is_excluded(&item.path));
    found.map(|(item, _)| item.path.as_str())
}

/// Whether something of `out` is among `outputs`.
fn is_left(out: &Output, outputs: &[OutputItem]) -> bool {
    match out {
        Output::File(path) => place_of(outputs, path).is_ok(),
        Output::Tree(dir) => place_of(outputs, dir).is_ok() || !below(outputs, dir).is_empty(),
        Output::Glob(pattern) => outputs.iter().any(|item| pattern.matches(&item.path)),
    }
}

/// Whether `item` may be what `step` makes of one of `inputs`.
fn may_become(step: &Transpile, inputs: &[Input], item: &OutputItem) -> bool {
    let Some(below) = item.path.strip_prefix(&*step.out) else {
        return false;
    };
    let below = below.trim_start_matches('/');
    let is_read = |source: String| {
        let source = join(&step.root, &source);
        inputs
            .binary_search_by(|input| (*input.path).cmp(&*source))
            .is_ok()
    };
    // JavaScript becomes what it is called already.
    let mut sources = source_paths(below).chain([below.to_owned()]);
    is_file(item) && is_within(&item.path, &step.out) && sources.any(is_read)
}

fn place_of(outputs: &[OutputItem], path: &Text) -> Result<usize, usize> {
    outputs.binary_search_by(|item| item.path.cmp(path))
}

/// Where in `outputs` those are that lie below `dir`.
fn below(outputs: &[OutputItem], dir: &str) -> Range<usize> {
    if dir.is_empty() {
        return 0..outputs.len();
    }
    // They have its name and a slash before them, and `0` is what comes after that.
    let first = |end: char| {
        let bound = format!("{dir}{end}");
        outputs.partition_point(|item| *item.path < *bound)
    };
    first('/')..first('0')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::hash::Hash;
    use crate::engine::record::InputContent;
    use crate::lang::label::Label;
    use crate::lang::locate::At;
    use crate::lang::pattern::Pattern;
    use crate::lang::target::InPlace;

    fn target(label: &str, work: Work) -> Target {
        Target {
            label: Label::parse(label, "").unwrap(),
            at: At::file("BUILD.ts".to_owned()),
            srcs: Vec::new(),
            deps: Vec::new(),
            work,
            manual: false,
            rule: None,
        }
    }

    fn outs(outs: &[&str]) -> Vec<Output> {
        let out = |text: &&str| match text.strip_suffix('/') {
            Some(dir) => Output::Tree(dir.into()),
            None if Pattern::is_wild(text) => Output::Glob(Pattern::parse(text).unwrap()),
            None => Output::File((*text).into()),
        };
        outs.iter().map(out).collect()
    }

    fn command(declared: &[&str]) -> Target {
        let command = Command {
            outs: outs(declared),
            ..Command::default()
        };
        target("//:a", Work::Command(command))
    }

    /// Files; with `@` at the end links, with `/` directories.
    fn items(texts: &[&str]) -> Vec<OutputItem> {
        let item = |text: &&str| {
            let (path, kind) = if let Some(path) = text.strip_suffix('@') {
                (path, OutputKind::Link("/usr/bin/env".into()))
            } else if let Some(path) = text.strip_suffix('/') {
                (path, OutputKind::Directory)
            } else {
                let (hash, size_bytes, mode) = (Hash::of(b""), 0, 0o644);
                let kind = OutputKind::File {
                    hash,
                    size_bytes,
                    mode,
                };
                (*text, kind)
            };
            let path = path.into();
            OutputItem { path, kind }
        };
        texts.iter().map(item).collect()
    }

    fn is_sound(target: &Target, outputs: &[&str]) -> bool {
        flaw(target, &[], &items(outputs)).is_none()
    }

    #[test]
    fn what_a_command_declares_is_sound_and_nothing_else_is() {
        let file = command(&["o"]);
        for sound in ["o", "o@"] {
            assert!(is_sound(&file, &[sound]), "{sound}");
        }
        let bad = [
            "o/",
            "p",
            "../o",
            "/o",
            "./o",
            "o/p",
            ".git/hooks/o",
            ".zako/o",
            "o\n",
        ];
        for bad in bad {
            assert!(!is_sound(&file, &[bad]), "{bad}");
            assert!(!is_sound(&file, &["o", bad]), "{bad}");
        }
        assert!(!is_sound(&file, &[]));
        assert!(!is_sound(&file, &["o", "o"]));
        let tree = command(&["d/"]);
        for sound in [&["d/"][..], &["d/a", "d/b/c", "d/e@"], &["d/a-", "d/a/b"]] {
            assert!(is_sound(&tree, sound), "{sound:?}");
        }
        let bad = [
            &["d"][..],
            &["d@"],
            &["d-"],
            &["d0"],
            &["d/../o"],
            &["d/a//b"],
            &["d/a@", "d/a/b"],
            &["d/a", "d/a-", "d/a/b/c"],
            &["d/b", "d/a"],
        ];
        for bad in bad {
            assert!(!is_sound(&tree, bad), "{bad:?}");
        }
        let glob = command(&["g/**/*.o", "g/x"]);
        assert!(is_sound(&glob, &["g/a/b.o", "g/x"]));
        assert!(!is_sound(&glob, &["g/a/b.o"]));
        assert!(!is_sound(&glob, &["g/x"]));
        assert!(!is_sound(&glob, &["g/.git/b.o", "g/a.o", "g/x"]));
        // Everything, but not what is git's.
        let all = command(&[".git/x", "**"]);
        assert!(!is_sound(&all, &[".git/x", "a"]));
    }

    #[test]
    fn a_script_may_leave_less_and_not_what_it_excludes() {
        let script = InPlace {
            out_exclude: vec![Pattern::parse("d/x/**").unwrap()],
            ..in_place()
        };
        let command = Command {
            outs: outs(&["d", "t/", "u"]),
            in_place: Some(Box::new(script)),
            ..Command::default()
        };
        let script = target("//:a", Work::Command(command));
        for sound in [&[][..], &["d/", "t"], &["d/a", "t/b", "u"]] {
            assert!(is_sound(&script, sound), "{sound:?}");
        }
        for bad in [&["d/x/y"][..], &["e"], &["../d"]] {
            assert!(!is_sound(&script, bad), "{bad:?}");
        }
    }

    fn in_place() -> InPlace {
        InPlace {
            bins: Vec::new(),
            inner: Vec::new(),
            above: [].into(),
            out_exclude: Vec::new(),
            named: 0,
            reads_usual: false,
            shares: false,
            shared_env: Vec::new(),
            shared_open_env: Vec::new(),
            open_env: Vec::new(),
            installed: Vec::new(),
            cached: true,
            persistent: false,
        }
    }

    #[test]
    fn a_file_becomes_what_is_named_after_it() {
        let step = Transpile {
            root: "src".to_owned(),
            out: String::new(),
            include: Vec::new(),
            options: crate::transpile::TranspileOptions::default(),
        };
        let step = target("//:a", Work::Transpile(Box::new(step)));
        let inputs = ["src/a.ts", "src/b.js", "src/c.css"].map(|path| Input {
            path: path.into(),
            content: InputContent::Directory,
        });
        let is_sound = |outputs: &[&str]| flaw(&step, &inputs, &items(outputs)).is_none();
        assert!(is_sound(&["a.d.ts", "a.js", "a.js.map", "b.js"]));
        for bad in ["b.ts", "c.css.js", "BUILD.ts", "a.js@", "../a.js", "x.js"] {
            assert!(!is_sound(&[bad]), "{bad}");
        }
        let is_of = |texts: &[&str]| is_of_file("d/a.js", &items(texts));
        assert!(is_of(&["d/a.js"]) && is_of(&["d/a.js", "d/a.js.map", "d/a.d.ts"]));
        for bad in [
            &[][..],
            &["d/a.js.map"],
            &["d/a.js", "d/a.js"],
            &["d/a.js", "x"],
            &["d/a.js@"],
        ] {
            assert!(!is_of(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_fetched_package_has_its_outputs_where_it_lies() {
        let command = Command {
            outs: outs(&[".zako/packages/p/o", ".zako/packages/q"]),
            ..Command::default()
        };
        let mut fetched = target("//:a", Work::Command(command));
        fetched.label = Label::new(".zako/packages/p", "a").unwrap();
        let (own, other) = (".zako/packages/p/o", ".zako/packages/q");
        assert!(!is_sound(&fetched, &[own, other]));
        if let Work::Command(command) = &mut fetched.work {
            command.outs.pop();
        }
        assert!(is_sound(&fetched, &[own]));
    }
}
