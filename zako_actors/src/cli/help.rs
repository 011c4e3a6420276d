//! `zako help`: the help of a command, and the nearest name where there is none of that name.

use std::io;

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::args::Cli;
use super::{Exit, Failure};
use crate::lang::suggest::did_you_mean;

/// Prints what `--help` behind these `words` prints.
pub fn run(words: &[String]) -> Result<Exit, Failure> {
    let all = Cli::command();
    let mut command = &all;
    for (depth, word) in words.iter().enumerate() {
        let names: Vec<&str> = command.get_subcommands().map(|it| it.get_name()).collect();
        match command.find_subcommand(word) {
            Some(found) => command = found,
            None => return Err(unknown(&words[..=depth], &names)),
        }
    }
    let line = ["zako"].into_iter().chain(words.iter().map(String::as_str));
    let line = line.chain(["--help"]);
    let printed = match Cli::command().try_get_matches_from(line) {
        Err(help) if help.kind() == ErrorKind::DisplayHelp => help.print(),
        _ => Ok(()),
    };
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::work(format!("cannot print the help: {error}")))
        }
        _ => Ok(Exit::Done),
    }
}

fn unknown(words: &[String], names: &[&str]) -> Failure {
    let asked = words.join(" ");
    let last = words.last().map_or("", String::as_str);
    let hint = match did_you_mean(last, names.iter().copied()) {
        hint if !hint.is_empty() => hint,
        _ if names.is_empty() => String::new(),
        _ => format!("; commands are {}", names.join(", ")),
    };
    Failure::usage(format!("there is no command `{asked}`{hint}"))
}
