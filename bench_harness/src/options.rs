//! What is to be measured: the usable form of the command line's flags.
#![forbid(unsafe_code)]

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::pin;

/// Messages that wait in a mailbox unless something else is asked for: the default of ours.
pub const MAILBOX: usize = 1024;

/// How a thread waits for a ring of ours; see `actor_rt::ring`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WaitKind {
    /// Polls without pause.
    Busy,
    /// Polls for a moment, then yields.
    Spin,
    /// Yields between polls.
    Yield,
    /// Sleeps until woken.
    Block,
}

/// How much work one measurement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// A fraction of a second each: for figures that are quoted.
    Full,
    /// Tens of milliseconds each.
    Quick,
    /// As little as still means something: for the tests.
    Tiny,
}

/// Everything that can be chosen for a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Options {
    /// Writing threads or actors, where the scenario lets choose; else its own numbers.
    pub producers: Option<usize>,
    /// Reading threads or actors, likewise.
    pub consumers: Option<usize>,
    /// Slots of a ring.
    pub capacity: usize,
    /// Messages that wait in the mailbox of an actor that is flooded, in libraries that bound them. Everywhere else in
    /// the actor scenarios mailboxes hold the default, [`MAILBOX`].
    pub mailbox: usize,
    /// Items per batch in the batched variants.
    pub batch: usize,
    /// Bytes per item of a ring, one of [`SIZES`](crate::payload::SIZES); others are rounded up.
    pub payload: usize,
    /// Targets, steps or packages of a build, or idle actors, where the scenario lets choose; else its own number.
    pub count: Option<u64>,
    /// Cores to pin to.
    pub cores: Vec<usize>,
    /// Waiting in rings of ours.
    pub wait: WaitKind,
    /// Measured runs of each case.
    pub repeat: usize,
    /// Work per run.
    pub scale: Scale,
    /// Only implementations whose names are listed; all when empty.
    pub only: Vec<String>,
    /// Whether peers are measured too (they must also be compiled in).
    pub peers: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            producers: None,
            consumers: None,
            capacity: 1024,
            mailbox: MAILBOX,
            batch: 64,
            payload: 8,
            count: None,
            cores: pin::available(),
            wait: WaitKind::Spin,
            repeat: 5,
            scale: Scale::Full,
            only: Vec::new(),
            peers: false,
        }
    }
}

impl Options {
    /// The sizes of the tests: every ring still wraps a hundred times.
    pub fn tiny() -> Self {
        Self {
            // The least that every peer can have.
            capacity: 64,
            batch: 8,
            repeat: 1,
            scale: Scale::Tiny,
            ..Self::default()
        }
    }

    /// A number of items for this scale, `full` for figures; never fewer than a hundred laps of the ring.
    pub fn items(&self, full: u64) -> u64 {
        let items = match self.scale {
            Scale::Full => full,
            Scale::Quick => full / 5,
            Scale::Tiny => 0,
        };
        items.max(100 * self.capacity.next_power_of_two() as u64)
    }

    /// A count that is not about rings (actors, rounds): `full`, a fifth, or as good as nothing.
    pub fn count(&self, full: u64, tiny: u64) -> u64 {
        match self.scale {
            Scale::Full => full,
            Scale::Quick => (full / 5).max(tiny),
            Scale::Tiny => tiny,
        }
    }

    /// The targets, steps or packages of a build, or idle actors: what was asked for, or a [`count`](Self::count).
    pub fn targets(&self, full: u64, tiny: u64) -> u64 {
        self.count.unwrap_or_else(|| self.count(full, tiny))
    }

    /// How it is measured, in the words of the command line: `3 runs of each, --quick, --payload=4096`.
    pub fn told(&self) -> String {
        let usual = Self::default();
        let differs = |number, usual| (number != usual).then_some(number as u64);
        let capacity = differs(self.mailbox, usual.mailbox);
        let numbers = [
            ("--producers", self.producers.map(|number| number as u64)),
            ("--consumers", self.consumers.map(|number| number as u64)),
            // As it was given: a ring rounds it up.
            (
                "--capacity",
                capacity.or(differs(self.capacity, usual.capacity)),
            ),
            ("--batch", differs(self.batch, usual.batch)),
            ("--payload", differs(self.payload, usual.payload)),
            ("--count", self.count),
        ];
        let mut words = vec![match self.repeat {
            1 => "a single run".to_owned(),
            runs => format!("{runs} runs of each"),
        }];
        words.extend(match self.scale {
            Scale::Full => None,
            Scale::Quick => Some("--quick".to_owned()),
            Scale::Tiny => Some("--tiny".to_owned()),
        });
        for (flag, number) in numbers {
            words.extend(number.map(|number| format!("{flag}={number}")));
        }
        if self.cores != usual.cores {
            let cores: Vec<String> = self.cores.iter().map(usize::to_string).collect();
            words.push(format!("--cores={}", cores.join(",")));
        }
        if self.wait != usual.wait
            && let Some(wait) = self.wait.to_possible_value()
        {
            words.push(format!("--wait={}", wait.get_name()));
        }
        words.join(", ")
    }

    /// Whether an implementation was asked for.
    pub fn wants(&self, implementation: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == implementation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_the_defaults_is_told() {
        assert_eq!(Options::default().told(), "5 runs of each");
        let options = Options {
            producers: Some(3),
            capacity: 128,
            mailbox: 100,
            batch: 7,
            payload: 4096,
            count: Some(9),
            cores: vec![4095],
            wait: WaitKind::Block,
            repeat: 1,
            scale: Scale::Quick,
            ..Options::default()
        };
        assert_eq!(
            options.told(),
            "a single run, --quick, --producers=3, --capacity=100, --batch=7, --payload=4096, --count=9, --cores=4095, --wait=block"
        );
    }
}
