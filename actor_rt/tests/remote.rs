//! Messages between systems: order, backpressure, refusals, connections that break.

use actor_rt::remote::{self, Inbox};
use actor_rt::testkit::Probe;
use actor_rt::{Actor, ActorRef, Context, Overflow, Reply, System};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize, Debug, PartialEq)]
enum Msg {
    Number(u64),
    Text { name: String, bytes: Vec<u8> },
}

/// Checks the order of numbers and adds them up.
struct Sum {
    last: Option<u64>,
    sum: u64,
    report: ActorRef<(u64, u64)>,
}

impl Actor for Sum {
    type Msg = Msg;
    fn handle(&mut self, msg: Msg, _ctx: &mut Context<'_, Self>) {
        match msg {
            Msg::Number(n) => {
                assert!(self.last.is_none_or(|last| last < n), "order");
                self.last = Some(n);
                self.sum += n;
            }
            Msg::Text { name, bytes } => {
                assert_eq!(name.len(), bytes.len());
                let count = self.last.map_or(0, |last| last + 1);
                let _ = self.report.tell((count, self.sum));
            }
        }
    }
}

struct World {
    here: System,
    there: System,
    inbox: Inbox,
}

fn world() -> World {
    let here = System::builder().workers(2).build().expect("threads");
    let there = System::builder().workers(2).build().expect("threads");
    let inbox = Inbox::open(&there, "127.0.0.1:0").expect("a port");
    World { here, there, inbox }
}

impl World {
    fn connect<M: Serialize + Send + 'static>(&self, name: &str) -> ActorRef<M> {
        remote::connect(&self.here, &self.inbox.address().to_string(), name)
    }

    fn end(self) {
        self.here.shutdown(LONG).expect("everything ends");
        self.there.shutdown(LONG).expect("everything ends");
    }
}

#[test]
fn messages_arrive_once_in_order_through_small_mailboxes() {
    const COUNT: u64 = 20_000;
    let world = world();
    let probe = Probe::new(&world.there);
    let report = probe.actor().clone();
    let sum = world
        .there
        .actor(move || Sum {
            last: None,
            sum: 0,
            report: report.clone(),
        })
        .mailbox(16)
        .spawn();
    world.inbox.publish("sum", &sum);
    let far = world.connect::<Msg>("sum");
    for n in 0..COUNT {
        far.send_blocking(Msg::Number(n)).expect("open");
    }
    let last = Msg::Text {
        name: "x".repeat(100_000),
        bytes: vec![1; 100_000],
    };
    far.send_blocking(last).expect("open");
    assert_eq!(probe.expect(), (COUNT, COUNT * (COUNT - 1) / 2));
    world.end();
}

struct Stuck;
impl Actor for Stuck {
    type Msg = (Vec<u8>, bool);
    fn handle(&mut self, _msg: Self::Msg, _ctx: &mut Context<'_, Self>) {}
}

#[test]
fn a_remote_actor_that_does_not_keep_up_is_felt_here() {
    let world = world();
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Arc::new(std::sync::Mutex::new(held));
    struct Slow(std::sync::Arc<std::sync::Mutex<std::sync::mpsc::Receiver<()>>>);
    impl Actor for Slow {
        type Msg = Vec<u8>;
        fn handle(&mut self, _msg: Vec<u8>, _ctx: &mut Context<'_, Self>) {
            // Until the test lets go of its end.
            let _ = self.0.lock().expect("not poisoned").recv();
        }
    }
    let slow = world
        .there
        .actor(move || Slow(std::sync::Arc::clone(&held)))
        .mailbox(4)
        .spawn_dedicated();
    world.inbox.publish("slow", &slow);
    let far = world.connect::<Vec<u8>>("slow");
    // Both mailboxes, the buffers of the outbox and of the machine hold some megabytes; then it is full, and
    // stays so.
    let (mut sent, mut refusals) = (0_usize, 0);
    while refusals < 5_000 {
        match far.tell(vec![0; 20_000]) {
            Ok(()) => (sent, refusals) = (sent + 1, 0),
            Err(refused) => {
                assert!(refused.is_full());
                refusals += 1;
                std::thread::yield_now();
            }
        }
        assert!(sent < 10_000, "200 megabytes went nowhere");
    }
    drop(hold);
    while slow.handled() < sent as u64 {
        std::thread::yield_now();
    }
    world.end();
}

#[test]
fn who_asks_for_nobody_or_for_another_type_is_told_and_closed() {
    let world = world();
    let stuck = world.there.spawn(|| Stuck);
    world.inbox.publish("stuck", &stuck);
    for greeting in [
        &b"ACTR\x01\x06\0nobody\x03\0u64"[..],
        b"ACTR\x01\x05\0stuck\x03\0u64",
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(world.inbox.address()).expect("it listens");
        stream.set_read_timeout(Some(LONG)).expect("a time");
        stream.write_all(greeting).expect("it reads");
        let mut answer = Vec::new();
        // A reset is as good an end as another.
        let _ = stream.read_to_end(&mut answer);
        assert!(
            answer.is_empty() || answer == [1] || answer == [2],
            "{answer:?}"
        );
        assert_ne!(answer, [0]);
    }
    // Garbage behind a good greeting ends the connection, not the actor.
    let message = std::any::type_name::<(Vec<u8>, bool)>();
    let mut greeting = b"ACTR\x01\x05\0stuck".to_vec();
    greeting.extend((message.len() as u16).to_le_bytes());
    greeting.extend(message.as_bytes());
    greeting.extend([255; 64]);
    let mut stream = TcpStream::connect(world.inbox.address()).expect("it listens");
    stream.set_read_timeout(Some(LONG)).expect("a time");
    stream.write_all(&greeting).expect("it reads");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer == [0]);
    assert!(!stuck.is_closed());
    world.end();
}

