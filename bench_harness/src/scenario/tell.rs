//! One-way messages: from threads outside to one actor, and from actor to actor.
#![forbid(unsafe_code)]

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use super::actors::{case_with, every_kit, sum_below, wait, workers, workers_and_outside};
use super::{Family, Scenario};
use crate::actor::{Kit, Msg, Role, Setup};
use crate::elapsed::{Counters, Elapsed, timed};
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::pin;

/// `tell`.
pub const SCENARIO: Scenario = Scenario {
    name: "tell",
    family: Family::Actors,
    about: "one-way messages to one actor: from 1 and 4 threads on another core, and from another actor",
    unit: Unit::MillionPerSecond("messages"),
    cases,
};

const MESSAGES: u64 = 4_000_000;

fn cases(options: &Options) -> Vec<Case> {
    let mut cases = Vec::new();
    for senders in options
        .producers
        .map_or(vec![1, 4], |count| vec![count as u64])
    {
        every_kit!(options, cases, from_threads, options, senders);
    }
    every_kit!(options, cases, from_actor, options);
    cases
}

/// Senders share the last core; the library has the others.
pub(super) fn from_threads<K: Kit>(options: &Options, senders: u64) -> Case {
    let count = options.items(MESSAGES).next_multiple_of(senders);
    let variant = if senders == 1 {
        "1 thread".into()
    } else {
        format!("{senders} threads")
    };
    let (cores, outside) = workers_and_outside(options);
    let setup = Setup {
        cores,
        mailbox: options.mailbox,
    };
    case_with::<K>(variant, setup, move |kit, done, finished| {
        let sink = kit.spawn(Role::sink(count, done));
        let start = Barrier::new(senders as usize);
        let counters = Counters::now();
        thread::scope(|scope| {
            let threads: Vec<_> = (0..senders)
                .map(|sender| {
                    let (kit, sink, start) = (kit, &sink, &start);
                    scope.spawn(move || {
                        pin::to(outside);
                        start.wait();
                        let began = Instant::now();
                        let each = count / senders;
                        kit.flood(sink, sender * each, each);
                        began
                    })
                })
                .collect();
            let began = threads
                .into_iter()
                .map(|thread| thread.join().expect("a sender ends"))
                .min();
            let sum = wait(finished, 1);
            let time = began.expect("there is a sender").elapsed();
            let costs = counters.until_now();
            Sample::rate(count, Elapsed { time, costs }, sum)
        })
    })
    .beside(outside, senders as usize)
    .expecting(move || sum_below(count))
}

fn from_actor<K: Kit>(options: &Options) -> Case {
    let count = options.items(MESSAGES);
    let setup = Setup {
        cores: workers(options),
        mailbox: options.mailbox,
    };
    case_with::<K>("actor to actor", setup, move |kit, done, finished| {
        let sink = kit.spawn(Role::sink(count, done));
        let source = kit.spawn(Role::Source {
            sink: Some(sink),
            next: 0,
            end: count,
        });
        let (elapsed, sum) = timed(|| {
            kit.tell(&source, Msg::Go);
            wait(finished, 1)
        });
        Sample::rate(count, elapsed, sum)
    })
    .expecting(move || sum_below(count))
}
