//! What every actor scenario shares: the list of libraries, and starting and ending them around a measurement.
#![forbid(unsafe_code)]

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::actor::{Done, Kit, Msg, Setup};
use crate::measure::{Case, Sample};
use crate::options::{MAILBOX, Options};
use crate::payload::total;
use crate::pin;
use crate::threads::Threads;

/// Longer than any scenario takes: a lost message fails the run instead of hanging it.
const DEADLINE: Duration = Duration::from_secs(300);

/// Calls a generic function for ours and, if asked for, for every peer.
macro_rules! every_kit {
    ($options:expr, $cases:expr, $function:ident $(, $argument:expr)*) => {{
        $crate::scenario::actors::every_ordered_kit!($options, $cases, $function $(, $argument)*);
        #[cfg(feature = "peers")]
        if $options.peers {
            use $crate::actor::peers::xtra_kit::Xtra;
            $cases.push($function::<Xtra>($($argument),*));
        }
    }};
}
pub(crate) use every_kit;

/// The same for scenarios that count on the order of one sender's messages. xtra keeps messages in a heap by priority,
/// where those of equal priority overtake each other.
macro_rules! every_ordered_kit {
    ($options:expr, $cases:expr, $function:ident $(, $argument:expr)*) => {{
        $cases.push($function::<$crate::actor::ours::Ours>($($argument),*));
        #[cfg(feature = "peers")]
        if $options.peers {
            use $crate::actor::peers;
            $cases.push($function::<peers::tokio_kit::Tokio>($($argument),*));
            $cases.push($function::<peers::actix_kit::Actix>($($argument),*));
            $cases.push($function::<peers::kompact_kit::Kompact>($($argument),*));
            $cases.push($function::<peers::ractor_kit::Ractor>($($argument),*));
            $cases.push($function::<peers::kameo_kit::Kameo>($($argument),*));
        }
        let _ = $options;
    }};
}
pub(crate) use every_ordered_kit;

/// The same as [`every_kit`] where many actors have something to do at a time: also for actix with an arbiter on each core.
macro_rules! every_parallel_kit {
    ($options:expr, $cases:expr, $function:ident $(, $argument:expr)*) => {{
        $crate::scenario::actors::every_kit!($options, $cases, $function $(, $argument)*);
        #[cfg(feature = "peers")]
        if $options.peers {
            use $crate::actor::peers::actix_kit::ActixArbiters;
            $cases.push($function::<ActixArbiters>($($argument),*));
        }
    }};
}
pub(crate) use every_parallel_kit;

/// The workers' cores in scenarios in which nobody outside takes part: all of them.
pub fn workers(options: &Options) -> Vec<usize> {
    options.cores.clone()
}

/// The workers' cores in scenarios with threads outside: all but the last, which those threads share.
pub fn workers_and_outside(options: &Options) -> (Vec<usize>, usize) {
    let (outside, workers) = options.cores.split_last().expect("there is a core");
    match workers {
        [] => (vec![*outside], *outside),
        _ => (workers.to_vec(), *outside),
    }
}

/// The sum of the numbers below `count`: what every item's arrival once adds up to.
pub fn sum_below(count: u64) -> u64 {
    total(count, 1)
}

/// A case that starts a library, runs `body` in it and ends it; `body` takes the time it means.
pub fn case<K: Kit>(
    variant: impl Into<String>,
    cores: Vec<usize>,
    body: impl Fn(&K, Done, &Receiver<u64>) -> Sample + 'static,
) -> Case {
    let setup = Setup {
        cores,
        mailbox: MAILBOX,
    };
    case_with(variant, setup, body)
}

/// The same with mailboxes of another size.
pub fn case_with<K: Kit>(
    variant: impl Into<String>,
    setup: Setup,
    body: impl Fn(&K, Done, &Receiver<u64>) -> Sample + 'static,
) -> Case {
    let threads = Threads::yielding(setup.cores.iter().copied());
    Case::new(K::NAME, variant, threads, move || {
        // Whatever the library starts stays on these cores, also where it has no pinning of its own.
        let kit = if K::PINS {
            K::start(&setup)
        } else {
            pin::among(&setup.cores, || K::start(&setup))
        };
        let (done, finished) = channel();
        let sample = body(&kit, done, &finished);
        kit.stop();
        sample
    })
}

/// The reports of `count` actors, added up.
pub fn wait(finished: &Receiver<u64>, count: u64) -> u64 {
    (0..count).fold(0, |sum, _| {
        let report = finished
            .recv_timeout(DEADLINE)
            .expect("a message was lost: an actor never reported its end");
        sum.wrapping_add(report)
    })
}

/// Asks each of these idle actors for its number; the sum of the answers, each of which came once.
pub fn roll_call<K: Kit>(kit: &K, all: &[K::Ref], done: &Done, finished: &Receiver<u64>) -> u64 {
    all.iter()
        .for_each(|actor| kit.tell(actor, Msg::Report(done.clone())));
    wait(finished, all.len() as u64)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::actor::{Ops, Play, Role};

    /// Tells the core of its thread, if there is only one that it may use.
    struct Where(Done);

    impl<R> Play<R> for Where {
        fn on(&mut self, _: Msg<R>, _: &mut dyn Ops<R>) {
            let only = match pin::available()[..] {
                [core] => core as u64,
                _ => u64::MAX,
            };
            let _ = self.0.send(only);
        }
    }

    fn place<K: Kit>(core: usize) -> Case {
        case::<K>("one worker", vec![core], |kit, done, finished| {
            let actor = kit.spawn(Role::play(Where(done)));
            kit.tell(&actor, Msg::Go);
            Sample::time(Duration::ZERO, wait(finished, 1))
        })
    }

    #[test]
    fn every_library_runs_on_the_core_that_it_is_given() {
        let options = Options {
            peers: cfg!(feature = "peers"),
            ..Options::tiny()
        };
        for core in pin::available() {
            let mut cases = Vec::new();
            every_parallel_kit!(options, cases, place, core);
            for case in cases {
                let on = (case.run)().checksum;
                assert_eq!(on, core as u64, "{}", case.implementation);
            }
        }
    }
}
