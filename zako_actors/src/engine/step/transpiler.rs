//! The transpiler as an actor: one per worker, so that files are transpiled on every core.
//!
//! Owns the messages. Does not know steps, caches or files.
//! Invariant: an answer depends on its message only; the arena is empty between messages.

use std::sync::Arc;

use actor_rt::{Actor, ActorRef, Context, Reply, System};

use crate::diagnostic::Diagnostic;
use crate::transpile::{ModuleSurvey, TranspileJob, TranspileOutput, Transpiler};

/// What a transpiler is asked.
pub enum TranspileMsg {
    /// What a file exports and asks for.
    Survey {
        /// Workspace-relative; its extension says the language.
        path: String,
        /// The text.
        source: Arc<str>,
        /// The answer.
        reply: Reply<ModuleSurvey>,
    },
    /// Transpile one file.
    Run(
        Box<TranspileJob>,
        Reply<Result<TranspileOutput, Vec<Diagnostic>>>,
    ),
}

/// A transpiler with a mailbox.
#[derive(Default)]
pub struct TranspileActor(Transpiler);

impl Actor for TranspileActor {
    type Msg = TranspileMsg;

    fn handle(&mut self, msg: TranspileMsg, _ctx: &mut Context<'_, Self>) {
        match msg {
            TranspileMsg::Survey {
                path,
                source,
                reply,
            } => {
                reply.send(self.0.survey(&path, &source));
            }
            TranspileMsg::Run(job, reply) => reply.send(self.0.transpile(&job)),
        }
    }
}

/// As many transpilers as the system has workers.
pub fn spawn_transpilers(system: &System, mailbox: usize) -> Vec<ActorRef<TranspileMsg>> {
    (0..system.workers())
        .map(|_| {
            system
                .actor(TranspileActor::default)
                .mailbox(mailbox)
                .spawn()
        })
        .collect()
}
