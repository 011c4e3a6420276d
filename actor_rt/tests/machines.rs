//! Systems on machines that differ: one core, a set of cores that the process is held to, more workers than cores,
//! and each switch of placement on and off. Placement may cost speed, never an answer.
#![forbid(unsafe_code)]

use actor_rt::{Actor, ActorRef, Context, Reply, System, SystemBuilder};
use std::collections::BTreeSet;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

/// Tells on which thread it runs, by way of the next in line.
struct Where {
    next: Option<ActorRef<Reply<String>>>,
}

impl Actor for Where {
    type Msg = Reply<String>;

    fn handle(&mut self, reply: Self::Msg, _ctx: &mut Context<'_, Self>) {
        match &self.next {
            Some(next) => assert!(next.tell(reply).is_ok(), "the next in line lives"),
            None => reply.send(std::thread::current().name().unwrap_or("").to_owned()),
        }
    }
}

/// Sends through many short lines of actors and answers which threads the last ones ran on.
fn threads_of(builder: SystemBuilder) -> BTreeSet<String> {
    let system = builder.name("w").build().expect("threads");
    let lines: Vec<_> = (0..32)
        .map(|_| {
            let last = system.spawn(|| Where { next: None });
            system.spawn(move || Where {
                next: Some(last.clone()),
            })
        })
        .collect();
    let mut threads = BTreeSet::new();
    for _ in 0..20 {
        for line in &lines {
            let answer = line.ask(|reply| reply).timeout(LONG).wait();
            threads.insert(answer.expect("an answer"));
        }
    }
    drop(lines);
    system.shutdown(LONG).expect("everything ends");
    threads
}

#[test]
fn one_worker_runs_everything() {
    let threads = threads_of(System::builder().workers(1));
    assert_eq!(threads, BTreeSet::from(["w-0".to_owned()]));
}

#[test]
fn more_workers_than_cores_take_turns() {
    let cores = core_affinity::get_core_ids().map_or(1, |cores| cores.len());
    let threads = threads_of(System::builder().workers(4 * cores + 1));
    assert!(threads.iter().all(|name| name.starts_with("w-")));
}

#[test]
fn a_process_held_to_one_core_gets_one_worker() {
    // The set belongs to the thread, and threads inherit it: as good as a container's cpuset.
    let threads = std::thread::spawn(|| {
        let cores = core_affinity::get_core_ids().expect("the cores of this process");
        let last = *cores.last().expect("there is a core");
        assert!(
            core_affinity::set_for_current(last),
            "a smaller set is always allowed"
        );
        threads_of(System::builder())
    })
    .join()
    .expect("the system works");
    assert_eq!(threads, BTreeSet::from(["w-0".to_owned()]));
}

/// Starts actors with threads of their own, and tells on how many cores one of them may run.
struct Landlord;

impl Actor for Landlord {
    type Msg = Reply<usize>;

    fn handle(&mut self, reply: Self::Msg, ctx: &mut Context<'_, Self>) {
        let tenant = ctx.actor(|| Tenant).spawn_dedicated();
        assert!(tenant.tell(reply).is_ok(), "the tenant lives");
    }
}

struct Tenant;

impl Actor for Tenant {
    type Msg = Reply<usize>;

    fn handle(&mut self, reply: Self::Msg, _ctx: &mut Context<'_, Self>) {
        reply.send(core_affinity::get_core_ids().map_or(0, |cores| cores.len()));
    }
}

#[test]
fn a_dedicated_actor_does_not_stay_on_the_core_of_the_worker_that_starts_it() {
    let cores = core_affinity::get_core_ids().map_or(0, |cores| cores.len());
    for pin in [true, false] {
        let system = System::builder().pin(pin).build().expect("threads");
        let landlord = system.spawn(|| Landlord);
        let seen = landlord.ask(|reply| reply).timeout(LONG).wait();
        assert_eq!(seen, Ok(cores));
        system.shutdown(LONG).expect("everything ends");
    }
}

/// Elsewhere threads have no cores of their own, or inherit none.
#[cfg(target_os = "linux")]
#[test]
fn a_dedicated_actor_keeps_the_core_that_its_starter_was_given() {
    let system = System::new().expect("threads");
    let seen = std::thread::scope(|scope| {
        let starter = scope.spawn(|| {
            let cores = core_affinity::get_core_ids().expect("the cores of this process");
            let last = *cores.last().expect("there is a core");
            assert!(core_affinity::set_for_current(last), "it may be used");
            let tenant = system.spawn_dedicated(|| Tenant);
            tenant.ask(|reply| reply).timeout(LONG).wait()
        });
        starter.join().expect("no panic")
    });
    assert_eq!(seen, Ok(1));
    system.shutdown(LONG).expect("everything ends");
}

/// Tells on how many cores what blocks may run.
#[cfg(target_os = "linux")]
struct Lender;

#[cfg(target_os = "linux")]
impl Actor for Lender {
    type Msg = Reply<usize>;

    fn handle(&mut self, reply: Self::Msg, ctx: &mut Context<'_, Self>) {
        ctx.system().tokio().spawn_blocking(move || {
            reply.send(core_affinity::get_core_ids().map_or(0, |cores| cores.len()));
        });
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_blocks_does_not_stay_on_the_core_of_the_worker_that_starts_it() {
    let cores = core_affinity::get_core_ids().map_or(0, |cores| cores.len());
    let system = System::new().expect("threads");
    let lender = system.spawn(|| Lender);
    let seen = lender.ask(|reply| reply).timeout(LONG).wait();
    assert_eq!(seen, Ok(cores));
    system.shutdown(LONG).expect("everything ends");
}

#[test]
fn every_switch_of_placement_can_be_off() {
    for (pin, near) in [(false, false), (false, true), (true, false), (true, true)] {
        let builder = System::builder().workers(3).pin(pin).near_first(near);
        assert!(!threads_of(builder).is_empty());
    }
}
