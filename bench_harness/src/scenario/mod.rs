//! The scenarios, one file each. Their names are part of the interface.
#![forbid(unsafe_code)]

mod actors;
pub mod ask;
pub mod big;
pub mod broadcast;
pub mod burst;
pub mod idle_memory;
pub mod mpmc;
pub mod mpsc;
pub mod ping_pong;
pub mod savina;
pub mod skynet;
pub mod spawn;
pub mod spsc;
pub mod tell;
pub mod tell_batch;
pub mod thread_ring;

use crate::measure::{Case, Unit};
use crate::options::Options;

/// Something that can be measured.
pub struct Scenario {
    /// As on the command line.
    pub name: &'static str,
    /// One line for `list`.
    pub about: &'static str,
    /// What its numbers are.
    pub unit: Unit,
    /// Every implementation in every variant.
    pub cases: fn(&Options) -> Vec<Case>,
}

/// Every scenario, in the order of `list`.
pub const ALL: &[Scenario] = &[
    spsc::SCENARIO,
    mpsc::SCENARIO,
    mpmc::SCENARIO,
    broadcast::MULTICAST,
    broadcast::PIPELINE,
    broadcast::DIAMONDS,
    burst::SCENARIO,
    tell::SCENARIO,
    tell_batch::SCENARIO,
    ask::SCENARIO,
    ping_pong::SCENARIO,
    thread_ring::SCENARIO,
    big::SCENARIO,
    spawn::SCENARIO,
    skynet::SCENARIO,
    idle_memory::SCENARIO,
    savina::fork_join::THROUGHPUT,
    savina::fork_join::CREATE,
    savina::fibonacci::SCENARIO,
    savina::sieve::SCENARIO,
    savina::chameneos::SCENARIO,
    savina::philosophers::SCENARIO,
    savina::pinball::SCENARIO,
    savina::dictionary::SCENARIO,
    savina::smokers::SCENARIO,
    savina::trapezoid::SCENARIO,
];

/// The scenario with this name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

/// Calls a generic function of the wait strategy that the options ask for.
macro_rules! with_wait {
    ($options:expr, $W:ident => $body:expr) => {
        match $options.wait {
            $crate::options::WaitKind::Busy => {
                type $W = actor_rt::ring::BusySpin;
                $body
            }
            $crate::options::WaitKind::Spin => {
                type $W = actor_rt::ring::SpinThenYield;
                $body
            }
            $crate::options::WaitKind::Yield => {
                type $W = actor_rt::ring::Yield;
                $body
            }
            $crate::options::WaitKind::Block => {
                type $W = actor_rt::ring::Block;
                $body
            }
        }
    };
}
pub(crate) use with_wait;
