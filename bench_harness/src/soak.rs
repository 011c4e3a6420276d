//! Mixed load for minutes, with faults injected: does memory grow, does anything get lost?
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use actor_rt::{Actor, ActorRef, AskError, Context, Reply, Restart, System};
use serde::Serialize;

use crate::alloc_count::Watch;
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
    /// Why they were not, and how often.
    pub reasons: BTreeMap<String, u64>,
    /// Questions whose answer took longer than a second.
    pub late: u64,
    /// The longest that one of them took, in seconds.
    pub slowest_s: f64,
    /// Panics injected into handlers.
    pub faults: u64,
    /// Actors spawned and stopped on the way.
    pub short_lived: u64,
    /// Resident memory after warm-up and at the end, in KiB.
    pub resident_kib: (u64, u64),
    /// Growth of resident memory, by a line through the samples, in KiB per hour.
    pub resident_kib_per_hour: f64,
    /// What the runtime's slabs had taken from the system after warm-up and at the end, in KiB: what was needed at most.
    pub slabs_kib: (u64, u64),
    /// Growth of what is in use, sampled at rest, in KiB per hour: the heap (if a counting allocator knows it) and the slabs'
    /// blocks that are not kept for reuse.
    pub leak_kib_per_hour: f64,
    /// Twice the standard error of that.
    pub leak_uncertainty: f64,
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

/// Places of a worker's mailbox: more than a round needs.
const PLACES: usize = 64;
/// How long an answer may take. Far longer than any machine stands still: an answer that is late is not lost.
const PATIENCE: Duration = Duration::from_secs(60);
/// Answers that take longer are told apart: something stood still, the machine or an actor.
const LATE: Duration = Duration::from_secs(1);
/// Errors above this share, in percent, fail a soak.
const MAX_ERROR_PERCENT: f64 = 0.001;
/// What is in use fails a soak if it certainly grows faster, in KiB per hour.
const MAX_LEAK_KIB_PER_HOUR: f64 = 1.0;
/// Resident memory comes in pages and the allocator keeps some: only more than this, in KiB per hour, fails a soak.
const MAX_RESIDENT_KIB_PER_HOUR: f64 = 4096.0;
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
    let outcome = soak(length, |_| ());
    std::panic::set_hook(hook);
    let (tally, seconds, samples) = outcome?;
    Ok(tally.conclude(seconds, &samples))
}

