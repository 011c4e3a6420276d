//! The worker pool: growing, retiring, cancelling, panicking, collecting, ending.

use actor_rt::{CancelToken, Pool, PoolConfig, PoolError, System, Work};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

/// Does what the job says; counts its jobs in state that is not `Send`.
struct Worker {
    jobs: Rc<()>,
    kept: Vec<Rc<()>>,
}

enum Job {
    Count,
    Panic,
    /// Says that it runs, then waits for a word.
    Hold(Sender<()>, Receiver<()>),
    /// Runs until it is cancelled.
    Forever(Sender<()>),
}

impl Work for Worker {
    type Job = Job;
    type Output = usize;
    fn run(&mut self, job: Job, cancel: &CancelToken) -> usize {
        self.kept.push(Rc::clone(&self.jobs));
        match job {
            Job::Count => {}
            Job::Panic => panic!("as told"),
            Job::Hold(begun, word) => {
                begun.send(()).expect("the test listens");
                word.recv().expect("the test says a word");
            }
            Job::Forever(begun) => {
                begun.send(()).expect("the test listens");
                while !cancel.is_cancelled() {
                    std::thread::yield_now();
                }
            }
        }
        Rc::strong_count(&self.jobs) - 1
    }
    fn collect_garbage(&mut self) {
        self.kept.clear();
    }
}

fn pool(min: usize, max: usize, idle: Duration, backlog: usize) -> (System, Pool<Worker>) {
    let config = PoolConfig {
        name: "test".into(),
        min,
        max,
        idle,
        backlog,
        ..PoolConfig::default()
    };
    let pool = Pool::new(config, || Worker {
        jobs: Rc::new(()),
        kept: Vec::new(),
    });
    let system = System::builder().workers(2).build().expect("threads");
    (system, pool)
}

/// A job that runs until the sender is used.
fn hold(pool: &Pool<Worker>) -> (Sender<()>, actor_rt::PoolOutput<usize>) {
    let (begun, begins) = channel();
    let (word, waits) = channel();
    let output = pool.submit(Job::Hold(begun, waits), &CancelToken::new());
    begins.recv_timeout(LONG).expect("the job begins");
    (word, output)
}

#[test]
fn a_pool_is_started_once_and_before_use() {
    let (system, pool) = pool(1, 1, LONG, 4);
    let never = CancelToken::new();
    assert_eq!(
        pool.submit(Job::Count, &never).wait(),
        Err(PoolError::NotStarted)
    );
    pool.start(&system).expect("the first start");
    assert_eq!(pool.start(&system), Err(PoolError::StartedTwice));
    assert_eq!(pool.submit(Job::Count, &never).wait(), Ok(1));
    pool.stop();
    pool.join();
    assert_eq!(
        pool.submit(Job::Count, &never).wait(),
        Err(PoolError::Stopped)
    );
    system.shutdown(LONG).expect("everything ends");
}

#[test]
fn it_grows_with_the_backlog_up_to_max_and_refuses_beyond_the_backlog() {
    let (system, pool) = pool(1, 3, LONG, 2);
    pool.start(&system).expect("the first start");
    let held: Vec<_> = (0..3).map(|_| hold(&pool)).collect();
    assert_eq!(pool.stats().workers, 3);
    assert_eq!(pool.stats().busy, 3);
    let never = CancelToken::new();
    let waiting: Vec<_> = (0..2).map(|_| pool.submit(Job::Count, &never)).collect();
    assert_eq!(
        pool.submit(Job::Count, &never).wait(),
        Err(PoolError::Full(2))
    );
    for (word, output) in held {
        word.send(()).expect("the job waits");
        assert_eq!(output.wait(), Ok(1));
    }
    for output in waiting {
        assert!(output.wait().is_ok());
    }
    assert_eq!(pool.stats().finished, 5);
    system.shutdown(LONG).expect("everything ends");
    assert_eq!(pool.stats().workers, 0);
}

#[test]
fn idle_workers_above_min_retire() {
    let (system, pool) = pool(1, 4, Duration::from_millis(1), 16);
    pool.start(&system).expect("the first start");
    let held: Vec<_> = (0..4).map(|_| hold(&pool)).collect();
    for (word, output) in held {
        word.send(()).expect("the job waits");
        assert_eq!(output.wait(), Ok(1));
    }
    while pool.stats().workers > 1 {
        std::thread::yield_now();
    }
    // A machine that is slow enough lets one go before the next one is hired.
    assert!(pool.stats().retired >= 3);
    assert!(pool.submit(Job::Count, &CancelToken::new()).wait().is_ok());
    system.shutdown(LONG).expect("everything ends");
}

