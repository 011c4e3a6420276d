//! Small jobs given to a pool of threads, each with an output that comes back.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::time::Duration;

use actor_rt::{CancelToken, Pool, PoolConfig, PoolOutput, System, Work};

use super::actors::workers;
use super::{Family, Scenario};
use crate::elapsed::timed;
use crate::measure::{Case, OURS, Sample, Unit};
use crate::threads::Threads;

/// `pool_submit`.
pub const SCENARIO: Scenario = Scenario {
    name: "pool_submit",
    family: Family::Actors,
    about: "small jobs for a pool of threads, 1000 under way, each with an output",
    unit: Unit::MillionPerSecond("jobs"),
    cases: |options| {
        // The threads of each pool inherit the cores that `measure` allows.
        let (cores, jobs) = (workers(options), options.count(500_000, 500));
        let workers = cores.len();
        let case = |implementation, run: fn(usize, u64) -> Sample| {
            let threads = Threads::yielding(cores.iter().copied());
            Case::new(implementation, "1000 under way", threads, move || {
                run(workers, jobs)
            })
            .expecting(move || (0..jobs).map(digest).fold(0, u64::wrapping_add))
        };
        #[cfg_attr(not(feature = "peers"), expect(unused_mut))]
        let mut cases = vec![case(OURS, ours)];
        #[cfg(feature = "peers")]
        if options.peers {
            cases.push(case("tokio spawn_blocking", peer::tokio_blocking));
            cases.push(case("rayon", peer::rayon_pool));
        }
        cases
    },
};

/// Jobs given before the first output is waited for.
const UNDER_WAY: usize = 1000;

/// A job: little, but it cannot be left out.
fn digest(number: u64) -> u64 {
    (0..16).fold(number, |state, _| {
        let state = state ^ (state << 13);
        let state = state ^ (state >> 7);
        state ^ (state << 17)
    })
}

/// Submits all jobs, keeps so many under way, adds up the outputs.
fn drive<O>(
    jobs: u64,
    mut submit: impl FnMut(u64) -> O,
    mut output: impl FnMut(O) -> u64,
) -> Sample {
    let (elapsed, sum) = timed(|| {
        let mut waiting = VecDeque::with_capacity(UNDER_WAY);
        let mut sum = 0_u64;
        for job in 0..jobs {
            if waiting.len() == UNDER_WAY {
                sum = sum.wrapping_add(waiting.pop_front().map_or(0, &mut output));
            }
            waiting.push_back(submit(job));
        }
        waiting
            .into_iter()
            .fold(sum, |sum, waiting| sum.wrapping_add(output(waiting)))
    });
    Sample::rate(jobs, elapsed, sum)
}

struct Digester;

impl Work for Digester {
    type Job = u64;
    type Output = u64;

    fn run(&mut self, job: u64, _cancel: &CancelToken) -> u64 {
        digest(job)
    }
}

fn ours(workers: usize, jobs: u64) -> Sample {
    let system = System::builder()
        .workers(workers)
        .build()
        .expect("the system starts");
    let config = PoolConfig {
        min: workers,
        max: workers,
        ..PoolConfig::default()
    };
    let pool = Pool::new(config, || Digester);
    pool.start(&system).expect("a new pool starts");
    let cancel = CancelToken::new();
    let sample = drive(
        jobs,
        |job| pool.submit(job, &cancel),
        |output: PoolOutput<u64>| output.wait().expect("the job is done"),
    );
    pool.stop();
    pool.join();
    system
        .shutdown(Duration::from_secs(60))
        .expect("every actor ends");
    sample
}

#[cfg(feature = "peers")]
mod peer {
    use super::{Sample, digest, drive};

    /// The pool that tokio has for work that blocks, with as many threads.
    pub(super) fn tokio_blocking(workers: usize, jobs: u64) -> Sample {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(workers)
            .build()
            .expect("a runtime");
        drive(
            jobs,
            |job| runtime.spawn_blocking(move || digest(job)),
            |output| runtime.block_on(output).expect("the job is done"),
        )
    }

    /// rayon's pool, with a channel for each output.
    pub(super) fn rayon_pool(workers: usize, jobs: u64) -> Sample {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(workers)
            .build()
            .expect("a pool");
        drive(
            jobs,
            |job| {
                let (sender, receiver) = tokio::sync::oneshot::channel();
                pool.spawn(move || {
                    let _ = sender.send(digest(job));
                });
                receiver
            },
            |output| output.blocking_recv().expect("the job is done"),
        )
    }
}
