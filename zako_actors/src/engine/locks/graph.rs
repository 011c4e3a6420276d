//! What a lock file says, whichever program wrote it: packages, what each needs, and the workspace's own among them.
//!
//! Owns the digest of everything that a package of the workspace resolves to, and how two such sets differ. Does not know any
//! lock file's words.
//! Invariants: a digest is that of all packages that can be reached, with what they need, those of the root included; packages
//! may need each other in circles; the work grows with what a lock file says, not with how often it is reached.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};

use crate::engine::cause::Cause;
use crate::engine::hash::{Hash, KeyWriter};

/// Stands for what is needed and not in the lock file, such as a peer that nobody installs.
pub const ABSENT: u32 = u32::MAX;

/// One package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name, as people know it; empty for one of the workspace.
    pub name: Box<str>,
    /// Its version.
    pub version: Box<str>,
    /// Everything that the lock file says of it beside what it needs.
    pub digest: Hash,
    /// What it needs, in the order of the names that it has for that.
    pub needs: Vec<u32>,
}

/// All that a lock file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockGraph {
    entries: Vec<Entry>,
    /// The packages of the workspace, by directory.
    members: BTreeMap<Box<str>, u32>,
}

impl LockGraph {
    /// Takes in a package of which the lock file says `content`.
    pub fn add<'c>(
        &mut self,
        name: &str,
        version: &str,
        content: impl IntoIterator<Item = &'c str>,
    ) -> u32 {
        let mut key = KeyWriter::new("zako locked package");
        key.text(name).text(version);
        for text in content {
            key.text(text);
        }
        self.entries.push(Entry {
            name: name.into(),
            version: version.into(),
            digest: key.finish(),
            needs: Vec::new(),
        });
        self.entries.len() as u32 - 1
    }

    /// Takes in the package of the workspace in `dir`, of which its own files say the rest.
    pub fn add_member(&mut self, dir: &str) -> u32 {
        let entry = self.add("", "", [dir]);
        self.members.insert(dir.into(), entry);
        entry
    }

    /// The package of the workspace in `dir`.
    pub fn member(&self, dir: &str) -> Option<u32> {
        self.members.get(dir).copied()
    }

    /// Takes note that `entry` calls by these names what it needs.
    pub fn set_needs<'n>(&mut self, entry: u32, needs: impl IntoIterator<Item = (&'n str, u32)>) {
        let entry = &mut self.entries[entry as usize];
        let mut key = KeyWriter::new("zako locked names");
        key.hash(&entry.digest);
        for (name, needed) in needs {
            key.text(name);
            entry.needs.push(needed);
        }
        entry.digest = key.finish();
    }

    /// The digest of what each package of the workspace resolves to, by directory.
    pub fn digests(&self) -> BTreeMap<Box<str>, Hash> {
        let digests = Digests::of(&self.entries).digests;
        let root = self.member("").and_then(|root| digests[root as usize]);
        let members = self.members.iter();
        let whole = members.map(|(dir, entry)| {
            let mut key = KeyWriter::new("zako locked");
            // Programs of the root are run by all.
            for digest in digests[*entry as usize].iter().chain(&root) {
                key.hash(digest);
            }
            (dir.clone(), key.finish())
        });
        whole.collect()
    }

    /// What the package in `dir` resolves to, the nearest first.
    fn reached(&self, dir: &str) -> Vec<&Entry> {
        let from = [self.member(dir), self.member("")];
        let mut pending: VecDeque<u32> = from.into_iter().flatten().collect();
        let mut seen: FxHashSet<u32> = pending.iter().copied().collect();
        let mut reached = Vec::new();
        while let Some(index) = pending.pop_front() {
            let entry = &self.entries[index as usize];
            reached.push(entry);
            let needs = entry.needs.iter().copied();
            pending.extend(needs.filter(|it| *it != ABSENT && seen.insert(*it)));
        }
        reached
    }

    /// How what `dir` resolves to differs from what it did by `before`, both of them said by the file `lock`; the nearest
    /// first.
    pub fn differences(&self, before: &Self, dir: &str, lock: &str) -> Vec<Cause> {
        let (was, now) = (before.reached(dir), self.reached(dir));
        let digests = |entries: &[&Entry]| -> FxHashSet<Hash> {
            entries.iter().map(|entry| entry.digest).collect()
        };
        let (known, found) = (digests(&was), digests(&now));
        let came = now.iter().filter(|entry| !known.contains(&entry.digest));
        let went = was.iter().filter(|entry| !found.contains(&entry.digest));
        let (came, went): (Vec<&&Entry>, Vec<&&Entry>) = (came.collect(), went.collect());
        let versions = |all: &[&&Entry], name: &str| -> Option<Box<str>> {
            let of = all.iter().filter(|entry| *entry.name == *name);
            let of: BTreeSet<&str> = of.map(|entry| &*entry.version).collect();
            let text = of.into_iter().collect::<Vec<_>>().join(", ");
            (!text.is_empty()).then(|| text.into())
        };
        let mut told = FxHashSet::default();
        let names = came.iter().chain(&went).map(|entry| &*entry.name);
        let names = names.filter(|name| !name.is_empty() && told.insert(*name));
        let causes = names.map(|name| Cause::Package {
            name: name.into(),
            was: versions(&went, name),
            now: versions(&came, name),
            lock: lock.into(),
        });
        causes.collect()
    }
}

