//! `pnpm-lock.yaml`, of version 6 and 9.
//!
//! Owns how pnpm refers to packages. Does not know what becomes of them.
//! Invariants: what pnpm says of a package counts, its patch included, unless that is how others use it; what refers to no
//! package that is listed stands for the whole file.

use rustc_hash::FxHashMap;
use serde::Deserialize;
use serde_norway::{Mapping, Value};

use super::Unread;
use super::graph::{ABSENT, LockGraph};

/// What of a package is about the others that use it, or is of no use to it.
const NOT_CONTENT: [&str; 5] = [
    "dependencies",
    "deprecated",
    "dev",
    "optional",
    "optionalDependencies",
];
/// Names of what a package needs, with how pnpm refers to it.
const NEEDS: [&str; 3] = ["dependencies", "devDependencies", "optionalDependencies"];

/// Reads the text of such a file.
///
/// # Errors
/// When it is none, or one of another version.
pub fn read(text: &str) -> Result<LockGraph, Unread> {
    let documents = serde_norway::Deserializer::from_str(text).map(Value::deserialize);
    let documents: Result<Vec<Value>, _> = documents.collect();
    let mut documents = documents.map_err(|error| Unread::damaged(&error))?;
    // What pnpm itself is made of stands before.
    let Some(file) = documents.pop() else {
        return Err(Unread::damaged(&"it is empty"));
    };
    let version = match file.get("lockfileVersion") {
        Some(Value::String(version)) => version.clone(),
        Some(Value::Number(version)) => version.to_string(),
        _ => return Err(Unread::damaged(&"it has no lockfileVersion")),
    };
    if !["6", "9"].contains(&version.split('.').next().unwrap_or_default()) {
        return Err(Unread::version(&version));
    }
    let none = Mapping::new();
    let field = |name: &str| match file.get(name) {
        Some(Value::Mapping(fields)) => Ok(fields),
        None | Some(Value::Null) => Ok(&none),
        Some(_) => Err(Unread::damaged(&format!("{name} is no mapping"))),
    };
    let (packages, patches) = (field("packages")?, field("patchedDependencies")?);
    let snapshots = match file.get("snapshots") {
        Some(_) => field("snapshots")?,
        None => packages,
    };
    let mut graph = LockGraph::default();
    let whole = graph.add("", "", [text]);
    let mut places: FxHashMap<&str, u32> = FxHashMap::default();
    for (key, said) in named(snapshots) {
        places.insert(key, installed(&mut graph, key, said, (packages, patches)));
    }
    // Without a workspace the root stands alone.
    let importers = field("importers")?;
    let members: Vec<(&str, &Value)> = match importers.is_empty() {
        true => vec![(".", &file)],
        false => named(importers).collect(),
    };
    for (dir, _) in &members {
        graph.add_member(plain(dir));
    }
    for (dir, said) in members {
        let dir = plain(dir);
        if let Some(member) = graph.member(dir) {
            set_needs(&mut graph, (member, dir), said, (&places, whole));
        }
    }
    for (key, said) in named(snapshots) {
        set_needs(&mut graph, (places[key], ""), said, (&places, whole));
    }
    if let Some(root) = graph.member("").filter(|_| !documents.is_empty()) {
        let own: Vec<String> = documents.iter().map(shown).collect();
        let own = graph.add("pnpm's own packages", "", own.iter().map(String::as_str));
        graph.set_needs(root, [("", own)]);
    }
    Ok(graph)
}

fn plain(dir: &str) -> &str {
    if dir == "." { "" } else { dir }
}

fn named(fields: &Mapping) -> impl Iterator<Item = (&str, &Value)> {
    fields
        .iter()
        .filter_map(|(name, value)| Some((name.as_str()?, value)))
}

fn installed(
    graph: &mut LockGraph,
    key: &str,
    said: &Value,
    (packages, patches): (&Mapping, &Mapping),
) -> u32 {
    let of = key.split('(').next().unwrap_or(key);
    let known = of.trim_start_matches('/');
    let at = known.char_indices().skip(1).find(|(_, c)| *c == '@');
    let (name, version) = at.map_or((known, ""), |(at, _)| (&known[..at], &known[at + 1..]));
    let mut content = vec![key.to_owned()];
    let mut add = |said: &Value| {
        let fields = said.as_mapping().into_iter().flat_map(named);
        let counted = fields.filter(|(field, _)| !NOT_CONTENT.contains(field));
        content.extend(counted.flat_map(|(field, value)| [field.to_owned(), shown(value)]));
    };
    add(said);
    packages.get(of).into_iter().for_each(&mut add);
    let patched = [known, name].into_iter().find_map(|it| patches.get(it));
    content.extend(patched.map(shown));
    graph.add(name, version, content.iter().map(String::as_str))
}

/// Equal values have equal texts.
fn shown(value: &Value) -> String {
    format!("{value:?}")
}

/// Has `entry`, from whose directory links count, need what is said.
fn set_needs(
    graph: &mut LockGraph,
    (entry, dir): (u32, &str),
    said: &Value,
    (places, whole): (&FxHashMap<&str, u32>, u32),
) {
    let fields = NEEDS
        .iter()
        .filter_map(|field| said.get(field)?.as_mapping());
    let mut needs: Vec<(&str, u32)> = Vec::new();
    for (name, reference) in fields.flat_map(named) {
        let reference = reference.get("version").unwrap_or(reference);
        let reference = reference.as_str().unwrap_or_default();
        let found = match reference.strip_prefix("link:") {
            Some(path) => linked(graph, dir, path).unwrap_or(ABSENT),
            None => [
                format!("{name}@{reference}"),
                format!("/{name}@{reference}"),
            ]
            .iter()
            .map(String::as_str)
            .chain([reference])
            .find_map(|key| places.get(key).copied())
            // Who knows what is meant: all of it may be.
            .unwrap_or(whole),
        };
        needs.push((name, found));
    }
    needs.sort_unstable();
    graph.set_needs(entry, needs);
}

/// The package of the workspace at `path` from `dir`, or around that: a package may say that another directory of its is linked.
fn linked(graph: &LockGraph, dir: &str, path: &str) -> Option<u32> {
    let mut parts: Vec<&str> = Vec::new();
    for part in dir.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    loop {
        if let Some(member) = graph.member(&parts.join("/")) {
            return Some(member);
        }
        parts.pop()?;
        if parts.is_empty() {
            return None;
        }
    }
}
