//! What a soak comes to, in figures and in a sentence.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Growth, LATE, Memory, Messages, Tally};

/// The verdict of a soak.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// How long it ran.
    pub seconds: f64,
    /// Rounds of everything.
    pub rounds: u64,
    /// Questions asked.
    pub asked: u64,
    /// Jobs given to a pool.
    pub jobs: u64,
    /// What became of the messages, questions among them.
    pub messages: Messages,
    /// Answers, outputs and counts that were not as they must be: none is tolerated.
    pub errors: u64,
    /// Questions without an answer, of which few are tolerated: the machine may stand still for longer than anybody waits.
    pub unanswered: u64,
    /// Those per question, in percent.
    pub unanswered_percent: f64,
    /// What of both there was, and how often.
    pub reasons: BTreeMap<String, u64>,
    /// Questions whose answer took longer than a second.
    pub late: u64,
    /// The longest that one of them took, in seconds.
    pub slowest_s: f64,
    /// Panics injected into handlers and jobs.
    pub faults: u64,
    /// Actors killed with messages waiting for them.
    pub kills: u64,
    /// Messages that found a mailbox full.
    pub overflows: u64,
    /// Actors spawned and ended on the way.
    pub short_lived: u64,
    /// Growth of what is in use, by exact counts at rest; none if there was no counting allocator, or too few rounds.
    pub growth: Option<Growth>,
    /// Resident memory after warm-up and at the end, in KiB.
    pub resident_kib: [u64; 2],
    /// How it grows; none likewise.
    pub resident_growth: Option<Growth>,
    /// What the runtime's slabs had taken from the system after warm-up and at the end, in KiB: what was needed at most.
    pub slabs_kib: [u64; 2],
    /// In one word.
    pub ruling: Ruling,
    /// In one sentence.
    pub verdict: String,
}

/// Whether a soak passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Ruling {
    /// Nothing was lost, and what is in use certainly does not grow.
    Passed,
    /// Something was lost, or what is in use certainly grows.
    Failed,
    /// Nothing was lost; whether what is in use grows is not certain.
    Inconclusive,
}

/// Questions without an answer fail a soak if they are this share of all, in percent.
const MAX_UNANSWERED_PERCENT: f64 = 0.001;
/// What is in use fails a soak if it certainly grows as fast, in KiB per hour, and passes if it certainly does not.
const LIMIT_KIB_PER_HOUR: f64 = 1.0;
/// What may be needed for the first time ever after warm-up. The interval is blind to what comes in two windows only, however
/// much that is; beyond this nobody knows whether it comes again.
const ONE_OFF_BYTES: i64 = 64 * 1024;

/// Nor does a soak pass where resident memory certainly grows as fast, although what is counted does not, in KiB per hour:
/// allocators keep pages, but not more in window after window.
const LIMIT_RESIDENT_KIB_PER_HOUR: f64 = 1024.0;

impl Ruling {
    fn of_memory(in_use: Option<Growth>, resident: Option<Growth>) -> Self {
        let grows = |it: Growth| it.at_least >= LIMIT_RESIDENT_KIB_PER_HOUR;
        match Self::of_growth(in_use) {
            Self::Passed if resident.is_some_and(grows) => Self::Inconclusive,
            ruling => ruling,
        }
    }

    fn of_growth(growth: Option<Growth>) -> Self {
        match growth {
            // First of all: what the first window had too much of may hide it in the bytes.
            Some(growth) if growth.at_least >= LIMIT_KIB_PER_HOUR => Self::Failed,
            // Not a byte more than in the beginning.
            Some(growth) if growth.bytes <= 0 && growth.at_least <= 0.0 => Self::Passed,
            Some(growth) if growth.bytes > ONE_OFF_BYTES => Self::Inconclusive,
            Some(growth) if growth.at_most < LIMIT_KIB_PER_HOUR => Self::Passed,
            _ => Self::Inconclusive,
        }
    }
}

