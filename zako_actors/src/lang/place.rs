//! Where scripts of packages leave files: which of these places may be one.
//!
//! Owns the comparison of declared outputs. Does not know what lies there, nor what is left out of them: files whose names begin
//! with a dot escape a glob that seems to mean all of a directory.
//! Invariant: of two commands that can leave a file at one path it is said that they meet; of some that cannot, too.

use super::label::is_within;
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
fn start(out: &Output) -> &str {
    match out {
        Output::File(path) | Output::Tree(path) => path,
        Output::Glob(pattern) => pattern.base(),
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
    use crate::lang::pattern::Pattern;

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
