//! Work that is waited for elsewhere and comes back as a message.
//!
//! Owns: the child that waits. It is an asynchronous actor, so it is polled by the workers, ends with its
//! parent's incarnation, and its panic is its parent's failure.
//! Does not know: what is waited for.

use crate::actor::AsyncActor;
use crate::builder::ActorBuilder;
use crate::cell::CellPtr;
use crate::context::AsyncContext;
use crate::exit::Failure;
use crate::restart::Restart;
use crate::timer;
use std::future::Future;
use std::panic::resume_unwind;

struct Waiting<F, M> {
    /// Present until it is being waited for.
    job: Option<(F, M)>,
    parent: CellPtr,
}

impl<F, M, T, R> AsyncActor for Waiting<F, M>
where
    F: Future<Output = T> + Send + 'static,
    M: FnOnce(T) -> R + Send + 'static,
    T: Send + 'static,
    R: Send + 'static,
{
    type Msg = ();

    async fn started(&mut self, ctx: &mut AsyncContext<Self>) -> Result<(), Failure> {
        if let Some((future, make)) = self.job.take() {
            let output = future.await;
            // The parent does not end before its children.
            timer::deliver(self.parent, make(output));
        }
        ctx.stop();
        Ok(())
    }

    async fn handle(&mut self, (): (), _ctx: &mut AsyncContext<Self>) {}
}

/// Awaits `future` and sends the actor what `make` builds from its output.
pub(crate) fn pipe<F, T, R>(parent: CellPtr, future: F, make: impl FnOnce(T) -> R + Send + 'static)
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
    R: Send + 'static,
{
    let mut job = Some((future, make));
    let factory = move || Waiting {
        job: job.take(),
        parent,
    };
    ActorBuilder::new(&parent.runtime, Some(parent), factory)
        .errand()
        .mailbox(1)
        .restart(Restart::never().or_escalate())
        .spawn_async();
}

/// Runs `work` on a thread that may block and sends the actor what `make` builds from its output.
pub(crate) fn blocking<T, R>(
    parent: CellPtr,
    work: impl FnOnce() -> T + Send + 'static,
    make: impl FnOnce(T) -> R + Send + 'static,
) where
    T: Send + 'static,
    R: Send + 'static,
{
    let job = parent.runtime.io().handle().spawn_blocking(work);
    let output = async {
        match job.await {
            Ok(output) => output,
            Err(failed) => match failed.try_into_panic() {
                Ok(payload) => resume_unwind(payload),
                Err(failed) => panic!("the blocking work did not run: {failed}"),
            },
        }
    };
    pipe(parent, output, make);
}
