//! Forty producers and forty consumers with a buffer of fifty between them, kept by an actor.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::Arc;

use super::scramble;
use crate::actor::{Done, Kit, Msg, Ops, Play, Role, sent};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::scenario::actors::{case, every_kit, wait, workers};
use crate::scenario::{Family, Scenario};

/// `bounded_buffer`.
pub const SCENARIO: Scenario = Scenario {
    name: "bounded_buffer",
    family: Family::Savina("Producer-Consumer with Bounded Buffer"),
    about: "40 producers and 40 consumers around a buffer of 50",
    unit: Unit::MillionPerSecond("items"),
    cases: |options| {
        let mut cases = Vec::new();
        every_kit!(options, cases, pass, options);
        cases
    },
};

const PRODUCERS: u32 = 40;
const CONSUMERS: u32 = 40;
const BUFFER: usize = 50;
/// Rounds of work for an item, on either side.
const WORK: u32 = 16;

/// Tells producers when to go on and consumers what there is. An item carries its producer in the upper half.
struct Keeper<R> {
    /// Producers, then consumers.
    all: Arc<[R]>,
    buffer: VecDeque<u64>,
    held_back: VecDeque<u32>,
    hungry: VecDeque<u32>,
    left: u64,
}

impl<R> Keeper<R> {
    fn consumer(&self, index: u32) -> &R {
        &self.all[(PRODUCERS + index) as usize]
    }

    fn serve(&mut self, ops: &mut dyn Ops<R>) {
        while !self.buffer.is_empty() && !self.hungry.is_empty() {
            let (item, eater) = (self.buffer.pop_front(), self.hungry.pop_front());
            let (item, eater) = (item.expect("not empty"), eater.expect("not empty"));
            sent(ops.tell(self.consumer(eater), Msg::Item(item)));
            self.left -= 1;
            if let Some(producer) = self.held_back.pop_front() {
                sent(ops.tell(&self.all[producer as usize], Msg::Go));
            }
        }
        if self.left == 0 && self.hungry.len() == CONSUMERS as usize {
            (0..CONSUMERS).for_each(|index| sent(ops.tell(self.consumer(index), Msg::Token(0))));
        }
    }
}

impl<R: Clone + Send + Sync> Play<R> for Keeper<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        match msg {
            Msg::Wires(all) => self.all = all,
            Msg::Item(item) => {
                let producer = (item >> 32) as u32;
                self.buffer.push_back(item);
                if self.buffer.len() < BUFFER {
                    sent(ops.tell(&self.all[producer as usize], Msg::Go));
                } else {
                    self.held_back.push_back(producer);
                }
                self.serve(ops);
            }
            Msg::Ping(consumer) => {
                self.hungry.push_back(consumer);
                self.serve(ops);
            }
            _ => {}
        }
    }
}

/// The item of a producer that has `left` more to make.
fn make(producer: u32, left: u64) -> u64 {
    let made = (0..WORK).fold(left + 1, |made, _| scramble(made));
    u64::from(producer) << 32 | made & 0xFFFF_FFFF
}

fn eat(item: u64) -> u64 {
    (0..WORK).fold(item, |item, _| scramble(item))
}

/// What consumers make of the items of producers that make `each`.
fn eaten(each: u64) -> u64 {
    (0..PRODUCERS)
        .flat_map(|producer| (0..each).map(move |left| eat(make(producer, left))))
        .fold(0, u64::wrapping_add)
}

struct Producer<R> {
    keeper: R,
    me: u32,
    left: u64,
}

impl<R: Send> Play<R> for Producer<R> {
    fn on(&mut self, _: Msg<R>, ops: &mut dyn Ops<R>) {
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        sent(ops.tell(&self.keeper, Msg::Item(make(self.me, self.left))));
    }
}

struct Consumer<R> {
    keeper: R,
    me: u32,
    sum: u64,
    done: Done,
}

impl<R: Send> Play<R> for Consumer<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        match msg {
            Msg::Token(_) => {
                let _ = self.done.send(self.sum);
                return;
            }
            Msg::Item(item) => {
                self.sum = self.sum.wrapping_add(eat(item));
            }
            _ => {}
        }
        sent(ops.tell(&self.keeper, Msg::Ping(self.me)));
    }
}

fn pass<K: Kit>(options: &Options) -> Case {
    let each = options.count(10_000, 20);
    case::<K>("40 to 40", workers(options), move |kit, done, finished| {
        let keeper = kit.spawn(Role::play(Keeper::<K::Ref> {
            all: Arc::new([]),
            buffer: VecDeque::new(),
            held_back: VecDeque::new(),
            hungry: VecDeque::new(),
            left: each * u64::from(PRODUCERS),
        }));
        let producers = (0..PRODUCERS).map(|me| {
            kit.spawn(Role::play(Producer {
                keeper: keeper.clone(),
                me,
                left: each,
            }))
        });
        let consumers = (0..CONSUMERS).map(|me| {
            kit.spawn(Role::play(Consumer {
                keeper: keeper.clone(),
                me,
                sum: 0,
                done: done.clone(),
            }))
        });
        let all: Arc<[K::Ref]> = producers.chain(consumers).collect();
        kit.tell(&keeper, Msg::Wires(Arc::clone(&all)));
        let (elapsed, sum) = timed(|| {
            all.iter().for_each(|actor| kit.tell(actor, Msg::Go));
            wait(finished, u64::from(CONSUMERS))
        });
        Sample::rate(each * u64::from(PRODUCERS), elapsed, sum)
    })
    .expecting(move || eaten(each))
}