#[test]
fn a_panic_costs_the_state_and_nothing_else() {
    let (system, pool) = pool(1, 1, LONG, 16);
    pool.start(&system).expect("the first start");
    let never = CancelToken::new();
    assert_eq!(pool.submit(Job::Count, &never).wait(), Ok(1));
    assert_eq!(pool.submit(Job::Count, &never).wait(), Ok(2));
    let panicked = pool.submit(Job::Panic, &never).wait();
    assert_eq!(panicked, Err(PoolError::Panicked("as told".into())));
    assert_eq!(pool.submit(Job::Count, &never).wait(), Ok(1));
    assert_eq!((pool.stats().panicked, pool.stats().workers), (1, 1));
    system.shutdown(LONG).expect("everything ends");
}

#[test]
fn a_waiting_job_is_cancelled_at_once_and_a_running_one_sees_it() {
    let (system, pool) = pool(1, 1, LONG, 16);
    pool.start(&system).expect("the first start");
    let (begun, begins) = channel();
    let running = CancelToken::new();
    let forever = pool.submit(Job::Forever(begun), &running);
    begins.recv_timeout(LONG).expect("the job begins");
    let waiting = CancelToken::new();
    let output = pool.submit(Job::Count, &waiting);
    waiting.cancel();
    assert_eq!(
        output.wait(),
        Err(PoolError::Cancelled),
        "while the worker is still busy"
    );
    let early = pool.submit(Job::Count, &waiting);
    assert_eq!(early.wait(), Err(PoolError::Cancelled));
    running.cancel();
    assert_eq!(forever.wait(), Ok(1));
    assert_eq!(pool.stats().cancelled, 2);
    system.shutdown(LONG).expect("everything ends");
}

#[test]
fn a_token_cancels_all_its_waiting_jobs_and_no_others() {
    let (system, pool) = pool(1, 1, LONG, 16);
    pool.start(&system).expect("the first start");
    let (word, held) = hold(&pool);
    let (wanted, unwanted) = (CancelToken::new(), CancelToken::new());
    let outputs: Vec<_> = (0..6)
        .map(|n| pool.submit(Job::Count, if n % 3 == 0 { &wanted } else { &unwanted }))
        .collect();
    unwanted.cancel();
    assert_eq!(pool.stats().queued, 2, "while the worker is still busy");
    word.send(()).expect("the job waits");
    assert_eq!(held.wait(), Ok(1));
    let answers: Vec<_> = outputs.into_iter().map(|output| output.wait()).collect();
    let cancelled = || Err(PoolError::Cancelled);
    assert_eq!(answers[..3], [Ok(2), cancelled(), cancelled()]);
    assert_eq!(answers[3..], [Ok(3), cancelled(), cancelled()]);
    assert_eq!(pool.stats().cancelled, 4);
    system.shutdown(LONG).expect("everything ends");
}

#[test]
fn garbage_is_collected_by_every_worker() {
    let (system, pool) = pool(2, 2, LONG, 16);
    pool.start(&system).expect("the first start");
    let held: Vec<_> = (0..2).map(|_| hold(&pool)).collect();
    pool.collect_garbage();
    for (word, output) in held {
        word.send(()).expect("the job waits");
        assert_eq!(output.wait(), Ok(1));
    }
    while pool.stats().collections < 2 {
        std::thread::yield_now();
    }
    assert_eq!(pool.submit(Job::Count, &CancelToken::new()).wait(), Ok(1));
    system.shutdown(LONG).expect("everything ends");
}

#[test]
fn stopping_finishes_what_runs_and_drops_what_waits() {
    let (system, pool) = pool(1, 1, LONG, 16);
    pool.start(&system).expect("the first start");
    let (word, running) = hold(&pool);
    let waiting = pool.submit(Job::Count, &CancelToken::new());
    pool.stop();
    word.send(()).expect("the job waits");
    assert_eq!(running.wait(), Ok(1));
    assert_eq!(waiting.wait(), Err(PoolError::Stopped));
    pool.join();
    assert_eq!(pool.stats().workers, 0);
    system.shutdown(LONG).expect("everything ends");
}

#[test]
fn a_pool_in_a_system_that_has_ended_is_stopped() {
    let (system, pool) = pool(1, 2, LONG, 16);
    system.shutdown(LONG).expect("everything ends");
    pool.start(&system).expect("the first start");
    let output = pool.submit(Job::Count, &CancelToken::new());
    assert_eq!(output.wait(), Err(PoolError::Stopped));
}

