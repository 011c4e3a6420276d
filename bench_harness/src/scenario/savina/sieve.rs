//! A sieve of Eratosthenes: a chain of filters that grows by an actor for every prime found.
#![forbid(unsafe_code)]

use crate::actor::{Done, Kit, Msg, Ops, Play, Role};
use crate::measure::{Case, Sample, Unit};
use crate::options::{Options, Scale};
use crate::scenario::Scenario;
use crate::scenario::actors::{case, every_kit, timed, wait, workers};

/// `sieve`.
pub const SCENARIO: Scenario = Scenario {
    name: "sieve",
    about: "primes by a chain of filters, one actor per prime",
    unit: Unit::Milliseconds,
    cases: |options| {
        let mut cases = Vec::new();
        every_kit!(options, cases, sift, options);
        cases
    },
};

/// Zero ends the stream.
const END: u64 = 0;

struct Filter<R> {
    prime: u64,
    next: Option<R>,
    /// Numbers that did not fit into the next one's mailbox yet.
    waiting: std::collections::VecDeque<u64>,
    done: Done,
}

impl<R> Filter<R> {
    fn new(prime: u64, done: Done) -> Self {
        Self {
            prime,
            next: None,
            waiting: std::collections::VecDeque::new(),
            done,
        }
    }
}

impl<R: Clone + Send + 'static> Filter<R> {
    /// Passes on what fits; comes back for the rest.
    fn flush(&mut self, ops: &mut dyn Ops<R>) {
        let Some(next) = &self.next else { return };
        while let Some(number) = self.waiting.pop_front() {
            if ops.tell(next, Msg::Item(number)).is_err() {
                self.waiting.push_front(number);
                let me = ops.me();
                // A full mailbox of one's own has messages in it, and each of them flushes too.
                let _ = ops.tell(&me, Msg::Go);
                return;
            }
        }
    }
}

impl<R: Clone + Send + 'static> Play<R> for Filter<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        match msg {
            Msg::Item(END) if self.next.is_none() => drop(self.done.send(self.prime)),
            Msg::Item(number) if number == END || number % self.prime != 0 => {
                if self.next.is_none() {
                    self.next = Some(ops.spawn(Role::play(Self::new(number, self.done.clone()))));
                } else {
                    self.waiting.push_back(number);
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
            let (elapsed, largest) = timed(|| {
                (3..limit).for_each(|number| kit.tell(&first, Msg::Item(number)));
                kit.tell(&first, Msg::Item(END));
                wait(finished, 1)
            });
            Sample::time(elapsed, largest)
        },
    )
}
