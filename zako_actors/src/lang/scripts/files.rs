//! Which files scripts read and leave behind.
//!
//! Owns the way from the globs of a task to sources and outputs, and what holds where a task names none. Does not know
//! what is read of other packages (`foreign`).
//! Invariant: a glob is taken as it is meant, or is a mistake: an input that was left out would give stale results.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::{Member, Members, World};
use crate::diagnostic::Diagnostic;
use crate::lang::gitignore::ignored;
use crate::lang::label::is_within;
use crate::lang::package_json::{Meant, PACKAGE_JSON};
use crate::lang::pattern::Pattern;
use crate::lang::target::{Output, Source, join};
use crate::lang::task::Task;

/// What a `build`, and each `build:…`, leaves behind by custom, where git ignores it.
const USUAL_OUTPUTS: [&str; 6] = ["dist", "build", "out", "lib", ".next", ".output"];
/// Files of the root that scripts of every package read by custom. Lock files are no sources: of them a key holds what its
/// package needs.
const SHARED: [&str; 1] = ["tsconfig*.json"];
/// What tools keep for themselves: nobody's sources, though nobody may have told git so.
const KEPT_BY_TOOLS: [&str; 4] = [".git", ".zako", ".yarn", ".turbo"];
/// Everything, names with a dot included.
const EVERYTHING: &str = "{**,**/.*,**/.*/**,**/.*/**/.*}";
/// Before a glob that is meant from the workspace root.
const FROM_ROOT: &str = "$TURBO_ROOT$/";
/// Stands for what is read where nothing is said.
const USUAL_INPUTS: &str = "$TURBO_DEFAULT$";

/// What every script reads: what that is by custom, and what is `named`.
pub(super) fn shared(named: &[String]) -> Result<Source, Diagnostic> {
    let mut globs = Globs::of("");
    globs
        .include
        .extend(SHARED.iter().flat_map(|name| Pattern::parse(name)));
    for text in named {
        globs.add("", text).map_err(|what| {
            Diagnostic::error(format!(
                "what every script reads (`script-inputs` in [settings], `globalDependencies` of turbo.json): {what}"
            ))
        })?;
    }
    Ok(globs.source())
}

/// Globs from one directory.
struct Globs<'a> {
    dir: &'a str,
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

impl<'a> Globs<'a> {
    fn of(dir: &'a str) -> Self {
        Self {
            dir,
            include: Vec::new(),
            exclude: Vec::new(),
        }
    }

    /// Takes in the input `text` of `package`, which lies in this directory.
    fn add(&mut self, package: &str, text: &str) -> Result<(), String> {
        let (text, list) = match text.strip_prefix('!') {
            Some(text) => (text, &mut self.exclude),
            None => (text, &mut self.include),
        };
        let whole = rooted(package, text, "input")?;
        let below = whole[self.dir.len()..].trim_start_matches('/');
        list.push(Pattern::parse(below).map_err(|error| error.to_string())?);
        Ok(())
    }

    fn source(self) -> Source {
        Source::Glob {
            dir: self.dir.into(),
            include: self.include,
            exclude: self.exclude,
            ignored: None,
        }
    }
}

/// What a script reads.
pub(super) struct Read {
    /// What a person named.
    pub named: Vec<Source>,
    /// What is read where nothing is said.
    pub usual: Option<Source>,
}

