//! `zako query`: questions about the target graph.

use serde_json::{Map, Value};

use super::args::{Global, QueryArgs};
use super::opened::Opened;
use super::{Exit, Failure, print_json, print_line};
use crate::engine::query::{ATTRIBUTES, answer, attribute, parse};
use crate::lang::target::Target;

/// Prints the labels that a query answers with, dependencies first.
pub fn run(global: &Global, args: &QueryArgs) -> Result<Exit, Failure> {
    Opened::look(global, |opened| print(opened, args))
}

fn print(opened: &mut Opened, args: &QueryArgs) -> Result<Exit, Failure> {
    let text = args.query.join(" ");
    let expr = parse(&text, opened.here(), &opened.packages()).map_err(Failure::usage)?;
    let targets = opened.load_whole()?;
    let found = answer(&targets.graph, &expr).map_err(Failure::usage)?;
    let found = found.iter().map(|id| targets.graph.target(*id));
    if args.json {
        print_json(&found.map(describe).collect::<Vec<_>>())?;
    } else {
        for target in found {
            print_line(&target.label.to_string())?;
        }
    }
    Ok(Exit::Done)
}

fn describe(target: &Target) -> Value {
    let fields = ATTRIBUTES.iter().map(|name| {
        let values = attribute(target, name);
        let one = matches!(*name, "label" | "file" | "kind" | "rule");
        let value = match values.as_slice() {
            [single] if one => Value::from(single.as_str()),
            _ => Value::from(values),
        };
        ((*name).to_owned(), value)
    });
    Value::Object(fields.collect::<Map<_, _>>())
}
