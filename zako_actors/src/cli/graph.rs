//! `zako graph`: the target graph as a picture.

use std::path::Path;

use super::args::{Global, GraphArgs, GraphFormat};
use super::opened::Opened;
use super::{Exit, Failure, print, say};
use crate::engine::picture::{Picture, READABLE};

/// Writes the picture.
pub fn run(global: &Global, args: &GraphArgs) -> Result<Exit, Failure> {
    Opened::look(global, |opened| draw(opened, args))
}

fn draw(opened: &mut Opened, args: &GraphArgs) -> Result<Exit, Failure> {
    let targets = opened.load_whole()?;
    let patterns = opened.patterns(&args.labels)?;
    let wanted = targets
        .graph
        .select(&patterns, &|_| true)
        .map_err(Failure::usage)?;
    let by_package = args.packages || wanted.len() > READABLE;
    if by_package && !args.packages {
        say(&format!(
            "{} targets are too many to read: one box per package",
            wanted.len()
        ));
    }
    let picture = Picture::new(&targets.graph, &wanted, by_package, &|label| {
        let record = opened.session.record(label)?;
        let seconds = record.duration_us as f64 / 1e6;
        let (inputs, outputs) = (record.inputs.len(), record.outputs.len());
        Some(format!(
            "took {seconds:.2} s; {inputs} inputs, {outputs} outputs"
        ))
    });
    let format = args
        .format
        .unwrap_or_else(|| by_name(args.output.as_deref()));
    let text = match format {
        GraphFormat::Dot => picture.dot(),
        GraphFormat::Html => picture.html(&format!(
            "{}: {} targets",
            opened.session.workspace.manifest.id(),
            wanted.len()
        )),
    };
    match &args.output {
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

fn by_name(path: Option<&Path>) -> GraphFormat {
    match path.and_then(Path::extension) {
        Some(extension) if extension == "html" => GraphFormat::Html,
        _ => GraphFormat::Dot,
    }
}
