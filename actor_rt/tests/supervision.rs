//! Failing, restarting, escalating, and the order in which families end.

use actor_rt::{
    Actor, ActorRef, AskError, AsyncActor, AsyncContext, Context, ExitReason, Failure, Reply,
    Restart, System,
};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

#[derive(Debug, PartialEq, Eq, Clone)]
enum Event {
    Made(u32),
    Stopped(u32, ExitReason),
}

struct Fragile {
    incarnation: u32,
    handled: u32,
    events: Sender<Event>,
}

enum Msg {
    Count(Reply<(u32, u32)>),
    Panic,
    Fail,
}

impl Actor for Fragile {
    type Msg = Msg;
    fn handle(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) {
        self.handled += 1;
        match msg {
            Msg::Count(reply) => reply.send((self.incarnation, self.handled)),
            Msg::Panic => panic!("as told"),
            Msg::Fail => ctx.fail(Failure::new("in words")),
        }
    }
    fn stopped(&mut self, reason: &ExitReason) {
        self.events
            .send(Event::Stopped(self.incarnation, reason.clone()))
            .expect("the test listens");
    }
}

fn fragile() -> (impl FnMut() -> Fragile + Send + 'static, Receiver<Event>) {
    let (events, receiver) = channel();
    let mut incarnation = 0;
    let factory = move || {
        incarnation += 1;
        events
            .send(Event::Made(incarnation))
            .expect("the test listens");
        Fragile {
            incarnation,
            handled: 0,
            events: events.clone(),
        }
    };
    (factory, receiver)
}

fn panicked() -> ExitReason {
    ExitReason::Panicked(Failure::new("as told"))
}

#[test]
fn a_restart_keeps_the_mailbox_and_the_reference() {
    let system = System::new().expect("threads");
    let (factory, events) = fragile();
    let actor = system.actor(factory).spawn();
    let (first, ask_first) = Reply::pair();
    let (second, ask_second) = Reply::pair();
    let mut batch = vec![Msg::Panic, Msg::Count(first), Msg::Fail, Msg::Count(second)];
    assert_eq!(actor.tell_batch(&mut batch).expect("open"), 4);
    assert_eq!(ask_first.timeout(LONG).wait(), Ok((2, 1)));
    assert_eq!(ask_second.timeout(LONG).wait(), Ok((3, 1)));
    actor.stop();
    assert_eq!(actor.join(), ExitReason::Stopped);
    let seen: Vec<_> = events.try_iter().collect();
    assert_eq!(
        seen,
        [
            Event::Made(1),
            Event::Stopped(1, panicked()),
            Event::Made(2),
            Event::Stopped(2, ExitReason::Failed(Failure::new("in words"))),
            Event::Made(3),
            Event::Stopped(3, ExitReason::Stopped),
        ]
    );
    system.shutdown(LONG).expect("everything ends");
    assert_eq!((system.stats().failures, system.stats().restarts), (2, 2));
}

#[test]
fn an_actor_that_fails_too_often_ends_and_its_mail_is_dead() {
    let system = System::new().expect("threads");
    let (factory, events) = fragile();
    let policy = Restart::on_failure()
        .at_most(2, LONG)
        .backoff(Duration::from_millis(1), LONG);
    let actor = system.actor(factory).restart(policy).spawn();
    let mut batch = vec![Msg::Panic, Msg::Panic, Msg::Panic, Msg::Panic];
    assert_eq!(actor.tell_batch(&mut batch).expect("open"), 4);
    assert_eq!(actor.join(), panicked());
    assert_eq!(
        events
            .try_iter()
            .filter(|event| matches!(event, Event::Made(_)))
            .count(),
        3
    );
    assert_eq!(system.stats().dead_letters, 1);
    system.shutdown(LONG).expect("everything ends");
}

struct Parent {
    events: Sender<&'static str>,
    child: Option<ActorRef<bool>>,
}

struct Child {
    events: Sender<&'static str>,
}

impl Actor for Child {
    type Msg = bool;
    fn handle(&mut self, fail: bool, _ctx: &mut Context<'_, Self>) {
        assert!(!fail, "as told");
    }
    fn stopped(&mut self, _reason: &ExitReason) {
        self.events.send("child stopped").expect("the test listens");
    }
}

impl Actor for Parent {
    type Msg = Reply<ActorRef<bool>>;
    fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
        self.events
            .send("parent started")
            .expect("the test listens");
        let events = self.events.clone();
        let policy = Restart::never().or_escalate();
        let child = ctx
            .actor(move || Child {
                events: events.clone(),
            })
            .restart(policy)
            .spawn();
        self.child = Some(child);
        Ok(())
    }
    fn handle(&mut self, reply: Self::Msg, ctx: &mut Context<'_, Self>) {
        assert_eq!(ctx.children(), 1);
        if let Some(child) = &self.child {
            reply.send(child.clone());
        }
    }
    fn stopped(&mut self, _reason: &ExitReason) {
        self.events
            .send("parent stopped")
            .expect("the test listens");
    }
}

