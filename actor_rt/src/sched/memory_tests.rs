//! Actors and mailboxes lie in the memory of the node of their worker, on a machine that could be.

use super::topology::Layout;
use super::*;
use crate::actor::Actor;
use crate::actor_ref::ActorRef;
use crate::ask::Reply;
use crate::builder::Placement;
use crate::context::Context;
use crate::exit::Failure;
use crate::slab;
use crate::system::System;
use std::ptr::NonNull;

/// Two workers on these nodes.
fn system_on(nodes: [u32; 2]) -> System {
    let settings = Settings {
        workers: nodes.len(),
        pin: Some(false),
        steal: true,
        near: true,
        name: "nodes".into(),
        turn_budget: Duration::from_micros(100),
        metered: false,
        linger: Duration::ZERO,
    };
    let runtime = Runtime::start_on(settings, Layout::on_nodes(&nodes)).expect("threads");
    System::of(&runtime.into())
}

/// What an actor sees from inside: from outside its ring may be seen given up, or moved.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Seen {
    /// Where it was started, and whose memory its rings were to be then.
    started: (Node, Node),
    /// Whose memory the ring is that its first message came by.
    ring: Option<Node>,
}

struct Witness((Node, Node));

impl Witness {
    fn new() -> Self {
        Self((Node::NONE, Node::NONE))
    }
}

impl Actor for Witness {
    type Msg = Reply<Seen>;
    fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
        self.0 = (slab::here(), ctx.me().cell().front().memory.get());
        Ok(())
    }
    fn handle(&mut self, reply: Self::Msg, ctx: &mut Context<'_, Self>) {
        reply.send(Seen {
            started: self.0,
            ring: ctx.me().cell().front().ring_node(),
        });
    }
}

fn node_of_cell<M: Send + 'static>(actor: &ActorRef<M>) -> Node {
    let cell = NonNull::new(actor.cell().ptr().as_ptr()).expect("a cell");
    slab::node_of(cell.cast())
}

#[test]
fn who_is_placed_lies_on_its_workers_node_whoever_sends() {
    let system = system_on([40, 41]);
    for node in [40, 41] {
        let actor = system.spawn_on(Placement::Node(node), Witness::new);
        let node = Node::numbered(node);
        assert_eq!(node_of_cell(&actor), node);
        let seen = actor.ask(|reply| reply).wait().expect("answers");
        assert_eq!(seen.started, (node, node));
        assert_eq!(seen.ring, Some(node));
    }
    system.shutdown(Duration::from_secs(60)).expect("ends");
}

#[test]
fn who_runs_anywhere_has_its_rings_where_it_started() {
    let system = system_on([42, 43]);
    let actor = system.spawn(Witness::new);
    let seen = actor.ask(|reply| reply).wait().expect("answers");
    let (here, memory) = seen.started;
    assert!([42, 43].map(Node::numbered).contains(&here));
    assert_eq!(memory, here);
    system.shutdown(Duration::from_secs(60)).expect("ends");
}

#[test]
fn with_one_node_nothing_goes_by_nodes() {
    let system = system_on([44, 44]);
    let actor = system.spawn_on(Placement::Node(44), Witness::new);
    let none = Node::NONE;
    let seen = actor.ask(|reply| reply).wait().expect("answers");
    assert_eq!((seen.started, seen.ring), ((none, none), Some(none)));
    assert_eq!(node_of_cell(&actor), none);
    system.shutdown(Duration::from_secs(60)).expect("ends");
}