/// The digests of packages by what they need; those that need each other, in a circle, have the same.
struct Digests<'g> {
    entries: &'g [Entry],
    /// Nothing of those that were not met.
    digests: Vec<Option<Hash>>,
}

impl<'g> Digests<'g> {
    fn of(entries: &'g [Entry]) -> Self {
        let mut needs = DiGraph::<(), ()>::with_capacity(entries.len(), entries.len());
        for _ in entries {
            needs.add_node(());
        }
        for (index, entry) in entries.iter().enumerate() {
            let present = entry.needs.iter().filter(|needed| **needed != ABSENT);
            needs.extend_with_edges(present.map(|needed| (index as u32, *needed)));
        }
        let mut digests = Self {
            entries,
            digests: vec![None; entries.len()],
        };
        // Those that others need come first.
        for circle in kosaraju_scc(&needs) {
            let circle: Vec<usize> = circle.into_iter().map(NodeIndex::index).collect();
            digests.close(&circle);
        }
        digests
    }

    /// Gives the entries of a circle their digest; whatever else they need has one.
    fn close(&mut self, circle: &[usize]) {
        let mut parts: Vec<Hash> = circle.iter().map(|entry| self.part(*entry)).collect();
        parts.sort_unstable();
        let mut key = KeyWriter::new("zako locked circle");
        for part in &parts {
            key.hash(part);
        }
        let digest = key.finish();
        for entry in circle {
            self.digests[*entry] = Some(digest);
        }
    }

    /// An entry with what it needs; of what is in its circle too, its own digest stands for it.
    fn part(&self, entry: usize) -> Hash {
        let entry = &self.entries[entry];
        let mut key = KeyWriter::new("zako locked needs");
        key.hash(&entry.digest);
        for needed in &entry.needs {
            if *needed == ABSENT {
                key.number(0);
                continue;
            }
            match &self.digests[*needed as usize] {
                Some(digest) => key.number(1).hash(digest),
                None => key.number(2),
            };
            key.hash(&self.entries[*needed as usize].digest);
        }
        key.finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A graph of so many packages, the first of which are the workspace's; one of them has another content where it is `changed`.
    fn made(count: u32, needs: &[(u32, u32)], changed: Option<u32>) -> LockGraph {
        let mut graph = LockGraph::default();
        for index in 0..count {
            let content = if changed == Some(index) {
                "changed"
            } else {
                ""
            };
            let entry = graph.add(&format!("p{index}"), "1.0.0", [content]);
            if index < 3 {
                graph
                    .members
                    .insert(["", "a", "b"][index as usize].into(), entry);
            }
        }
        for index in 0..count {
            let own = needs.iter().filter(|(from, _)| from % count == index);
            graph.set_needs(index, own.map(|(_, to)| ("", to % count)));
        }
        graph
    }

    fn reaches(count: u32, needs: &[(u32, u32)], from: u32, to: u32) -> bool {
        let mut seen = BTreeSet::from([from]);
        loop {
            let more = needs
                .iter()
                .filter(|(from, _)| seen.contains(&(from % count)));
            let more: Vec<u32> = more.map(|(_, to)| to % count).collect();
            let before = seen.len();
            seen.extend(more);
            if seen.len() == before {
                return seen.contains(&to);
            }
        }
    }

    proptest! {
        #[test]
        fn a_digest_changes_with_what_is_reached_and_with_nothing_else(
            count in 3_u32..12,
            needs in prop::collection::vec((0_u32..12, 0_u32..12), 0..24),
            changed in 0_u32..12,
        ) {
            let changed = changed % count;
            let before = made(count, &needs, None);
            let after = made(count, &needs, Some(changed));
            let (was, now) = (before.digests(), after.digests());
            for (member, dir) in ["", "a", "b"].into_iter().enumerate() {
                let concerned = reaches(count, &needs, member as u32, changed)
                    || reaches(count, &needs, 0, changed);
                prop_assert_eq!(was[dir] != now[dir], concerned);
                let told = after.differences(&before, dir, "lock");
                prop_assert_eq!(!told.is_empty(), concerned);
            }
        }

        #[test]
        fn a_digest_changes_with_what_is_needed(
            count in 3_u32..8,
            needs in prop::collection::vec((0_u32..8, 0_u32..8), 1..16),
            other in 0_u32..8,
        ) {
            let mut after = needs.clone();
            let (from, to) = after[0];
            after[0].1 = to + 1 + other % (count - 1);
            let (was, now) = (made(count, &needs, None).digests(), made(count, &after, None).digests());
            for (member, dir) in ["", "a", "b"].into_iter().enumerate() {
                let concerned = reaches(count, &needs, member as u32, from % count)
                    || reaches(count, &needs, 0, from % count);
                prop_assert_eq!(was[dir] != now[dir], concerned);
            }
        }
    }

    #[test]
    fn a_long_chain_takes_no_stack() {
        let count = 200_000;
        let chain: Vec<(u32, u32)> = (0..count - 1).map(|index| (index, index + 1)).collect();
        let chained = |changed: Option<u32>| {
            let mut graph = made(count, &[], changed);
            for (from, to) in &chain {
                graph.entries[*from as usize].needs.push(*to);
            }
            // And back again.
            graph.entries[count as usize - 1].needs.push(1);
            graph.digests()
        };
        assert_ne!(chained(None)["b"], chained(Some(count - 1))["b"]);
    }
}
