//! Actors that take several message types, by the derived enum of them.

use actor_rt::testkit::Simulation;
use actor_rt::{Actor, ActorRef, AskError, Context, Handle, Messages, Reply};

struct Add(u64);
struct Sum(Reply<u64>);
#[derive(Messages)]
enum Arithmetic {
    Add(Add),
    Sum { question: Sum },
}

struct Adder(u64);
impl Actor for Adder {
    type Msg = Arithmetic;
    fn handle(&mut self, msg: Arithmetic, ctx: &mut Context<'_, Self>) {
        msg.dispatch(self, ctx);
    }
}
impl Handle<Add> for Adder {
    fn handle_one(&mut self, Add(n): Add, _ctx: &mut Context<'_, Self>) {
        self.0 += n;
    }
}
impl Handle<Sum> for Adder {
    fn handle_one(&mut self, Sum(reply): Sum, _ctx: &mut Context<'_, Self>) {
        reply.send(self.0);
    }
}

/// Passes questions on to whoever knows: the answer does not come back this way.
struct Desk(ActorRef<Arithmetic>);
impl Actor for Desk {
    type Msg = Arithmetic;
    fn handle(&mut self, msg: Arithmetic, _ctx: &mut Context<'_, Self>) {
        self.0.tell(msg).expect("room");
    }
}

#[test]
fn several_message_types_are_dispatched_and_questions_forwarded() {
    let simulation = Simulation::new(5);
    let adder = simulation.system().spawn(|| Adder(0));
    let desk = simulation.system().spawn(move || Desk(adder.clone()));
    desk.tell_from(Add(4)).expect("room");
    desk.recipient::<Add>().tell(Add(5)).expect("room");
    let sum = desk.ask(Sum);
    let again = desk.recipient::<Sum>().ask(Sum);
    simulation.run();
    assert_eq!((sum.wait(), again.wait()), (Ok(9), Ok(9)));
    desk.stop();
    simulation.run();
    let late = desk.recipient::<Sum>().ask(Sum);
    assert_eq!(late.wait(), Err(AskError::Closed));
}
