//! Pipelines: order, backpressure from end to sender, an end that loses nothing.

use actor_rt::{Pipeline, System, TellError};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

#[test]
fn items_keep_their_order_through_stages_of_one_and_their_number_through_all() {
    let system = System::new().expect("threads");
    for parallel in [1, 4] {
        let out = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&out);
        let pipeline = Pipeline::new(&system, 8)
            .stage("keep even", |n: u64| n.is_multiple_of(2).then_some(n))
            .parallel("double", parallel, |n| Some(n * 2))
            .sink("collect", move |n| {
                seen.lock().expect("not poisoned").push(n)
            });
        for n in 0..2000 {
            pipeline.send_blocking(n).expect("every stage lives");
        }
        pipeline.finish_blocking();
        assert_eq!(pipeline.queued(), 0);
        assert!(matches!(pipeline.tell(1), Err(TellError::Closed(1))));
        let mut out = out.lock().expect("not poisoned").clone();
        if parallel > 1 {
            out.sort_unstable();
        }
        assert_eq!(out, (0..1000).map(|n| n * 4).collect::<Vec<_>>());
    }
    system.shutdown(LONG).expect("everything ends");
}

#[test]
fn a_stuck_end_fills_the_stages_and_then_refuses() {
    const BOUND: usize = 4;
    let system = System::new().expect("threads");
    let (let_go, release) = channel::<()>();
    let passed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&passed);
    let pipeline = Pipeline::new(&system, BOUND)
        .stage("first", Some)
        .stage("second", Some)
        .sink("gate", move |_: u32| {
            // The first item is held until the test has seen enough; then the other end is gone.
            let _ = release.recv();
            count.fetch_add(1, Ordering::Relaxed);
        });
    // At most three mailboxes and one item in each handler; a stage that waits for room is woken when there is
    // enough of it, so it may be a little less.
    const MOST: usize = 3 * BOUND + 3;
    let (mut sent, mut refusals) = (0_usize, 0);
    while refusals < 5000 {
        match pipeline.tell(sent as u32) {
            Ok(()) => (sent, refusals) = (sent + 1, 0),
            Err(TellError::Full(_)) => {
                refusals += 1;
                std::thread::yield_now();
            }
            Err(TellError::Closed(_)) => panic!("a stage has ended"),
        }
        assert!(sent <= MOST, "nothing holds the sender back");
    }
    assert!(sent >= BOUND, "the first mailbox alone holds as many");
    assert_eq!(passed.load(Ordering::Relaxed), 0);
    drop(let_go);
    pipeline.finish_blocking();
    assert_eq!(passed.load(Ordering::Relaxed), sent);
    system.shutdown(LONG).expect("everything ends");
}

#[test]
fn a_sender_hears_of_a_stage_that_was_killed() {
    let system = System::new().expect("threads");
    let pipeline = Pipeline::new(&system, 2)
        .stage("first", Some)
        .sink("last", |_: u32| {});
    let last = system.lookup::<u32>("last").expect("it has a name");
    last.kill();
    last.join();
    // The first item that finds the end gone ends the stage before it.
    let mut refused = false;
    while !refused {
        refused = matches!(pipeline.send_blocking(1), Err(TellError::Closed(1)));
    }
    pipeline.finish_blocking();
    system.shutdown(LONG).expect("everything ends");
}
