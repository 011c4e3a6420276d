//! What a build says of its sandbox before the first step starts.
//!
//! Owns what is told. Does not know how anything is confined.

use crate::engine::event::Event;
use crate::engine::plan::Plan;
use crate::engine::sandbox::{Mode, mechanism};

/// What holds the commands of `plan` to what they declare, when they are.
pub fn chosen(plan: &Plan, mode: Mode) -> Option<Event> {
    let (name, by) = match mode {
        Mode::Off => return None,
        _ if !plan.starts_processes() => return None,
        Mode::Warn => ("warn", "strace, which only looks"),
        Mode::Strict => ("strict", mechanism()?),
    };
    let stale = plan.nodes.iter().filter(|node| node.cause().is_some());
    let scripts = stale.filter(|node| node.target.in_place().is_some());
    let unconfined = match mode {
        // It looks at them as well.
        Mode::Warn => 0,
        _ => scripts.count(),
    };
    Some(Event::SandboxChosen {
        mode: name,
        by,
        unconfined,
    })
}
