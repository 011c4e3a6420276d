//! Tests of the scheduler's state.

use super::*;
use proptest::prelude::*;

#[test]
fn the_critical_path_goes_first() {
    // 0 → 2 (long), 1 alone: 0 and 2 make the longest chain.
    let mut schedule = schedule(&[vec![], vec![], vec![0]], &[1, 5, 9], 1, false);
    assert_eq!(schedule.start_next(), Some(0));
    assert_eq!(schedule.start_next(), None);
    assert!(schedule.is_critical(0) && !schedule.is_critical(1));
    schedule.finish(0, End::Done, |_| ());
    assert_eq!(schedule.start_next(), Some(2));
    assert!(schedule.is_critical(2) && schedule.longest_us() >= 9);
}

#[test]
fn who_comes_after_another_waits_for_its_end_and_does_not_share_it() {
    // 2 needs 0, 1 and 3 come after it, and 3 after 2 as well.
    let node = |deps: &[u32], after: &[u32]| Node {
        deps: deps.to_vec(),
        after: after.to_vec(),
        cost_us: 1,
        uses: Uses::default(),
    };
    let mut schedule = Schedule::new(9, true, Capacity::default());
    let nodes = vec![
        node(&[], &[]),
        node(&[], &[0]),
        node(&[0], &[]),
        node(&[], &[0, 2]),
    ];
    schedule.add(nodes, &[], |_| ());
    assert_eq!(
        (schedule.start_next(), schedule.start_next()),
        (Some(0), None)
    );
    let mut skipped = Vec::new();
    schedule.finish(0, End::Failed, |node| skipped.push(node));
    assert_eq!(skipped, [2]);
    let mut started = [schedule.start_next(), schedule.start_next()];
    started.sort_unstable();
    assert_eq!(started, [Some(1), Some(3)]);
    // One that was added when the other had ended.
    schedule.add(vec![node(&[], &[0])], &[], |_| ());
    assert_eq!(schedule.start_next(), Some(4));
}

#[test]
fn without_keep_going_nothing_starts_after_a_failure() {
    let mut schedule = schedule(&[vec![], vec![], vec![0]], &[9, 1, 1], 1, false);
    schedule.start_next();
    let mut skipped = Vec::new();
    schedule.finish(0, End::Failed, |node| skipped.push(node));
    assert_eq!(skipped, [2]);
    assert_eq!(schedule.start_next(), None);
    assert!(schedule.is_quiet());
    schedule.skip_rest(|node| skipped.push(node));
    assert_eq!(
        (skipped.as_slice(), schedule.unended()),
        ([2, 1].as_slice(), 0)
    );
}

/// Nodes without needs of their own.
fn schedule(deps: &[Vec<u32>], costs: &[u64], jobs: usize, keep_going: bool) -> Schedule {
    let all = deps.iter().zip(costs);
    let nodes = all.map(|(deps, cost_us)| Node {
        deps: deps.clone(),
        after: Vec::new(),
        cost_us: *cost_us,
        uses: Uses::default(),
    });
    let mut schedule = Schedule::new(jobs, keep_going, Capacity::default());
    schedule.add(nodes.collect(), &[], |_| ());
    schedule
}

/// Nodes that need nothing but the machine.
fn greedy(needs: &[Uses], costs: &[u64], jobs: usize, capacity: Capacity) -> Schedule {
    let all = needs.iter().zip(costs);
    let nodes = all.map(|(uses, cost_us)| Node {
        deps: Vec::new(),
        after: Vec::new(),
        cost_us: *cost_us,
        uses: uses.clone(),
    });
    let mut schedule = Schedule::new(jobs, true, capacity);
    schedule.add(nodes.collect(), &[], |_| ());
    schedule
}

fn uses(cpu_milli: u64, memory_bytes: u64, gpu: u64) -> Uses {
    Uses {
        cpu_milli,
        memory_bytes,
        named_milli: BTreeMap::from([("gpu".to_owned(), gpu)]),
    }
}

#[test]
fn nodes_share_the_machine_and_what_is_too_large_runs_alone() {
    let needs = vec![
        uses(1000, 6, 0),
        uses(1000, 6, 0),
        uses(3000, 0, 0),
        uses(1000, 0, 1000),
        uses(1000, 0, 1000),
        uses(9000, 99, 0),
    ];
    let capacity = Capacity {
        memory_bytes: 10,
        named: BTreeMap::new(),
    };
    let costs = [6, 5, 4, 3, 2, 1];
    let mut schedule = greedy(&needs, &costs, 4, capacity);
    assert_eq!(schedule.start_next(), Some(0));
    assert_eq!(schedule.start_next(), Some(2), "1 wants too much memory");
    assert_eq!(schedule.start_next(), None, "no processor is left");
    schedule.finish(2, End::Done, |_| ());
    assert_eq!(schedule.start_next(), Some(3));
    assert_eq!(schedule.start_next(), None, "there is one gpu");
    schedule.finish(0, End::Done, |_| ());
    assert_eq!(schedule.start_next(), Some(1));
    schedule.finish(3, End::Done, |_| ());
    assert_eq!(schedule.start_next(), Some(4));
    schedule.finish(1, End::Done, |_| ());
    assert_eq!(schedule.start_next(), None);
    schedule.finish(4, End::Done, |_| ());
    assert_eq!(schedule.start_next(), Some(5));
    schedule.finish(5, End::Done, |_| ());
    assert!(schedule.is_quiet());
}