#[test]
fn children_end_before_their_parent() {
    for end in [ActorRef::stop, ActorRef::drain, ActorRef::kill] {
        let system = System::new().expect("threads");
        let (events, seen) = channel();
        let parent = system.spawn(move || Parent {
            events: events.clone(),
            child: None,
        });
        let child = parent
            .ask(|reply| reply)
            .timeout(LONG)
            .wait()
            .expect("an answer");
        child.tell(false).expect("room");
        while child.handled() == 0 {
            // An actor that was never made has nothing to stop.
            std::thread::yield_now();
        }
        end(&parent);
        parent.join();
        assert!(child.is_closed());
        let seen: Vec<_> = seen.try_iter().collect();
        assert_eq!(seen, ["parent started", "child stopped", "parent stopped"]);
        system.shutdown(LONG).expect("everything ends");
    }
}

#[test]
fn an_escalated_failure_restarts_the_parent_with_a_new_child() {
    let system = System::new().expect("threads");
    let (events, seen) = channel();
    let parent = system.spawn(move || Parent {
        events: events.clone(),
        child: None,
    });
    let child = parent
        .ask(|reply| reply)
        .timeout(LONG)
        .wait()
        .expect("an answer");
    child.tell(true).expect("room");
    child.join();
    for expected in [
        "parent started",
        "child stopped",
        "parent stopped",
        "parent started",
    ] {
        assert_eq!(seen.recv_timeout(LONG), Ok(expected));
    }
    let second = parent
        .ask(|reply| reply)
        .timeout(LONG)
        .wait()
        .expect("an answer");
    assert_ne!(child, second);
    system.shutdown(LONG).expect("everything ends");
}

#[test]
fn stopped_always_runs_even_when_everything_panics() {
    struct Doomed(Sender<()>);
    impl Actor for Doomed {
        type Msg = ();
        fn started(&mut self, _ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
            Err("not today".parse::<u8>().expect_err("no number").into())
        }
        fn handle(&mut self, (): (), _ctx: &mut Context<'_, Self>) {}
        fn stopped(&mut self, reason: &ExitReason) {
            assert!(reason.is_failure());
            self.0.send(()).expect("the test listens");
            panic!("in the hook as well");
        }
    }
    let system = System::new().expect("threads");
    let (sender, stopped) = channel();
    let policy = Restart::on_failure().at_most(1, LONG);
    let doomed = system
        .actor(move || Doomed(sender.clone()))
        .restart(policy)
        .spawn();
    assert!(matches!(doomed.join(), ExitReason::Failed(_)));
    assert_eq!(stopped.try_iter().count(), 2);
    system.shutdown(LONG).expect("everything ends");
}

#[test]
fn an_async_actor_restarts_after_a_panic_behind_an_await() {
    struct Fickle(u32);
    impl AsyncActor for Fickle {
        type Msg = Option<Reply<u32>>;
        async fn handle(&mut self, msg: Self::Msg, _ctx: &mut AsyncContext<Self>) {
            tokio::task::yield_now().await;
            msg.expect("a question").send(self.0);
        }
    }
    let system = System::new().expect("threads");
    let mut incarnation = 0;
    let fickle = system.spawn_async(move || {
        incarnation += 1;
        Fickle(incarnation)
    });
    fickle.tell(None).expect("room");
    assert_eq!(fickle.ask(Some).timeout(LONG).wait(), Ok(2));
    system.shutdown(LONG).expect("everything ends");
}

#[test]
fn a_factory_that_panics_counts_as_a_failure() {
    let system = System::new().expect("threads");
    let actor = system
        .actor(|| -> Fragile { panic!("no actor today") })
        .restart(Restart::never())
        .spawn();
    assert_eq!(
        actor.join(),
        ExitReason::Panicked(Failure::new("no actor today"))
    );
    system.shutdown(LONG).expect("everything ends");
}

/// The question that a handler fails at, and those behind it in the same batch.
#[test]
fn a_failure_answers_its_own_question_with_an_error_and_no_other() {
    struct Strict;
    impl Actor for Strict {
        type Msg = (u32, Reply<u32>);
        fn handle(&mut self, (number, reply): Self::Msg, _ctx: &mut Context<'_, Self>) {
            assert!(!number.is_multiple_of(5), "as told");
            reply.send(number);
        }
    }
    let system = System::builder().workers(2).build().expect("threads");
    let strict = system
        .actor(|| Strict)
        .restart(
            Restart::on_failure()
                .at_most(1000, LONG)
                .backoff(Duration::ZERO, Duration::ZERO),
        )
        .spawn();
    for round in 0..50 {
        let answers: Vec<_> = (1..=16)
            .map(|number| strict.ask(move |reply| (number, reply)))
            .collect();
        for (number, answer) in (1..=16).zip(answers) {
            let expected = if number % 5 == 0 {
                Err(AskError::NoReply)
            } else {
                Ok(number)
            };
            assert_eq!(answer.timeout(LONG).wait(), expected, "round {round}");
        }
    }
    assert_eq!(system.stats().panics, 150);
    system.shutdown(LONG).expect("everything ends");
}
