//! Two actors that answer each other: the cost of waking an actor for one message.
#![forbid(unsafe_code)]

use super::actors::{case, every_kit, timed, wait, workers};
use super::{Family, Scenario};
use crate::actor::{Kit, Msg, Role};
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
        let pinger = |left, done| Role::Pinger {
            peer: None,
            left,
            count: 0,
            done,
        };
        let (ping, pong) = (
            kit.spawn(pinger(rounds - 1, Some(done))),
            kit.spawn(pinger(0, None)),
        );
        kit.tell(&ping, Msg::Wire(pong.clone()));
        kit.tell(&pong, Msg::Wire(ping));
        let (elapsed, count) = timed(|| {
            kit.tell(&pong, Msg::Pong);
            wait(finished, 1)
        });
        assert_eq!(count, rounds);
        Sample::rate(rounds, elapsed, count)
    })
    .expecting(move || rounds)
}
