//! Outputs in the workspace: kinds, modes, and what is taken away.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use zako_actors::engine::event::Outcome;

use crate::world::{World, step};

#[test]
fn every_kind_of_output_survives_the_cache() {
    let script = "mkdir -p d/deep d/empty; echo x > d/deep/x; ln -s deep/x d/link; \
                  echo '#!/bin/sh' > tool; chmod 755 tool; echo 1 > g1.h; echo 2 > g2.h";
    let world = World::new(&json!({ "t": step(script, &[], &[], &["d/", "tool", "*.h"]) }));
    let check = || {
        assert_eq!(world.read("d/link"), "x\n");
        assert_eq!(
            fs::read_link(world.root().join("d/link")).unwrap().to_str(),
            Some("deep/x")
        );
        assert!(world.root().join("d/empty").is_dir());
        assert_eq!(
            (world.read("g1.h"), world.read("g2.h")),
            ("1\n".into(), "2\n".into())
        );
        let mode = fs::metadata(world.root().join("tool"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o755);
    };
    assert_eq!(world.build().with(Outcome::Executed), ["//:t"]);
    check();
    fs::remove_dir_all(world.root().join("d")).unwrap();
    fs::remove_file(world.root().join("tool")).unwrap();
    fs::write(world.root().join("g1.h"), "edited").unwrap();
    assert_eq!(world.build().with(Outcome::Cached), ["//:t"]);
    check();
    fs::set_permissions(world.root().join("tool"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(world.build().with(Outcome::Cached), ["//:t"]);
    check();
    assert_eq!(world.build().summary.up_to_date, 1);
}

#[test]
fn what_no_target_writes_any_more_is_removed() {
    let world = World::new(&json!({
        "t": step("mkdir -p d; echo > d/old; echo > d/same", &[], &[], &["d/"]),
        "gone": step("mkdir -p e/f; echo > e/f/x", &[], &[], &["e/"]),
    }));
    world.build();
    world.write("d/mine", "a person's");
    world.targets(
        &json!({ "t": step("mkdir -p d; echo > d/new; echo > d/same", &[], &[], &["d/"]) }),
    );
    world.build();
    assert!(world.has("d/new") && world.has("d/same") && !world.has("d/old"));
    assert!(!world.has("e"), "a target that vanished leaves nothing");
    assert_eq!(world.read("d/mine"), "a person's");
}

#[test]
fn an_output_that_moves_to_another_target_stays() {
    let world = World::new(&json!({ "a": step("echo a > o", &[], &[], &["o"]) }));
    world.build();
    world.targets(&json!({
        "a": step("echo a > p", &[], &[], &["p"]),
        "b": step("echo b > o", &[], &[], &["o"]),
    }));
    world.build();
    assert_eq!(
        (world.read("o"), world.read("p")),
        ("b\n".into(), "a\n".into())
    );
}

#[test]
fn a_persons_file_is_never_replaced() {
    let world = World::new(&json!({ "t": step("echo made > o", &[], &[], &["o"]) }));
    world.write("o", "by hand\n");
    let built = world.try_build().unwrap();
    assert!(
        built.failures[0].contains("o exists and zako did not write it"),
        "{:?}",
        built.failures
    );
    assert_eq!(world.read("o"), "by hand\n");
    // Exactly what would be written is no conflict.
    world.write("o", "made\n");
    world.build();
}

#[test]
fn two_targets_that_turn_out_to_write_one_file_are_refused() {
    let world = World::new(&json!({
        "a": step("echo > x.h", &[], &[], &["*.h"]),
        "b": step("echo > x.h", &[], &[":a"], &["x.*"]),
    }));
    let built = world.try_build().unwrap();
    assert!(
        built.failures[0].contains("//:a and //:b both write x.h"),
        "{:?}",
        built.failures
    );
}

#[test]
fn less_than_declared_fails_and_leaves_nothing() {
    let world = World::new(&json!({ "t": step("echo > one", &[], &[], &["one", "two"]) }));
    let built = world.try_build().unwrap();
    assert!(
        built.failures[0].contains("did not write two"),
        "{:?}",
        built.failures
    );
    assert!(!world.has("one"));
}
