//! What programs are put together from: groups, machines, arenas, pipes, tracing links.

use actor_rt::testkit::{Probe, Simulation, each_seed};
use actor_rt::{
    Actor, ActorRef, AskError, Context, ExitReason, Failure, Machine, Next, Recipient, Reply,
    System, TellError, Topic, Traced,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

fn all<M: Send + 'static>(probe: &Probe<M>) -> Vec<M> {
    std::iter::from_fn(|| probe.received()).collect()
}

#[test]
fn a_group_tells_all_or_any_and_those_who_end_leave() {
    let simulation = Simulation::new(1);
    let system = simulation.system();
    let probes: Vec<_> = (0..3).map(|_| Probe::<u8>::new(system)).collect();
    let group = system.group::<u8>("workers");
    for probe in &probes {
        assert!(group.join(probe.actor()));
        assert!(!group.join(probe.actor()), "a member already");
    }
    assert_eq!(group.tell_all(&1), 3);
    // The same name and type is the same group; another type is another one.
    for n in 2..5_u8 {
        system.group("workers").tell_any(n).expect("room");
    }
    assert_eq!(system.group::<u16>("workers").members().len(), 0);
    simulation.run();
    for probe in &probes {
        let seen = all(probe);
        assert_eq!((seen.len(), seen[0]), (2, 1));
    }

    assert!(group.leave(probes[0].actor()));
    assert!(!group.leave(probes[0].actor()));
    probes[1].actor().stop();
    simulation.run();
    assert_eq!(*group.members(), [probes[2].actor().clone()]);
    assert!(!group.join(probes[1].actor()), "it has ended");
    group.join(probes[0].actor());
    probes[0].actor().kill();
    probes[2].actor().kill();
    simulation.run();
    assert!(group.members().is_empty());
    assert_eq!(group.tell_any(9), Err(TellError::Closed(9)));
}

#[test]
fn a_topic_lets_subscribers_go() {
    let simulation = Simulation::new(2);
    let (probe, topic) = (Probe::<u8>::new(simulation.system()), Topic::new());
    let subscriber: Recipient<u8> = probe.actor().recipient();
    topic.subscribe(subscriber.clone());
    topic.publish(&1);
    assert!(topic.unsubscribe(&subscriber));
    assert!(!topic.unsubscribe(&subscriber));
    topic.publish(&2);
    simulation.run();
    assert_eq!(all(&probe), [1]);
}

enum Step {
    Next,
    Deeper,
    Up,
    Panic,
    Name(Reply<&'static str>),
}
type Walker = Machine<u32, Step>;

fn first(steps: &mut u32, step: Step, _ctx: &mut Context<'_, Walker>) -> Next<u32, Step> {
    *steps += 1;
    match step {
        Step::Next => Next::Become(second),
        Step::Deeper => Next::Push(second),
        Step::Up => Next::Back,
        Step::Panic => panic!("as told"),
        Step::Name(reply) => {
            reply.send("first");
            Next::Same
        }
    }
}

fn second(steps: &mut u32, step: Step, ctx: &mut Context<'_, Walker>) -> Next<u32, Step> {
    match step {
        Step::Name(reply) => {
            reply.send("second");
            Next::Same
        }
        Step::Next => Next::Become(first),
        other => first(steps, other, ctx),
    }
}

#[test]
fn a_machine_becomes_pushes_and_goes_back_and_a_restart_begins_anew() {
    let simulation = Simulation::new(3);
    let ended = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&ended);
    let walker = simulation.system().spawn(move || {
        // The hook is a plain function: what it needs is in the state.
        let _ = &count;
        Machine::new(0, first)
    });
    let name = || {
        let ask = walker.ask(Step::Name);
        simulation.run();
        ask.wait().expect("an answer")
    };
    assert_eq!(name(), "first");
    for (step, expected) in [
        (Step::Next, "second"),
        (Step::Next, "first"),
        (Step::Deeper, "second"),
        (Step::Up, "first"),
        (Step::Up, "first"),
        (Step::Deeper, "second"),
        (Step::Panic, "first"),
    ] {
        walker.tell(step).expect("room");
        assert_eq!(name(), expected);
    }
}

#[test]
fn a_machine_says_when_it_stops() {
    let simulation = Simulation::new(4);
    let heard = Arc::new(Mutex::new(None));
    let ear = Arc::clone(&heard);
    type Ear = Arc<Mutex<Option<ExitReason>>>;
    fn deaf(_: &mut Ear, (): (), _: &mut Context<'_, Machine<Ear, ()>>) -> Next<Ear, ()> {
        Next::Same
    }
    let machine = simulation.system().spawn(move || {
        Machine::new(Arc::clone(&ear), deaf)
            .on_stop(|ear, reason| *ear.lock().expect("not poisoned") = Some(reason.clone()))
    });
    simulation.run();
    machine.drain();
    simulation.run();
    assert_eq!(
        *heard.lock().expect("not poisoned"),
        Some(ExitReason::Drained)
    );
}