/// Runs for so long, with something else to do after each round: what happened, for how long it ran, and what was sampled.
fn soak(
    length: Duration,
    mut also: impl FnMut(&System),
) -> anyhow::Result<(Tally, f64, Vec<Sample>)> {
    let system = System::new()?;
    let forever = || Restart::on_failure().at_most(1000, Duration::from_secs(1));
    let watch = Watch::begin();
    let workers: Vec<ActorRef<Msg>> = (0..64)
        .map(|_| {
            let worker = system.actor(|| Worker(0)).mailbox(PLACES);
            worker.restart(forever()).spawn()
        })
        .collect();
    workers.iter().try_for_each(fill)?;
    let began = Instant::now();
    let mut tally = Tally::default();
    let mut samples: Vec<Sample> = Vec::with_capacity(256);
    let every = (length / 200).max(Duration::from_millis(50));
    let mut next_sample = began + length / 10;
    while began.elapsed() < length {
        tally.round(&system, &workers);
        also(&system);
        if Instant::now() >= next_sample {
            tally.settle(&workers);
            let slabs = System::memory();
            let kib = |bytes: u64| bytes as f64 / 1024.0;
            samples.push(Sample {
                second: began.elapsed().as_secs_f64(),
                resident_kib: kib(resident_bytes().0),
                heap_kib: watch.live_bytes().map(|bytes| bytes as f64 / 1024.0),
                slabs_kib: kib(slabs.reserved_bytes),
                slabs_in_use_kib: kib(slabs.in_use_bytes),
            });
            next_sample += every;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    system.shutdown(Duration::from_secs(60))?;
    Ok((tally, seconds, samples))
}

/// Has a worker use every place of its mailbox. Otherwise its ring grows, within its bound, whenever more questions come than
/// ever before since it was idle: on a busy machine at any time.
fn fill(worker: &ActorRef<Msg>) -> anyhow::Result<()> {
    let question = |number| {
        let (reply, answer) = Reply::pair();
        (Msg::Add(number, reply), answer)
    };
    let (mut questions, answers): (Vec<_>, Vec<_>) = (0..PLACES as u64).map(question).unzip();
    let sent = worker.tell_batch(&mut questions)?;
    anyhow::ensure!(sent == PLACES, "a new mailbox has room for {sent} only");
    answers
        .into_iter()
        .try_for_each(|answer| answer.timeout(PATIENCE).wait().map(drop))?;
    Ok(())
}

/// Memory at a moment of rest.
#[derive(Debug, Clone, Copy)]
struct Sample {
    second: f64,
    resident_kib: f64,
    /// Allocated since the beginning and not freed.
    heap_kib: Option<f64>,
    slabs_kib: f64,
    slabs_in_use_kib: f64,
}

impl Sample {
    /// What is in use, but for a constant. Slabs, whose memory is not the heap's, take more whenever one thread needs more blocks
    /// at a time than ever before, on a busy machine minutes after the start, and keep it: no leak as long as blocks come back.
    fn used_kib(&self) -> f64 {
        self.heap_kib.unwrap_or(0.0) + self.slabs_in_use_kib
    }
}

#[derive(Default)]
struct Tally {
    asked: u64,
    errors: u64,
    reasons: BTreeMap<String, u64>,
    late: u64,
    slowest: Duration,
    faults: u64,
    short_lived: u64,
}

impl Tally {
    /// Takes note of how a question that began then has ended.
    fn note(&mut self, began: Instant, answer: Result<u64, AskError>, expected: u64) {
        self.asked += 1;
        let reason = match answer {
            Ok(answer) if answer == expected => None,
            Ok(_) => Some("the answer to another question came".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(reason) = reason {
            self.errors += 1;
            *self.reasons.entry(reason).or_default() += 1;
        }
        let took = began.elapsed();
        self.late += u64::from(took > LATE);
        self.slowest = self.slowest.max(took);
    }

    /// A few thousand questions, one injected fault, a few actors that come and go.
    fn round(&mut self, system: &System, workers: &[ActorRef<Msg>]) {
        for worker in workers {
            let began = Instant::now();
            let answers: Vec<_> = (0..32)
                .map(|number| {
                    worker
                        .ask(|reply| Msg::Add(number, reply))
                        .timeout(PATIENCE)
                })
                .collect();
            for (number, answer) in answers.into_iter().enumerate() {
                self.note(began, answer.wait(), number as u64);
            }
        }
        let victim = &workers[self.faults as usize % workers.len()];
        // The fault is behind every answered question: it costs none of them.
        if victim.tell(Msg::Fail).is_ok() {
            self.faults += 1;
        }
        for _ in 0..16 {
            let guest = system.spawn(|| Worker(0));
            let began = Instant::now();
            let answer = guest.ask(|reply| Msg::Add(7, reply)).timeout(PATIENCE);
            self.note(began, answer.wait(), 7);
            guest.stop();
            // Gone for good before memory is looked at.
            guest.join();
            self.short_lived += 1;
        }
    }

    /// Waits until every worker has restarted and answered.
    fn settle(&mut self, workers: &[ActorRef<Msg>]) {
        for worker in workers {
            let began = Instant::now();
            let answer = worker.ask(|reply| Msg::Add(1, reply)).timeout(PATIENCE);
            self.note(began, answer.wait(), 1);
        }
    }

    fn conclude(self, seconds: f64, samples: &[Sample]) -> Verdict {
        let per_hour = |of: fn(&Sample) -> f64| {
            let points = samples.iter().map(|sample| (sample.second, of(sample)));
            let line = line(&points.collect::<Vec<_>>());
            (3600.0 * line.slope, 3600.0 * 2.0 * line.error)
        };
        let (resident_kib_per_hour, resident_uncertainty) = per_hour(|sample| sample.resident_kib);
        let (leak_kib_per_hour, leak_uncertainty) = per_hour(Sample::used_kib);
        let error_percent = 100.0 * self.errors as f64 / self.asked.max(1) as f64;
        let long_enough = seconds >= MIN_FOR_LEAKS.as_secs_f64();
        // Only what is above the limit by more than its uncertainty is certain.
        let grows = leak_kib_per_hour - leak_uncertainty > MAX_LEAK_KIB_PER_HOUR
            || resident_kib_per_hour - resident_uncertainty > MAX_RESIDENT_KIB_PER_HOUR;
        let leaks = long_enough && grows;
        let fails = error_percent > MAX_ERROR_PERCENT;
        let memory = format!(
            "what is in use grows by {leak_kib_per_hour:.2} ± {leak_uncertainty:.2} KiB per hour, resident memory by \
             {resident_kib_per_hour:.0}"
        );
        let verdict = match (fails, leaks, long_enough) {
            (true, _, _) => {
                format!("FAILED: {error_percent:.4} % of the questions were not answered")
            }
            (_, true, _) => format!("FAILED: {memory}"),
            (_, _, false) => {
                "passed, but too short to say anything about leaks (two minutes at least)".into()
            }
            _ => format!("passed: {memory}, {error_percent:.4} % errors"),
        };
        let ends = |of: fn(&Sample) -> f64| {
            let kib = |sample: Option<&Sample>| sample.map_or(0, |sample| of(sample) as u64);
            (kib(samples.first()), kib(samples.last()))
        };
        Verdict {
            seconds,
            asked: self.asked,
            errors: self.errors,
            reasons: self.reasons,
            late: self.late,
            slowest_s: self.slowest.as_secs_f64(),
            faults: self.faults,
            short_lived: self.short_lived,
            resident_kib: ends(|sample| sample.resident_kib),
            resident_kib_per_hour,
            slabs_kib: ends(|sample| sample.slabs_kib),
            leak_kib_per_hour,
            leak_uncertainty,
            error_percent,
            verdict,
            passed: !fails && !leaks,
        }
    }
}

/// For people.
pub fn render(verdict: &Verdict) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let _ = writeln!(text, "{}", verdict.verdict);
    let _ = writeln!(text, "  ran          {:.0} s", verdict.seconds);
    let _ = writeln!(
        text,
        "  questions    {}, {} of them unanswered",
        verdict.asked, verdict.errors
    );
    for (reason, count) in &verdict.reasons {
        let _ = writeln!(text, "               {count}: {reason}");
    }
    let _ = writeln!(
        text,
        "  answers      the slowest took {:.3} s, {} of them more than {} s",
        verdict.slowest_s,
        verdict.late,
        LATE.as_secs()
    );
    let _ = writeln!(text, "  faults       {} panics injected", verdict.faults);
    let _ = writeln!(
        text,
        "  short-lived  {} actors came and went",
        verdict.short_lived
    );
    let _ = writeln!(
        text,
        "  resident     {} KiB after warm-up, {} KiB at the end ({:+.0} KiB per hour)",
        verdict.resident_kib.0, verdict.resident_kib.1, verdict.resident_kib_per_hour
    );
    let _ = writeln!(
        text,
        "  slabs        {} KiB after warm-up, {} KiB at the end, used or kept for reuse",
        verdict.slabs_kib.0, verdict.slabs_kib.1
    );
    let _ = writeln!(
        text,
        "  in use       {:+.2} ± {:.2} KiB per hour, at rest",
        verdict.leak_kib_per_hour, verdict.leak_uncertainty
    );
    text
}

/// A line through points.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    slope: f64,
    /// Standard error of the slope.
    error: f64,
}

/// Least squares through (seconds, value).
fn line(samples: &[(f64, f64)]) -> Line {
    let count = samples.len() as f64;
    if samples.len() < 3 {
        return Line::default();
    }
    let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|sample| sample.0), mean(|sample| sample.1));
    let over: f64 = samples
        .iter()
        .map(|(x, y)| (x - mean_x) * (y - mean_y))
        .sum();
    let under: f64 = samples.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    if under == 0.0 {
        return Line::default();
    }
    let slope = over / under;
    let off = |(x, y): &(f64, f64)| (y - mean_y - slope * (x - mean_x)).powi(2);
    let variance = samples.iter().map(off).sum::<f64>() / (count - 2.0);
    Line {
        slope,
        error: (variance / under).sqrt(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_slope_and_its_error() {
        let straight = line(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]);
        assert!((straight.slope - 2.0).abs() < 1e-9 && straight.error < 1e-9);
        let bent = line(&[(0.0, 1.0), (1.0, 4.0), (2.0, 5.0)]);
        assert!((bent.slope - 2.0).abs() < 1e-9 && bent.error > 0.1);
        assert!(line(&[(0.0, 1.0)]).slope.abs() < 1e-9);
    }

    fn tally(errors: u64) -> Tally {
        Tally {
            asked: 1000,
            errors,
            ..Tally::default()
        }
    }

    #[test]
    fn errors_fail_a_soak() {
        assert!(!tally(1).conclude(10.0, &[]).passed);
        assert!(tally(0).conclude(10.0, &[]).passed);
    }

    /// A heap that grows by so many KiB per hour, and moves up and down by some noise.
    fn grown(kib_per_hour: f64, noise_kib: f64) -> Vec<Sample> {
        let sample = |n: u32| Sample {
            second: f64::from(n),
            resident_kib: 5000.0,
            heap_kib: Some(f64::from(n) * kib_per_hour / 3600.0 + f64::from(n % 2) * noise_kib),
            slabs_kib: 640.0,
            slabs_in_use_kib: 100.0,
        };
        (0..300).map(sample).collect()
    }

    #[test]
    fn certain_growth_fails_a_long_soak() {
        assert!(!tally(0).conclude(300.0, &grown(60.0, 0.0)).passed);
        assert!(tally(0).conclude(10.0, &grown(60.0, 0.0)).passed);
        assert!(tally(0).conclude(300.0, &grown(0.5, 0.0)).passed);
        // Growth that could be noise is told with its uncertainty, not as a failure.
        let verdict = tally(0).conclude(300.0, &grown(2.0, 8.0));
        assert!(
            verdict.passed && verdict.leak_uncertainty > 1.0,
            "{verdict:?}"
        );
    }

    #[test]
    fn slabs_that_grow_are_no_leak_unless_their_blocks_do_not_come_back() {
        // A chunk late in the soak, as on a busy machine.
        let mut samples = grown(0.0, 0.0);
        for sample in &mut samples[270..] {
            sample.slabs_kib += 64.0;
        }
        let verdict = tally(0).conclude(300.0, &samples);
        assert!(verdict.passed, "{verdict:?}");
        assert_eq!(verdict.slabs_kib, (640, 704));
        // The same chunk, and its blocks are lost one after the other.
        for (n, sample) in samples[270..].iter_mut().enumerate() {
            sample.slabs_in_use_kib += n as f64;
        }
        assert!(!tally(0).conclude(300.0, &samples).passed);
    }

    #[test]
    fn an_actor_that_is_never_freed_is_in_use() {
        const ROUNDS: u64 = 8;
        let system = System::new().expect("the system starts");
        let workers = [system.spawn(|| Worker(0))];
        let mut tally = Tally::default();
        let mut growth = |forget: bool| {
            let before = System::memory().in_use_bytes;
            for _ in 0..ROUNDS {
                tally.round(&system, &workers);
                for _ in 0..16 {
                    let guest = system.spawn(|| Worker(0));
                    guest.stop();
                    guest.join();
                    if forget {
                        std::mem::forget(guest);
                    }
                }
            }
            tally.settle(&workers);
            System::memory().in_use_bytes.saturating_sub(before)
        };
        growth(false);
        let (lost, clean) = (growth(true), growth(false));
        // The least that a block can have, for each of them.
        let least = ROUNDS * 16 * 64;
        assert!(lost >= least && clean < least, "{lost}, {clean} bytes");
    }
}
