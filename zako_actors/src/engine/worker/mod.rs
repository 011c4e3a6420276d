//! Worker processes: tools that stay and are asked again and again, instead of being started for every
//! step.
//!
//! Owns the processes of one build: who is idle, who is hired, when another one is started and when
//! one is let go. Does not know steps, nor the conversation (`process`), nor what lies before a worker
//! (`mirror`).
//! Invariants: a worker serves one step at a time, so an idle one is always the least loaded, unless its target
//! says that it can do more (`joined`); equal keys mean that one worker can stand in for another; of those that serve one step at a time, and of
//! those that do more, there are never more idle and busy ones than allowed, unless all of them are busy; none survives [`Workers::end`].

mod crowd;
mod joined;
mod mirror;
mod process;
mod protocol;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::runtime::Handle;

use super::hash::Hash;
pub use crowd::Crowd;
pub use joined::Joined;
pub use mirror::Mirror;
pub use process::{NoAnswer, Worker};
pub use protocol::{WorkInput, WorkRequest, WorkResponse};

/// The worker processes of one build.
#[derive(Debug)]
pub struct Workers {
    max: usize,
    idle: Duration,
    runtime: Handle,
    shelf: Mutex<Shelf>,
    started: AtomicU64,
    served: AtomicU64,
    retired: AtomicU64,
}

#[derive(Debug, Default)]
struct Shelf {
    /// The one that was busy last stands last: it is taken first, so that the others can be let go.
    idle: Vec<Idle>,
    busy: usize,
    /// Those that do several things at a time.
    shared: Vec<joined::Shared>,
    review_planned: bool,
    ended: bool,
}

#[derive(Debug)]
struct Idle {
    key: Hash,
    since: Instant,
    worker: Worker,
}

/// What the workers of a build did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WorkerStats {
    /// Processes that were started.
    pub started: u64,
    /// Steps that were served.
    pub served: u64,
    /// Processes let go because they had nothing to do or made room for others.
    pub retired: u64,
    /// Processes that live and have nothing to do.
    pub idle: usize,
}

impl Workers {
    /// None yet; at most `max` at a time as long as steps leave some idle, each for `idle` at most.
    /// Timers run on `runtime`.
    pub fn new(max: usize, idle: Duration, runtime: Handle) -> Arc<Self> {
        Arc::new(Self {
            max: max.max(1),
            idle,
            runtime,
            shelf: Mutex::default(),
            started: AtomicU64::new(0),
            served: AtomicU64::new(0),
            retired: AtomicU64::new(0),
        })
    }

    /// An idle worker of this key, or a new one made by `start`. The caller is one of a bounded number
    /// of steps.
    ///
    /// # Errors
    /// Those of `start`.
    pub fn hire<E>(
        self: &Arc<Self>,
        key: Hash,
        start: impl FnOnce() -> Result<Worker, E>,
    ) -> Result<Hired, E> {
        let mut shelf = self.lock();
        let place = shelf.idle.iter().rposition(|idle| idle.key == key);
        let found = place.map(|place| shelf.idle.remove(place).worker);
        let count = shelf.idle.len() + shelf.busy + shelf.shared.len();
        let full = found.is_none() && count >= self.max;
        let room = (full && !shelf.idle.is_empty()).then(|| shelf.idle.remove(0));
        shelf.busy += 1;
        drop(shelf);
        let mut hired = Hired {
            key,
            worker: found,
            keep: false,
            workers: Arc::clone(self),
        };
        if room.is_some() {
            // Relaxed, as all these counters: each is a figure by itself.
            self.retired.fetch_add(1, Ordering::Relaxed);
        }
        drop(room);
        if hired.worker.is_none() {
            hired.worker = Some(start()?);
            self.started.fetch_add(1, Ordering::Relaxed);
        }
        Ok(hired)
    }

    /// Kills all idle workers, and those that are given back from now on.
    pub fn end(&self) {
        let mut shelf = self.lock();
        shelf.ended = true;
        let idle = std::mem::take(&mut shelf.idle);
        // Those that are not idle go when the last one leaves them.
        let shared = shelf.shared.extract_if(.., |shared| shared.is_idle());
        let shared: Vec<_> = shared.collect();
        drop(shelf);
        drop((idle, shared));
    }

