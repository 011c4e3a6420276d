//! `yarn.lock` of Yarn 2 and newer.
//!
//! Owns how Yarn asks for packages. Does not know what becomes of them.
//! Invariants: a package that Yarn patches is needed with its patch; where it is not told which package is meant, all of that
//! name are.

use rustc_hash::{FxHashMap, FxHashSet};
use serde_norway::{Mapping, Value};

use super::classic::{name_of, overridden};
use super::graph::{ABSENT, LockGraph};
use super::{Needs, Unread};

/// What only such a file has.
pub const MARK: &str = "__metadata:";

/// Formats whose entries are alike.
const VERSIONS: std::ops::RangeInclusive<u64> = 4..=10;
/// Names of what a package needs, with what versions will do.
const NEEDS: [&str; 2] = ["dependencies", "peerDependencies"];

/// Packages by what they are asked for, and by name.
struct Places<'t> {
    asked: FxHashMap<&'t str, u32>,
    named: FxHashMap<&'t str, Vec<Place<'t>>>,
    /// What is asked for by these names does not tell which is meant.
    overridden: FxHashSet<&'t str>,
}

#[derive(Clone, Copy)]
struct Place<'t> {
    entry: u32,
    version: &'t str,
    is_patched: bool,
}

/// Reads the text of such a file, where packages of the workspace say which versions are taken instead.
///
/// # Errors
/// When it is damaged, or one of another version.
pub fn read(text: &str, members: &[Needs]) -> Result<LockGraph, Unread> {
    let file: Mapping = serde_norway::from_str(text).map_err(|error| Unread::damaged(&error))?;
    let version = file.get("__metadata").and_then(|it| it.get("version"));
    match version.and_then(Value::as_u64) {
        Some(version) if VERSIONS.contains(&version) => {}
        Some(other) => return Err(Unread::version(&other)),
        None => return Err(Unread::damaged(&"it has no version")),
    }
    let mut graph = LockGraph::default();
    let mut places = Places {
        asked: FxHashMap::default(),
        named: FxHashMap::default(),
        overridden: overridden(members).collect(),
    };
    let mut entries: Vec<(u32, &Value)> = Vec::new();
    let said = file
        .iter()
        .filter_map(|(key, it)| Some((key.as_str()?, it)));
    for (key, said) in said.filter(|(key, _)| *key != "__metadata") {
        let Some(resolution) = said.get("resolution").and_then(Value::as_str) else {
            return Err(Unread::damaged(&format!("{key} has no resolution")));
        };
        let version = said.get("version").and_then(Value::as_str);
        let version = version.unwrap_or_default();
        let entry = match resolution.split_once("@workspace:") {
            Some((_, ".")) => graph.add_member(""),
            Some((_, dir)) => graph.add_member(dir),
            None => installed(&mut graph, resolution, version, said),
        };
        for asked in key.split(", ") {
            places.asked.insert(asked, entry);
            let place = Place {
                entry,
                version,
                is_patched: asked[name_of(asked).len()..].starts_with("@patch:"),
            };
            let named = places.named.entry(name_of(asked)).or_default();
            if named.last().is_none_or(|last| last.entry != entry) {
                named.push(place);
            }
        }
        entries.push((entry, said));
    }
    for (entry, said) in entries {
        let mut needs: Vec<(&str, u32)> = Vec::new();
        let is_own = said.get("linkType").and_then(Value::as_str) == Some("soft");
        // Whoever needs a package brings its peers.
        let fields = NEEDS.iter().take(if is_own { 2 } else { 1 });
        let fields = fields.filter_map(|field| said.get(field)?.as_mapping());
        for (name, range) in fields.flatten() {
            if let (Some(name), Some(range)) = (name.as_str(), range.as_str()) {
                let found = places.find(name, range).into_iter();
                needs.extend(found.map(|needed| (name, needed)));
            }
        }
        needs.sort_unstable();
        needs.dedup();
        graph.set_needs(entry, needs);
    }
    Ok(graph)
}

fn installed(graph: &mut LockGraph, resolution: &str, version: &str, said: &Value) -> u32 {
    let fields = said.as_mapping().into_iter().flatten();
    let counted = fields.filter(|(field, _)| field.as_str().is_none_or(|it| !NEEDS.contains(&it)));
    let content: Vec<String> = counted.map(|field| format!("{field:?}")).collect();
    let content = content.iter().map(String::as_str);
    graph.add(name_of(resolution), version, content)
}

impl Places<'_> {
    /// What is meant by `name` in this `range`.
    fn find(&self, name: &str, range: &str) -> Vec<u32> {
        let named = self.named.get(name).map_or(&[][..], Vec::as_slice);
        let exact = [format!("{name}@{range}"), format!("{name}@npm:{range}")];
        let exact = exact
            .iter()
            .find_map(|asked| self.asked.get(asked.as_str()));
        let exact = exact.filter(|_| !self.overridden.contains(name));
        let exact = named.iter().find(|place| Some(&place.entry) == exact);
        let meant = |place: &&Place<'_>| {
            exact.is_none_or(|exact| {
                place.entry == exact.entry || (place.is_patched && place.version == exact.version)
            })
        };
        let found: Vec<u32> = named
            .iter()
            .filter(meant)
            .map(|place| place.entry)
            .collect();
        if found.is_empty() {
            vec![ABSENT]
        } else {
            found
        }
    }
}
