//! `zako clean`.

use std::fs;

use super::args::{CleanArgs, Global};
use super::options::{Options, directory};
use super::{Exit, Failure, opened, say};
use crate::engine::scratch::remove_tree;
use crate::engine::session::Session;
use crate::engine::workspace::{Layout, Workspace};

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
    let cleaned = session.clean(args.all);
    let cleaned = cleaned.map_err(|error| opened::failure(&error))?;
    say(&format!("removed {} built files", cleaned.removed));
    let kept = cleaned.kept;
    match cleaned.is_known {
        true if kept == 0 => {}
        true => say(&format!("kept {kept} that git knows")),
        false => say(&format!("kept {kept} that git may know")),
    }
    if args.all {
        remove_all(&session.layout, kept > 0)?;
        say("removed the cache and all state");
    }
    Ok(Exit::Done)
}

/// Removes the cache and all state, but for the list of what zako wrote where some of that stays.
fn remove_all(layout: &Layout, has_kept: bool) -> Result<(), Failure> {
    // Where the cache lies elsewhere, the state lies beside it.
    let state = layout.state.parent().unwrap_or(&layout.private);
    let mut gone = vec![layout.store.clone(), layout.scratch.clone()];
    if has_kept {
        let entries = fs::read_dir(&layout.private)
            .into_iter()
            .flatten()
            .flatten();
        let entries = entries.map(|entry| entry.path());
        let ignore = layout.private.join(".gitignore");
        let stays = [&layout.outputs, &ignore, &layout.lock];
        gone.extend(entries.filter(|path| !stays.contains(&path)));
        gone.extend((state != layout.private).then(|| state.to_owned()));
        gone.push(layout.lock.clone());
    } else {
        // The lock goes last, with the directory that holds it.
        gone.extend([state.to_owned(), layout.private.clone()]);
    }
    for path in &gone {
        let removed = match path.is_dir() {
            false if path.symlink_metadata().is_ok() => fs::remove_file(path),
            _ => remove_tree(path),
        };
        removed
            .map_err(|error| Failure::work(format!("cannot remove {}: {error}", path.display())))?;
    }
    Ok(())
}
