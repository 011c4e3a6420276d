//! What the README promises: telling, asking, backpressure, ending, from outside.

use actor_rt::{
    Actor, ActorRef, Ask, AskError, AsyncActor, AsyncContext, Context, ExitReason, Overflow,
    Placement, Reply, System, TellError,
};
use std::rc::Rc;
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

struct Counter {
    total: u64,
}

enum Msg {
    Add(u64),
    Total(Reply<u64>),
    Meet(Arc<Barrier>),
    Stop,
    Ignore(Reply<()>),
}

impl Actor for Counter {
    type Msg = Msg;
    fn handle(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) {
        match msg {
            Msg::Add(n) => self.total += n,
            Msg::Total(reply) => reply.send(self.total),
            Msg::Meet(barrier) => {
                barrier.wait();
            }
            Msg::Stop => ctx.stop(),
            Msg::Ignore(reply) => drop(reply),
        }
    }
}

fn counter() -> Counter {
    Counter { total: 0 }
}

fn total(actor: &ActorRef<Msg>) -> u64 {
    actor
        .ask(Msg::Total)
        .timeout(LONG)
        .wait()
        .expect("an answer")
}

#[test]
fn tells_are_handled_and_asks_answered() {
    let system = System::new().expect("threads");
    let actor = system.spawn(counter);
    for n in 1..=100 {
        actor.tell(Msg::Add(n)).expect("room");
    }
    assert_eq!(total(&actor), 5050);
    system.shutdown(LONG).expect("everything ends");
    assert_eq!(actor.join(), ExitReason::Stopped);
    assert!(matches!(
        actor.tell(Msg::Add(1)),
        Err(TellError::Closed(Msg::Add(1)))
    ));
    assert_eq!(actor.ask(Msg::Total).wait(), Err(AskError::Closed));
}

#[test]
fn many_threads_and_one_actor_lose_nothing() {
    let system = System::new().expect("threads");
    let actor = system.actor(counter).mailbox(100).spawn();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50_000 {
                    actor.send_blocking(Msg::Add(1)).expect("open");
                }
            });
        }
    });
    assert_eq!(total(&actor), 200_000);
    system.shutdown(LONG).expect("everything ends");
}

#[test]
fn a_full_mailbox_hands_the_message_back_and_the_bound_is_exact() {
    let system = System::new().expect("threads");
    for bound in [1, 2, 3, 16, 17, 100] {
        let actor = system
            .actor(counter)
            .mailbox(bound)
            .overflow(Overflow::Fail)
            .spawn();
        let barrier = Arc::new(Barrier::new(2));
        actor.tell(Msg::Meet(Arc::clone(&barrier))).expect("room");
        // A message that is being handled takes no room in a small mailbox, and its own place in any other.
        let small = bound < 8;
        while small && actor.queued() > 0 {
            std::thread::yield_now();
        }
        let mut accepted = 0;
        while actor.tell(Msg::Add(1)).is_ok() {
            accepted += 1;
        }
        assert_eq!(accepted, if small { bound } else { bound - 1 });
        assert!(matches!(
            actor.tell(Msg::Add(9)),
            Err(TellError::Full(Msg::Add(9)))
        ));
        barrier.wait();
        actor.drain();
        assert_eq!(actor.join(), ExitReason::Drained);
        assert_eq!(actor.handled(), accepted as u64 + 1);
    }
    system.shutdown(LONG).expect("everything ends");
}

#[test]
fn a_batch_goes_in_as_far_as_there_is_room() {
    let system = System::new().expect("threads");
    let actor = system.actor(counter).mailbox(1000).spawn();
    let mut batch: Vec<_> = (0..600).map(|_| Msg::Add(1)).collect();
    assert_eq!(actor.tell_batch(&mut batch).expect("open"), 600);
    assert!(batch.is_empty());
    assert_eq!(total(&actor), 600);
    system.shutdown(LONG).expect("everything ends");
    batch.push(Msg::Add(1));
    assert!(matches!(
        actor.tell_batch(&mut batch),
        Err(TellError::Closed(()))
    ));
    assert_eq!(batch.len(), 1);
}

