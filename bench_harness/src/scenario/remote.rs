//! Small messages to an actor of another system, over a TCP connection of this machine.
//!
//! The floor is what the operating system takes for the same bytes: two threads, one of which writes frames of the
//! same form through a buffer, and the other reads and adds them up.
#![forbid(unsafe_code)]

use std::io::{BufReader, BufWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::time::Duration;

use actor_rt::remote::{self, Inbox};
use actor_rt::{Actor, Context, System};
use serde::{Deserialize, Serialize};

use super::actors::wait;
use super::{Family, Scenario};
use crate::actor::Done;
use crate::elapsed::timed;
use crate::measure::{Case, OURS, Sample, Unit};
use crate::threads::Threads;

/// `remote`.
pub const SCENARIO: Scenario = Scenario {
    name: "remote",
    family: Family::Actors,
    about: "small messages from a thread to an actor of another system, over TCP, with backpressure",
    unit: Unit::MillionPerSecond("messages"),
    cases: |options| {
        // The two systems share the cores.
        let workers = (options.cores.len() / 2).max(1);
        let messages = options.count(10_000_000, 2_000);
        let case = |implementation, run: fn(usize, u64) -> Sample| {
            // The sender sleeps where there is no room.
            let threads = Threads::anywhere();
            let run = move || run(workers, messages);
            Case::new(implementation, "one connection", threads, run).expecting(move || {
                let digests = (0..messages).map(|number| Reading::number(number).digest());
                digests.fold(0, u64::wrapping_add)
            })
        };
        let mut cases = vec![case(OURS, ours)];
        if options.peers {
            cases.push(case("bare TCP frames", bare));
        }
        cases
    },
};

/// What a sensor might tell.
#[derive(Serialize, Deserialize)]
struct Reading {
    sensor: u32,
    value: u64,
}

impl Reading {
    fn number(number: u64) -> Self {
        Self {
            sensor: (number % 1000) as u32,
            value: number,
        }
    }

    fn digest(&self) -> u64 {
        self.value.wrapping_mul(u64::from(self.sensor) + 1)
    }
}

struct Sink {
    left: u64,
    sum: u64,
    done: Done,
}

impl Actor for Sink {
    type Msg = Reading;

    fn handle(&mut self, reading: Reading, _ctx: &mut Context<'_, Self>) {
        self.sum = self.sum.wrapping_add(reading.digest());
        self.left -= 1;
        if self.left == 0 {
            // Nobody waits any more if the run was given up.
            let _ = self.done.send(self.sum);
        }
    }
}

fn ours(workers: usize, messages: u64) -> Sample {
    let system = || {
        System::builder()
            .workers(workers)
            .build()
            .expect("the system starts")
    };
    let (here, there) = (system(), system());
    let inbox = Inbox::open(&there, "127.0.0.1:0").expect("a free port");
    let (done, finished) = channel();
    let sink = there.spawn(move || Sink {
        left: messages,
        sum: 0,
        done: done.clone(),
    });
    inbox.publish("sink", &sink);
    let far = remote::connect::<Reading>(&here, &inbox.address().to_string(), "sink");
    let (elapsed, sum) = timed(|| {
        for number in 0..messages {
            far.send_blocking(Reading::number(number))
                .expect("the connection stands");
        }
        wait(&finished, 1)
    });
    for system in [here, there] {
        system
            .shutdown(Duration::from_secs(60))
            .expect("every actor ends");
    }
    Sample::rate(messages, elapsed, sum)
}

/// Bytes gathered before they are written, and read at once: as in `actor_rt::remote`.
const BUFFER: usize = 64 * 1024;

fn bare(_workers: usize, messages: u64) -> Sample {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let reader = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("somebody connects");
        let mut stream = BufReader::with_capacity(BUFFER, stream);
        let mut sum = 0_u64;
        let mut frame = [0; 16];
        for _ in 0..messages {
            stream.read_exact(&mut frame).expect("all frames come");
            let [length, sensor, low, high] =
                std::array::from_fn(|part| u32::from_le_bytes(quarter(&frame, part)));
            assert_eq!(length, 12);
            let value = u64::from(low) | u64::from(high) << 32;
            sum = sum.wrapping_add(Reading { sensor, value }.digest());
        }
        sum
    });
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_nodelay(true).expect("a TCP socket");
    let mut stream = BufWriter::with_capacity(BUFFER, stream);
    let (elapsed, sum) = timed(|| {
        for number in 0..messages {
            let Reading { sensor, value } = Reading::number(number);
            let mut frame = [0; 16];
            frame[..4].copy_from_slice(&12_u32.to_le_bytes());
            frame[4..8].copy_from_slice(&sensor.to_le_bytes());
            frame[8..].copy_from_slice(&value.to_le_bytes());
            stream.write_all(&frame).expect("the connection stands");
        }
        stream.flush().expect("the connection stands");
        reader.join().expect("it has read all")
    });
    Sample::rate(messages, elapsed, sum)
}

fn quarter(frame: &[u8; 16], part: usize) -> [u8; 4] {
    std::array::from_fn(|byte| frame[4 * part + byte])
}
