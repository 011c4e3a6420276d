//! What runs again, and why nothing else does.

use serde_json::json;
use zako_actors::engine::event::Outcome;

use crate::world::{World, step};

fn chain() -> World {
    let world = World::new(&json!({
        "first": step("grep -v '#' a > first.out || true", &["a"], &[], &["first.out"]),
        "second": step("tr a-z A-Z < first.out > second.out", &[], &[":first"], &["second.out"]),
        "third": step("wc -c < second.out > third.out", &[], &[":second"], &["third.out"]),
    }));
    world.write("a", "one\n");
    world
}

#[test]
fn an_unchanged_output_stops_the_rebuilding() {
    let world = chain();
    assert_eq!(
        world.build().with(Outcome::Executed),
        ["//:first", "//:second", "//:third"]
    );
    assert_eq!(world.build().summary.up_to_date, 3);
    world.write("a", "# a comment\none\n");
    let built = world.build();
    assert_eq!(built.with(Outcome::Executed), ["//:first"]);
    assert_eq!(built.with(Outcome::UpToDate), ["//:second", "//:third"]);
    assert_eq!(world.build().summary.up_to_date, 3);
}

#[test]
fn the_next_session_goes_on_in_memory_unless_somebody_else_has_built() {
    let world = chain();
    let mut kept = None;
    world.build_again(&mut kept).unwrap();
    // Its checksum stays, what it is of goes: who reads it says so.
    let state = world.root().join(".zako/state");
    let whole = std::fs::read(&state).unwrap();
    std::fs::write(&state, &whole[..whole.len() - 1]).unwrap();
    let built = world.build_again(&mut kept).unwrap();
    assert_eq!(built.summary.up_to_date, 3);
    world.write("a", "two\n");
    let built = world.build_again(&mut kept).unwrap();
    assert_eq!(built.with(Outcome::Executed).len(), 3);
    assert_eq!(world.read("second.out"), "TWO\n");

    // Another process finishes a target that memory knows nothing of.
    world.targets(&json!({ "new": step("echo > new.out", &[], &[], &["new.out"]) }));
    world.build();
    let built = world.build_again(&mut kept).unwrap();
    assert_eq!(built.summary.up_to_date, 1);
    assert!(!world.has("second.out"), "its target is gone");
}

#[test]
fn what_is_in_memory_goes_with_the_directory_that_it_was_of() {
    let world = chain();
    let mut kept = None;
    world.build_again(&mut kept).unwrap();
    let beside = tempfile::tempdir().unwrap();
    let old = beside.path().join("old");
    std::fs::rename(world.root(), &old).unwrap();
    std::fs::create_dir(world.root()).unwrap();
    for entry in std::fs::read_dir(&old).unwrap() {
        let name = entry.unwrap().file_name();
        std::fs::rename(old.join(&name), world.root().join(&name)).unwrap();
    }
    world.write("a", "two\n");
    let built = world.build_again(&mut kept).unwrap();
    assert_eq!(built.with(Outcome::Executed).len(), 3);
    assert_eq!(world.read("second.out"), "TWO\n");
}

#[test]
fn an_older_state_comes_from_the_cache() {
    let world = chain();
    world.build();
    world.write("a", "two\n");
    world.build();
    world.write("a", "one\n");
    let built = world.build();
    assert_eq!(
        built.with(Outcome::Cached),
        ["//:first", "//:second", "//:third"]
    );
    assert_eq!(world.read("second.out"), "ONE\n");
}

#[test]
fn a_failure_skips_what_needs_it_and_every_node_ends_once() {
    let mut world = chain();
    world.keep_going = true;
    world.targets(&json!({
        "bad": step("echo no; exit 7", &[], &[], &["bad.out"]),
        "on": step("true", &[], &[":bad"], &[]),
        "beyond": step("true", &[], &[":on"], &[]),
        "good": step("echo > good.out", &[], &[], &["good.out"]),
    }));
    let built = world.try_build().unwrap();
    assert_eq!(built.steps.len(), 4);
    assert_eq!(built.with(Outcome::Failed), ["//:bad"]);
    assert_eq!(built.with(Outcome::Skipped), ["//:beyond", "//:on"]);
    assert_eq!(built.with(Outcome::Executed), ["//:good"]);
    assert!(
        built.failures[0].starts_with("error: //:bad failed: exit status 7"),
        "{:?}",
        built.failures
    );
    assert!(!world.has("bad.out"));
}

#[test]
fn a_test_is_tried_again_as_often_as_it_says() {
    let world = World::new(&json!({}));
    let count = world.root().join("count");
    let script = format!("echo >> {0}; test $(wc -l < {0}) -ge 3", count.display());
    let flaky = |retries: u32| json!({ "t": {"$zako": "test", "cmd": ["sh", "-c", script], "retries": retries} });
    world.targets(&flaky(1));
    assert_eq!(world.try_build().unwrap().summary.failed, 1);
    std::fs::remove_file(&count).unwrap();
    world.targets(&flaky(2));
    assert_eq!(world.build().with(Outcome::Executed), ["//:t"]);
}