    /// What they did.
    pub fn stats(&self) -> WorkerStats {
        WorkerStats {
            started: self.started.load(Ordering::Relaxed),
            served: self.served.load(Ordering::Relaxed),
            retired: self.retired.load(Ordering::Relaxed),
            idle: {
                let shelf = self.lock();
                shelf.idle.len()
                    + shelf
                        .shared
                        .iter()
                        .filter(|shared| shared.is_idle())
                        .count()
            },
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_back(self: &Arc<Self>, key: Hash, worker: Option<Worker>) {
        let mut shelf = self.lock();
        shelf.busy -= 1;
        let Some(worker) = worker.filter(|_| !shelf.ended) else {
            return;
        };
        shelf.idle.push(Idle {
            key,
            since: Instant::now(),
            worker,
        });
        self.plan_review(&mut shelf);
    }

    fn plan_review(self: &Arc<Self>, shelf: &mut Shelf) {
        let nobody = shelf.idle.is_empty() && !shelf.shared.iter().any(joined::Shared::is_idle);
        if shelf.review_planned || nobody {
            return;
        }
        shelf.review_planned = true;
        let (workers, idle) = (Arc::downgrade(self), self.idle);
        self.runtime.spawn(async move {
            tokio::time::sleep(idle).await;
            if let Some(workers) = workers.upgrade() {
                // Waiting for a killed process is nothing for a reactor.
                drop(tokio::task::spawn_blocking(move || workers.review()));
            }
        });
    }

    /// Lets go of those that had nothing to do for the whole time.
    fn review(self: &Arc<Self>) {
        let mut shelf = self.lock();
        shelf.review_planned = false;
        let fresh = shelf
            .idle
            .partition_point(|idle| idle.since.elapsed() >= self.idle);
        let gone: Vec<Idle> = shelf.idle.drain(..fresh).collect();
        let is_stale =
            |shared: &mut joined::Shared| shared.is_idle() && shared.since.elapsed() >= self.idle;
        let shared: Vec<_> = shelf.shared.extract_if(.., is_stale).collect();
        self.plan_review(&mut shelf);
        drop(shelf);
        let count = gone.len() + shared.len();
        self.retired.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// A worker that serves one step. Dropping it kills the process; [`Hired::give_back`] keeps it.
#[derive(Debug)]
pub struct Hired {
    key: Hash,
    /// There until this is dropped.
    worker: Option<Worker>,
    keep: bool,
    workers: Arc<Workers>,
}

impl Hired {
    /// The worker.
    pub fn worker(&mut self) -> Option<&mut Worker> {
        self.worker.as_mut()
    }

    /// Has another step use it.
    pub fn give_back(mut self) {
        self.keep = true;
    }
}

impl Drop for Hired {
    fn drop(&mut self) {
        let worker = self.worker.take();
        if self.keep {
            self.workers.served.fetch_add(1, Ordering::Relaxed);
            self.workers.take_back(self.key, worker);
        } else {
            // The process ends before its place is free.
            drop(worker);
            self.workers.take_back(self.key, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io;

    use super::*;
    use crate::engine::cancel::{Cancel, CancelReason};
    use crate::engine::process::ProcessSpec;
    use crate::engine::scratch::Scratches;

    /// Answers every line by its number and the words of the request, dies at the word `die`.
    const SCRIPT: &str = r#"
n=0
while read -r line; do
  n=$((n + 1))
  case $line in
    *die*) echo "I was told to" >&2; exit 3;;
    *hang*) sleep 1000;;
    *close*) exec >&-; read -r line;;
    *chat*) echo hello;;
    *twice*) printf '{}\n{}\n';;
    *number*) echo '{"requestId": 7}';;
    *) echo "{\"exitCode\":0,\"output\":\"$n\"}";;
  esac
done"#;

    struct World {
        dir: tempfile::TempDir,
        runtime: tokio::runtime::Runtime,
    }

    impl World {
        fn new() -> Self {
            let runtime = tokio::runtime::Builder::new_multi_thread();
            Self {
                dir: tempfile::tempdir().unwrap(),
                runtime: { runtime }.worker_threads(1).enable_time().build().unwrap(),
            }
        }

        fn workers(&self, max: usize, idle: Duration) -> Arc<Workers> {
            Workers::new(max, idle, self.runtime.handle().clone())
        }

        fn start(&self) -> io::Result<Worker> {
            self.start_script(SCRIPT)
        }

        fn start_script(&self, script: &str) -> io::Result<Worker> {
            let mirror = Mirror::create(&Scratches::new(self.dir.path().into())).unwrap();
            let scratch = mirror.scratch();
            let spec = ProcessSpec {
                program: "/bin/sh".into(),
                argv: vec!["sh".into(), "-c".into(), script.into()],
                env: BTreeMap::from([("PATH".into(), "/usr/bin:/bin".into())]),
                cwd: scratch.work(),
                log: scratch.log(),
                timeout: None,
                mark: scratch.dir().into(),
                confine: None,
            };
            Worker::start(&spec, mirror)
        }

