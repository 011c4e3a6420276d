//! An integral by the trapezoidal rule, cut into pieces for a hundred actors: work rather than messages.
#![forbid(unsafe_code)]

use crate::actor::{Done, Kit, Msg, Ops, Play, Role};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::scenario::actors::{case, every_kit, wait, workers};
use crate::scenario::{Family, Scenario};

/// `trapezoid`.
pub const SCENARIO: Scenario = Scenario {
    name: "trapezoid",
    family: Family::Savina("Trapezoidal Approximation"),
    about: "an integral cut into pieces for 100 actors",
    unit: Unit::MillionPerSecond("steps"),
    cases: |options| {
        let mut cases = Vec::new();
        every_kit!(options, cases, integrate, options);
        cases
    },
};

const PIECES: u64 = 100;

struct Piece {
    steps: u64,
    done: Done,
}

/// The function that Savina integrates.
fn f(x: f64) -> f64 {
    1.0 / (x + 1.0) * (1.0 + (x.powi(3) - 1.0).exp()).sqrt()
}

/// The area of a piece, as bits: their sum does not depend on the order in which pieces arrive.
fn area(piece: u64, steps: u64) -> u64 {
    let width = 4.0 / (PIECES * steps) as f64;
    let from = 1.0 + 4.0 * piece as f64 / PIECES as f64;
    let at = |step: u64| from + step as f64 * width;
    let area: f64 = (0..steps)
        .map(|step| width * (f(at(step)) + f(at(step + 1))) / 2.0)
        .sum();
    area.to_bits()
}

impl<R> Play<R> for Piece {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        let Msg::Item(piece) = msg else { return };
        let _ = self.done.send(area(piece, self.steps));
        ops.stop();
    }
}

fn integrate<K: Kit>(options: &Options) -> Case {
    let steps = options.count(50_000, 50);
    case::<K>(
        "100 actors",
        workers(options),
        move |kit, done, finished| {
            let (elapsed, area) = timed(|| {
                for piece in 0..PIECES {
                    let actor = kit.spawn(Role::play(Piece {
                        steps,
                        done: done.clone(),
                    }));
                    kit.tell(&actor, Msg::Item(piece));
                }
                wait(finished, PIECES)
            });
            Sample::rate(steps * PIECES, elapsed, area)
        },
    )
    .expecting(move || {
        (0..PIECES)
            .map(|piece| area(piece, steps))
            .fold(0, u64::wrapping_add)
    })
}