impl Tally {
    pub(super) fn conclude(
        self,
        seconds: f64,
        messages: Messages,
        Memory {
            in_use: growth,
            resident,
            taken_kib: [before, after],
        }: Memory,
    ) -> Verdict {
        let unanswered_percent = 100.0 * self.unanswered as f64 / self.asked.max(1) as f64;
        let uncounted = messages.missing() + messages.untold();
        let memory = growth.map_or_else(String::new, |growth| {
            format!(
                "what is in use grows by {:.2} KiB per hour (at least {:.2}, at most {:.2}), by {} bytes in all",
                growth.kib_per_hour, growth.at_least, growth.at_most, growth.bytes
            )
        });
        let lost = unanswered_percent >= MAX_UNANSWERED_PERCENT;
        let (ruling, verdict) = if self.errors > 0 || lost || uncounted > 0 {
            let sentence = format!(
                "FAILED: {} errors, {} of {} questions unanswered ({unanswered_percent:.4} %), {uncounted} messages unaccounted for",
                self.errors, self.unanswered, self.asked
            );
            (Ruling::Failed, sentence)
        } else {
            let ruling = Ruling::of_memory(growth, resident);
            let sentence = match ruling {
                Ruling::Passed => format!(
                    "PASSED: {memory}; no errors, {unanswered_percent:.4} % of all questions unanswered"
                ),
                Ruling::Failed => format!("FAILED: {memory}"),
                Ruling::Inconclusive if growth.is_none() => format!(
                    "INCONCLUSIVE: no errors, but {} rounds are too few to say whether memory grows (or nothing counts it): run for more minutes",
                    self.rounds
                ),
                Ruling::Inconclusive if Ruling::of_growth(growth) == Ruling::Passed => format!(
                    "INCONCLUSIVE: {memory}; but resident memory grows by {:.0} KiB per hour: somebody takes what is not counted, or needs longer to warm up: run for more minutes",
                    resident.map_or(0.0, |it| it.kib_per_hour)
                ),
                Ruling::Inconclusive => {
                    format!("INCONCLUSIVE: {memory}: run for more minutes, on a quieter machine")
                }
            };
            (ruling, sentence)
        };
        Verdict {
            seconds,
            rounds: self.rounds,
            asked: self.asked,
            jobs: self.jobs,
            messages,
            errors: self.errors,
            unanswered: self.unanswered,
            unanswered_percent,
            reasons: self.reasons,
            late: self.late,
            slowest_s: self.slowest.as_secs_f64(),
            faults: self.faults,
            kills: self.kills,
            overflows: self.overflows,
            short_lived: self.short_lived,
            growth,
            resident_kib: [before[0], after[0]],
            resident_growth: resident,
            slabs_kib: [before[1], after[1]],
            ruling,
            verdict,
        }
    }
}