#[test]
fn jobs_begin_in_the_order_they_came_and_one_worker_does_them_all() {
    let (system, pool) = pool(1, 1, LONG, 64);
    pool.start(&system).expect("the first start");
    let never = CancelToken::new();
    let (word, held) = hold(&pool);
    let outputs: Vec<_> = (0..50).map(|_| pool.submit(Job::Count, &never)).collect();
    assert_eq!(pool.stats().queued, 50);
    word.send(()).expect("the job waits");
    assert_eq!(held.wait(), Ok(1));
    for (place, output) in outputs.into_iter().enumerate() {
        // The worker counts its jobs: the first was the one that was held.
        assert_eq!(output.wait(), Ok(place + 2));
    }
    system.shutdown(LONG).expect("everything ends");
}

#[test]
fn submitters_and_cancellers_on_many_threads_are_all_answered() {
    let (system, pool) = pool(0, 3, Duration::ZERO, 10_000);
    pool.start(&system).expect("the first start");
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let pool = pool.clone();
            std::thread::spawn(move || {
                let mut done = [0; 2];
                for n in 0..500 {
                    let cancel = CancelToken::new();
                    let output = pool.submit(Job::Count, &cancel);
                    if n % 2 == 0 {
                        cancel.cancel();
                    }
                    match output.wait() {
                        Ok(_) => done[0] += 1,
                        Err(PoolError::Cancelled) => done[1] += 1,
                        Err(other) => panic!("{other}"),
                    }
                }
                assert!(done[0] >= 250 && done[0] + done[1] == 500, "{done:?}");
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("everything was answered");
    }
    assert_eq!(pool.stats().queued, 0);
    system.shutdown(LONG).expect("everything ends");
}

struct Deep;

impl Work for Deep {
    type Job = u32;
    type Output = u64;

    fn run(&mut self, levels: u32, _cancel: &CancelToken) -> u64 {
        fn descend(levels: u32) -> u64 {
            let frame = std::hint::black_box([u64::from(levels); 128]);
            let below = levels.checked_sub(1).map_or(0, descend);
            below + frame[usize::from(frame[0] > 1)].min(1)
        }
        descend(levels)
    }
}

#[test]
fn a_worker_has_the_stack_that_was_asked_for() {
    let system = System::builder().workers(1).build().expect("a system");
    let config = PoolConfig {
        stack_bytes: Some(256 << 20),
        ..PoolConfig::default()
    };
    let pool = Pool::new(config, || Deep);
    pool.start(&system).expect("the first start");
    // 16 MiB at least, more than threads usually have.
    let levels = 16 << 10;
    let sum = pool.submit(levels, &CancelToken::new()).wait();
    assert_eq!(sum, Ok(u64::from(levels)));
}

/// Answers how often it has tidied up, which it does when it is told to.
struct Tidy {
    tidied: usize,
    word: Receiver<bool>,
}

impl Work for Tidy {
    type Job = ();
    type Output = usize;
    fn run(&mut self, (): (), _cancel: &CancelToken) -> usize {
        self.tidied
    }
    fn tidy(&mut self) {
        self.tidied += 1;
        assert!(self.word.recv().expect("the test says a word"), "as told");
    }
}

#[test]
fn an_output_does_not_wait_until_its_worker_has_tidied_up() {
    let (words, first) = channel();
    let (more_words, second) = channel();
    let ears = std::sync::Mutex::new(vec![second, first]);
    let config = PoolConfig {
        min: 1,
        max: 1,
        ..PoolConfig::default()
    };
    let pool = Pool::new(config, move || Tidy {
        tidied: 0,
        word: ears
            .lock()
            .expect("not poisoned")
            .pop()
            .expect("two states"),
    });
    let system = System::builder().workers(1).build().expect("threads");
    pool.start(&system).expect("not started");
    let answer = |expected| {
        let output = pool.submit((), &CancelToken::new());
        // On a thread of its own, so that an output that never comes fails and hangs nothing.
        let (came, comes) = channel();
        std::thread::spawn(move || came.send(output.wait()));
        assert_eq!(comes.recv_timeout(LONG), Ok(Ok(expected)));
    };
    answer(0);
    words.send(true).expect("it listens");
    answer(1);
    // A panic costs the state.
    words.send(false).expect("it listens");
    answer(0);
    more_words.send(true).expect("it listens");
    system.shutdown(LONG).expect("everything ends");
}
