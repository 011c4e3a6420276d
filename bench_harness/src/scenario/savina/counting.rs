//! One actor counts what another sends, and tells it in the end.
#![forbid(unsafe_code)]

use crate::actor::{Done, Kit, Msg, Ops, Play, Role, sent};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::scenario::actors::{case, every_ordered_kit, wait, workers};
use crate::scenario::{Family, Scenario};

/// `counting`.
pub const SCENARIO: Scenario = Scenario {
    name: "counting",
    family: Family::Savina("Counting Actor"),
    about: "one actor counts another's messages and is asked for the sum",
    unit: Unit::MillionPerSecond("messages"),
    cases: |options| {
        let mut cases = Vec::new();
        every_ordered_kit!(options, cases, count, options);
        cases
    },
};

/// Messages that the producer sends before it lets others run.
const CHUNK: u64 = 256;

struct Counter<R> {
    producer: Option<R>,
    count: u64,
}

impl<R: Send> Play<R> for Counter<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        match msg {
            Msg::Wire(producer) => self.producer = Some(producer),
            Msg::Item(step) => self.count += step,
            Msg::Go => {
                let producer = self.producer.as_ref().expect("wired");
                sent(ops.tell(producer, Msg::Item(self.count)));
            }
            _ => {}
        }
    }
}

struct Producer<R> {
    counter: R,
    left: u64,
    done: Done,
}

impl<R: Send> Play<R> for Producer<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        if let Msg::Item(count) = msg {
            let _ = self.done.send(count);
            return;
        }
        let stop = self.left.saturating_sub(CHUNK);
        while self.left > stop && ops.tell(&self.counter, Msg::Item(1)).is_ok() {
            self.left -= 1;
        }
        // With nothing left, the question goes behind the last message.
        if self.left > 0 || ops.tell(&self.counter, Msg::Go).is_err() {
            let me = ops.me();
            sent(ops.tell(&me, Msg::Go));
        }
    }
}

fn count<K: Kit>(options: &Options) -> Case {
    let messages = options.count(4_000_000, 2_000);
    case::<K>("2 actors", workers(options), move |kit, done, finished| {
        let counter = kit.spawn(Role::play(Counter::<K::Ref> {
            producer: None,
            count: 0,
        }));
        let producer = kit.spawn(Role::play(Producer {
            counter: counter.clone(),
            left: messages,
            done,
        }));
        kit.tell(&counter, Msg::Wire(producer.clone()));
        let (elapsed, count) = timed(|| {
            kit.tell(&producer, Msg::Go);
            wait(finished, 1)
        });
        assert_eq!(count, messages);
        Sample::rate(messages, elapsed, count)
    })
    .expecting(move || messages)
}