#[test]
fn a_question_that_is_dropped_has_no_reply() {
    let system = System::new().expect("threads");
    let actor = system.spawn(counter);
    assert_eq!(
        actor.ask(Msg::Ignore).timeout(LONG).wait(),
        Err(AskError::NoReply)
    );
    system.shutdown(LONG).expect("everything ends");
}

#[test]
fn stopping_itself_leaves_the_rest_as_dead_letters() {
    let (sender, receiver) = mpsc::channel();
    let system = System::builder()
        .on_dead_letter(move |letter| {
            sender.send(letter.actor.clone()).expect("the test listens");
        })
        .build()
        .expect("threads");
    let actor = system.actor(counter).name("quitter").spawn();
    let mut batch = vec![Msg::Add(1), Msg::Stop, Msg::Add(2), Msg::Add(3)];
    assert_eq!(actor.tell_batch(&mut batch).expect("open"), 4);
    assert_eq!(actor.join(), ExitReason::Stopped);
    assert_eq!(actor.handled(), 2);
    assert_eq!(receiver.recv().expect("a dead letter"), "quitter");
    assert_eq!(receiver.recv().expect("a dead letter"), "quitter");
    system.shutdown(LONG).expect("everything ends");
    assert_eq!(system.stats().dead_letters, 2);
}

struct Local {
    text: Rc<str>,
}

impl Actor for Local {
    type Msg = Reply<usize>;
    fn handle(&mut self, reply: Reply<usize>, _ctx: &mut Context<'_, Self>) {
        reply.send(self.text.len());
    }
}

#[test]
fn a_dedicated_actor_keeps_what_is_not_send() {
    let system = System::new().expect("threads");
    let local = system.spawn_dedicated(|| Local {
        text: "four".into(),
    });
    for _ in 0..1000 {
        assert_eq!(local.ask(|reply| reply).timeout(LONG).wait(), Ok(4));
    }
    local.drain();
    assert_eq!(local.join(), ExitReason::Drained);
    system.shutdown(LONG).expect("everything ends");
}

struct Relay {
    next: ActorRef<Msg>,
}

impl AsyncActor for Relay {
    type Msg = Reply<u64>;
    async fn handle(&mut self, reply: Reply<u64>, _ctx: &mut AsyncContext<Self>) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.next.send(Msg::Add(1)).await.expect("open");
        if let Ok(total) = self.next.ask(Msg::Total).await {
            reply.send(total);
        }
    }
}

#[test]
fn an_async_actor_awaits_timers_asks_and_space() {
    let system = System::new().expect("threads");
    let actor = system.actor(counter).mailbox(2).spawn();
    let relay = system.spawn_async(move || Relay {
        next: actor.clone(),
    });
    for n in 1..=20 {
        assert_eq!(relay.ask(|reply| reply).timeout(LONG).wait(), Ok(n));
    }
    system.shutdown(LONG).expect("everything ends");
}

#[test]
fn an_async_actor_is_killed_where_it_awaits() {
    struct Stuck(mpsc::Sender<ExitReason>);
    impl AsyncActor for Stuck {
        type Msg = mpsc::Sender<()>;
        async fn handle(&mut self, begun: mpsc::Sender<()>, _ctx: &mut AsyncContext<Self>) {
            begun.send(()).expect("the test listens");
            std::future::pending::<()>().await;
        }
        fn stopped(&mut self, reason: &ExitReason) {
            self.0.send(reason.clone()).expect("the test listens");
        }
    }
    let system = System::new().expect("threads");
    let (reasons, reason) = mpsc::channel();
    let stuck = system.spawn_async(move || Stuck(reasons.clone()));
    let (sender, begun) = mpsc::channel();
    stuck.tell(sender).expect("room");
    begun.recv().expect("the handler runs");
    stuck.kill();
    assert_eq!(stuck.join(), ExitReason::Killed);
    assert_eq!(reason.recv(), Ok(ExitReason::Killed));
    system.shutdown(LONG).expect("everything ends");
}

