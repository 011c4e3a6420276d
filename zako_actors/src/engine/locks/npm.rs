//! `package-lock.json` and `npm-shrinkwrap.json`, of version 2 and 3.
//!
//! Owns how npm's places of packages are searched, which is how Node.js searches `node_modules`. Does not know what
//! becomes of the packages.
//! Invariant: what npm says of a package counts, where it lies included, unless that is how others use it.

use rustc_hash::FxHashMap;
use serde_json::{Map, Value};

use super::graph::{ABSENT, LockGraph};
use super::{Unread, needed};

/// Where npm puts packages.
const INSTALLED: &str = "node_modules";
/// What of a package is about the others that use it, or is of no use to it.
const NOT_CONTENT: [&str; 11] = [
    "dependencies",
    "deprecated",
    "dev",
    "devDependencies",
    "devOptional",
    "extraneous",
    "funding",
    "license",
    "optional",
    "optionalDependencies",
    "peer",
];

/// Reads the text of such a file.
///
/// # Errors
/// When it is none, or one of another version.
pub fn read(text: &str) -> Result<LockGraph, Unread> {
    let file: Value = serde_json::from_str(text).map_err(|error| Unread::damaged(&error))?;
    let version = file.get("lockfileVersion").and_then(Value::as_u64);
    match version {
        Some(2 | 3) => {}
        Some(other) => return Err(Unread::version(&other)),
        None => return Err(Unread::damaged(&"it has no lockfileVersion")),
    }
    let Some(Value::Object(packages)) = file.get("packages") else {
        return Err(Unread::damaged(&"it has no packages"));
    };
    let mut graph = LockGraph::default();
    let mut places: FxHashMap<&str, u32> = FxHashMap::default();
    for (place, said) in packages {
        let Value::Object(said) = said else {
            return Err(Unread::damaged(&format!("package {place} is no object")));
        };
        let entry = match is_installed(place) {
            true => installed(&mut graph, place, said),
            false => graph.add_member(place),
        };
        places.insert(place, entry);
    }
    for (place, said) in packages {
        let mut needs: Vec<(&str, u32)> = Vec::new();
        if let Some(to) = linked(said) {
            needs.push((to, places.get(to).copied().unwrap_or(ABSENT)));
        }
        let found = |name| find(&places, place, name).unwrap_or(ABSENT);
        needs.extend(needed(said).into_iter().map(|name| (name, found(name))));
        graph.set_needs(places[place.as_str()], needs);
    }
    Ok(graph)
}

fn is_installed(place: &str) -> bool {
    place.split('/').any(|part| part == INSTALLED)
}

/// The directory that stands for a package.
fn linked(said: &Value) -> Option<&str> {
    let is_link = said.get("link").and_then(Value::as_bool) == Some(true);
    said.get("resolved")?.as_str().filter(|_| is_link)
}

fn installed(graph: &mut LockGraph, place: &str, said: &Map<String, Value>) -> u32 {
    let text = |field: &str| said.get(field).and_then(Value::as_str);
    let below = place.rsplit("node_modules/").next().unwrap_or(place);
    let name = text("name").unwrap_or(below);
    let mut content = vec![place.to_owned()];
    let counted = said
        .iter()
        .filter(|(field, _)| !NOT_CONTENT.contains(&field.as_str()));
    content.extend(counted.flat_map(|(field, value)| [field.clone(), value.to_string()]));
    let version = text("version").unwrap_or_default();
    graph.add(name, version, content.iter().map(String::as_str))
}

/// What `name` means to the package at `place`.
fn find(places: &FxHashMap<&str, u32>, place: &str, name: &str) -> Option<u32> {
    let mut above = Some(place);
    while let Some(dir) = above {
        let found = match dir {
            "" => places.get(format!("{INSTALLED}/{name}").as_str()),
            _ if dir.ends_with(INSTALLED) => None,
            _ => places.get(format!("{dir}/{INSTALLED}/{name}").as_str()),
        };
        if let Some(found) = found {
            return Some(*found);
        }
        above = (!dir.is_empty()).then(|| dir.rsplit_once('/').map_or("", |(dir, _)| dir));
    }
    None
}
