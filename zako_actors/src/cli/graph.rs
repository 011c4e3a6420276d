//! `zako graph`: the target graph as a picture.

use std::path::Path;

use super::args::{Global, GraphArgs, GraphFormat};
use super::opened::Opened;
use super::written::refuse_one;
use super::{Exit, Failure, print, say};
use crate::engine::graph::NodeId;
use crate::engine::picture::{Picture, READABLE};
use crate::lang::label::Label;

/// Writes the picture.
pub fn run(global: &Global, args: &GraphArgs) -> Result<Exit, Failure> {
    Opened::look(global, |opened| draw(opened, args))
}

fn draw(opened: &mut Opened, args: &GraphArgs) -> Result<Exit, Failure> {
    // `-` is the standard output, as if no file were named.
    let output = args
        .output
        .as_deref()
        .filter(|path| *path != Path::new("-"));
    let format = match (args.format, output) {
        (Some(format), _) => format,
        (None, None) => GraphFormat::Dot,
        (None, Some(path)) => by_ending(path)?,
    };
    let targets = opened.load_whole()?;
    if let Some(path) = output {
        refuse_one("-o", path, opened, &targets)?;
    }
    let patterns = opened.patterns(&args.labels)?;
    let wanted = targets
        .graph
        .select(&patterns, &|_| true)
        .map_err(Failure::usage)?;
    let dir = |id: &NodeId| targets.graph.target(*id).label.dir();
    let many = format != GraphFormat::Dot
        && !args.targets
        && wanted.len() > READABLE
        && wanted.iter().any(|id| dir(id) != dir(&wanted[0]));
    if many && !args.packages {
        let how = match format {
            GraphFormat::Html => "a click opens one; ",
            _ => "",
        };
        say(&format!(
            "{} targets are too many to read at once: one box per package ({how}--targets draws them all)",
            wanted.len()
        ));
    }
    let note = |label: &Label| {
        let record = opened.session.record(label)?;
        let seconds = record.duration_us as f64 / 1e6;
        let (inputs, outputs) = (record.inputs.len(), record.outputs.len());
        Some(format!(
            "took {seconds:.2} s; {inputs} inputs, {outputs} outputs"
        ))
    };
    let workspace = &opened.session.workspace.manifest;
    let title = format!("{}: {} targets", workspace.id(), wanted.len());
    let picture = if args.packages || many {
        Picture::packages(&targets.graph, &wanted, &title, &note)
    } else {
        Picture::targets(&targets.graph, &wanted, &title, &note)
    };
    let text = match format {
        GraphFormat::Dot => picture.dot(),
        GraphFormat::Html => picture.html(),
        GraphFormat::Svg => picture.svg(),
    };
    match output {
        None => print(text.as_bytes())?,
        Some(path) => {
            std::fs::write(path, text).map_err(|error| {
                Failure::work(format!("cannot write {}: {error}", path.display()))
            })?;
            say(&format!("wrote {}", path.display()));
        }
    }
    Ok(Exit::Done)
}

fn by_ending(path: &Path) -> Result<GraphFormat, Failure> {
    let Some(ending) = path.extension() else {
        return Ok(GraphFormat::Dot);
    };
    match ending.to_str() {
        Some("dot" | "gv") => Ok(GraphFormat::Dot),
        Some("html" | "htm") => Ok(GraphFormat::Html),
        Some("svg") => Ok(GraphFormat::Svg),
        _ => Err(Failure::usage(format!(
            "cannot tell from its name how to write {}: end it with .dot, .gv, .html or .svg, or \
             say it with --format",
            path.display()
        ))),
    }
}