#[test]
fn a_large_node_is_not_overtaken_for_ever() {
    let mut needs = vec![uses(1000, 0, 0); 100];
    needs[0] = uses(2000, 0, 0);
    let mut costs = [1; 100];
    costs[0] = 99;
    costs[1] = 1000;
    let mut schedule = greedy(&needs, &costs, 2, Capacity::default());
    let mut running = vec![schedule.start_next().unwrap()];
    let mut before = 0;
    loop {
        while let Some(node) = schedule.start_next() {
            running.push(node);
        }
        if running.contains(&0) {
            break;
        }
        before += 1;
        schedule.finish(running.remove(0), End::Done, |_| ());
    }
    assert!(before < 40, "{before}");
}

#[test]
fn what_is_awaited_goes_first_and_what_is_added_runs_beside_the_rest() {
    // 0 is long; somebody waits for 1, which needs 2.
    let mut schedule = Schedule::new(2, true, Capacity::default());
    let node = |deps: &[u32], cost_us| Node {
        deps: deps.to_vec(),
        after: Vec::new(),
        cost_us,
        uses: Uses::default(),
    };
    let nodes = vec![node(&[], 99), node(&[], 1), node(&[1], 1)];
    schedule.add(nodes, &[2], |_| ());
    assert_eq!(
        (schedule.start_next(), schedule.start_next()),
        (Some(1), Some(0))
    );
    assert!(schedule.is_critical(1));
    schedule.finish(1, End::Done, |_| ());
    assert_eq!(schedule.start_next(), Some(2));
    schedule.finish(2, End::Done, |_| ());
    // 0 still runs. 3 needs what is done, 4 what runs, 5 both of them.
    let nodes = vec![node(&[2], 1), node(&[0], 1), node(&[3, 4], 1)];
    schedule.add(nodes, &[], |_| ());
    assert_eq!(
        (schedule.start_next(), schedule.start_next()),
        (Some(3), None)
    );
    schedule.finish(3, End::Done, |_| ());
    schedule.finish(0, End::Failed, |_| ());
    let mut skipped = Vec::new();
    schedule.add(vec![node(&[4], 1)], &[], |node| skipped.push(node));
    assert_eq!((skipped, schedule.unended()), (vec![6], 0));
}

proptest! {
    #[test]
    fn every_node_ends_exactly_once(
        edges in prop::collection::vec((0u32..40, 0u32..40), 0..120),
        orders in prop::collection::vec((0u32..40, 0u32..40), 0..40),
        fates in prop::collection::vec(0u8..8, 40),
        jobs in 1usize..6,
        keep_going in any::<bool>(),
        cancel_after in 0usize..80,
        picks in prop::collection::vec(any::<prop::sample::Index>(), 80),
        parts in prop::collection::btree_set(1usize..40, 0..4),
    ) {
        let mut deps = vec![Vec::new(); 40];
        for (a, b) in edges {
            if a < b && !deps[b as usize].contains(&a) { deps[b as usize].push(a) }
        }
        let mut after = vec![Vec::new(); 40];
        for (a, b) in orders {
            if a < b && !deps[b as usize].contains(&a) { after[b as usize].push(a) }
        }
        let node = |node: usize| Node { deps: deps[node].clone(), after: after[node].clone(), cost_us: 3, uses: Uses::default() };
        let mut bounds: Vec<usize> = parts.into_iter().chain([40]).collect();
        let mut schedule = Schedule::new(jobs, keep_going, Capacity::default());
        let mut ends = [0; 40];
        let mut running = Vec::new();
        let mut added = 0;
        for (turn, pick) in picks.iter().enumerate() {
            if turn == cancel_after { schedule.stop() }
            // Parts are added while earlier ones run, and when they have ended.
            if !bounds.is_empty() && (turn % 3 == 0 || running.is_empty()) {
                let end = bounds.remove(0);
                schedule.add((added..end).map(node).collect(), &[], |skipped| ends[skipped as usize] += 1);
                added = end;
            }
            while let Some(node) = schedule.start_next() {
                for dep in &deps[node as usize] {
                    prop_assert_eq!(schedule.end_of(*dep), Some(End::Done));
                }
                for before in &after[node as usize] {
                    prop_assert!(schedule.end_of(*before).is_some());
                }
                running.push(node);
            }
            prop_assert!(running.len() <= jobs);
            if running.is_empty() { continue }
            let node = running.swap_remove(pick.index(running.len()));
            let end = if fates[node as usize] == 0 { End::Failed } else { End::Done };
            ends[node as usize] += 1;
            schedule.finish(node, end, |skipped| ends[skipped as usize] += 1);
        }
        schedule.add((added..40).map(node).collect(), &[], |skipped| ends[skipped as usize] += 1);
        schedule.stop();
        for node in running { ends[node as usize] += 1; schedule.finish(node, End::Cancelled, |skipped| ends[skipped as usize] += 1) }
        prop_assert!(schedule.is_quiet());
        schedule.skip_rest(|node| ends[node as usize] += 1);
        prop_assert_eq!(schedule.unended(), 0);
        prop_assert!(ends.iter().all(|n| *n == 1));
    }
}