struct Batch {
    /// Bytes that the arena held before and after this message put a word there.
    seen: Arc<Mutex<Vec<(usize, usize)>>>,
}

impl Actor for Batch {
    type Msg = &'static str;
    fn handle(&mut self, word: &'static str, ctx: &mut Context<'_, Self>) {
        let arena = ctx.arena();
        let before = arena.chunk_capacity();
        let copy = arena.alloc_str(word);
        copy.make_ascii_uppercase();
        let after = arena.chunk_capacity();
        self.seen
            .lock()
            .expect("not poisoned")
            .push((before, after));
    }
}

#[test]
fn an_arena_lasts_for_a_batch_and_is_empty_in_the_next() {
    let system = System::builder().workers(1).build().expect("threads");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let actor = system.spawn(move || Batch {
        seen: Arc::clone(&log),
    });
    for batch in 1..=20_u64 {
        let mut words = vec!["abcdefgh", "ijklmnop"];
        assert_eq!(actor.tell_batch(&mut words).expect("open"), 2);
        while actor.handled() < 2 * batch || actor.queued() > 0 {
            std::thread::yield_now();
        }
    }
    system.drain(LONG).expect("everything ends");
    let seen = seen.lock().expect("not poisoned");
    let fullest = seen.iter().map(|(before, _)| *before).max().expect("some");
    for pair in seen.chunks(2).skip(1) {
        // Each batch begins with the whole of the arena, and its second message finds less.
        assert_eq!(pair[0].0, fullest, "{seen:?}");
        assert!(pair[1].0 < fullest && pair[1].1 < pair[1].0, "{seen:?}");
    }
}

enum Shop {
    Refresh,
    Price(Result<u64, AskError>),
    Work,
    Worked(u64),
    Explode,
    Show(Reply<(u64, usize)>),
}

struct Keeper {
    prices: ActorRef<Reply<u64>>,
    price: u64,
}

impl Actor for Keeper {
    type Msg = Shop;
    fn handle(&mut self, msg: Shop, ctx: &mut Context<'_, Self>) {
        match msg {
            Shop::Refresh => ctx.pipe(self.prices.ask(|reply| reply), Shop::Price),
            Shop::Price(price) => self.price = price.expect("the list answers"),
            Shop::Work => ctx.blocking(|| 6 * 7, Shop::Worked),
            Shop::Worked(n) => self.price += n,
            Shop::Explode => ctx.blocking(|| panic!("in the work"), Shop::Worked),
            Shop::Show(reply) => reply.send((self.price, ctx.children())),
        }
    }
}

struct List;
impl Actor for List {
    type Msg = Reply<u64>;
    fn handle(&mut self, reply: Reply<u64>, _ctx: &mut Context<'_, Self>) {
        reply.send(100);
    }
}

fn keeper(system: &System) -> ActorRef<Shop> {
    let prices = system.spawn(|| List);
    system.spawn(move || Keeper {
        prices: prices.clone(),
        price: 0,
    })
}

