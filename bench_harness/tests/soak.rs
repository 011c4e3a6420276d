//! Whole soaks, short ones: a planted leak is found, and where there is none nothing is. One test, because both count what
//! the whole process allocates.
#![forbid(unsafe_code)]

use std::time::Duration;

use actor_rt::{Actor, Context, System};
use bench_harness::alloc_count::Counting;
use bench_harness::soak::{self, Ruling};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Enough for a verdict, however long they take.
const ROUNDS: u64 = 240;
/// What may be needed for the first time ever meanwhile.
const MOST_BYTES: i64 = 64 * 1024;

struct Idle;

impl Actor for Idle {
    type Msg = ();

    fn handle(&mut self, (): (), _ctx: &mut Context<'_, Self>) {}
}

#[test]
fn a_planted_leak_fails_a_soak_and_nothing_else_does() {
    let clean = soak::run_with(Duration::ZERO, ROUNDS, |_| ()).unwrap();
    println!("{}", soak::render(&clean));
    // On a busy machine so few rounds may not be enough to be certain that nothing grows, so `Passed` is not asked for.
    assert_ne!(clean.ruling, Ruling::Failed, "{}", soak::render(&clean));
    assert!(clean.growth.unwrap().bytes < MOST_BYTES, "{clean:?}");
    assert_eq!((clean.errors, clean.unanswered), (0, 0));
    assert_eq!(clean.messages.missing(), 0);
    assert!(clean.faults > 0 && clean.kills > 0 && clean.overflows > 0);
    assert!(clean.messages.failed > 0 && clean.messages.refused > 0);
    assert!(clean.messages.dropped > 0);

    // A box that nobody frees.
    let heap = soak::run_with(Duration::ZERO, ROUNDS, |_| {
        Box::leak(Box::new([0_u8; 64]));
    });
    let heap = heap.unwrap();
    assert_eq!(heap.ruling, Ruling::Failed, "{}", soak::render(&heap));
    assert!(heap.errors + heap.unanswered == 0 && heap.growth.unwrap().at_least >= 1.0);

    // An actor that has ended and is never freed: a block of a slab, which is no allocation.
    let slab = soak::run_with(Duration::ZERO, ROUNDS, |system: &System| {
        let idle = system.spawn(|| Idle);
        idle.stop();
        idle.join();
        std::mem::forget(idle);
    });
    let slab = slab.unwrap();
    assert_eq!(slab.ruling, Ruling::Failed, "{}", soak::render(&slab));
}
