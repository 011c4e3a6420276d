//! A chain of actors that sorts by one bit each; the last one looks whether it worked.
#![forbid(unsafe_code)]

use super::outbox::Outbox;
use super::scramble;
use crate::actor::{Done, Kit, Msg, Ops, Play, Role};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::scenario::actors::{case, every_ordered_kit, wait, workers};
use crate::scenario::{Family, Scenario};

/// `radix_sort`.
pub const SCENARIO: Scenario = Scenario {
    name: "radix_sort",
    family: Family::Savina("Radix Sort"),
    about: "numbers sorted by a chain of 24 actors, one bit each",
    unit: Unit::MillionPerSecond("numbers"),
    cases: |options| {
        let mut cases = Vec::new();
        every_ordered_kit!(options, cases, sort, options);
        cases
    },
};

const BITS: u32 = 24;

/// What is sorted.
fn numbers(count: u64) -> impl Iterator<Item = u64> {
    let mut random = 0x9E37_79B9_7F4A_7C15;
    (0..count).map(move |_| {
        random = scramble(random);
        random & ((1 << BITS) - 1)
    })
}

/// Of numbers in an order.
fn digest(sum: u64, number: u64) -> u64 {
    sum.wrapping_mul(31).wrapping_add(number)
}

/// Passes on numbers without its bit at once and those with it after all others.
struct Stage<R> {
    mask: u64,
    next: R,
    left: u64,
    held: Vec<u64>,
    outbox: Outbox,
}

impl<R: Send> Play<R> for Stage<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        if let Msg::Item(number) = msg {
            if number & self.mask == 0 {
                self.outbox.push(number);
            } else {
                self.held.push(number);
            }
            self.left -= 1;
            if self.left == 0 {
                self.held.drain(..).for_each(|it| self.outbox.push(it));
            }
        }
        self.outbox.flush(&self.next, ops);
    }
}

struct Check {
    left: u64,
    last: u64,
    sum: u64,
    done: Done,
}

impl<R> Play<R> for Check {
    fn on(&mut self, msg: Msg<R>, _: &mut dyn Ops<R>) {
        let Msg::Item(number) = msg else { return };
        assert!(self.last <= number, "not sorted");
        self.last = number;
        self.sum = digest(self.sum, number);
        self.left -= 1;
        if self.left == 0 {
            let _ = self.done.send(self.sum);
        }
    }
}

fn sort<K: Kit>(options: &Options) -> Case {
    let count = options.count(50_000, 100);
    case::<K>("24 bits", workers(options), move |kit, done, finished| {
        let check = Check {
            left: count,
            last: 0,
            sum: 0,
            done,
        };
        // From the last stage to the first, which sorts by the lowest bit.
        let first = (0..BITS)
            .rev()
            .fold(kit.spawn(Role::play(check)), |next, bit| {
                kit.spawn(Role::play(Stage {
                    mask: 1 << bit,
                    next,
                    left: count,
                    held: Vec::new(),
                    outbox: Outbox::default(),
                }))
            });
        let (elapsed, sum) = timed(|| {
            numbers(count).for_each(|number| kit.tell(&first, Msg::Item(number)));
            wait(finished, 1)
        });
        Sample::rate(count, elapsed, sum)
    })
    .expecting(move || {
        let mut all: Vec<u64> = numbers(count).collect();
        all.sort_unstable();
        all.into_iter().fold(0, digest)
    })
}