#[test]
fn a_connection_that_broke_is_made_again() {
    let world = world();
    let probe = Probe::<u64>::new(&world.there);
    world.inbox.publish("probe", probe.actor());
    let far = world.connect::<u64>("probe");
    far.send_blocking(1).expect("open");
    assert_eq!(probe.expect(), 1);
    // The listener goes, with all its connections; another takes its place.
    let address = world.inbox.address();
    world.inbox.close();
    let again = loop {
        match Inbox::open(&world.there, &address.to_string()) {
            Ok(inbox) => break inbox,
            Err(_) => std::thread::yield_now(),
        }
    };
    again.publish("probe", probe.actor());
    // What was on its way may be lost; what comes later is not, or the reference would close.
    let mut n = 2;
    let heard = loop {
        if far.tell(n).is_ok() {
            n += 1;
        }
        match probe.received() {
            Some(heard) => break heard,
            None => std::thread::yield_now(),
        }
        assert!(!far.is_closed());
    };
    assert!((2..n).contains(&heard));
    far.kill();
    world.end();
}

/// A message may meet a writer that has ended before the writer's failure meets the outbox. A writer that just
/// ends makes sure of that.
#[test]
fn a_writer_that_is_gone_is_a_connection_that_broke() {
    let world = world();
    let probe = Probe::<u64>::new(&world.there);
    world.inbox.publish("probe", probe.actor());
    let far = world.connect::<u64>("probe");
    far.send_blocking(1).expect("open");
    assert_eq!(probe.expect(), 1);
    let name = format!("probe at {}: writer", world.inbox.address());
    let writer = world.here.lookup::<()>(&name).expect("it has written");
    writer.stop();
    writer.join();
    // The first one finds out, and is lost; the second one is not.
    far.send_blocking(2).expect("open");
    far.send_blocking(3).expect("still open, or open again");
    assert_eq!(probe.expect(), 3);
    assert_eq!(world.here.stats().restarts, 1);
    world.end();
}

#[test]
fn an_actor_that_nobody_published_closes_its_reference_in_the_end() {
    let system = System::new().expect("threads");
    // Nobody listens at a port that was just given back.
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("bound").to_string()
    };
    let far = remote::connect::<u8>(&system, &address, "nobody");
    let before = system.stats().failures;
    while system.stats().failures < before + 2 {
        std::thread::yield_now();
    }
    // It tries on, and can be stopped meanwhile.
    assert!(!far.is_closed());
    far.stop();
    far.join();
    system.shutdown(LONG).expect("everything ends");
}

/// The other messages of a dropped policy do not hold a connection up.
#[test]
fn a_full_remote_actor_with_another_policy_loses_messages_there() {
    struct Once(Option<Reply<()>>);
    impl Actor for Once {
        type Msg = u64;
        fn handle(&mut self, n: u64, _ctx: &mut Context<'_, Self>) {
            if n == u64::MAX
                && let Some(reply) = self.0.take()
            {
                reply.send(());
            }
        }
    }
    let world = world();
    let (reply, answer) = Reply::pair();
    let mut reply = Some(reply);
    let actor = world
        .there
        .actor(move || Once(reply.take()))
        .mailbox(1)
        .overflow(Overflow::DropOldest)
        .spawn();
    world.inbox.publish("once", &actor);
    let far = world.connect::<u64>("once");
    for n in 0..5000 {
        far.send_blocking(n).expect("open");
    }
    far.send_blocking(u64::MAX).expect("open");
    assert_eq!(answer.timeout(LONG).wait(), Ok(()));
    world.end();
}
