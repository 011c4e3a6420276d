//! Transpilers as actors.
//!
//! Owns: the messages, and a fixed set of transpilers that share the work.
//! Does not know: where sources come from.
//! Invariant: every request is answered, or its reply is dropped (the asker sees `NoReply`).

use std::sync::Arc;

use actor_rt::{Actor, ActorRef, Ask, Context, Reply, System};

use crate::diagnostic::Diagnostic;

use super::{ModuleSurvey, TranspileJob, TranspileOutput, Transpiler};
use crate::pool::Pool;

/// What a transpiler answers to a job.
pub type TranspileResult = Result<TranspileOutput, Vec<Diagnostic>>;

/// Messages of a [`Transpiler`].
pub enum TranspileMsg {
    /// Transpile one file.
    Run(Box<TranspileJob>, Reply<TranspileResult>),
    /// Survey one file, given as path and source, for a [`super::ModuleIndex`].
    Survey(String, Arc<str>, Reply<ModuleSurvey>),
    /// Give memory back.
    Gc,
}

impl Actor for Transpiler {
    type Msg = TranspileMsg;

    fn handle(&mut self, msg: TranspileMsg, _ctx: &mut Context<'_, Self>) {
        match msg {
            TranspileMsg::Run(job, reply) => {
                if !reply.is_abandoned() {
                    reply.send(self.transpile(&job));
                }
            }
            TranspileMsg::Survey(path, source, reply) => {
                if !reply.is_abandoned() {
                    reply.send(self.survey(&path, &source));
                }
            }
            TranspileMsg::Gc => self.gc(),
        }
    }
}

/// A target's files are all asked for at once.
const MAILBOX: usize = 1 << 16;

/// As many transpilers as a system has workers.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use zako_actors::transpile::{TranspileJob, TranspilerPool};
/// let system = actor_rt::System::new()?;
/// let pool = TranspilerPool::new(&system, system.workers());
/// let out = pool.run(TranspileJob::new("a.ts", "let a: number = 1;")).wait()?;
/// assert_eq!(out.unwrap().code, "let a = 1;\n");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TranspilerPool {
    transpilers: Arc<Pool<TranspileMsg>>,
}

impl TranspilerPool {
    /// A pool of `size` transpilers (at least one).
    pub fn new(system: &System, size: usize) -> Self {
        let transpilers = Pool::new(size, |index| {
            let name = format!("zako/transpiler/{index}");
            system
                .actor(Transpiler::new)
                .name(name)
                .mailbox(MAILBOX)
                .spawn()
        });
        Self {
            transpilers: Arc::new(transpilers),
        }
    }

    /// The next transpiler.
    pub fn next(&self) -> &ActorRef<TranspileMsg> {
        self.transpilers.next()
    }

    /// Transpiles one file on the least busy transpiler.
    pub fn run(&self, job: TranspileJob) -> Ask<TranspileResult> {
        self.next()
            .ask(|reply| TranspileMsg::Run(Box::new(job), reply))
    }

    /// Surveys one file on the least busy transpiler.
    pub fn survey(&self, path: String, source: Arc<str>) -> Ask<ModuleSurvey> {
        self.next()
            .ask(|reply| TranspileMsg::Survey(path, source, reply))
    }

    /// Tells every transpiler to give memory back.
    pub fn gc(&self) {
        for transpiler in self.transpilers.iter() {
            // A full mailbox means that the transpiler is busy: it keeps its memory for now.
            let _ = transpiler.tell(TranspileMsg::Gc);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_answers_everything_also_mistakes() {
        let system = System::builder().workers(2).build().unwrap();
        let pool = TranspilerPool::new(&system, 2);
        let asks: Vec<_> = (0..20)
            .map(|n| pool.run(TranspileJob::new("a.ts", format!("let a: number = {n};"))))
            .collect();
        for (n, ask) in asks.into_iter().enumerate() {
            assert_eq!(ask.wait().unwrap().unwrap().code, format!("let a = {n};\n"));
        }
        let mistakes = pool
            .run(TranspileJob::new("a.ts", "let = ;"))
            .wait()
            .unwrap()
            .unwrap_err();
        assert!(!mistakes.is_empty());
        pool.gc();
        let survey = pool
            .survey("a.ts".to_owned(), "export type A = 1;".into())
            .wait()
            .unwrap();
        assert_ne!(survey, ModuleSurvey::default());
    }
}
