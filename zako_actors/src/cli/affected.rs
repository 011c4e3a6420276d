//! `zako affected`: the targets that changes since a commit concern.

use super::args::{AffectedArgs, Global};
use super::opened::Opened;
use super::{Exit, Failure, print_json, print_line};
use crate::engine::affected::affected;

/// Prints their labels, dependencies first.
pub fn run(global: &Global, args: &AffectedArgs) -> Result<Exit, Failure> {
    Opened::look(global, |opened| print(opened, args))
}

fn print(opened: &mut Opened, args: &AffectedArgs) -> Result<Exit, Failure> {
    let targets = opened.load_whole()?;
    let changed = opened.session.changed_since(&args.since);
    let changed = changed.map_err(Failure::usage)?;
    let touched = affected(
        &targets.graph,
        &changed,
        opened.session.origins(),
        &targets.readings,
    );
    let labels: Vec<String> = targets
        .graph
        .order()
        .iter()
        .filter(|id| touched.contains(id))
        .map(|id| targets.graph.target(*id))
        .filter(|target| !args.tests || target.is_test())
        .map(|target| target.label.to_string())
        .collect();
    if args.json {
        print_json(
            &serde_json::json!({ "since": args.since, "files": changed.paths, "targets": labels }),
        )?;
    } else {
        labels.iter().try_for_each(|label| print_line(label))?;
    }
    Ok(Exit::Done)
}
