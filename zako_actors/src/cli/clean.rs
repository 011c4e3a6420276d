//! `zako clean`.

use super::args::{CleanArgs, Global};
use super::options::{Options, directory};
use super::{Exit, Failure, opened, say};
use crate::engine::scratch::remove_tree;
use crate::engine::session::Session;
use crate::engine::workspace::Workspace;

/// Removes what was built; with `--all` the cache and the state as well.
pub fn run(global: &Global, args: &CleanArgs) -> Result<Exit, Failure> {
    let workspace = Workspace::find(&directory(global)).map_err(opened::workspace_failure)?;
    let options = Options::settle(global, None, &workspace)?;
    let mut session = Session::open(
        workspace,
        options.cache.as_deref(),
        None,
        &mut opened::notice,
    )
    .map_err(|error| opened::failure(&error))?;
    let count = session.clean().map_err(|error| opened::failure(&error))?;
    say(&format!("removed {count} built files"));
    if args.all {
        let layout = session.layout.clone();
        // Where the cache lies elsewhere, the state lies beside it.
        let state = layout.state.parent().unwrap_or(&layout.private);
        // The lock goes last, with the directory that holds it.
        for dir in [&layout.store, &layout.scratch, state, &layout.private] {
            remove_tree(dir).map_err(|error| {
                Failure::work(format!("cannot remove {}: {error}", dir.display()))
            })?;
        }
        say("removed the cache and all state");
    }
    Ok(Exit::Done)
}
