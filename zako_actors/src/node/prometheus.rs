//! A page in the Prometheus text format.
//!
//! Owns how figures and histograms are written; every name begins with `zako_v1_`.
//! Does not know what they mean.

use std::fmt::{Display, Write};

use actor_rt::MailboxDepths;
use cas_actor::Latency;
use cas_actor::front::{FrontStats, SIZE_BOUNDS_BYTES, SizeStats, SpaceStats};

/// The text, as far as it is written.
pub(super) struct Page(String);

impl Page {
    pub(super) fn new() -> Self {
        Self(String::with_capacity(8 * 1024))
    }

    pub(super) fn text(self) -> String {
        self.0
    }

    fn sample(&mut self, kind: &str, name: &str, help: &str, value: impl Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(
            self.0,
            "# HELP zako_v1_{name} {help}\n# TYPE zako_v1_{name} {kind}\nzako_v1_{name} {value}"
        );
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.sample("gauge", name, help, value);
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.sample("counter", name, help, value);
    }

    /// One figure of several things, told apart by a label.
    pub(super) fn by_label<'a, V: Display>(
        &mut self,
        kind: &str,
        name: &str,
        help: &str,
        label: &str,
        values: impl Iterator<Item = (&'a str, V)>,
    ) {
        let name = format!("zako_v1_{name}");
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (which, value) in values {
            let _ = writeln!(self.0, "{name}{{{label}=\"{which}\"}} {value}");
        }
    }

    pub(super) fn by_client(
        &mut self,
        name: &str,
        help: &str,
        stats: &FrontStats,
        of: fn(&SpaceStats) -> u64,
    ) {
        let name = format!("zako_v1_front_{name}_total");
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} counter");
        for (space, stats) in &stats.spaces {
            let _ = writeln!(
                self.0,
                "{name}{{client=\"{}\"}} {}",
                space.name(),
                of(stats)
            );
        }
    }

    pub(super) fn sizes(&mut self, name: &str, help: &str, stats: &SizeStats) {
        let buckets = SIZE_BOUNDS_BYTES.iter().copied().zip(stats.buckets);
        let count = stats.buckets.iter().sum();
        self.counted(name, help, buckets, (count, stats.sum_bytes));
    }

    pub(super) fn depths(&mut self, name: &str, help: &str, depths: &MailboxDepths) {
        let buckets = depths.counts.iter().enumerate();
        let buckets = buckets.map(|(bucket, turns)| (MailboxDepths::most_of(bucket), *turns));
        self.counted(name, help, buckets, (depths.turns(), depths.messages));
    }

    /// A histogram of whole numbers: how many are in each bucket, by its bound, how many there are, and their sum.
    fn counted<B: Display>(
        &mut self,
        name: &str,
        help: &str,
        buckets: impl Iterator<Item = (B, u64)>,
        (count, sum): (u64, u64),
    ) {
        let name = format!("zako_v1_{name}");
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} histogram");
        let mut below = 0;
        for (bound, more) in buckets {
            below += more;
            let _ = writeln!(self.0, "{name}_bucket{{le=\"{bound}\"}} {below}");
        }
        let _ = writeln!(
            self.0,
            "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}"
        );
    }

    pub(super) fn histogram(&mut self, name: &str, help: &str, latency: &Latency) {
        let _ = writeln!(
            self.0,
            "# HELP zako_v1_{name} {help}\n# TYPE zako_v1_{name} histogram"
        );
        let mut sum = 0;
        for (index, count) in latency.buckets.iter().enumerate() {
            sum += count;
            // The last bucket has no upper bound.
            if index + 1 < latency.buckets.len() {
                let bound = (1_u64 << index) as f64 / 1e6;
                let _ = writeln!(self.0, "zako_v1_{name}_bucket{{le=\"{bound}\"}} {sum}");
            }
        }
        let seconds = latency.sum_ns as f64 / 1e9;
        let _ = writeln!(
            self.0,
            "zako_v1_{name}_bucket{{le=\"+Inf\"}} {sum}\nzako_v1_{name}_sum {seconds}\nzako_v1_{name}_count {sum}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_add_up() {
        let mut latency = Latency::default();
        latency.buckets[0] = 1;
        latency.buckets[3] = 2;
        latency.sum_ns = 3_000_000_000;
        let mut page = Page(String::new());
        page.histogram("x_seconds", "Help.", &latency);
        assert!(
            page.0
                .contains("zako_v1_x_seconds_bucket{le=\"0.000001\"} 1\n"),
            "{}",
            page.0
        );
        assert!(
            page.0
                .contains("zako_v1_x_seconds_bucket{le=\"0.000008\"} 3\n")
        );
        assert!(page.0.ends_with(
            "_bucket{le=\"+Inf\"} 3\nzako_v1_x_seconds_sum 3\nzako_v1_x_seconds_count 3\n"
        ));
    }

    struct Reader;
    impl actor_rt::Actor for Reader {
        type Msg = u8;
        fn handle(&mut self, _: u8, _ctx: &mut actor_rt::Context<'_, Self>) {}
    }

    #[test]
    fn depths_are_told_by_the_most_of_each_bucket() {
        let simulation = actor_rt::testkit::Simulation::new(1);
        let reader = simulation.system().spawn(|| Reader);
        simulation.run();
        // A turn of a simulation leaves the third message to one of its own.
        for wave in [1, 3] {
            (0..wave).for_each(|n| reader.tell(n).unwrap());
            simulation.run();
        }
        let mut page = Page(String::new());
        page.depths("x", "Help.", &simulation.system().depths());
        let lines: Vec<_> = page.0.lines().skip(1).collect();
        assert_eq!(
            lines[..4],
            [
                "# TYPE zako_v1_x histogram",
                "zako_v1_x_bucket{le=\"1\"} 2",
                "zako_v1_x_bucket{le=\"3\"} 3",
                "zako_v1_x_bucket{le=\"7\"} 3",
            ]
        );
        assert!(page.0.ends_with(
            "{le=\"33554431\"} 3\nzako_v1_x_bucket{le=\"+Inf\"} 3\nzako_v1_x_sum 5\nzako_v1_x_count 3\n"
        ));
    }
}
