//! `bun.lock`.
//!
//! Owns how Bun's places of packages are searched. Does not know what becomes of the packages, nor `bun.lockb`, which only
//! Bun reads.
//! Invariant: what Bun says of a package counts, where it lies included.

use rustc_hash::FxHashMap;
use serde_json::{Map, Value};

use super::classic::name_of;
use super::graph::{ABSENT, LockGraph};
use super::{Unread, needed};

/// Formats whose packages are alike.
const VERSIONS: std::ops::RangeInclusive<u64> = 0..=2;

/// Reads the text of such a file.
///
/// # Errors
/// When it is none, or one of another version.
pub fn read(text: &str) -> Result<LockGraph, Unread> {
    let options = jsonc_parser::ParseOptions::default();
    let file: Value = jsonc_parser::parse_to_serde_value(text, &options)
        .map_err(|error| Unread::damaged(&error))?;
    match file.get("lockfileVersion").and_then(Value::as_u64) {
        Some(version) if VERSIONS.contains(&version) => {}
        Some(other) => return Err(Unread::version(&other)),
        None => return Err(Unread::damaged(&"it has no lockfileVersion")),
    }
    let field = |name: &str| file.get(name).and_then(Value::as_object);
    let (Some(workspaces), Some(packages)) = (field("workspaces"), field("packages")) else {
        return Err(Unread::damaged(&"it has no workspaces or no packages"));
    };
    let patches = field("patchedDependencies");
    let mut graph = LockGraph::default();
    for dir in workspaces.keys() {
        graph.add_member(dir);
    }
    let mut places: FxHashMap<&str, u32> = FxHashMap::default();
    let mut needing: Vec<(&str, u32, &Value)> = Vec::new();
    for (place, said) in packages {
        let Some(resolved) = said.get(0).and_then(Value::as_str) else {
            return Err(Unread::damaged(&format!("{place} is no list")));
        };
        let own = resolved.split_once("@workspace:");
        let own = own.and_then(|(_, dir)| graph.member(dir));
        let entry = own.unwrap_or_else(|| installed(&mut graph, place, resolved, said, patches));
        places.insert(place, entry);
        let list = said.as_array().into_iter().flatten();
        let told = list.filter(|it| own.is_none() && it.is_object());
        needing.extend(told.map(|told| (place.as_str(), entry, told)));
    }
    for (dir, said) in workspaces {
        let name = said.get("name").and_then(Value::as_str);
        if let Some(member) = graph.member(dir) {
            needing.push((name.unwrap_or_default(), member, said));
        }
    }
    for (place, entry, said) in needing {
        let needs = needed(said).into_iter();
        let needs = needs.map(|name| (name, find(&places, place, name)));
        graph.set_needs(entry, needs);
    }
    Ok(graph)
}

fn installed(
    graph: &mut LockGraph,
    place: &str,
    resolved: &str,
    said: &Value,
    patches: Option<&Map<String, Value>>,
) -> u32 {
    let name = name_of(resolved);
    let version = resolved[name.len()..].trim_start_matches('@');
    let patched = patches.and_then(|patches| patches.get(resolved));
    let patched = patched.map(Value::to_string).unwrap_or_default();
    graph.add(name, version, [place, &said.to_string(), &patched])
}

/// What `name` means to the package at `place`.
fn find(places: &FxHashMap<&str, u32>, place: &str, name: &str) -> u32 {
    let mut above = place;
    while !above.is_empty() {
        if let Some(found) = places.get(format!("{above}/{name}").as_str()) {
            return *found;
        }
        let end = above.rfind('/').unwrap_or(0);
        // The name of a package may have two parts.
        let last = above[..end].rsplit('/').next().unwrap_or_default();
        above = match last.starts_with('@') {
            true => above[..end - last.len()].trim_end_matches('/'),
            false => &above[..end],
        };
    }
    places.get(name).copied().unwrap_or(ABSENT)
}
