//! Which JavaScript engine is built into zako, and what cargo must be told for it.
//!
//! Owns the search for V8's prebuilt library and the recipe for QuickJS. Knows nothing of what the
//! engine is used for.
//! Invariant: the choice is made once per xtask run and every cargo call of that run gets it, so
//! that nothing is compiled twice for two engines by accident.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use crate::command::{output, succeeds};
use crate::packages;
use crate::workspace::Workspace;

/// Seconds that a server may take to say whether it has the library.
const PROBE_SECONDS: &str = "8";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    V8,
    QuickJs,
}

impl FromStr for EngineKind {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "v8" => Ok(Self::V8),
            "quickjs" => Ok(Self::QuickJs),
            other => bail!("no engine `{other}`; there are `v8` and `quickjs`"),
        }
    }
}

/// An engine that can be built here.
#[derive(Debug)]
pub enum Engine {
    /// V8 from a prebuilt library.
    V8(Library),
    /// QuickJS-ng from its sources, and why it was taken.
    QuickJs {
        why: String,
        /// Tells CMake where SIMDe's headers are; `None` leaves it to download them.
        toolchain: Option<PathBuf>,
    },
}

/// Where V8's library comes from.
#[derive(Debug, PartialEq, Eq)]
pub enum Library {
    /// The environment already names it.
    Environment(String),
    /// An archive on this machine.
    File(PathBuf),
    /// The crate's build script downloads it.
    Download,
}

impl Engine {
    /// Finds out which engine can be built, V8 first unless one is asked for.
    ///
    /// # Errors
    /// When V8 is asked for, by option or by environment, and cannot be had.
    pub fn choose(workspace: &Workspace, asked: Option<EngineKind>) -> Result<Self> {
        if asked == Some(EngineKind::QuickJs) {
            return Ok(Self::quickjs("it was asked for".to_owned()));
        }
        match find_v8(workspace)? {
            Ok(library) => Ok(Self::V8(library)),
            Err(why) if asked == Some(EngineKind::V8) => bail!("V8 cannot be had: {why}"),
            Err(why) => Ok(Self::quickjs(why)),
        }
    }

    fn quickjs(why: String) -> Self {
        Self::QuickJs {
            why,
            toolchain: None,
        }
    }

    /// Writes what the engine's own build reads; to be called once its packages are there.
    pub fn prepare(&mut self, workspace: &Workspace) -> Result<()> {
        if let Self::QuickJs { toolchain, .. } = self {
            *toolchain = write_simde_toolchain(workspace)?;
        }
        Ok(())
    }

    pub fn kind(&self) -> EngineKind {
        match self {
            Self::V8(_) => EngineKind::V8,
            Self::QuickJs { .. } => EngineKind::QuickJs,
        }
    }

    /// One line about the choice.
    pub fn describe(&self) -> String {
        match self {
            Self::V8(Library::Environment(value)) => format!("V8, from RUSTY_V8_ARCHIVE ({value})"),
            Self::V8(Library::File(path)) => format!("V8, from {}", path.display()),
            Self::V8(Library::Download) => "V8, downloaded by its crate".to_owned(),
            Self::QuickJs { why, .. } => format!("QuickJS, slower than V8, because {why}"),
        }
    }

    /// The name in a summary.
    pub fn name(&self) -> &'static str {
        match self {
            Self::V8(_) => "V8",
            Self::QuickJs { .. } => "QuickJS",
        }
    }

    /// Makes a cargo call build `zako_actors`, and nothing else, with this engine.
    pub fn for_package(&self, cargo: &mut Command) {
        cargo.args(["--package", "zako_actors"]);
        if self.kind() == EngineKind::QuickJs {
            cargo.args(["--no-default-features", "--features", "quickjs"]);
        }
        self.environment(cargo);
    }

    /// Makes a cargo call build every member of the workspace with this engine.
    pub fn for_workspace(&self, cargo: &mut Command) {
        cargo.arg("--workspace");
        match self.kind() {
            EngineKind::V8 => cargo.args(["--features", "bench_harness/zako,bench_harness/peers"]),
            EngineKind::QuickJs => {
                let features = "zako_actors/quickjs,bench_harness/quickjs,actor_rt/derive,actor_rt/remote,actor_rt/topology";
                cargo.args(["--no-default-features", "--features", features])
            }
        };
        self.environment(cargo);
    }

    fn environment(&self, cargo: &mut Command) {
        match self {
            Self::V8(Library::File(path)) => cargo.env("RUSTY_V8_ARCHIVE", path),
            Self::QuickJs {
                toolchain: Some(path),
                ..
            } => cargo.env("CMAKE_TOOLCHAIN_FILE", path),
            _ => cargo,
        };
    }
}

/// V8's library, or the reason why there is none.
fn find_v8(workspace: &Workspace) -> Result<Result<Library, String>> {
    if let Ok(value) = std::env::var("RUSTY_V8_ARCHIVE") {
        if !value.contains("://") && !Path::new(&value).is_file() {
            bail!("RUSTY_V8_ARCHIVE names {value}, which is no file; correct or unset it");
        }
        return Ok(Ok(Library::Environment(value)));
    }
    let version = workspace.locked_version("v8")?;
    let archive = format!(
        "librusty_v8_simdutf_release_{}.a.gz",
        host_triple().context("cannot ask rustc for this machine's triple")?
    );
    let mut rejected = String::new();
    for directory in archive_directories(workspace, &version) {
        let path = directory.join(&archive);
        if !path.is_file() {
            continue;
        }
        match fits(&path, &version) {
            Ok(()) => return Ok(Ok(Library::File(path))),
            Err(why) => write!(rejected, "{} {why}; ", path.display())?,
        }
    }
    if downloaded_before(workspace, &version, &archive) {
        return Ok(Ok(Library::Download));
    }
    let base = std::env::var("RUSTY_V8_MIRROR")
        .unwrap_or_else(|_| "https://github.com/denoland/rusty_v8/releases/download".to_owned());
    let url = format!("{base}/v{version}/{archive}");
    if is_reachable(&url) {
        return Ok(Ok(Library::Download));
    }
    Ok(Err(format!(
        "{rejected}no prebuilt V8 {version} is on this machine and {url} cannot be reached"
    )))
}

