//! `bench_harness`: the program. See the crate documentation for the rules it measures by.
#![forbid(unsafe_code)]

mod cli;

use bench_harness::measure::measure;
use bench_harness::{scenario, table};
use clap::Parser as _;

use cli::{Cli, Command, LoadArgs};

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::List => {
            for scenario in scenario::ALL {
                println!(
                    "{:<16}{} [{}]",
                    scenario.name,
                    scenario.about,
                    scenario.unit.label()
                );
            }
            Ok(())
        }
        Command::Run { scenarios, load } => run(&scenarios, &load, false),
        Command::Compare { scenarios, load } => {
            if !cfg!(feature = "peers") {
                anyhow::bail!(
                    "the peers are not compiled in; run `cargo run --release -p bench_harness --features peers -- compare …`"
                );
            }
            run(&scenarios, &load, true)
        }
    }
}

fn run(names: &[String], load: &LoadArgs, peers: bool) -> anyhow::Result<()> {
    let mut options = load.options()?;
    options.peers = peers;
    for scenario in cli::scenarios(names)? {
        let outcome = measure(scenario, &options)?;
        if load.json {
            println!("{}", serde_json::to_string(&outcome)?);
        } else {
            println!("{}", table::render(&outcome));
        }
    }
    Ok(())
}