/// For people.
pub fn render(verdict: &Verdict) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<13}{value}");
    };
    line(
        "ran",
        format!("{:.0} s, {} rounds", verdict.seconds, verdict.rounds),
    );
    let messages = verdict.messages;
    line(
        "messages",
        format!(
            "{} sent = {} handled + {} at which a handler failed + {} handed back + {} dropped; {} dead letters",
            messages.sent,
            messages.handled,
            messages.failed,
            messages.refused,
            messages.dropped,
            messages.dead_letters
        ),
    );
    line(
        "questions",
        format!(
            "{}, {} unanswered, the slowest took {:.3} s, {} of them more than {} s",
            verdict.asked,
            verdict.unanswered,
            verdict.slowest_s,
            verdict.late,
            LATE.as_secs()
        ),
    );
    line("jobs", verdict.jobs.to_string());
    line("errors", verdict.errors.to_string());
    for (reason, count) in &verdict.reasons {
        line("", format!("{count}: {reason}"));
    }
    line(
        "faults",
        format!(
            "{} panics, {} actors killed, {} messages found a mailbox full",
            verdict.faults, verdict.kills, verdict.overflows
        ),
    );
    line(
        "short-lived",
        format!("{} actors came and went", verdict.short_lived),
    );
    let ends =
        |[before, after]: [u64; 2]| format!("{before} KiB after warm-up, {after} KiB at the end");
    let grows = verdict.resident_growth.map_or_else(String::new, |it| {
        format!(
            "; grows by {:.0} KiB per hour (at least {:.0}, at most {:.0})",
            it.kib_per_hour, it.at_least, it.at_most
        )
    });
    line("resident", ends(verdict.resident_kib) + &grows);
    line(
        "slabs",
        format!("{}, used or kept for reuse", ends(verdict.slabs_kib)),
    );
    format!("{}\n{text}", verdict.verdict)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::growth::Sample;

    fn concluded(tally: Tally, messages: Messages, growth: Option<Growth>) -> Verdict {
        let memory = Memory {
            in_use: growth,
            resident: None,
            taken_kib: [[0; 2]; 2],
        };
        tally.conclude(10.0, messages, memory)
    }

    fn growth(bytes: i64, at_least: f64, at_most: f64) -> Option<Growth> {
        Some(Growth {
            bytes,
            kib_per_hour: f64::midpoint(at_least, at_most),
            at_least,
            at_most,
        })
    }

    /// The ruling on 160 seconds with so many bytes in use at each, so on 16 windows of ten seconds.
    fn ruling(in_use: impl Fn(i64) -> i64) -> Ruling {
        let sample = |second| Sample {
            second: second as f64,
            in_use_bytes: in_use(second),
            ..Sample::default()
        };
        let samples: Vec<_> = (0..160).map(sample).collect();
        Ruling::of_growth(Growth::of(&samples, |it| it.in_use_bytes))
    }

    #[test]
    fn only_what_is_certain_passes_or_fails() {
        let verdict = |growth| concluded(Tally::default(), Messages::default(), growth);
        let ruling = |growth| verdict(growth).ruling;
        assert_eq!(ruling(growth(0, 0.0, 50.0)), Ruling::Passed);
        assert_eq!(ruling(growth(0, 0.5, 50.0)), Ruling::Inconclusive);
        assert_eq!(ruling(growth(100, 0.0, 0.9)), Ruling::Passed);
        assert_eq!(ruling(growth(100, 0.5, 1.5)), Ruling::Inconclusive);
        assert_eq!(ruling(growth(100, 1.0, 1.5)), Ruling::Failed);
        assert_eq!(ruling(None), Ruling::Inconclusive);
        let verdict = verdict(growth(100, 0.5, 1.5)).verdict;
        assert!(verdict.contains("more minutes"), "{verdict}");
    }

    #[test]
    fn what_nobody_counts_does_not_pass() {
        let verdict = |kib_a_second: i64| {
            let sample = |second| Sample {
                second: second as f64,
                in_use_bytes: 0,
                resident_bytes: 1024 * kib_a_second * second,
            };
            let samples: Vec<_> = (0..160).map(sample).collect();
            let memory = Memory {
                in_use: Growth::of(&samples, |it| it.in_use_bytes),
                resident: Growth::of(&samples, |it| it.resident_bytes),
                taken_kib: [[0; 2]; 2],
            };
            Tally::default().conclude(160.0, Messages::default(), memory)
        };
        assert_eq!(verdict(0).ruling, Ruling::Passed);
        // A KiB a second; a sixteenth of the time from the first sample to the last is a little less than ten seconds.
        let grown = verdict(1);
        assert_eq!(grown.ruling, Ruling::Inconclusive);
        let said = "but resident memory grows by 3623 KiB per hour";
        assert!(grown.verdict.contains(said), "{}", grown.verdict);
        assert!(
            render(&grown).contains("at least 3623"),
            "{}",
            render(&grown)
        );
    }

    #[test]
    fn a_surplus_in_the_beginning_hides_no_leak() {
        let surplus = |second| if second < 10 { 1 << 20 } else { 0 };
        assert_eq!(ruling(surplus), Ruling::Passed);
        let leak = |second| surplus(second) + 64 * second;
        assert_eq!(ruling(leak), Ruling::Failed);
    }

    #[test]
    fn what_comes_twice_passes_only_if_it_is_little() {
        let twice = |bytes| ruling(|second| bytes * (second / 60));
        assert_eq!(twice(1024), Ruling::Passed);
        assert_eq!(twice(10 << 20), Ruling::Inconclusive);
    }

    #[test]
    fn a_wrong_answer_fails_a_soak_however_many_were_right() {
        let ruling = |errors, unanswered| {
            let tally = Tally {
                asked: 100_000_000,
                errors,
                unanswered,
                ..Tally::default()
            };
            concluded(tally, Messages::default(), growth(0, 0.0, 0.0)).ruling
        };
        assert_eq!(ruling(0, 0), Ruling::Passed);
        assert_eq!(ruling(1, 0), Ruling::Failed);
        // Less than a thousandth of a percent.
        assert_eq!(ruling(0, 999), Ruling::Passed);
        assert_eq!(ruling(0, 1000), Ruling::Failed);
    }

    #[test]
    fn only_a_question_without_an_answer_may_be_tolerated() {
        use actor_rt::AskError;
        use std::time::Instant;
        let mut tally = Tally::default();
        tally.note(Instant::now(), Ok(7), 7);
        assert_eq!((tally.errors, tally.unanswered), (0, 0));
        tally.note(Instant::now(), Err(AskError::Timeout), 7);
        assert_eq!((tally.errors, tally.unanswered), (0, 1));
        tally.note(Instant::now(), Ok(8), 7);
        tally.expect("a job has its output", false);
        assert_eq!((tally.errors, tally.unanswered), (2, 1));
        assert_eq!((tally.asked, tally.reasons.len()), (3, 3));
    }

    #[test]
    fn messages_that_nobody_knows_of_fail_a_soak() {
        let fine = Messages {
            sent: 4,
            handled: 1,
            failed: 1,
            refused: 1,
            dropped: 1,
            dead_letters: 1,
        };
        let ruling = |messages| concluded(Tally::default(), messages, growth(0, 0.0, 0.0)).ruling;
        assert_eq!(ruling(fine), Ruling::Passed);
        assert_eq!(ruling(Messages { sent: 5, ..fine }), Ruling::Failed);
        let untold = Messages {
            dead_letters: 0,
            ..fine
        };
        assert_eq!(ruling(untold), Ruling::Failed);
    }
}