fn shown(keeper: &ActorRef<Shop>, until: impl Fn((u64, usize)) -> bool) -> (u64, usize) {
    loop {
        let show = keeper.ask(Shop::Show).timeout(LONG).wait();
        let show = show.expect("an answer");
        if until(show) {
            return show;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_piped_answer_and_blocking_work_come_back_as_messages() {
    let system = System::new().expect("threads");
    let keeper = keeper(&system);
    keeper.tell(Shop::Refresh).expect("room");
    // A question that was asked before the answer came may be handled after the child has gone.
    shown(&keeper, |(price, children)| price == 100 && children == 0);
    keeper.tell(Shop::Work).expect("room");
    assert_eq!(
        shown(&keeper, |(price, children)| price == 142 && children == 0).0,
        142
    );
    // A panic of the work is the actor's failure: it starts anew.
    keeper.tell(Shop::Explode).expect("room");
    shown(&keeper, |(price, children)| price == 0 && children == 0);
    // Its own, and that of the child that waited for it.
    assert_eq!(system.stats().failures, 2);
    system.shutdown(LONG).expect("everything ends");
}

/// Keeps questions and answers them later, all at once.
struct Slow(Vec<Reply<u64>>);
impl Actor for Slow {
    type Msg = Option<Reply<u64>>;
    fn handle(&mut self, msg: Self::Msg, _ctx: &mut Context<'_, Self>) {
        match msg {
            Some(reply) => self.0.push(reply),
            None => self.0.drain(..).for_each(|reply| reply.send(8)),
        }
    }
}

#[test]
fn a_reply_may_be_kept_and_given_later() {
    let simulation = Simulation::new(6);
    let slow = simulation.system().spawn(|| Slow(Vec::new()));
    let asks = [slow.ask(Some), slow.ask(Some)];
    simulation.run();
    slow.tell(None).expect("room");
    simulation.run();
    assert_eq!(asks.map(actor_rt::Ask::wait), [Ok(8), Ok(8)]);
}

/// Hands each number to its child, which adds it up.
struct Parent {
    child: Option<ActorRef<u64>>,
    sum: Arc<AtomicU64>,
}
struct Child(Arc<AtomicU64>);

impl Actor for Child {
    type Msg = u64;
    fn handle(&mut self, n: u64, _ctx: &mut Context<'_, Self>) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
}
impl Actor for Parent {
    type Msg = u64;
    fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
        let sum = Arc::clone(&self.sum);
        self.child = Some(ctx.spawn(move || Child(Arc::clone(&sum))));
        Ok(())
    }
    fn handle(&mut self, n: u64, _ctx: &mut Context<'_, Self>) {
        let child = self.child.as_ref().expect("started");
        child.tell(n).expect("room");
    }
}

#[test]
fn draining_a_family_loses_nothing_on_any_level() {
    each_seed(0..200, |seed| {
        let simulation = Simulation::new(seed);
        let sum = Arc::new(AtomicU64::new(0));
        let shared = Arc::clone(&sum);
        let parent = simulation.system().spawn(move || Parent {
            child: None,
            sum: Arc::clone(&shared),
        });
        (1..=100).for_each(|n| parent.tell(n).expect("room"));
        parent.drain_within(LONG);
        assert!(matches!(parent.tell(1), Err(TellError::Closed(1))));
        simulation.run();
        assert_eq!(sum.load(Ordering::Relaxed), 5050);
        assert_eq!(simulation.system().stats().live, 0);
        assert_eq!(simulation.system().stats().dead_letters, 0);
    });
}

#[test]
fn a_system_drains_as_a_whole() {
    let system = System::new().expect("threads");
    let sum = Arc::new(AtomicU64::new(0));
    let shared = Arc::clone(&sum);
    let parent = system.spawn(move || Parent {
        child: None,
        sum: Arc::clone(&shared),
    });
    (1..=100).for_each(|n| parent.tell(n).expect("room"));
    system.drain(LONG).expect("everything ends");
    assert_eq!(sum.load(Ordering::Relaxed), 5050);
}

/// Which span follows from which, and which are roots.
#[derive(Clone, Default)]
struct Links(Arc<Mutex<Vec<String>>>);

impl<S> tracing_subscriber::Layer<S> for Links
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    fn on_new_span(
        &self,
        attributes: &tracing::span::Attributes<'_>,
        _id: &tracing::span::Id,
        _: tracing_subscriber::layer::Context<'_, S>,
    ) {
        let root = if attributes.is_root() {
            " is a root"
        } else {
            ""
        };
        self.note(format!("{}{root}", attributes.metadata().name()));
    }

    fn on_follows_from(
        &self,
        span: &tracing::span::Id,
        follows: &tracing::span::Id,
        spans: tracing_subscriber::layer::Context<'_, S>,
    ) {
        let name = |id| spans.span(id).map_or("?", |span| span.name());
        self.note(format!("{} follows from {}", name(span), name(follows)));
    }
}

impl Links {
    fn note(&self, text: String) {
        self.0.lock().expect("not poisoned").push(text);
    }
}

struct Hop(Option<ActorRef<Traced<u8>>>);
impl Actor for Hop {
    type Msg = Traced<u8>;
    fn handle(&mut self, msg: Traced<u8>, _ctx: &mut Context<'_, Self>) {
        msg.handle(|n| {
            if let Some(next) = &self.0 {
                next.tell_from(n).expect("room");
            }
        });
    }
}

#[test]
fn a_traced_message_links_to_its_sender_and_does_not_nest_in_it() {
    use tracing_subscriber::layer::SubscriberExt;
    let links = Links::default();
    let subscriber = tracing_subscriber::registry().with(links.clone());
    tracing::subscriber::with_default(subscriber, || {
        let simulation = Simulation::new(7);
        let last = simulation.system().spawn(|| Hop(None));
        let first = simulation.system().spawn(move || Hop(Some(last.clone())));
        let request = tracing::info_span!("request");
        request.in_scope(|| first.tell(Traced::new(1)).expect("room"));
        drop(request);
        // Sent from no span: linked to none.
        first.tell(2.into()).expect("room");
        simulation.run();
    });
    let links = links.0.lock().expect("not poisoned");
    let count = |text: &str| links.iter().filter(|link| *link == text).count();
    assert_eq!(count("handle is a root"), 4, "{links:?}");
    assert_eq!(count("handle follows from request"), 1, "{links:?}");
    assert_eq!(count("handle follows from handle"), 2, "{links:?}");
}
