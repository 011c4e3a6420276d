//! Ten series of a logistic map, each term computed by another actor than the one that keeps it.
#![forbid(unsafe_code)]

use crate::actor::{Done, Kit, Msg, Ops, Play, Role, sent};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::scenario::actors::{case, every_kit, wait, workers};
use crate::scenario::{Family, Scenario};

/// `logistic_map`.
pub const SCENARIO: Scenario = Scenario {
    name: "logistic_map",
    family: Family::Savina("Logistic Map Series"),
    about: "10 series whose terms are computed by another actor",
    unit: Unit::MillionPerSecond("terms"),
    cases: |options| {
        let mut cases = Vec::new();
        every_kit!(options, cases, iterate, options);
        cases
    },
};

const SERIES: u64 = 10;

fn rate(series: u64) -> f64 {
    3.46 + 0.0025 * series as f64
}

fn first_term(series: u64) -> f64 {
    0.001 * (series + 1) as f64
}

fn follow(rate: f64, term: f64) -> f64 {
    rate * term * (1.0 - term)
}

/// Where a series ends, as bits.
fn last_term(series: u64, terms: u64) -> u64 {
    let next = |term, _| follow(rate(series), term);
    (0..terms).fold(first_term(series), next).to_bits()
}

struct Computer<R> {
    rate: f64,
    series: Option<R>,
}

impl<R: Send> Play<R> for Computer<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        match msg {
            Msg::Wire(series) => self.series = Some(series),
            Msg::Item(term) => {
                let next = follow(self.rate, f64::from_bits(term));
                let series = self.series.as_ref().expect("wired");
                sent(ops.tell(series, Msg::Item(next.to_bits())));
            }
            _ => {}
        }
    }
}

struct Series<R> {
    computer: R,
    term: u64,
    left: u64,
    done: Done,
}

impl<R: Send> Play<R> for Series<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        if let Msg::Item(term) = msg {
            self.term = term;
            self.left -= 1;
            if self.left == 0 {
                let _ = self.done.send(term);
                return;
            }
        }
        sent(ops.tell(&self.computer, Msg::Item(self.term)));
    }
}

fn iterate<K: Kit>(options: &Options) -> Case {
    let terms = options.count(50_000, 50);
    case::<K>("10 series", workers(options), move |kit, done, finished| {
        let start = |number: u64| {
            let computer = kit.spawn(Role::play(Computer::<K::Ref> {
                rate: rate(number),
                series: None,
            }));
            let series = kit.spawn(Role::play(Series {
                computer: computer.clone(),
                term: first_term(number).to_bits(),
                left: terms,
                done: done.clone(),
            }));
            kit.tell(&computer, Msg::Wire(series.clone()));
            series
        };
        let all: Vec<_> = (0..SERIES).map(start).collect();
        let (elapsed, last) = timed(|| {
            all.iter().for_each(|series| kit.tell(series, Msg::Go));
            wait(finished, SERIES)
        });
        Sample::rate(terms * SERIES, elapsed, last)
    })
    .expecting(move || {
        (0..SERIES)
            .map(|number| last_term(number, terms))
            .fold(0, u64::wrapping_add)
    })
}
