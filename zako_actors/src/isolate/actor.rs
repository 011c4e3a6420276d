//! Isolates as actors.
//!
//! Owns: the messages, and a fixed set of isolates that share the work.
//! Does not know: how an evaluation runs.
//! Invariants: an isolate has a thread of its own (V8's isolates never leave theirs); every
//! request is answered, or its reply is dropped (the asker sees `NoReply`).

use std::sync::Arc;

use actor_rt::{Actor, ActorRef, Ask, Context, Failure, Reply, System};

use crate::pool::Pool;

use super::{EvaluateError, EvaluateRequest, Evaluation, Evaluator};

/// Messages of an [`Isolate`].
pub enum IsolateMsg {
    /// Evaluate one entry file.
    Evaluate(
        Box<EvaluateRequest>,
        Reply<Result<Evaluation, EvaluateError>>,
    ),
}

/// An evaluator on its own thread: spawn it with `spawn_dedicated`.
#[derive(Default)]
pub struct Isolate {
    evaluator: Option<Evaluator>,
}

impl Isolate {
    /// An isolate that makes its evaluator when it starts, on its thread.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Actor for Isolate {
    type Msg = IsolateMsg;

    fn started(&mut self, _ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
        self.evaluator = Some(Evaluator::new()?);
        Ok(())
    }

    fn handle(&mut self, msg: IsolateMsg, _ctx: &mut Context<'_, Self>) {
        let IsolateMsg::Evaluate(request, reply) = msg;
        if reply.is_abandoned() {
            return;
        }
        if let Some(evaluator) = &mut self.evaluator {
            reply.send(evaluator.evaluate(&request));
        }
    }
}

/// Isolates that share the work. Each costs a thread, and memory only while it evaluates.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use zako_actors::isolate::{ContextKind, EvaluateRequest, IsolatePool};
/// let workspace = tempfile::tempdir()?;
/// std::fs::write(workspace.path().join("BUILD.ts"), "export default { a: 1 };")?;
/// let system = actor_rt::System::new()?;
/// let pool = IsolatePool::new(&system, 2);
/// let request = EvaluateRequest::new(workspace.path(), "BUILD.ts", ContextKind::Build);
/// assert_eq!(pool.evaluate(request).wait()??.value["a"], 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct IsolatePool {
    isolates: Arc<Pool<IsolateMsg>>,
}

/// A workspace's build files are all asked for at once.
const MAILBOX: usize = 1 << 16;

impl IsolatePool {
    /// A pool of `size` isolates (at least one).
    pub fn new(system: &System, size: usize) -> Self {
        let isolates = Pool::new(size, |index| {
            let name = format!("zako/isolate/{index}");
            system
                .actor(Isolate::new)
                .name(name)
                .mailbox(MAILBOX)
                .spawn_dedicated()
        });
        Self {
            isolates: Arc::new(isolates),
        }
    }

    /// The next isolate.
    pub fn next(&self) -> &ActorRef<IsolateMsg> {
        self.isolates.next()
    }

    /// Evaluates one entry file on the least busy isolate.
    pub fn evaluate(&self, request: EvaluateRequest) -> Ask<Result<Evaluation, EvaluateError>> {
        self.next()
            .ask(|reply| IsolateMsg::Evaluate(Box::new(request), reply))
    }
}
