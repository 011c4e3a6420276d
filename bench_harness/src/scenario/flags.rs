//! Which flags mean something to which scenario; the others are named to whoever gives them.
#![forbid(unsafe_code)]

use super::{ALL, Family, Scenario};

/// A flag that not every scenario heeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// `--producers`
    Producers,
    /// `--consumers`
    Consumers,
    /// `--capacity`
    Capacity,
    /// `--batch`
    Batch,
    /// `--payload`
    Payload,
    /// `--count`
    Count,
    /// `--wait`
    Wait,
}

impl Flag {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::Producers,
        Self::Consumers,
        Self::Capacity,
        Self::Batch,
        Self::Payload,
        Self::Count,
        Self::Wait,
    ];

    /// The scenarios of this build that it makes a difference to.
    pub fn where_heeded(self) -> String {
        let rings = |scenario: &&Scenario| scenario.family == Family::Rings;
        let heeds = |scenario: &&Scenario| scenario.heeds(self);
        let mut names = Vec::new();
        let all_rings = ALL.iter().filter(rings).all(|it| heeds(&it));
        if all_rings {
            names.push("all rings");
        }
        let others = ALL.iter().filter(|it| !(all_rings && rings(it)));
        names.extend(others.filter(heeds).map(|it| it.name));
        names.join(", ")
    }

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Producers => "--producers",
            Self::Consumers => "--consumers",
            Self::Capacity => "--capacity",
            Self::Batch => "--batch",
            Self::Payload => "--payload",
            Self::Count => "--count",
            Self::Wait => "--wait",
        }
    }
}

impl Scenario {
    /// Whether it makes a difference to this scenario.
    pub fn heeds(&self, flag: Flag) -> bool {
        let one_of = |names: &[&str]| names.contains(&self.name);
        match flag {
            Flag::Producers => one_of(&["mpsc", "three_to_one", "mpmc", "tell", "tell_n"]),
            Flag::Consumers => one_of(&["mpmc", "one_to_three", "tell_n"]),
            Flag::Capacity => self.family == Family::Rings || one_of(&["tell", "tell_n"]),
            Flag::Batch if self.family == Family::Rings => !one_of(&["ring_ping_pong", "burst"]),
            Flag::Batch => one_of(&["tell_batch"]),
            Flag::Count => one_of(&[
                "build_cold",
                "build_edit",
                "graph_memory",
                "idle_memory",
                "packages_noop",
            ]),
            Flag::Payload | Flag::Wait => self.family == Family::Rings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;

    /// What these flags choose is part of the variants' names.
    #[test]
    fn a_flag_changes_the_variants_where_it_is_heeded_and_nowhere_else() {
        let variants = |scenario: &Scenario, options: &Options| -> Vec<String> {
            let cases = (scenario.cases)(options);
            cases.into_iter().map(|case| case.variant).collect()
        };
        let usual = Options::tiny();
        for scenario in ALL {
            let changes = |options| variants(scenario, &options) != variants(scenario, &usual);
            let producers = changes(Options {
                producers: Some(5),
                ..usual.clone()
            });
            let consumers = changes(Options {
                consumers: Some(5),
                ..usual.clone()
            });
            let batch = changes(Options {
                batch: 16,
                ..usual.clone()
            });
            let count = changes(Options {
                count: Some(5),
                ..usual.clone()
            });
            let flags = [Flag::Producers, Flag::Consumers, Flag::Batch, Flag::Count];
            let heeded = flags.map(|it| scenario.heeds(it));
            let changed = [producers, consumers, batch, count];
            assert_eq!(heeded, changed, "{}", scenario.name);
        }
    }

    /// Nor does it change how much is done: where the size of a ring or a mailbox means nothing, checksums are the same.
    #[test]
    fn a_capacity_that_means_nothing_changes_nothing() {
        let checksums = |scenario: &Scenario, capacity| -> Vec<Option<u64>> {
            let cases = (scenario.cases)(&Options {
                capacity,
                mailbox: capacity,
                ..Options::tiny()
            });
            let checksum = |case: crate::measure::Case| case.expected.map(|it| it());
            cases.into_iter().map(checksum).collect()
        };
        let of_actors = |it: &&Scenario| !matches!(it.family, Family::Store | Family::Build);
        for scenario in ALL.iter().filter(of_actors) {
            if !scenario.heeds(Flag::Capacity) {
                let (few, many) = (checksums(scenario, 64), checksums(scenario, 4096));
                assert_eq!(few, many, "{}", scenario.name);
            }
        }
    }
}