/// The glob `text`, an input or output of the package in `dir`, from the workspace root.
fn rooted(dir: &str, text: &str, what: &str) -> Result<String, String> {
    let leaves = || format!("{what} `{text}` leaves the workspace");
    if text.starts_with('/') {
        return Err(leaves());
    }
    let (dir, below) = match text.strip_prefix(FROM_ROOT) {
        Some(below) => ("", below),
        None => (dir, text),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in dir.split('/').chain(below.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop().ok_or_else(leaves)?),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

impl World<'_> {
    /// What a script reads of its own package, and beyond that by its task. What a task names it reads whether git
    /// ignores that or not.
    pub(super) fn sources(&self, index: usize, task: &Task) -> Result<Read, String> {
        let Some(inputs) = &task.inputs else {
            return Ok(Read {
                named: Vec::new(),
                usual: Some(self.usual_sources(index)),
            });
        };
        let dir = &*self.member(index).package.dir;
        let (mut own, mut beyond) = (of_package(dir), Globs::of(""));
        let mut is_usual = false;
        for input in inputs {
            let text = input.strip_prefix('!').unwrap_or(input);
            if input == USUAL_INPUTS {
                is_usual = true;
            } else if is_within(&rooted(dir, text, "input")?, dir) {
                own.add(dir, input)?;
            } else {
                beyond.add(dir, input)?;
            }
        }
        own.include.extend(Pattern::parse(PACKAGE_JSON));
        let left_out = own.exclude.clone();
        let usual = is_usual.then(|| self.usual_but(index, left_out));
        let named = [own, beyond].into_iter();
        let named = named.filter(|globs| !globs.include.is_empty());
        Ok(Read {
            named: named.map(Globs::source).collect(),
            usual,
        })
    }

    /// What a script reads of a package where nothing is said: all that lies there, in packages within as well.
    pub(super) fn usual_sources(&self, index: usize) -> Source {
        let dir = &self.member(index).package.dir;
        self.usual_but(index, of_package(dir).exclude)
    }

    fn usual_but(&self, index: usize, left_out: Vec<Pattern>) -> Source {
        let dir = &*self.member(index).package.dir;
        self.all_of(dir, left_out.into_iter().chain(self.not_sources(index)))
    }

    /// Everything in `dir`, which need be no package.
    fn all_of(&self, dir: &str, exclude: impl Iterator<Item = Pattern>) -> Source {
        let ignored = &self.ignored;
        Source::Glob {
            dir: dir.into(),
            include: Pattern::parse(EVERYTHING).into_iter().collect(),
            exclude: exclude.collect(),
            ignored: ignored.is_said_below(dir).then(|| Arc::clone(ignored)),
        }
    }

    /// What a package depends on by a path where no package of the workspace lies: a directory, or an archive.
    pub(super) fn places(&self, index: usize) -> Vec<Source> {
        let package = &self.member(index).package;
        let places = package
            .dependencies
            .values()
            .filter_map(|meant| match meant {
                Meant::Place(place) => Some(place),
                Meant::Named(_) | Meant::Alias(_) | Meant::Outside(_) => None,
            });
        let places = places.filter(|place| {
            !self.by_dir.contains_key(place.as_str()) && !is_within(place, &package.dir)
        });
        let sources = places.flat_map(|place| {
            let (dir, name) = place.rsplit_once('/').unwrap_or(("", place));
            let mut file = Globs::of(dir);
            file.include.extend(Pattern::parse(name));
            let everywhere = self.ignored_everywhere(place).chain(kept_by_tools());
            [file.source(), self.all_of(place, everywhere)]
        });
        sources.collect()
    }

    /// What git ignores, and what tools keep.
    fn not_sources(&self, index: usize) -> Vec<Pattern> {
        let member = self.member(index);
        let dir = &*member.package.dir;
        let mut exclude = ignored(&member.gitignore, said_below(self.all, &self.by_dir, dir));
        if !dir.is_empty() {
            exclude.extend(self.ignored_everywhere(dir));
        }
        exclude.extend(kept_by_tools());
        exclude
    }

    /// What the root says of `dir`, unless that is taken back there.
    fn ignored_by_root(&self, dir: &str) -> Vec<Pattern> {
        let own = self.by_dir.get(dir).map(|it| &*self.member(*it).gitignore);
        let below = said_below(self.all, &self.by_dir, dir);
        ignored(&self.all.gitignore, own.into_iter().chain(below))
    }

    /// Names that are not tied to the root hold everywhere below it, and so in `dir`.
    fn ignored_everywhere(&self, dir: &str) -> impl Iterator<Item = Pattern> {
        let everywhere = self.ignored_by_root(dir).into_iter();
        everywhere.filter(|pattern| pattern.as_str().starts_with("**/"))
    }

    /// What a script leaves behind, and which of that it does not after all.
    pub(super) fn outputs(
        &self,
        member: &Member,
        script: &str,
        task: &Task,
    ) -> Result<(Vec<Output>, Vec<Pattern>), String> {
        let dir = &*member.package.dir;
        let (mut outs, mut exclude) = (Vec::new(), Vec::new());
        for text in task.outputs.iter().flatten() {
            let (text, is_left_out) = match text.strip_prefix('!') {
                Some(text) => (text, true),
                None => (text.as_str(), false),
            };
            let whole = rooted(dir, text, "output")?;
            let tree = whole.strip_suffix("/**").unwrap_or(&whole);
            if !is_left_out && (tree == "**" || is_within(dir, tree)) {
                return Err(format!("output `{text}` would hold the package itself"));
            }
            let pattern = Pattern::parse(&whole).map_err(|error| error.to_string())?;
            if is_left_out {
                exclude.push(pattern);
            } else if Pattern::is_wild(tree) {
                outs.push(Output::Glob(pattern));
            } else {
                // Without a wildcard it may be a file or a directory.
                outs.push(Output::Tree(tree.into()));
            }
        }
        let is_build = script == "build" || script.starts_with("build:");
        if task.outputs.is_none() && is_build && task.cache {
            outs.extend(self.usual_outputs(member));
        }
        Ok((outs, exclude))
    }

    fn usual_outputs(&self, member: &Member) -> impl Iterator<Item = Output> {
        let dir = &*member.package.dir;
        let rules = ignored(&member.gitignore, said_below(self.all, &self.by_dir, dir));
        let shared = self.ignored_by_root(dir);
        USUAL_OUTPUTS.into_iter().filter_map(move |usual| {
            let (inside, whole) = (format!("{usual}/x"), join(&member.package.dir, usual));
            let probe = format!("{whole}/x");
            let is_ignored = rules.iter().any(|pattern| pattern.matches(&inside))
                || shared.iter().any(|pattern| pattern.matches(&probe));
            is_ignored.then(|| Output::Tree(whole.into()))
        })
    }
}

/// Nothing yet of the package in `dir`, and never what a compiler keeps of it.
fn of_package(dir: &str) -> Globs<'_> {
    Globs {
        exclude: Pattern::parse("**/*.tsbuildinfo").into_iter().collect(),
        ..Globs::of(dir)
    }
}

/// What packages below `dir` say that git ignores.
pub(super) fn said_below<'m>(
    all: &'m Members,
    by_dir: &BTreeMap<&str, usize>,
    dir: &str,
) -> Vec<&'m str> {
    let prefix = match dir {
        "" => String::new(),
        dir => format!("{dir}/"),
    };
    let from = by_dir.range::<str, _>((Bound::Included(&*prefix), Bound::Unbounded));
    let below = from.filter(|(it, _)| !it.is_empty());
    let below = below.take_while(|(it, _)| it.starts_with(&prefix));
    below
        .map(|(_, index)| &*all.members[*index].gitignore)
        .collect()
}

fn kept_by_tools() -> impl Iterator<Item = Pattern> {
    let kept = KEPT_BY_TOOLS.map(|name| format!("**/{name}{{,/**}}"));
    kept.into_iter().flat_map(|text| Pattern::parse(&text))
}
