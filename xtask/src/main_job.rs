//! `cargo xtask run`: Zako's main job on real input, from nothing to figures.
//!
//! Builds zako, builds `examples/rxjs` with an empty cache, builds it again with nothing to do, and
//! prints what was built and how long each took. Knows of the example only where its outputs lie.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::command::{Steps, output};
use crate::engine::EngineKind;
use crate::setup;
use crate::workspace::Workspace;

/// Runs of the build that has nothing to do; the median is told.
const NO_OP_RUNS: usize = 9;

/// Sets up, builds and shows.
pub fn run(workspace: &Workspace, asked: Option<EngineKind>) -> Result<()> {
    let engine = setup::prepare(workspace, asked, &setup::FOR_EXAMPLES)?;
    let mut steps = Steps::default();
    let mut build = workspace.cargo(&["build", "--release", "--locked", "--bin", "zako"]);
    engine.for_package(&mut build);
    steps.run("build zako (a few minutes the first time)", &mut build)?;

    let example = Example::with_empty_cache(workspace)?;
    let cold = steps.run("build examples/rxjs, nothing cached", &mut example.build())?;
    let mut again = example.build();
    steps.run("build examples/rxjs again, nothing changed", &mut again)?;
    let no_op = example.time_no_op()?;

    println!("\nSummary");
    println!("    engine      {}", engine.describe());
    let (targets, files) = example.counts()?;
    println!("    targets     {targets}");
    println!("    files       {files} outputs; {}", example.files()?);
    println!(
        "    cold        {:.2} s, the download from the npm registry included",
        cold.as_secs_f64()
    );
    println!(
        "    no-op       {:.1} ms for the whole process, median of {NO_OP_RUNS}",
        no_op.as_secs_f64() * 1e3
    );
    println!("    smoke test  {}", example.smoke_result()?);
    println!(
        "\nNext: cd examples/rxjs && {} --help",
        workspace.zako("release").display()
    );
    Ok(())
}

/// The rxjs example with a cache of its own, so that a person's own builds there stay as they are.
struct Example {
    directory: PathBuf,
    cache: PathBuf,
    zako: PathBuf,
}

impl Example {
    fn with_empty_cache(workspace: &Workspace) -> Result<Self> {
        let cache = workspace.target().join("xtask/run-cache");
        match std::fs::remove_dir_all(&cache) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).context(format!("cannot empty {}", cache.display()));
            }
            _ => {}
        }
        Ok(Self {
            directory: workspace.root().join("examples/rxjs"),
            cache,
            zako: workspace.zako("release"),
        })
    }

    fn build(&self) -> Command {
        let mut zako = Command::new(&self.zako);
        zako.arg("build")
            .current_dir(&self.directory)
            .env("ZAKO_CACHE_DIR", &self.cache);
        zako
    }

    /// The median wall time of a build with nothing to do, from the start of the process to its end.
    fn time_no_op(&self) -> Result<Duration> {
        let mut times = Vec::with_capacity(NO_OP_RUNS);
        for _ in 0..NO_OP_RUNS {
            let mut command = self.build();
            command.stdout(Stdio::null()).stderr(Stdio::null());
            let begin = Instant::now();
            if !command.status()?.success() {
                bail!("a build with nothing to do failed");
            }
            times.push(begin.elapsed());
        }
        times.sort_unstable();
        Ok(times[NO_OP_RUNS / 2])
    }

    /// Targets and files in their outputs, as zako counts them.
    fn counts(&self) -> Result<(usize, usize)> {
        let json = output(self.build().arg("--json"))?;
        let figure = |name| {
            number_in(&json, name).with_context(|| format!("no `{name}` in zako's summary: {json}"))
        };
        Ok((figure("targets")?, figure("files")?))
    }

    fn files(&self) -> Result<String> {
        Ok(format!(
            "{} TypeScript and {} JavaScript sources became {} modules and {} source maps",
            count(&self.directory.join("package/src"), "ts")?,
            count(&self.directory.join("package/src"), "js")?,
            count(&self.directory.join("dist"), "js")?,
            count(&self.directory.join("dist"), "map")?,
        ))
    }

    /// The last line of what the smoke test wrote.
    fn smoke_result(&self) -> Result<String> {
        let report = self.directory.join("smoke.txt");
        let text = std::fs::read_to_string(&report)
            .with_context(|| format!("cannot read {}", report.display()))?;
        Ok(text.lines().last().unwrap_or_default().to_owned())
    }
}

/// The whole number after `"name":` in flat JSON; all that is wanted here of it.
fn number_in(json: &str, name: &str) -> Option<usize> {
    let (_, rest) = json.split_once(&format!("\"{name}\":"))?;
    let rest = rest.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    rest[..end].parse().ok()
}

/// How many files with this extension lie under a directory.
fn count(directory: &Path, extension: &str) -> Result<usize> {
    let mut found = 0;
    let entries = std::fs::read_dir(directory)
        .with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            found += count(&path, extension)?;
        } else if path.extension() == Some(extension.as_ref()) {
            found += 1;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_the_summary() {
        let json = "{\"targets\": 4,\"files\":12,\"engine\":\"V8\"}";
        assert_eq!(number_in(json, "targets"), Some(4));
        assert_eq!(number_in(json, "files"), Some(12));
        assert_eq!(number_in(json, "engine"), None);
    }

    #[test]
    fn files_are_counted_in_depth_by_extension() {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let direct = ["main.rs", "tidy"].map(|name| sources.join(name).exists());
        assert_eq!(direct, [true, true]);
        let all = count(&sources, "rs").unwrap();
        let tidy = count(&sources.join("tidy"), "rs").unwrap();
        assert!(tidy >= 4 && all > tidy);
        assert_eq!(count(&sources, "ts").unwrap(), 0);
    }
}
