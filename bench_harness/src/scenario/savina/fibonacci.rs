//! Fibonacci numbers the slow way: an actor per call, each starting two more.
#![forbid(unsafe_code)]

use crate::actor::{Done, Kit, Msg, Ops, Play, Role, sent};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::{Options, Scale};
use crate::scenario::actors::{case, every_kit, wait, workers};
use crate::scenario::{Family, Scenario};

/// `fibonacci`.
pub const SCENARIO: Scenario = Scenario {
    name: "fibonacci",
    family: Family::Savina("Recursive Fibonacci Tree"),
    about: "a Fibonacci number with an actor per call",
    unit: Unit::Milliseconds,
    cases: |options| {
        let mut cases = Vec::new();
        every_kit!(options, cases, compute, options);
        cases
    },
};

struct Call<R> {
    n: u64,
    parent: Option<R>,
    pending: u8,
    sum: u64,
    done: Option<Done>,
}

impl<R> Call<R> {
    fn new(n: u64, parent: Option<R>, done: Option<Done>) -> Self {
        Self {
            n,
            parent,
            pending: 0,
            sum: 0,
            done,
        }
    }

    fn answer(&self, value: u64, ops: &mut dyn Ops<R>) {
        match (&self.parent, &self.done) {
            (Some(parent), _) => sent(ops.tell(parent, Msg::Item(value))),
            (None, Some(done)) => drop(done.send(value)),
            (None, None) => {}
        }
        ops.stop();
    }
}

impl<R: Clone + Send + 'static> Play<R> for Call<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        match msg {
            Msg::Go if self.n < 2 => self.answer(self.n, ops),
            Msg::Go => {
                self.pending = 2;
                for below in [self.n - 1, self.n - 2] {
                    let me = ops.me();
                    let child = ops.spawn(Role::play(Self::new(below, Some(me), None)));
                    sent(ops.tell(&child, Msg::Go));
                }
            }
            Msg::Item(value) => {
                self.sum += value;
                self.pending -= 1;
                if self.pending == 0 {
                    self.answer(self.sum, ops);
                }
            }
            _ => {}
        }
    }
}

fn compute<K: Kit>(options: &Options) -> Case {
    let n = match options.scale {
        Scale::Full => 22,
        Scale::Quick => 18,
        Scale::Tiny => 8,
    };
    case::<K>(
        format!("n = {n}"),
        workers(options),
        move |kit, done, finished| {
            let root = kit.spawn(Role::play(Call::<K::Ref>::new(n, None, Some(done))));
            let (elapsed, value) = timed(|| {
                kit.tell(&root, Msg::Go);
                wait(finished, 1)
            });
            Sample::time(elapsed, value)
        },
    )
    .expecting(move || (0..n).fold((0_u64, 1_u64), |(a, b), _| (b, a + b)).0)
}
