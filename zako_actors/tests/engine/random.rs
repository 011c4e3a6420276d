//! Random graphs under random edits: the same files as a clean build, and nothing run in vain.

use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::world::World;

const NODES: usize = 6;
const SOURCES: usize = 4;

/// Node `n` concatenates its sources and what it needs; half of them drop everything but the first
/// line, so that many edits do not reach their dependants.
fn targets(edges: &[(usize, usize)], reads: &[(usize, usize)]) -> Value {
    let mut targets = Map::new();
    for node in 0..NODES {
        let deps: Vec<usize> = edges
            .iter()
            .filter(|(a, b)| *b == node && a < b)
            .map(|(a, _)| *a)
            .collect();
        let srcs: Vec<usize> = reads
            .iter()
            .filter(|(n, _)| *n == node)
            .map(|(_, s)| *s)
            .collect();
        let unique = |list: &[usize], name: &dyn Fn(&usize) -> String| {
            let mut names: Vec<String> = list.iter().map(name).collect();
            names.sort();
            names.dedup();
            names
        };
        let inputs: Vec<String> = unique(&srcs, &|s| format!("s{s}"))
            .into_iter()
            .chain(unique(&deps, &|d| format!("o{d}")))
            .collect();
        let filter = if node % 2 == 0 { "head -n 1" } else { "cat" };
        targets.insert(
            format!("n{node}"),
            json!({
                "$zako": "command",
                "cmd": ["sh", "-ec", format!("cat /dev/null {} | {filter} > o{node}", inputs.join(" "))],
                "srcs": unique(&srcs, &|s| format!("s{s}")),
                "deps": unique(&deps, &|d| format!(":n{d}")),
                "outs": [format!("o{node}")],
            }),
        );
    }
    Value::Object(targets)
}

fn outputs(world: &World) -> BTreeMap<String, String> {
    (0..NODES)
        .map(|n| format!("o{n}"))
        .map(|path| (path.clone(), world.read(&path)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn an_incremental_build_equals_a_clean_one(
        edges in prop::collection::vec((0..NODES, 0..NODES), 0..10),
        reads in prop::collection::vec((0..NODES, 0..SOURCES), 0..10),
        edits in prop::collection::vec((0..SOURCES, 0..3u8, any::<bool>(), any::<bool>()), 1..5),
    ) {
        let spec = targets(&edges, &reads);
        let world = World::new(&spec);
        for source in 0..SOURCES {
            world.write(&format!("s{source}"), "first\nsecond\n");
        }
        // What one who goes on in memory knows; others build in between.
        let mut kept = None;
        world.build_again(&mut kept).unwrap();
        for (source, word, damage, in_memory) in edits {
            world.write(&format!("s{source}"), &format!("first {}\nsecond {word}\n", word / 2));
            if damage {
                fs::write(world.root().join(format!("o{source}")), "damaged").unwrap();
            }
            if in_memory {
                prop_assert_eq!(world.build_again(&mut kept).unwrap().summary.failed, 0);
            } else {
                world.build();
            }
            prop_assert_eq!(world.build().summary.up_to_date, NODES);
            prop_assert_eq!(world.build_again(&mut kept).unwrap().summary.up_to_date, NODES);

            let clean = World::new(&spec);
            for source in 0..SOURCES {
                clean.write(&format!("s{source}"), &world.read(&format!("s{source}")));
            }
            clean.build();
            prop_assert_eq!(outputs(&world), outputs(&clean));
        }
    }
}
