//! Where scripts of packages leave files: which of these places may be one.
//!
//! Owns the comparison of declared outputs. Does not know what lies there, nor what is left out of them: files whose names begin
//! with a dot escape a glob that seems to mean all of a directory.
//! Invariant: of two commands that can leave a file at one path it is said that they meet; of some that cannot, too.

use super::label::is_within;
use super::pattern::Pattern;
use super::target::{Command, Output};

/// Whether `a` and `b` may leave a file at one path.
pub fn meet(a: &Command, b: &Command) -> bool {
    let mut pairs = a
        .outs
        .iter()
        .flat_map(|a| b.outs.iter().map(move |b| (a, b)));
    pairs.any(|(a, b)| are_one(a, b))
}

/// Of each of `commands`, whether it meets another one. Takes no time for those that do not.
pub fn sharing(commands: &[&Command]) -> Vec<bool> {
    let mut shares = vec![false; commands.len()];
    let all = commands.iter().enumerate();
    let places = all.flat_map(|(index, it)| it.outs.iter().map(move |out| (index, out)));
    let mut places: Vec<(usize, &Output)> = places.collect();
    // What lies below a directory comes right behind it.
    places.sort_by(|(_, a), (_, b)| start(a).split('/').cmp(start(b).split('/')));
    let mut above: Vec<(usize, &Output)> = Vec::new();
    for (index, out) in places {
        while let Some((_, last)) = above.last()
            && !is_within(start(out), start(last))
        {
            above.pop();
        }
        for (other, its) in &above {
            let is_known = shares[index] && shares[*other];
            if *other != index && !is_known && are_one(out, its) {
                (shares[index], shares[*other]) = (true, true);
            }
        }
        above.push((index, out));
    }
    shares
}

/// The file or directory that `out` starts from.
pub fn start(out: &Output) -> &str {
    match out {
        Output::File(path) | Output::Tree(path) => path,
        Output::Glob(pattern) => pattern.base(),
    }
}

/// What a glob of a script, from the workspace root, means of what others leave behind.
pub struct Place<'a> {
    pattern: &'a Pattern,
    is_wild: bool,
}

impl<'a> Place<'a> {
    /// That of `pattern`.
    pub fn of(pattern: &'a Pattern) -> Self {
        let is_wild = Pattern::is_wild(pattern.as_str());
        Self { pattern, is_wild }
    }

    /// The directory, or without wildcards the file, that it starts from.
    pub fn base(&self) -> &'a str {
        match self.is_wild {
            true => self.pattern.base(),
            false => self.pattern.as_str(),
        }
    }

    /// Whether it means something of `out`. What scripts leave lies among sources: of that it means what it names, as
    /// `*/dist/**` does and `**` does not.
    pub fn means(&self, out: &Output, is_script: bool) -> bool {
        let (base, pattern) = (self.base(), self.pattern);
        match out {
            Output::File(path) => pattern.matches(path),
            Output::Tree(dir) if !self.is_wild => is_within(base, dir),
            Output::Tree(dir) if is_script => {
                // What is called a tree may be a file.
                let is_file = || !pattern.as_str().ends_with('*') && pattern.matches(dir);
                is_within(base, dir) || pattern.names(dir) || is_file()
            }
            Output::Tree(dir) => {
                is_within(base, dir) || pattern.may_match_below(dir) || pattern.matches(dir)
            }
            Output::Glob(glob) if !self.is_wild => glob.matches(base),
            Output::Glob(glob) => {
                let start = glob.base();
                let may_meet = glob.may_match_below(base)
                    && (start.is_empty() || pattern.may_match_below(start))
                    && pattern.may_end_alike(glob);
                may_meet
                    && (!is_script
                        || is_within(base, start) && !start.is_empty()
                        || pattern.names(start))
            }
        }
    }

    /// Whether `exclude` leaves all of `out` out again.
    pub fn is_left_out(&self, out: &Output, exclude: &[Pattern]) -> bool {
        exclude.iter().any(|it| match out {
            Output::File(path) => it.matches(path),
            Output::Tree(dir) => it.means_all_of(dir),
            Output::Glob(glob) => it.means_all_of(glob.base()),
        })
    }
}

