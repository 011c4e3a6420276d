//! One-way messages between groups of actors: one to many, many to one, and in pairs.
#![forbid(unsafe_code)]

use super::actors::{case_with, every_parallel_kit, sum_below, wait, workers};
use super::{Family, Scenario};
use crate::actor::{Kit, Msg, Ops, Play, Role, Setup, sent};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;

/// `tell_n`.
pub const SCENARIO: Scenario = Scenario {
    name: "tell_n",
    family: Family::Actors,
    about: "one-way messages between actors: from 1 to 4, from 4 to 1, and in 4 pairs",
    unit: Unit::MillionPerSecond("messages"),
    cases,
};

const MESSAGES: u64 = 4_000_000;
/// Messages that a sender sends before it lets others run.
const CHUNK: u64 = 256;

fn cases(options: &Options) -> Vec<Case> {
    let many = |asked: Option<usize>| asked.unwrap_or(4) as u64;
    let (senders, sinks) = (many(options.producers), many(options.consumers));
    let mut cases = Vec::new();
    every_parallel_kit!(options, cases, spread, options, 1, sinks);
    every_parallel_kit!(options, cases, spread, options, senders, 1);
    every_parallel_kit!(options, cases, pairs, options, sinks);
    cases
}

/// Sends the items `next..end` to its sinks in turn.
struct Sower<R> {
    sinks: Vec<R>,
    next: u64,
    end: u64,
}

impl<R: Clone + Send> Play<R> for Sower<R> {
    fn on(&mut self, _: Msg<R>, ops: &mut dyn Ops<R>) {
        let stop = (self.next + CHUNK).min(self.end);
        while self.next < stop {
            let sink = &self.sinks[self.next as usize % self.sinks.len()];
            if ops.tell(sink, Msg::Item(self.next)).is_err() {
                break;
            }
            self.next += 1;
        }
        if self.next < self.end {
            let me = ops.me();
            sent(ops.tell(&me, Msg::Go));
        }
    }
}

fn setup(options: &Options) -> Setup {
    Setup {
        cores: workers(options),
        mailbox: options.mailbox,
    }
}

fn spread<K: Kit>(options: &Options, senders: u64, sinks: u64) -> Case {
    let share = options.items(MESSAGES).div_ceil(senders * sinks);
    // Every sender sends whole turns, so that every sink gets as many.
    let each = share * sinks;
    let variant = format!("{senders} to {sinks}");
    case_with::<K>(variant, setup(options), move |kit, done, finished| {
        let all: Vec<_> = (0..sinks)
            .map(|_| kit.spawn(Role::sink(share * senders, done.clone())))
            .collect();
        let sowers: Vec<_> = (0..senders)
            .map(|sender| {
                kit.spawn(Role::play(Sower {
                    sinks: all.clone(),
                    next: sender * each,
                    end: (sender + 1) * each,
                }))
            })
            .collect();
        let (elapsed, sum) = timed(|| {
            sowers.iter().for_each(|sower| kit.tell(sower, Msg::Go));
            wait(finished, sinks)
        });
        Sample::rate(each * senders, elapsed, sum)
    })
    .expecting(move || sum_below(each * senders))
}

fn pairs<K: Kit>(options: &Options, pairs: u64) -> Case {
    let each = options.items(MESSAGES).div_ceil(pairs);
    let variant = format!("{pairs} pairs");
    case_with::<K>(variant, setup(options), move |kit, done, finished| {
        let sowers: Vec<_> = (0..pairs)
            .map(|pair| {
                let sink = kit.spawn(Role::sink(each, done.clone()));
                kit.spawn(Role::play(Sower {
                    sinks: vec![sink],
                    next: pair * each,
                    end: (pair + 1) * each,
                }))
            })
            .collect();
        let (elapsed, sum) = timed(|| {
            sowers.iter().for_each(|sower| kit.tell(sower, Msg::Go));
            wait(finished, pairs)
        });
        Sample::rate(each * pairs, elapsed, sum)
    })
    .expecting(move || sum_below(each * pairs))
}
