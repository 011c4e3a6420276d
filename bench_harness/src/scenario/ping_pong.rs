//! Two actors that answer each other: the cost of waking an actor for one message.
#![forbid(unsafe_code)]

use super::actors::{case, every_kit, sum_below, wait, workers};
use super::{Family, Scenario};
use crate::actor::{Kit, Msg, Role};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;

/// `ping_pong`.
pub const SCENARIO: Scenario = Scenario {
    name: "ping_pong",
    family: Family::Savina("Ping Pong"),
    about: "two actors that answer each other",
    unit: Unit::MillionPerSecond("round trips"),
    cases,
};

fn cases(options: &Options) -> Vec<Case> {
    let mut cases = Vec::new();
    every_kit!(options, cases, play, options);
    cases
}

fn play<K: Kit>(options: &Options) -> Case {
    let rounds = options.count(1_000_000, 1000);
    case::<K>("2 actors", workers(options), move |kit, done, finished| {
        let pinger = |done| Role::Pinger {
            peer: None,
            sum: 0,
            done,
        };
        let (ping, pong) = (kit.spawn(pinger(Some(done))), kit.spawn(pinger(None)));
        kit.tell(&ping, Msg::Wire(pong.clone()));
        kit.tell(&pong, Msg::Wire(ping));
        let (elapsed, sum) = timed(|| {
            kit.tell(&pong, Msg::Item(rounds - 1));
            wait(finished, 1)
        });
        Sample::rate(rounds, elapsed, sum)
    })
    .expecting(move || sum_below(rounds))
}