/// Whether one file may be both of `a` and of `b`.
fn are_one(a: &Output, b: &Output) -> bool {
    match (a, b) {
        (Output::Glob(a), Output::Glob(b)) => {
            a.may_match_below(b.base()) && b.may_match_below(a.base())
        }
        // What is called a tree may be a file.
        (Output::Glob(pattern), Output::File(path) | Output::Tree(path))
        | (Output::File(path) | Output::Tree(path), Output::Glob(pattern)) => {
            is_within(pattern.base(), path)
                || pattern.matches(path)
                || pattern.may_match_below(path)
        }
        (a, b) => is_within(start(a), start(b)) || is_within(start(b), start(a)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn out(text: &str) -> Output {
        match Pattern::is_wild(text) {
            true => Output::Glob(Pattern::parse(text).unwrap()),
            false => Output::Tree(text.into()),
        }
    }

    fn command(outs: &[&str]) -> Command {
        Command {
            outs: outs.iter().map(|text| out(text)).collect(),
            ..Command::default()
        }
    }

    #[test]
    fn places_meet_where_a_file_may_be_of_both() {
        let one = |a: &str, b: &str| {
            let (a, b) = (command(&[a]), command(&[b]));
            let answers = [meet(&a, &b), meet(&b, &a)];
            assert_eq!(answers[0], answers[1]);
            assert_eq!(sharing(&[&a, &b]), answers);
            answers[0]
        };
        assert!(one("a/dist", "a/dist") && one("a/dist", "a/dist/esm") && one("a/x", "a/x/*.js"));
        assert!(
            one("a/dist/*.js", "a/dist/**/*.js") && one("a/*", "a/x.tgz") && one("*.js", "b.js")
        );
        assert!(one("a/dist/*.js", "a/dist") && one("a/{x,y}/**/*.js", "a/y"));
        assert!(!one("a/dist", "a/dist2") && !one("a/dist/esm", "a/dist/cjs"));
        assert!(!one("a/dist/esm/**/*.js", "a/dist/cjs/**/*.js") && !one("a/{x,y}/*.js", "a/z"));
        assert!(!one("a/*.js", "a/dist/x") && !one("a/dist/**", "a/dist/.cache"));
    }

    #[test]
    fn those_that_meet_nobody_do_not_share() {
        let all = [
            command(&["a/x", "a/dist/esm"]),
            command(&["a/dist/cjs"]),
            command(&["a/y", "a/x/deep"]),
            command(&["a/y2", "a/z"]),
            command(&[]),
            command(&["a/z/*.js"]),
        ];
        let all: Vec<&Command> = all.iter().collect();
        assert_eq!(sharing(&all), [true, false, true, true, false, true]);
    }

    #[test]
    fn a_glob_means_what_it_names_and_of_build_files_all_that_it_covers() {
        let means = |glob: &str, made: &str, is_script: bool| {
            let glob = Pattern::parse(glob).unwrap();
            Place::of(&glob).means(&out(made), is_script)
        };
        for (glob, made) in [
            ("a/dist/x.js", "a/dist"),
            ("a/dist/**", "a/dist"),
            ("*/dist/*.js", "a/dist"),
            ("**/dist/**", "a/dist"),
            ("a/dist/esm/*.js", "a/dist"),
            ("a/out/t.json", "a/out/t.json"),
            ("a/out/*.json", "a/out/*.json"),
            ("a/out/t.json", "a/out/*.json"),
            ("a/*.json", "a/t.json"),
        ] {
            assert!(
                means(glob, made, true) && means(glob, made, false),
                "{glob} {made}"
            );
        }
        for (glob, made) in [
            ("**", "a/dist"),
            ("a/**/*.js", "a/dist"),
            ("a/**", "a/out/*.js"),
        ] {
            assert!(
                !means(glob, made, true) && means(glob, made, false),
                "{glob} {made}"
            );
        }
        for (glob, made) in [
            ("a/src/**", "a/dist"),
            ("a/*.js", "a/dist"),
            ("a/dist", "a/dist2"),
            ("a/out/*.ts", "a/out/*.js"),
            ("b/**", "a/dist"),
        ] {
            assert!(
                !means(glob, made, true) && !means(glob, made, false),
                "{glob} {made}"
            );
        }
    }

    proptest! {
        #[test]
        fn who_shares_is_who_meets_another_and_what_both_have_is_where_they_meet(
            outs in prop::collection::vec(prop::collection::vec("(a|b|\\*|\\*\\*)(/(a|b|[*]|[*][*]|[*]b)){0,2}", 0..3), 0..5),
            path in "(a|b|\\.a)(/(a|b|ab)){0,3}",
        ) {
            let commands: Vec<Command> = outs.iter().map(|outs| {
                let outs: Vec<&str> = outs.iter().map(String::as_str).collect();
                command(&outs)
            }).collect();
            let all: Vec<&Command> = commands.iter().collect();
            let meets = |at: usize| (0..all.len()).any(|it| it != at && meet(all[at], all[it]));
            let expected: Vec<bool> = (0..all.len()).map(meets).collect();
            prop_assert_eq!(sharing(&all), expected);
            let has = |it: &&&Command| it.outs.iter().any(|out| out.covers(&path) || *out == Output::Tree(path.as_str().into()));
            let writers: Vec<&&Command> = all.iter().filter(has).collect();
            for pair in writers.windows(2) {
                prop_assert!(meet(pair[0], pair[1]), "{} {:?}", path, pair);
            }
        }
    }
}
