//! A build that is under way.
//!
//! Owns its beginning, its end, and the way between it and whoever carries its rules out. Does not know how a rule goes
//! on.
//! Invariant: what a finished build made is remembered, whatever came of the rest.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use actor_rt::{ActorRef, Ask, CancelGuard, Restart};

use super::{BuildError, BuildOptions, Session};
use crate::engine::action::Describer;
use crate::engine::build::{Build, BuildMsg, BuildResult, BuildSpec, Growth, News};
use crate::engine::cancel::Cancel;
use crate::engine::event::{Event, Stamped, Summary, micros};
use crate::engine::plan::{Plan, Planned, Read};
use crate::engine::process::{Leftovers, adopt_orphans};
use crate::engine::remote::Remote;
use crate::engine::sandbox::Readable;
use crate::engine::scratch::{Scratches, sweep};
use crate::engine::seats::Seats;
use crate::engine::services::{ServiceError, Services};
use crate::engine::step::{Claims, StepEnv, Strangers};
use crate::engine::worker::Workers;
use crate::lang::label::Label;
use crate::machine::{PoolSize, cpus};
use crate::transpile::TranspilerPool;

/// A build that is under way.
pub struct Running {
    plan: Arc<Plan>,
    env: Arc<StepEnv>,
    build: ActorRef<BuildMsg>,
    answer: Ask<BuildResult>,
    news: Listener,
    events: Sender<Stamped>,
    begin: Instant,
    cancel: Cancel,
    leftovers: Leftovers,
    _stop: CancelGuard,
}

/// Whoever listens to a build.
#[derive(Debug)]
struct Listener {
    news: Receiver<News>,
    /// Whether the build is over: it says so once.
    has_ended: bool,
}

impl Listener {
    /// All that is new, once there is something; nothing once the build is over.
    fn next(&mut self) -> Option<Vec<Read>> {
        if self.has_ended {
            return None;
        }
        let first = self.news.recv().ok()?;
        let mut written = Vec::new();
        for news in [first].into_iter().chain(self.news.try_iter()) {
            match news {
                News::Written(read) => written.push(read),
                News::Ended => self.has_ended = true,
            }
        }
        Some(written).filter(|written| !written.is_empty())
    }
}

impl Running {
    /// Waits for rules that may go on; each is told of once and to be answered by [`grow`](Self::grow). Nothing once the
    /// build is over.
    pub fn news(&mut self) -> Option<Vec<Read>> {
        self.news.next()
    }

    /// Whether the build was told to stop.
    pub fn is_cancelled(&self) -> bool {
        self.env.cancel.reason().is_some()
    }

    /// Has the build go on with what came of rules.
    pub fn grow(&mut self, growth: Growth) {
        if let Some(plan) = &growth.plan {
            self.env.claims.go_on(plan);
            self.plan = Arc::clone(plan);
            rest(&self.env, plan);
        }
        // A build that is gone has nobody to wait for.
        drop(self.build.tell(BuildMsg::Grow(Box::new(growth))));
    }

    /// Tells whoever follows the build.
    pub fn emit(&self, event: Event) {
        let time_us = micros(self.begin.elapsed());
        self.tell(Stamped { time_us, event });
    }

    /// Tells whoever follows the build of what happened at a time.
    pub fn tell(&self, stamped: Stamped) {
        // The reader may have gone.
        drop(self.events.send(stamped));
    }

    /// What ends it, and whatever is done for it.
    pub fn cancel(&self) -> &Cancel {
        &self.env.cancel
    }

    /// Everything that is planned.
    pub fn nodes(&self) -> &[Planned] {
        &self.plan.nodes
    }

    /// Who writes what.
    pub(super) fn claims(&self) -> &Claims {
        &self.env.claims
    }
}

impl Session {
    /// Carries a plan out. Blocks until it is done; `cancel` ends it sooner.
    ///
    /// # Errors
    /// When it cannot begin. Failed steps are no error: they are in the summary.
    pub fn build(
        &mut self,
        plan: Arc<Plan>,
        describer: Arc<Describer>,
        options: &BuildOptions,
        services: &Services,
        cancel: &Cancel,
        events: Sender<Stamped>,
    ) -> Result<Summary, BuildError> {
        let plan = (plan, Vec::new());
        let running = self.begin(plan, describer, options, services, cancel, events)?;
        self.end(running)
    }

