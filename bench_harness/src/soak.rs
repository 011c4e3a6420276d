//! Mixed load for minutes, with faults injected: does memory grow, does anything get lost?
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use actor_rt::{Actor, ActorRef, AskError, Context, Reply, Restart, System};
use serde::Serialize;

use crate::machine::resident_bytes;

/// The verdict of a soak.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// How long it ran.
    pub seconds: f64,
    /// Questions asked.
    pub asked: u64,
    /// Questions that were not answered although nothing was injected.
    pub errors: u64,
    /// Panics injected into handlers.
    pub faults: u64,
    /// Actors spawned and stopped on the way.
    pub short_lived: u64,
    /// Resident memory after warm-up and at the end, in KiB.
    pub resident_kib: (u64, u64),
    /// Growth of resident memory, by a line through the samples, in KiB per hour.
    pub leak_kib_per_hour: f64,
    /// Errors per question, in percent.
    pub error_percent: f64,
    /// In one sentence.
    pub verdict: String,
    /// Whether it passed.
    pub passed: bool,
}

enum Msg {
    Add(u64, Reply<u64>),
    Fail,
}

struct Worker(u64);

impl Actor for Worker {
    type Msg = Msg;

    fn handle(&mut self, msg: Msg, _ctx: &mut Context<'_, Self>) {
        match msg {
            Msg::Add(number, reply) => {
                self.0 = self.0.wrapping_add(number);
                reply.send(number);
            }
            Msg::Fail => panic!("injected fault"),
        }
    }
}

/// Errors above this share, in percent, fail a soak.
const MAX_ERROR_PERCENT: f64 = 0.001;
/// Growth above this fails a soak that was long enough to tell, in KiB per hour.
const MAX_LEAK_KIB_PER_HOUR: f64 = 1024.0;
/// Shorter soaks say nothing about leaks.
const MIN_FOR_LEAKS: Duration = Duration::from_secs(120);

/// Runs for so long.
///
/// # Errors
/// When the system cannot start or end.
pub fn run(length: Duration) -> anyhow::Result<Verdict> {
    // Injected panics are the point: they need no message each.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let verdict = soak(length);
    std::panic::set_hook(hook);
    verdict
}

fn soak(length: Duration) -> anyhow::Result<Verdict> {
    let system = System::new()?;
    let forever = || Restart::on_failure().at_most(1000, Duration::from_secs(1));
    let workers: Vec<ActorRef<Msg>> = (0..64)
        .map(|_| system.actor(|| Worker(0)).restart(forever()).spawn())
        .collect();
    let began = Instant::now();
    let mut verdict = Tally::default();
    let mut samples = Vec::new();
    let every = (length / 200).max(Duration::from_millis(50));
    let mut next_sample = began + length / 10;
    while began.elapsed() < length {
        verdict.round(&system, &workers);
        if Instant::now() >= next_sample {
            samples.push((
                began.elapsed().as_secs_f64(),
                resident_bytes().0 as f64 / 1024.0,
            ));
            next_sample += every;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    system.shutdown(Duration::from_secs(60))?;
    Ok(verdict.conclude(seconds, &samples))
}

#[derive(Default)]
struct Tally {
    asked: u64,
    errors: u64,
    faults: u64,
    short_lived: u64,
}

impl Tally {
    /// A few thousand questions, one injected fault, a few actors that come and go.
    fn round(&mut self, system: &System, workers: &[ActorRef<Msg>]) {
        for worker in workers {
            let answers: Vec<_> = (0..32)
                .map(|number| {
                    worker
                        .ask(|reply| Msg::Add(number, reply))
                        .timeout(Duration::from_secs(10))
                })
                .collect();
            for (number, answer) in answers.into_iter().enumerate() {
                self.asked += 1;
                self.errors += u64::from(answer.wait() != Ok(number as u64));
            }
        }
        let victim = &workers[self.faults as usize % workers.len()];
        // The fault is behind every answered question: it costs none of them.
        if victim.tell(Msg::Fail).is_ok() {
            self.faults += 1;
        }
        for _ in 0..16 {
            let guest = system.spawn(|| Worker(0));
            let answer: Result<u64, AskError> = guest.ask(|reply| Msg::Add(7, reply)).wait();
            self.asked += 1;
            self.errors += u64::from(answer != Ok(7));
            guest.stop();
            self.short_lived += 1;
        }
    }

    fn conclude(self, seconds: f64, samples: &[(f64, f64)]) -> Verdict {
        let leak_kib_per_hour = 3600.0 * slope(samples);
        let error_percent = 100.0 * self.errors as f64 / self.asked.max(1) as f64;
        let long_enough = seconds >= MIN_FOR_LEAKS.as_secs_f64();
        let leaks = long_enough && leak_kib_per_hour > MAX_LEAK_KIB_PER_HOUR;
        let fails = error_percent > MAX_ERROR_PERCENT;
        let verdict = match (fails, leaks, long_enough) {
            (true, _, _) => {
                format!("FAILED: {error_percent:.4} % of the questions were not answered")
            }
            (_, true, _) => format!("FAILED: memory grows by {leak_kib_per_hour:.0} KiB per hour"),
            (_, _, false) => {
                "passed, but too short to say anything about leaks (two minutes at least)".into()
            }
            _ => {
                format!("passed: {leak_kib_per_hour:.0} KiB per hour, {error_percent:.4} % errors")
            }
        };
        let kib = |sample: Option<&(f64, f64)>| sample.map_or(0, |sample| sample.1 as u64);
        Verdict {
            seconds,
            asked: self.asked,
            errors: self.errors,
            faults: self.faults,
            short_lived: self.short_lived,
            resident_kib: (kib(samples.first()), kib(samples.last())),
            leak_kib_per_hour,
            error_percent,
            verdict,
            passed: !fails && !leaks,
        }
    }
}

/// Least squares through (seconds, value): value per second.
fn slope(samples: &[(f64, f64)]) -> f64 {
    let count = samples.len() as f64;
    if samples.len() < 2 {
        return 0.0;
    }
    let mean_x = samples.iter().map(|sample| sample.0).sum::<f64>() / count;
    let mean_y = samples.iter().map(|sample| sample.1).sum::<f64>() / count;
    let over: f64 = samples
        .iter()
        .map(|(x, y)| (x - mean_x) * (y - mean_y))
        .sum();
    let under: f64 = samples.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    if under == 0.0 { 0.0 } else { over / under }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_slope() {
        assert!((slope(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]) - 2.0).abs() < 1e-9);
        assert!(slope(&[(0.0, 1.0)]).abs() < 1e-9);
    }

    #[test]
    fn errors_fail_a_soak() {
        let tally = Tally {
            asked: 1000,
            errors: 1,
            ..Tally::default()
        };
        assert!(!tally.conclude(10.0, &[]).passed);
        let tally = Tally {
            asked: 1000,
            ..Tally::default()
        };
        assert!(tally.conclude(10.0, &[]).passed);
    }

    #[test]
    fn growth_fails_a_long_soak() {
        let samples: Vec<_> = (0..100).map(|n| (f64::from(n), f64::from(n))).collect();
        let tally = || Tally {
            asked: 1000,
            ..Tally::default()
        };
        assert!(!tally().conclude(200.0, &samples).passed);
        assert!(tally().conclude(10.0, &samples).passed);
    }
}
