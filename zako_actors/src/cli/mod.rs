//! The command line: flags to work to words.
//!
//! Owns dispatch, exit statuses and everything that is printed. Does not know how anything is
//! built. Invariants: one failure prints one line that begins with `error`; what a script reads
//! goes to standard output, failures with `--json` included, what a person reads to standard error.

mod affected;
mod argfile;
mod args;
mod build;
mod cache;
mod chrome_trace;
mod clean;
mod display;
mod doctor;
mod dry;
mod flaws;
mod graph;
mod help;
mod init;
mod interrupt;
mod labels;
mod live;
mod opened;
mod options;
#[cfg(feature = "otel")]
mod otel;
mod query;
mod reads;
mod remote;
mod run;
mod sandbox;
mod screen;
mod sink;
mod summary;
mod trace;
mod types;
mod watch;
mod why;
mod written;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Instant;

use clap::builder::Resettable;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use args::{Cli, Command};

use crate::backtrace;
use crate::diagnostic::Diagnostic;
use crate::engine::guard;
use crate::engine::sandbox::namespaces;
use crate::lang::label::Label;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// As asked.
    Done,
    /// A step failed, or something was found wrong.
    Failed,
    /// Stopped by a signal.
    Interrupted,
}

/// Why a command could not do its work.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    text: String,
    /// What of it is the mistake of which target, as far as all of it is that of a target.
    by_target: Vec<(Label, String)>,
    /// Whether it is what targets say: one may have the mistake only because another has been described.
    is_of_targets: bool,
}

impl Failure {
    /// Wrong use, or a mistake in a file that a person wrote.
    pub fn usage(message: impl std::fmt::Display) -> Self {
        Self {
            code: 2,
            text: format!("error: {message}"),
            by_target: Vec::new(),
            is_of_targets: false,
        }
    }

    /// The work itself failed.
    pub fn work(message: impl std::fmt::Display) -> Self {
        Self {
            code: 1,
            text: format!("error: {message}{}", backtrace::here()),
            by_target: Vec::new(),
            is_of_targets: false,
        }
    }

    /// What it says, without the word in front.
    pub fn text(&self) -> &str {
        self.text.trim_start_matches("error: ")
    }

    /// What it says in full.
    pub fn rendered_text(&self) -> String {
        self.text.clone()
    }

    /// A text that says "error" already.
    pub fn rendered(text: String) -> Self {
        Self {
            code: 2,
            text,
            by_target: Vec::new(),
            is_of_targets: false,
        }
    }

    /// Mistakes in files that a person wrote. One that several targets have, such as that of a module that their build files
    /// import, is told once.
    pub fn mistakes(mistakes: &[Diagnostic]) -> Self {
        let mut texts: Vec<String> = Vec::new();
        let mut first: BTreeMap<String, Option<&str>> = BTreeMap::new();
        // Of a rule it says for whom it was asked.
        let what = |mistake: &Diagnostic| Diagnostic {
            help: None,
            ..mistake.clone()
        };
        let mut by_target: BTreeMap<Label, Vec<String>> = BTreeMap::new();
        let mut is_nobodys = false;
        for mistake in mistakes {
            let target = mistake.target.as_deref();
            let what = what(mistake).to_string();
            let own = match (first.get(&what), target) {
                (None, _) => {
                    first.insert(what, target);
                    texts.push(mistake.to_string());
                    mistake.to_string()
                }
                (Some(Some(other)), Some(target)) => {
                    format!("error: {target} has the mistake that was told of {other}")
                }
                (Some(_), _) => continue,
            };
            match target.and_then(|target| Label::parse(target, "").ok()) {
                Some(target) => by_target.entry(target).or_default().push(own),
                None => is_nobodys = true,
            }
        }
        if is_nobodys {
            by_target.clear();
        }
        let by_target = by_target.into_iter();
        Self {
            by_target: by_target
                .map(|(target, texts)| (target, texts.join("\n")))
                .collect(),
            ..Self::rendered(texts.join("\n"))
        }
    }
}

/// Has variables that are set to nothing count as those that are not set.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &clap::Arg| {
        let value = arg.get_env().and_then(std::env::var_os);
        value.is_some_and(|value| value.is_empty())
    };
    command
        .mut_args(|arg| match is_empty(&arg) {
            true => arg.env(Resettable::Reset),
            false => arg,
        })
        .mut_subcommands(without_empty_variables)
}

