//! `actor_rt` behind the common face.
#![forbid(unsafe_code)]

use std::sync::mpsc::Sender;
use std::time::Duration;

use actor_rt::{Actor, ActorRef, AsyncActor, AsyncContext, Context, Reply, Restart, System};

use super::{Kit, Msg, Ops, Role, Setup};
use crate::measure::OURS;
use crate::pin;

/// `actor_rt`.
pub struct Ours {
    pub(crate) system: System,
    mailbox: usize,
}

/// A system with a worker on each of these cores: worker `n` of a system has the `n`-th core that the thread that starts it
/// may use, in ascending order; also in a container with a quota of time, since the peers are pinned there, too. A system
/// that may use no other cores than its workers' would not wait for messages of threads, which might need them: so only other
/// cores than the first ones are asked for by taking the rest away.
pub fn system(cores: &[usize]) -> System {
    let build = || System::builder().workers(cores.len()).pin(true).build();
    let system = if pin::available().starts_with(cores) {
        build()
    } else {
        pin::among(cores, build)
    };
    system.expect("the system starts")
}

/// A reference to an actor of ours.
#[derive(Clone)]
pub struct OurRef(pub(crate) ActorRef<Msg<Self>>);

struct Node(Role<OurRef>);

impl Actor for Node {
    type Msg = Msg<OurRef>;

    #[inline]
    fn handle(&mut self, msg: Msg<OurRef>, ctx: &mut Context<'_, Self>) {
        self.0.on(msg, ctx);
    }
}

impl Ops<OurRef> for Context<'_, Node> {
    #[inline]
    fn tell(&mut self, to: &OurRef, msg: Msg<OurRef>) -> Result<(), Msg<OurRef>> {
        to.0.tell(msg).map_err(|refused| refused.into_message())
    }

    fn me(&mut self) -> OurRef {
        OurRef(Context::me(self))
    }

    fn spawn(&mut self, role: Role<OurRef>) -> OurRef {
        OurRef(Context::spawn(self, once(role)))
    }

    fn later(&mut self, after: Duration, msg: Msg<OurRef>) {
        self.after(after, msg);
    }

    fn stop(&mut self) {
        Context::stop(self);
    }
}

/// A factory for an actor that is never restarted.
fn once(role: Role<OurRef>) -> impl FnMut() -> Node + Send + 'static {
    let mut role = Some(role);
    move || Node(role.take().expect("never restarted"))
}

impl Kit for Ours {
    const NAME: &'static str = OURS;
    const PINS: bool = true;
    type Ref = OurRef;

    fn start(setup: &Setup) -> Self {
        Self {
            system: system(&setup.cores),
            mailbox: setup.mailbox,
        }
    }

    fn spawn(&self, role: Role<OurRef>) -> OurRef {
        OurRef(
            self.system
                .actor(once(role))
                .restart(Restart::never())
                .mailbox(self.mailbox)
                .spawn(),
        )
    }

    fn tell(&self, to: &OurRef, msg: Msg<OurRef>) {
        assert!(to.0.send_blocking(msg).is_ok(), "the actor has ended");
    }

    fn flood_batches(&self, to: &OurRef, from: u64, count: u64, batch: usize) {
        let mut waiting = Vec::with_capacity(batch);
        let end = from + count;
        for start in (from..end).step_by(batch) {
            waiting.extend((start..end.min(start + batch as u64)).map(Msg::Item));
            while !waiting.is_empty() {
                let sent = to.0.tell_batch(&mut waiting).expect("the actor lives");
                if sent == 0 {
                    std::thread::yield_now();
                }
            }
        }
    }

    fn ask(&self, count: u64, done: Sender<u64>) {
        let answerer = self.system.spawn(|| Answerer);
        let asker = self.system.spawn_async(move || Asker {
            answerer: answerer.clone(),
            done: done.clone(),
        });
        asker.tell(count).expect("the mailbox is empty");
    }

    fn stop(self) {
        self.system
            .shutdown(Duration::from_secs(60))
            .expect("every actor ends");
    }
}

struct Question(u64, Reply<u64>);

struct Answerer;

impl Actor for Answerer {
    type Msg = Question;

    fn handle(&mut self, msg: Question, _ctx: &mut Context<'_, Self>) {
        msg.1.send(msg.0);
    }
}

struct Asker {
    answerer: ActorRef<Question>,
    done: Sender<u64>,
}

impl AsyncActor for Asker {
    type Msg = u64;

    async fn handle(&mut self, count: u64, _ctx: &mut AsyncContext<Self>) {
        let mut sum = 0_u64;
        for number in 0..count {
            sum = sum.wrapping_add(
                self.answerer
                    .ask(|reply| Question(number, reply))
                    .await
                    .expect("an answer"),
            );
        }
        let _ = self.done.send(sum);
    }
}
