//! `yarn.lock` of Yarn 1.
//!
//! Owns its format: entries of fields, told apart by how far they stand in. Does not know what becomes of the packages.
//! Invariants: a line that fits nowhere is damage, not silence; where it is not told which package is meant, all of that name are.

use std::collections::BTreeMap;

use rustc_hash::{FxHashMap, FxHashSet};

use super::graph::{ABSENT, LockGraph};
use super::{Needs, Unread};

/// What such a file begins with.
pub const MARK: &str = "# yarn lockfile v1";

/// Lists of what a package needs.
const NEEDS: [&str; 2] = ["dependencies", "optionalDependencies"];

/// One entry.
#[derive(Debug, Default)]
struct Said<'t> {
    /// By what it is asked for: a name and what versions will do.
    asked: Vec<String>,
    /// As written.
    fields: Vec<&'t str>,
    version: String,
    needs: BTreeMap<String, String>,
}

/// Reads the text of such a file, where packages of the workspace have these needs.
///
/// # Errors
/// When it is damaged.
pub fn read(text: &str, members: &[Needs]) -> Result<LockGraph, Unread> {
    let all = entries(text)?;
    let mut graph = LockGraph::default();
    let mut asked: FxHashMap<&str, u32> = FxHashMap::default();
    let mut named: FxHashMap<&str, Vec<u32>> = FxHashMap::default();
    for said in &all {
        let mut names: Vec<&str> = said.asked.iter().map(|it| name_of(it)).collect();
        names.dedup();
        let name = names.first().copied().unwrap_or_default();
        let entry = graph.add(name, &said.version, said.fields.iter().copied());
        asked.extend(said.asked.iter().map(|it| (it.as_str(), entry)));
        for name in names {
            named.entry(name).or_default().push(entry);
        }
    }
    let mut own: FxHashMap<&str, u32> = FxHashMap::default();
    for member in members {
        let entry = graph.add_member(&member.dir);
        own.insert(&member.name, entry);
    }
    let overridden: FxHashSet<&str> = overridden(members).collect();
    let find = |name: &str, range: &str| -> Vec<u32> {
        let exact = asked.get(format!("{name}@{range}").as_str());
        match exact.filter(|_| !overridden.contains(name)) {
            Some(entry) => vec![*entry],
            None if own.contains_key(name) => vec![own[name]],
            None => named.get(name).cloned().unwrap_or(vec![ABSENT]),
        }
    };
    for (said, entry) in all.iter().zip(0..) {
        set_needs(&mut graph, entry, said.needs.iter(), &find);
    }
    for member in members {
        if let Some(entry) = graph.member(&member.dir) {
            let needs = member.needs.iter().map(|(name, range)| (name, range));
            set_needs(&mut graph, entry, needs, &find);
        }
    }
    Ok(graph)
}

fn set_needs<'n>(
    graph: &mut LockGraph,
    entry: u32,
    needs: impl Iterator<Item = (&'n String, &'n String)>,
    find: &dyn Fn(&str, &str) -> Vec<u32>,
) {
    let needs = needs.flat_map(|(name, range)| {
        let found = find(name, range).into_iter();
        found.map(move |entry| (name.as_str(), entry))
    });
    graph.set_needs(entry, needs);
}

/// The names of what is not told by what is asked for.
pub fn overridden(members: &[Needs]) -> impl Iterator<Item = &str> {
    let names = members.iter().flat_map(|member| &member.overridden);
    names.map(String::as_str)
}

/// Of `name@range`; a name may begin with `@`.
pub fn name_of(asked: &str) -> &str {
    let at = asked.char_indices().skip(1).find(|(_, c)| *c == '@');
    at.map_or(asked, |(at, _)| &asked[..at])
}

fn entries(text: &str) -> Result<Vec<Said<'_>>, Unread> {
    let mut entries: Vec<Said<'_>> = Vec::new();
    let mut is_list = false;
    for (number, line) in (1..).zip(text.lines()) {
        let written = line.trim_start_matches(' ');
        if written.trim().is_empty() || written.starts_with('#') {
            continue;
        }
        let wrong = || Unread::damaged(&format!("line {number} is not understood"));
        let words = words(written.trim_end()).ok_or_else(wrong)?;
        let last = || entries.len().checked_sub(1).ok_or_else(wrong);
        match line.len() - written.len() {
            0 => {
                let asked = heading(words).ok_or_else(wrong)?;
                entries.push(Said {
                    asked,
                    ..Said::default()
                });
                is_list = false;
            }
            2 => {
                let at = last()?;
                let said = &mut entries[at];
                match &words[..] {
                    [name, colon] if colon == ":" => is_list = NEEDS.contains(&name.as_str()),
                    [name, value] => {
                        if name == "version" {
                            said.version.clone_from(value);
                        }
                        said.fields.push(written);
                        is_list = false;
                    }
                    _ => return Err(wrong()),
                }
            }
            4 => {
                let at = last()?;
                let said = &mut entries[at];
                match <[String; 2]>::try_from(words) {
                    Ok([name, range]) if is_list => drop(said.needs.insert(name, range)),
                    Ok(_) => said.fields.push(written),
                    Err(_) => return Err(wrong()),
                }
            }
            _ => return Err(wrong()),
        }
    }
    Ok(entries)
}

/// What an entry is asked for by, of the words `a , b :`.
fn heading(mut words: Vec<String>) -> Option<Vec<String>> {
    words.pop_if(|last| last == ":")?;
    let is_list = words.len() % 2 == 1;
    let (mut asked, mut is_between) = (Vec::new(), false);
    for word in words {
        match is_between {
            false => asked.push(word),
            true if word == "," => {}
            true => return None,
        }
        is_between = !is_between;
    }
    is_list.then_some(asked)
}

/// The words of a line: in quotes, as JSON has them, or up to a space, a comma or the colon at the end, which are words too.
fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        match first {
            ' ' => rest = &rest[1..],
            ',' | ':' if first == ',' || rest.len() == 1 => {
                words.push(first.to_string());
                rest = &rest[1..];
            }
            '"' => {
                let mut read = serde_json::Deserializer::from_str(rest).into_iter::<String>();
                words.push(read.next()?.ok()?);
                rest = &rest[read.byte_offset()..];
            }
            _ => {
                let end = rest.find([' ', ',']).unwrap_or(rest.len());
                let word = &rest[..end];
                let word = match end == rest.len() {
                    true => word.strip_suffix(':').unwrap_or(word),
                    false => word,
                };
                words.push(word.to_owned());
                rest = &rest[word.len()..];
            }
        }
    }
    Some(words)
}
