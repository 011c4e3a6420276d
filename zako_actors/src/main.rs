//! The binary `zako`.

use std::process::ExitCode;

fn main() -> ExitCode {
    zako_actors::cli::main()
}