    /// Begins to carry a plan out, in which the rules of some targets could not go on; `cancel` ends that sooner.
    ///
    /// # Errors
    /// When it cannot begin.
    pub fn begin(
        &mut self,
        (plan, mistaken): (Arc<Plan>, Vec<(Label, String)>),
        describer: Arc<Describer>,
        options: &BuildOptions,
        services: &Services,
        cancel: &Cancel,
        events: Sender<Stamped>,
    ) -> Result<Running, BuildError> {
        adopt_orphans();
        let leftovers = Leftovers::of_steps();
        self.known.files.look_anew();
        // Whatever lies there was left by a process that is gone: the lock is ours.
        sweep(&self.layout.scratch).map_err(|source| BuildError::Io {
            action: format!("empty {}", self.layout.scratch.display()),
            source,
        })?;
        let store = services.store()?.clone();
        let system = services.system().map_err(ServiceError::from)?;
        let remote = options
            .remote
            .as_ref()
            .map(|server| Remote::attach(&store, server, system.tokio()).map(Arc::new));
        let remote = remote.transpose()?;
        let PoolSize { max, idle, .. } = options.pool;
        // A step tells that it ended.
        let mailbox = plan.nodes.len().max(Seats::steps(options.jobs)) + 16;
        let (news, listener) = channel();
        let env = Arc::new(StepEnv {
            files: Arc::clone(&self.known.files),
            describer,
            store,
            scratches: Scratches::new(self.layout.scratch.clone()),
            keep_scratch: options.keep_scratch,
            force: options.force,
            overwrite: options.overwrite,
            repeat: options.repeat,
            remote,
            told_of_unsound: AtomicBool::new(false),
            sandbox: options.sandbox,
            readable: Readable::new(options.readable.clone()),
            // A failure ends this build, not what comes after it.
            cancel: cancel.below().map_err(|source| BuildError::Io {
                action: "make a signal".to_owned(),
                source,
            })?,
            edits: options.edits.clone(),
            seats: Seats::new(options.jobs),
            ledger: Arc::clone(self.ledger()),
            claims: Claims::of(Arc::clone(&plan)),
            strangers: Strangers::default(),
            records: Mutex::new(Arc::clone(&self.known.records)),
            known_to_git: OnceLock::new(),
            isolates: services.isolates_in_use().cloned(),
            reasons: Arc::clone(self.reasons()),
            locks: Arc::clone(&self.known.locks),
            // They compute all the time: more than there are CPUs would only take turns.
            transpilers: services
                .transpilers(|system| TranspilerPool::new(system, options.pool.at_most(cpus())))
                .map_err(ServiceError::from)?
                .clone(),
            workers: Workers::new(max, idle, system.tokio()),
            writers: cpus(),
        });
        let spec = Arc::new(BuildSpec {
            plan: Arc::clone(&plan),
            mistaken,
            env: Arc::clone(&env),
            records: Mutex::new(Arc::clone(&self.known.records)),
            jobs: options.jobs,
            capacity: options.capacity.clone(),
            keep_going: options.keep_going,
            events: events.clone(),
            news,
            engine: options.engine.clone(),
            begin: options.begin,
        });
        let build = system
            .actor(move || Build::new(Arc::clone(&spec)))
            .name("build")
            .mailbox(mailbox)
            .restart(Restart::never())
            .spawn();
        rest(&env, &plan);
        let answer = build.ask(BuildMsg::Run);
        let stopper = build.clone();
        let stop = cancel
            .token()
            .on_cancel(move || drop(stopper.tell(BuildMsg::Stop)));
        Ok(Running {
            plan,
            env,
            build,
            answer,
            news: Listener {
                news: listener,
                has_ended: false,
            },
            events,
            begin: options.begin,
            cancel: cancel.clone(),
            leftovers,
            _stop: stop,
        })
    }

    /// Waits for the end of a build, and remembers what it made.
    ///
    /// # Errors
    /// When the build was lost. Failed steps are no error: they are in the summary.
    pub fn end(&mut self, running: Running) -> Result<Summary, BuildError> {
        let Running {
            plan,
            env,
            answer,
            cancel,
            leftovers,
            ..
        } = running;
        let result = answer.wait();
        env.workers.end();
        leftovers.kill();
        let mut result = result.map_err(|_| BuildError::Lost)?;
        if let Some(remote) = &env.remote {
            remote.finish(&cancel);
        }
        self.heed_doubts(&env.claims.doubts(), &plan, &mut result);
        drop(env);
        self.note_left(&result);
        let made = result.records.iter().map(|(label, _)| label);
        let made = made.filter(|_| !self.leftovers().is_empty());
        let made: Vec<Label> = made.cloned().collect();
        Arc::make_mut(&mut self.known.records).extend(result.records);
        self.remove_left(&plan, &made);
        let records = &self.known.records;
        self.changed = true;
        if !result.runs.is_empty() {
            let graph = &plan.graph;
            let mut reasons = self.known.reasons.take().unwrap_or_default();
            // The steps of this build have ended, so that this is the only owner, or copies once.
            // A rule that has yet to describe a target again leaves its record.
            Arc::make_mut(&mut reasons).merge(result.runs, |label| {
                graph.contains(label) || records.contains_key(label)
            });
            match reasons.save(&self.layout.reasons) {
                Ok(()) => drop(self.known.reasons.set(reasons)),
                // Known is what is on disk; it is read again when it is needed.
                Err(error) => {
                    tracing::warn!("`zako why` will not know about this build: {error}");
                }
            }
        }
        Ok(result.summary)
    }
}

/// Has isolates give back the memory that they keep for the next script, while steps run: none comes where all rules have said
/// everything.
fn rest(env: &StepEnv, plan: &Plan) {
    if let Some(isolates) = env.isolates.as_ref().filter(|_| plan.left.is_empty()) {
        isolates.collect_garbage();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hears_of_the_end_together_with_news_does_not_wait_for_it_again() {
        let (tell, news) = channel();
        let mut listener = Listener {
            news,
            has_ended: false,
        };
        let read = Read {
            target: Label::new("", "a").unwrap(),
            writers: Vec::new(),
        };
        tell.send(News::Written(read.clone())).unwrap();
        tell.send(News::Ended).unwrap();
        assert_eq!(listener.next(), Some(vec![read]));
        assert_eq!(listener.next(), None, "whoever tells is still there");
    }
}
