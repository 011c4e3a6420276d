//! A sieve of Eratosthenes: a chain of filters that grows by an actor for every prime found.
#![forbid(unsafe_code)]

use super::outbox::Outbox;
use crate::actor::{Done, Kit, Msg, Ops, Play, Role};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::{Options, Scale};
use crate::scenario::actors::{case, every_ordered_kit, wait, workers};
use crate::scenario::{Family, Scenario};

/// `sieve`.
pub const SCENARIO: Scenario = Scenario {
    name: "sieve",
    family: Family::Savina("Sieve of Eratosthenes"),
    about: "primes by a chain of filters, one actor per prime",
    unit: Unit::Milliseconds,
    cases: |options| {
        let mut cases = Vec::new();
        every_ordered_kit!(options, cases, sift, options);
        cases
    },
};

/// Ends the stream, and carries the sum of the primes before it in its lower bits.
const END: u64 = 1 << 63;

/// By trial division.
fn sum_of_primes(limit: u64) -> u64 {
    let is_prime = |number: &u64| {
        let mut divisors = (2..*number).take_while(|it| it * it <= *number);
        divisors.all(|divisor| !number.is_multiple_of(divisor))
    };
    (2..limit).filter(is_prime).sum()
}

struct Filter<R> {
    prime: u64,
    next: Option<R>,
    outbox: Outbox,
    done: Done,
}

impl<R> Filter<R> {
    fn new(prime: u64, done: Done) -> Self {
        Self {
            prime,
            next: None,
            outbox: Outbox::default(),
            done,
        }
    }
}

impl<R: Clone + Send + 'static> Filter<R> {
    fn flush(&mut self, ops: &mut dyn Ops<R>) {
        if let Some(next) = &self.next {
            self.outbox.flush(next, ops);
        }
    }
}

impl<R: Clone + Send + 'static> Play<R> for Filter<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        match msg {
            Msg::Item(sum) if sum & END != 0 => {
                let sum = sum + self.prime;
                if self.next.is_none() {
                    let _ = self.done.send(sum & !END);
                } else {
                    self.outbox.push(sum);
                    self.flush(ops);
                }
            }
            Msg::Item(number) if number % self.prime != 0 => {
                if self.next.is_none() {
                    self.next = Some(ops.spawn(Role::play(Self::new(number, self.done.clone()))));
                } else {
                    self.outbox.push(number);
                }
                self.flush(ops);
            }
            _ => self.flush(ops),
        }
    }
}

fn sift<K: Kit>(options: &Options) -> Case {
    let limit = match options.scale {
        Scale::Full => 20_000,
        Scale::Quick => 5_000,
        Scale::Tiny => 100,
    };
    case::<K>(
        format!("up to {limit}"),
        workers(options),
        move |kit, done, finished| {
            let first = kit.spawn(Role::play(Filter::<K::Ref>::new(2, done)));
            let (elapsed, sum) = timed(|| {
                (3..limit).for_each(|number| kit.tell(&first, Msg::Item(number)));
                kit.tell(&first, Msg::Item(END));
                wait(finished, 1)
            });
            Sample::time(elapsed, sum)
        },
    )
    .expecting(move || sum_of_primes(limit))
}
