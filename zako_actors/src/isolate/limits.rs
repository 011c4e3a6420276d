//! What a script may use: heap, time, and until it is called off.
//!
//! Owns: arming the limits of one evaluation, which of them ended it, and how that is said.
//! Does not know: what runs.
//! Invariants: once the guards are dropped, no other thread stops what runs in the isolate; until then a script whose time is up is
//! stopped again and again, because the engine forgets it between two calls into scripts; one that a limit cannot stop at
//! once, because the engine is in a loop of its own, is stopped when that is over; one that computes on for longer than
//! `Limits::to_stop` ends the process, and it is said which that was.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use deno_core::{JsRuntime, v8};

use crate::diagnostic::Diagnostic;

use super::watchdog::{self, DeadlineGuard, ThreadClock};
use super::{CancelGuard, EvaluateRequest, FailureKind, Limits};

/// Why a script was stopped: the first cause counts.
#[derive(Default)]
struct Stop {
    cause: AtomicU8,
}

impl Stop {
    fn set(&self, cause: FailureKind) {
        let code = match cause {
            FailureKind::Memory => 1,
            FailureKind::Timeout => 2,
            FailureKind::CpuTime => 3,
            _ => 4,
        };
        // Relaxed: the isolate's termination orders the write before the evaluator's read; the
        // value itself is all that is communicated.
        let _ = self
            .cause
            .compare_exchange(0, code, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn cause(&self) -> Option<FailureKind> {
        match self.cause.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(FailureKind::Memory),
            2 => Some(FailureKind::Timeout),
            3 => Some(FailureKind::CpuTime),
            _ => Some(FailureKind::Cancelled),
        }
    }
}

/// What a script may use beyond its heap limit before it reaches the point where it stops.
const MAX_OVERDRAFT_BYTES: usize = 2 << 30;

/// The way to stop what runs in one isolate.
#[derive(Clone)]
pub(super) struct Brake {
    stop: Arc<Stop>,
    handle: v8::IsolateHandle,
}

impl Brake {
    /// For a new isolate, whose heap is limited from now on.
    pub fn new(runtime: &mut JsRuntime) -> Self {
        let brake = Self {
            stop: Arc::default(),
            handle: runtime.v8_isolate().thread_safe_handle(),
        };
        let out_of_memory = brake.pull(FailureKind::Memory);
        runtime.add_near_heap_limit_callback(move |current, initial| {
            // Each time: it may have been forgotten.
            out_of_memory();
            // Room to unwind: V8 ends the process when the limit is reached again before that. Ending
            // it is right when the script cannot be stopped and eats the machine's memory.
            current
                .saturating_mul(2)
                .min(initial.saturating_add(MAX_OVERDRAFT_BYTES))
        });
        brake
    }

    /// What stopped the isolate, if anything did: it is of no further use then.
    pub fn cause(&self) -> Option<FailureKind> {
        self.stop.cause()
    }

    /// Asked after what takes back that the isolate was told to stop, or ends instead of the script: nothing of the script runs once
    /// it has been stopped.
    ///
    /// # Errors
    /// What stopped it.
    pub fn check(&self) -> Result<(), String> {
        self.cause()
            .map_or(Ok(()), |cause| Err(format!("stopped: {cause:?}")))
    }

    fn pull(&self, cause: FailureKind) -> impl Fn() + Send + use<> {
        let brake = self.clone();
        move || {
            brake.stop.set(cause);
            brake.handle.terminate_execution();
        }
    }