fn archive_directories(workspace: &Workspace, version: &str) -> Vec<PathBuf> {
    let beside = workspace.root().parent();
    let mut directories: Vec<PathBuf> = beside
        .map(|dir| dir.join("shared/v8"))
        .into_iter()
        .collect();
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    if let Some(cache) = cache {
        let ours = cache.join("zako/v8");
        directories.push(ours.join(version));
        directories.push(ours);
    }
    directories
}

/// Whether an archive is the one for this version, as far as a `README.md` beside it tells.
fn fits(archive: &Path, version: &str) -> Result<(), String> {
    let readme = archive.with_file_name("README.md");
    let Ok(text) = std::fs::read_to_string(readme) else {
        return Ok(());
    };
    if !text.contains(version) {
        return Err(format!("is described as another version than {version}"));
    }
    let Some(expected) = first_sha256(&text) else {
        return Ok(());
    };
    let sum = output(Command::new("sha256sum").arg(archive))
        .or_else(|_| output(Command::new("shasum").args(["-a", "256"]).arg(archive)));
    match sum {
        Ok(line) if !line.starts_with(expected) => {
            Err(format!("is damaged: its SHA-256 is not {expected}"))
        }
        _ => Ok(()),
    }
}

fn first_sha256(text: &str) -> Option<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .find(|word| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The crate keeps what it downloaded, and the URL it came from beside it.
fn downloaded_before(workspace: &Workspace, version: &str, archive: &str) -> bool {
    let end = format!("/v{version}/{archive}");
    ["release", "debug"].iter().all(|profile| {
        let note = workspace
            .target()
            .join(profile)
            .join("gn_out/obj/librusty_v8.sum");
        std::fs::read_to_string(note).is_ok_and(|url| url.trim().ends_with(&end))
    })
}

fn is_reachable(url: &str) -> bool {
    let curl = ["--silent", "--fail", "--head", "--location", "--max-time"];
    let arguments: Vec<&str> = curl.into_iter().chain([PROBE_SECONDS, url]).collect();
    if succeeds("curl", &arguments) {
        return true;
    }
    let script = "import sys, urllib.request as r\n\
                  r.urlopen(r.Request(sys.argv[1], method='HEAD'), timeout=float(sys.argv[2]))";
    succeeds("python3", &["-c", script, url, PROBE_SECONDS])
}

fn host_triple() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let text = output(Command::new(rustc).arg("-vV"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .context("`rustc -vV` names no host")
}

/// QuickJS's WebAssembly engine fetches SIMDe from GitHub unless CMake is told where it is.
///
/// SIMDe's own directory is given to CMake through a link: `/usr/include` itself as a system
/// include directory would hide the C++ library's wrappers of the C headers.
fn write_simde_toolchain(workspace: &Workspace) -> Result<Option<PathBuf>> {
    let Some(include) = packages::header_directory("simde/wasm/simd128.h") else {
        return Ok(None);
    };
    let directory = workspace.target().join("xtask/simde");
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    let link = directory.join("simde");
    if !link.exists() {
        link_directory(&include.join("simde"), &link)
            .with_context(|| format!("cannot link {}", link.display()))?;
    }
    let file = directory.join("toolchain.cmake");
    let text = format!(
        "set(FETCHCONTENT_SOURCE_DIR_SIMDE \"{}\" CACHE PATH \"SIMDe of the system\" FORCE)\n",
        directory.display()
    );
    // Written only when different: cargo watches it through CMake's own dependency files.
    if std::fs::read_to_string(&file).ok().as_deref() != Some(text.as_str()) {
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(Some(file))
}

#[cfg(unix)]
fn link_directory(to: &Path, at: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(to, at)
}

#[cfg(not(unix))]
fn link_directory(_to: &Path, _at: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_found_in_prose() {
        let sum = "f".repeat(64);
        let text = format!("Version 1.2.3.\n\nsha256: {sum}\n");
        assert_eq!(first_sha256(&text), Some(sum.as_str()));
        assert_eq!(first_sha256("sha256: none"), None);
    }

    #[test]
    fn an_archive_of_another_version_or_content_is_refused() {
        let directory = std::env::temp_dir().join(format!("xtask-fits-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let archive = directory.join("library.a.gz");
        std::fs::write(&archive, "not V8").unwrap();
        assert_eq!(fits(&archive, "1.2.3"), Ok(()));

        let readme = directory.join("README.md");
        std::fs::write(&readme, "Version 1.2.2").unwrap();
        assert!(
            fits(&archive, "1.2.3")
                .unwrap_err()
                .contains("another version")
        );
        std::fs::write(&readme, format!("Version 1.2.3, {}", "0".repeat(64))).unwrap();
        assert!(fits(&archive, "1.2.3").unwrap_err().contains("damaged"));
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn quickjs_turns_the_default_engine_off() {
        let engine = Engine::quickjs(String::new());
        let mut cargo = Command::new("cargo");
        engine.for_package(&mut cargo);
        let words: Vec<_> = cargo
            .get_args()
            .map(|word| word.to_str().unwrap())
            .collect();
        assert_eq!(
            words.join(" "),
            "--package zako_actors --no-default-features --features quickjs"
        );
    }
}