/// Runs the program to its exit status.
pub fn main() -> ExitCode {
    let begin = Instant::now();
    let helper = guard::main(std::env::args_os());
    if let Some(status) = helper.or_else(|| namespaces::main(std::env::args_os())) {
        return status;
    }
    if let Some(offered) = labels::main(std::env::args_os()) {
        // A shell that does not listen any more has its labels.
        drop(print(offered.as_bytes()));
        return ExitCode::SUCCESS;
    }
    let arguments = match argfile::expand(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(message) => {
            say(&format!("error: {message}"));
            return ExitCode::from(2);
        }
    };
    let mut matches = without_empty_variables(Cli::command()).get_matches_from(arguments);
    let wants_json = wants_json(&matches);
    let cli = Cli::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.exit());
    if cli.global.backtrace {
        backtrace::want();
    }
    init_log(cli.global.verbose);
    match run(cli, begin) {
        Ok(Exit::Done) => ExitCode::SUCCESS,
        Ok(Exit::Failed) => ExitCode::FAILURE,
        Ok(Exit::Interrupted) => ExitCode::from(130),
        Err(failure) => {
            if wants_json {
                // What a script reads is about the failure, too; there is nobody left to tell that it cannot be.
                drop(print_json(&serde_json::json!({ "error": failure.text() })));
            }
            say(&failure.text);
            ExitCode::from(failure.code)
        }
    }
}

/// Whether `--json` was given, to whichever command.
fn wants_json(matches: &ArgMatches) -> bool {
    matches!(matches.try_get_one::<bool>("json"), Ok(Some(true)))
        || matches
            .subcommand()
            .is_some_and(|(_, below)| wants_json(below))
}

fn run(cli: Cli, begin: Instant) -> Result<Exit, Failure> {
    let global = cli.global;
    match cli.command {
        Command::Build(args) => build::run(&global, &args, build::Wanted::Targets, begin),
        Command::Test(args) => build::run(&global, &args, build::Wanted::Tests, begin),
        Command::Run(args) => run::run(&global, &args, begin),
        Command::Watch(args) => watch::run(&global, &args),
        Command::Types => types::run(&global),
        Command::Why(args) => why::run(&global, &args),
        Command::Query(args) => query::run(&global, &args),
        Command::Graph(args) => graph::run(&global, &args),
        Command::Affected(args) => affected::run(&global, &args),
        Command::Trace(args) => trace::run(&global, &args),
        Command::Clean(args) => clean::run(&global, &args),
        Command::Cache(args) => cache::run(&global, args),
        Command::Node(args) => {
            let settings = crate::node::Settings {
                data_dir: args.data_dir,
                http: args.http,
                grpc: args.grpc,
                unix: args.unix,
                tls: args.tls_cert.zip(args.tls_key),
                tls_client_ca: args.tls_client_ca,
                upstream: args.upstream,
                otel: args.otel,
                config: args.config,
            };
            crate::node::run(&settings).map_err(Failure::work)?;
            Ok(Exit::Done)
        }
        Command::Doctor(args) => doctor::run(&global, &args),
        Command::Init(args) => init::run(&global, &args),
        Command::Help { command } => help::run(&command),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "zako", &mut script);
            let script = String::from_utf8_lossy(&script).into_owned();
            print(labels::add_to(shell, script).as_bytes())?;
            Ok(Exit::Done)
        }
    }
}

/// One line for a person. A closed standard error is no reason to stop.
fn say(text: &str) {
    // In one piece: standard error writes every piece by itself.
    live::above(|| drop(io::stderr().write_all(format!("{text}\n").as_bytes())));
}

/// Bytes for a script. A reader that has seen enough is no failure.
fn print(bytes: &[u8]) -> Result<(), Failure> {
    match io::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::work(format!("cannot write the answer: {error}")))
        }
        _ => Ok(()),
    }
}

fn print_line(text: &str) -> Result<(), Failure> {
    print(format!("{text}\n").as_bytes())
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::work(format!("cannot write the answer: {error}")))?;
    print_line(&text)
}

fn init_log(verbose: bool) {
    let builder = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .without_time();
    // Reading filters costs more than a whole no-op may, so only when somebody asks.
    match std::env::var("RUST_LOG") {
        Ok(filter) => builder.with_env_filter(filter).init(),
        Err(_) => {
            let level = if verbose {
                tracing::Level::INFO
            } else {
                tracing::Level::WARN
            };
            // A watched directory that is removed is no news; what goes wrong comes as an error.
            let news = filter_fn(|event| !event.target().starts_with("notify"));
            let all = builder.with_max_level(level).finish();
            all.with(news.with_max_level_hint(level)).init();
        }
    }
}