#[test]
fn an_async_handler_is_dropped_by_stop_and_finished_by_drain() {
    struct Patient(mpsc::Sender<&'static str>);
    impl AsyncActor for Patient {
        type Msg = Ask<()>;
        async fn handle(&mut self, word: Ask<()>, _ctx: &mut AsyncContext<Self>) {
            self.0.send("begun").expect("the test listens");
            if word.await.is_ok() {
                self.0.send("finished").expect("the test listens");
            }
        }
        fn stopped(&mut self, _reason: &ExitReason) {
            self.0.send("stopped").expect("the test listens");
        }
    }
    let system = System::new().expect("threads");
    for drain in [false, true] {
        let (events, seen) = mpsc::channel();
        let patient = system.spawn_async(move || Patient(events.clone()));
        let (reply, word) = Reply::pair();
        patient.tell(word).expect("room");
        assert_eq!(seen.recv_timeout(LONG), Ok("begun"));
        if drain {
            patient.drain();
            reply.send(());
            assert_eq!(seen.recv_timeout(LONG), Ok("finished"));
        } else {
            patient.stop_within(LONG);
        }
        assert_eq!(seen.recv_timeout(LONG), Ok("stopped"));
    }
    system.shutdown(LONG).expect("everything ends");
}

#[test]
fn names_are_found_by_their_message_type_and_freed_at_the_end() {
    let system = System::new().expect("threads");
    let actor = system.actor(counter).name("tally").spawn();
    assert_eq!(system.lookup::<Msg>("tally"), Some(actor.clone()));
    assert_eq!(system.lookup::<u8>("tally"), None);
    assert_eq!(system.lookup::<Msg>("other"), None);
    actor.stop();
    actor.join();
    assert_eq!(system.lookup::<Msg>("tally"), None);
    system.shutdown(LONG).expect("everything ends");
}

#[test]
fn a_placed_actor_stays_on_its_worker() {
    struct Where;
    impl Actor for Where {
        type Msg = Reply<Option<String>>;
        fn handle(&mut self, reply: Self::Msg, _ctx: &mut Context<'_, Self>) {
            reply.send(std::thread::current().name().map(str::to_owned));
        }
    }
    let system = System::builder()
        .workers(3)
        .pin(false)
        .name("w")
        .build()
        .expect("threads");
    let placed = system.actor(|| Where).on(Placement::Core(2)).spawn();
    for _ in 0..200 {
        let place = placed
            .ask(|reply| reply)
            .timeout(LONG)
            .wait()
            .expect("an answer");
        assert_eq!(place.as_deref(), Some("w-2"));
    }
    let place_of = |placement| {
        let placed = system.actor(|| Where).on(placement).spawn();
        let place = placed.ask(|reply| reply).timeout(LONG).wait();
        place.expect("an answer").expect("workers have names")
    };
    // A node that does not exist places nothing.
    assert!(place_of(Placement::Node(77)).starts_with("w-"));
    // Without pinning every worker is of node 0, and whoever has fewest placed actors gets the next one, however
    // many others come in between.
    let mut places = Vec::new();
    for _ in 0..5 {
        places.push(place_of(Placement::Node(0)));
        place_of(Placement::Anywhere);
    }
    places.sort();
    assert_eq!(places, ["w-0", "w-0", "w-1", "w-1", "w-2"]);
    system.shutdown(LONG).expect("everything ends");
}

#[test]
fn spawning_in_a_system_that_has_ended_gives_an_actor_that_has_ended() {
    let system = System::new().expect("threads");
    system.shutdown(LONG).expect("nothing runs");
    let late = system.spawn(counter);
    assert_eq!(late.join(), ExitReason::Killed);
    assert!(matches!(late.tell(Msg::Add(1)), Err(TellError::Closed(_))));
}

#[test]
fn dropping_the_last_handle_stops_everything() {
    let system = System::new().expect("threads");
    let actor = system.spawn(counter);
    drop(system);
    assert_eq!(actor.join(), ExitReason::Stopped);
}