    /// Arms the time limits and the token of one evaluation; dropping the result disarms them.
    pub fn arm(&self, request: &EvaluateRequest) -> Guards {
        let Limits {
            wall, cpu, to_stop, ..
        } = request.limits;
        let stop = |cause| stop(self.pull(cause), request.entry.clone(), to_stop);
        let calling_off = Arc::<Mutex<CallingOff>>::default();
        let cancel = {
            let (calling_off, pull) = (Arc::clone(&calling_off), self.pull(FailureKind::Cancelled));
            move || {
                let mut state = lock(&calling_off);
                // A token that has begun to run its actions takes none of them back.
                if state.is_over {
                    return;
                }
                pull();
                state.again = Some(watchdog::after(AGAIN, move || {
                    pull();
                    Some(AGAIN)
                }));
            }
        };
        Guards {
            _wall: watchdog::after(wall, stop(FailureKind::Timeout)),
            // One thread uses no more of its CPU than goes by on the clock.
            _cpu: (cpu < wall).then(|| limit_cpu(cpu, stop(FailureKind::CpuTime))),
            _cancel: request.cancel.on_cancel(cancel),
            calling_off,
        }
    }
}

/// So soon what was stopped is stopped again. The engine forgets a termination that comes while no script runs, such as one between
/// two modules that a script imports: what makes an error of the first takes it back.
const AGAIN: Duration = Duration::from_millis(10);

/// Calls `terminate` until nobody asks any more, and if what runs on this thread computes on for longer than `to_stop` after the
/// first time, ends the process: what to do when the time of `entry` is up.
fn stop(
    terminate: impl Fn() + Send + 'static,
    entry: String,
    to_stop: Duration,
) -> impl FnMut() -> Option<Duration> + Send + 'static {
    let clock = ThreadClock::of_this_thread();
    let mut first = None;
    move || {
        let used = clock.read();
        terminate();
        let (begin, before) = *first.get_or_insert_with(|| (Instant::now(), used));
        // What a busy machine gives no time to does not compute; without a clock it is taken to.
        let computed = used.zip(before).map_or_else(
            || begin.elapsed(),
            |(used, before)| used.saturating_sub(before),
        );
        if computed >= to_stop {
            let message = format!(
                "{entry} cannot be stopped: it has the JavaScript engine walk something huge in one step"
            );
            let help = "look for a text or list of many millions, such as the keys of a long text; zako ends, as nothing else ends this";
            eprintln!("{}", Diagnostic::error(message).with_help(help));
            std::process::exit(1);
        }
        Some(AGAIN)
    }
}

/// What is armed for one evaluation.
pub(super) struct Guards {
    _wall: DeadlineGuard,
    _cpu: Option<DeadlineGuard>,
    _cancel: CancelGuard,
    calling_off: Arc<Mutex<CallingOff>>,
}

impl Drop for Guards {
    fn drop(&mut self) {
        let again = {
            let mut state = lock(&self.calling_off);
            state.is_over = true;
            state.again.take()
        };
        // Outside the lock: it waits for the watchdog.
        drop(again);
    }
}

/// What a token does to one evaluation. Whoever stops it holds the lock meanwhile.
#[derive(Default)]
struct CallingOff {
    /// The guards are dropped: what comes now comes too late.
    is_over: bool,
    /// It is called off, again and again.
    again: Option<DeadlineGuard>,
}

fn lock(state: &Mutex<CallingOff>) -> MutexGuard<'_, CallingOff> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls `stop` when the calling thread has used `limit` more of CPU time than now, and then as it says. What it has
/// left is also the soonest that it can be used up, so that is when to look again.
fn limit_cpu(
    limit: Duration,
    mut stop: impl FnMut() -> Option<Duration> + Send + 'static,
) -> DeadlineGuard {
    let clock = ThreadClock::of_this_thread();
    let begin = ThreadClock::read_own();
    watchdog::after(limit, move || {
        // Without a clock there is the wall's limit.
        let used = clock.read()?.saturating_sub(begin);
        let left = limit.saturating_sub(used);
        if left.is_zero() { stop() } else { Some(left) }
    })
}

const ENDLESS: &str = "look for a loop without an end; what needs longer has `evaluation-seconds` in [settings] of zako.toml";

/// What to say of an evaluation of `entry` that was stopped.
pub(super) fn stopped(cause: FailureKind, entry: &str, limits: Limits) -> Diagnostic {
    match cause {
        FailureKind::Memory => Diagnostic::error(format!(
            "{entry} needs more memory than its limit of {} MiB",
            limits.heap_bytes >> 20
        ))
        .with_help("look for a list or string that grows without an end; what needs more has `evaluation-heap` in [settings] of zako.toml"),
        FailureKind::Timeout => {
            let Limits { wall, cpu, .. } = limits;
            let what = match wall.as_secs().checked_div(cpu.as_secs()) {
                Some(times) if times > 1 => format!(
                    "{cpu:?} allows: {wall:?} have gone by on the clock, {times} times as much; it waited, or the machine was busy"
                ),
                _ => format!("{wall:?}"),
            };
            let took = format!("{entry} took longer than its limit of {what}");
            Diagnostic::error(took).with_help(ENDLESS)
        }
        FailureKind::CpuTime => Diagnostic::error(format!(
            "{entry} computed for longer than its limit of {:?}",
            limits.cpu
        ))
        .with_help(ENDLESS),
        _ => Diagnostic::error(format!("the evaluation of {entry} was cancelled")),
    }
}
