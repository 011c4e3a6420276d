//! Twenty clients of one server: each asks its next question when the last one is answered.
//! The dictionary and the sorted list differ in the server and in what is asked, and in nothing else.
#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::actor::{Done, Kit, Msg, Ops, Play, Role, sent};
use crate::elapsed::timed;
use crate::measure::{Case, Sample};
use crate::options::Options;
use crate::scenario::actors::{case, wait, workers};

/// The question of client `me` when it has `left` more to ask.
pub type Question = fn(me: u64, left: u64) -> u64;

/// How many clients there are.
pub const CLIENTS: u64 = 20;

struct Client<R> {
    server: R,
    question: Question,
    me: u64,
    left: u64,
    sum: u64,
    done: Done,
}

impl<R: Clone + Send> Play<R> for Client<R> {
    fn on(&mut self, msg: Msg<R>, ops: &mut dyn Ops<R>) {
        if let Msg::Token(answer) = msg {
            self.sum += answer;
        }
        if self.left == 0 {
            let _ = self.done.send(self.sum);
            return;
        }
        self.left -= 1;
        let question = (self.question)(self.me, self.left);
        sent(ops.tell(&self.server, Msg::Item(question)));
    }
}

/// Clients that ask `each` questions of a server, which is told them as [`Msg::Wires`] and answers with
/// [`Msg::Token`]; all answers to clients with `each` questions add up to what `answers` says.
pub fn ask_server<K: Kit, S: Play<K::Ref> + 'static>(
    options: &Options,
    each: u64,
    server: fn() -> S,
    question: Question,
    answers: fn(u64) -> u64,
) -> Case {
    case::<K>(
        "20 workers",
        workers(options),
        move |kit, done, finished| {
            let server = kit.spawn(Role::play(server()));
            let all: Arc<[K::Ref]> = (0..CLIENTS)
                .map(|me| {
                    kit.spawn(Role::play(Client {
                        server: server.clone(),
                        question,
                        me,
                        left: each,
                        sum: 0,
                        done: done.clone(),
                    }))
                })
                .collect();
            kit.tell(&server, Msg::Wires(Arc::clone(&all)));
            let (elapsed, sum) = timed(|| {
                all.iter().for_each(|client| kit.tell(client, Msg::Go));
                wait(finished, CLIENTS)
            });
            Sample::rate(each * CLIENTS, elapsed, sum)
        },
    )
    .expecting(move || answers(each))
}