        fn ask(&self, workers: &Arc<Workers>, key: &str, word: &str) -> Result<String, NoAnswer> {
            let mut hired = workers
                .hire(Hash::of(key.as_bytes()), || self.start())
                .unwrap();
            let request = WorkRequest {
                arguments: &[word.to_owned()],
                inputs: Vec::new(),
                request_id: 0,
                cancel: false,
            };
            let worker = hired.worker().unwrap();
            let answer = worker.ask(&request, &Cancel::new().unwrap(), None)?;
            hired.give_back();
            Ok(answer.output)
        }
    }

    #[test]
    fn a_worker_is_asked_again_and_makes_room_for_others() {
        let world = World::new();
        let workers = world.workers(2, Duration::from_secs(600));
        for n in 1..4 {
            assert_eq!(world.ask(&workers, "a", "x").unwrap(), n.to_string());
        }
        assert_eq!(world.ask(&workers, "b", "x").unwrap(), "1");
        assert_eq!(world.ask(&workers, "a", "x").unwrap(), "4");
        // The third one takes the place of `b`, which was idle for longest.
        assert_eq!(world.ask(&workers, "c", "x").unwrap(), "1");
        assert_eq!(world.ask(&workers, "a", "x").unwrap(), "5");
        let stats = workers.stats();
        assert_eq!((stats.started, stats.served, stats.retired), (3, 7, 1));
        workers.end();
        assert_eq!(workers.stats().idle, 0);
    }

    #[test]
    fn whoever_dies_or_chats_is_replaced_and_says_why() {
        let world = World::new();
        let workers = world.workers(1, Duration::from_secs(600));
        let no_answer = |word| match world.ask(&workers, "a", word) {
            Err(NoAnswer::Died { how, printed }) => (how, printed),
            other => panic!("{other:?}"),
        };
        let (how, printed) = no_answer("die");
        assert_eq!(how, "ended before it answered (exit status 3)");
        assert_eq!(printed, "I was told to\n");
        assert!(no_answer("chat").0.contains("only answers go there"));
        let (how, _) = no_answer("close");
        assert_eq!(
            how,
            "closed its output before it answered, then was stopped"
        );
        assert_eq!(world.ask(&workers, "a", "x").unwrap(), "1");
        assert_eq!(workers.stats().started, 4);
    }

    #[test]
    fn one_answer_too_many_is_not_that_of_the_next_request() {
        let world = World::new();
        let workers = world.workers(1, Duration::from_secs(600));
        let died = |word| match world.ask(&workers, "a", word) {
            Err(NoAnswer::Died { how, .. }) => how,
            other => panic!("{other:?}"),
        };
        assert!(died("number").starts_with("answered request 7;"));
        world.ask(&workers, "a", "twice").unwrap();
        assert!(died("x").starts_with("wrote to stdout before it had been asked"));
        assert_eq!(world.ask(&workers, "a", "x").unwrap(), "1");
        assert_eq!(workers.stats().started, 3);
    }

    #[test]
    fn who_answers_before_the_whole_request_is_written_did_not_hear_it() {
        let world = World::new();
        // It never reads the rest, which is more than a pipe takes.
        let script = "dd bs=1 count=1 of=/dev/null 2>/dev/null; echo '{}'; exec sleep 1000";
        let mut worker = world.start_script(script).unwrap();
        let request = WorkRequest {
            arguments: &["x".repeat(1 << 20)],
            inputs: Vec::new(),
            request_id: 0,
            cancel: false,
        };
        match worker.ask(&request, &Cancel::new().unwrap(), None) {
            Err(NoAnswer::Died { how, .. }) => {
                assert!(
                    how.starts_with("wrote to stdout before it had been asked"),
                    "{how}"
                );
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nobody_waits_beyond_a_deadline_or_a_cancellation() {
        let world = World::new();
        let mut worker = world.start().unwrap();
        let request = WorkRequest {
            // More than a pipe takes: writing must not wait either.
            arguments: &["hang".to_owned(), "x".repeat(1 << 20)],
            inputs: Vec::new(),
            request_id: 0,
            cancel: false,
        };
        let cancel = Cancel::new().unwrap();
        let now = Some(Instant::now());
        assert!(matches!(
            worker.ask(&request, &cancel, now),
            Err(NoAnswer::TimedOut)
        ));
        cancel.cancel(CancelReason::Interrupted);
        assert!(matches!(
            world.start().unwrap().ask(&request, &cancel, None),
            Err(NoAnswer::Cancelled(CancelReason::Interrupted))
        ));
    }

    #[test]
    fn the_idle_are_let_go() {
        let world = World::new();
        let workers = world.workers(4, Duration::from_millis(1));
        world.ask(&workers, "a", "x").unwrap();
        // Nothing but the timer lets it go; without one this never ends.
        while workers.stats().retired == 0 {
            std::thread::yield_now();
        }
        assert_eq!(workers.stats().idle, 0);
    }
}
