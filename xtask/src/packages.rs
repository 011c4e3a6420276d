//! What the build needs from the system, how its presence is seen, and what it is called by each
//! package manager.
//!
//! Owns the one table of system packages. Knows nothing of cargo or of the engines.
//! Invariant: nothing is installed without rights that are already there; otherwise the exact line
//! to type is the answer.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::command::{Steps, exists, succeeds};

/// Something that must be on the machine.
#[derive(Debug, PartialEq, Eq)]
pub struct Requirement {
    /// What it is for, as a person would say it.
    pub purpose: &'static str,
    probe: Probe,
    /// Names in the order of [`Manager::ALL`].
    names: [&'static str; 6],
}

#[derive(Debug, PartialEq, Eq)]
enum Probe {
    /// A program of this name can be started.
    Program(&'static str),
    /// pkg-config knows this library.
    Library(&'static str),
    /// A header lies in one of the usual include directories.
    Header(&'static str),
}

pub const C_COMPILER: Requirement = Requirement {
    purpose: "a C compiler and linker",
    probe: Probe::Program("cc"),
    names: [
        "build-essential",
        "gcc gcc-c++",
        "gcc gcc-c++",
        "base-devel",
        "build-base",
        "gcc",
    ],
};
pub const PKG_CONFIG: Requirement = Requirement {
    purpose: "pkg-config, which finds libraries",
    probe: Probe::Program("pkg-config"),
    names: [
        "pkg-config",
        "pkgconf-pkg-config",
        "pkg-config",
        "pkgconf",
        "pkgconf",
        "pkgconf",
    ],
};
pub const HWLOC: Requirement = Requirement {
    purpose: "hwloc, which reads cores, caches and NUMA nodes",
    probe: Probe::Library("hwloc"),
    names: [
        "libhwloc-dev",
        "hwloc-devel",
        "hwloc-devel",
        "hwloc",
        "hwloc-dev",
        "hwloc",
    ],
};
pub const UDEV: Requirement = Requirement {
    purpose: "libudev, which hwloc links",
    probe: Probe::Library("libudev"),
    names: [
        "libudev-dev",
        "systemd-devel",
        "systemd-devel",
        "systemd-libs",
        "eudev-dev",
        "",
    ],
};
pub const CMAKE: Requirement = Requirement {
    purpose: "cmake, which builds QuickJS",
    probe: Probe::Program("cmake"),
    names: ["cmake", "cmake", "cmake", "cmake", "cmake", "cmake"],
};
pub const SIMDE: Requirement = Requirement {
    purpose: "the SIMDe headers, which QuickJS's WebAssembly engine includes",
    probe: Probe::Header("simde/wasm/simd128.h"),
    names: [
        "libsimde-dev",
        "simde-devel",
        "simde-devel",
        "simde",
        "simde",
        "simde",
    ],
};
pub const NODE: Requirement = Requirement {
    purpose: "Node.js, which runs what the examples build",
    probe: Probe::Program("node"),
    names: ["nodejs", "nodejs", "nodejs20", "nodejs", "nodejs", "node"],
};
pub const NPM: Requirement = Requirement {
    purpose: "npm, which fetches the sources of the rxjs example",
    probe: Probe::Program("npm"),
    names: ["npm", "nodejs-npm", "npm20", "npm", "npm", ""],
};
pub const CURL: Requirement = Requirement {
    purpose: "curl, with which tests ask a node over HTTP/2 and TLS",
    probe: Probe::Program("curl"),
    names: ["curl", "curl", "curl", "curl", "curl", "curl"],
};

pub const CCACHE: Requirement = Requirement {
    purpose: "ccache, a client of the node",
    probe: Probe::Program("ccache"),
    names: ["ccache", "ccache", "ccache", "ccache", "ccache", "ccache"],
};
pub const BAZEL: Requirement = Requirement {
    purpose: "Bazel, a client of the node",
    probe: Probe::Program("bazel"),
    names: ["bazel-bootstrap", "", "", "bazel", "", "bazel"],
};
pub const GRADLE: Requirement = Requirement {
    purpose: "Gradle, a client of the node",
    probe: Probe::Program("gradle"),
    names: ["gradle", "gradle", "gradle", "gradle", "gradle", "gradle"],
};
pub const NGINX: Requirement = Requirement {
    purpose: "nginx, a cache behind builds and nodes, and what sends large files",
    probe: Probe::Program("nginx"),
    names: ["nginx-light", "nginx", "nginx", "nginx", "nginx", "nginx"],
};
pub const NINJA: Requirement = Requirement {
    purpose: "ninja, which tests and benchmarks compare with",
    probe: Probe::Program("ninja"),
    names: [
        "ninja-build",
        "ninja-build",
        "ninja",
        "ninja",
        "ninja-build",
        "ninja",
    ],
};
pub const STRACE: Requirement = Requirement {
    purpose: "strace, by which builds are watched and killed",
    probe: Probe::Program("strace"),
    names: ["strace", "strace", "strace", "strace", "strace", ""],
};
pub const ZIP: Requirement = Requirement {
    purpose: "zip, which makes archives for tests",
    probe: Probe::Program("zip"),
    names: ["zip", "zip", "zip", "zip", "zip", "zip"],
};
pub const GIT: Requirement = Requirement {
    purpose: "git, from which packages may come",
    probe: Probe::Program("git"),
    names: ["git", "git", "git", "git", "git", "git"],
};
pub const CPP_COMPILER: Requirement = Requirement {
    purpose: "a C++ compiler, for the rules of C++",
    probe: Probe::Program("g++"),
    names: ["g++", "gcc-c++", "gcc-c++", "gcc", "g++", "gcc"],
};
pub const SCRIPT: Requirement = Requirement {
    purpose: "script, which gives a program a terminal",
    probe: Probe::Program("script"),
    names: [
        "bsdutils",
        "util-linux-script",
        "util-linux",
        "util-linux",
        "util-linux-misc",
        "",
    ],
};
pub const PYTHON: Requirement = Requirement {
    purpose: "Python with venv, for an independent client of the node",
    probe: Probe::Program("python3"),
    names: [
        "python3-venv",
        "python3",
        "python3",
        "python",
        "python3",
        "python",
    ],
};

/// The directories in which a system header may lie.
pub const INCLUDE_DIRECTORIES: [&str; 3] = [
    "/usr/include",
    "/usr/local/include",
    "/opt/homebrew/include",
];

impl Requirement {
    fn is_met(&self) -> bool {
        match self.probe {
            Probe::Program(name) => exists(name),
            Probe::Library(name) => {
                // libudev belongs to Linux; hwloc does without elsewhere.
                (name == "libudev" && !cfg!(target_os = "linux"))
                    || succeeds("pkg-config", &["--exists", name])
            }
            Probe::Header(path) => header_directory(path).is_some(),
        }
    }
}

/// The include directory that holds a header.
pub fn header_directory(header: &str) -> Option<&'static Path> {
    INCLUDE_DIRECTORIES
        .iter()
        .map(Path::new)
        .find(|directory| directory.join(header).is_file())
}

/// A package manager that may be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manager {
    Apt,
    Dnf,
    Zypper,
    Pacman,
    Apk,
    Brew,
}

impl Manager {
    const ALL: [Self; 6] = [
        Self::Apt,
        Self::Dnf,
        Self::Zypper,
        Self::Pacman,
        Self::Apk,
        Self::Brew,
    ];

    fn program(self) -> &'static str {
        match self {
            Self::Apt => "apt-get",
            Self::Dnf => "dnf",
            Self::Zypper => "zypper",
            Self::Pacman => "pacman",
            Self::Apk => "apk",
            Self::Brew => "brew",
        }
    }

    fn install_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Apt => &["install", "--yes", "--no-install-recommends"],
            Self::Dnf => &["install", "-y"],
            Self::Zypper => &["install", "-y"],
            Self::Pacman => &["-S", "--needed"],
            Self::Apk => &["add"],
            Self::Brew => &["install"],
        }
    }

    fn name_of(self, requirement: &Requirement) -> &'static str {
        requirement.names[self as usize]
    }

    /// The words that install all of `missing`, without `sudo`.
    fn install_words(self, missing: &[&Requirement]) -> Vec<&'static str> {
        let names = missing
            .iter()
            .flat_map(|requirement| self.name_of(requirement).split_whitespace());
        std::iter::once(self.program())
            .chain(self.install_arguments().iter().copied())
            .chain(names)
            .collect()
    }
}

/// Sees to it that all of `wanted` is on the machine.
///
/// # Errors
/// When something is missing and this process may not install it: the error holds the line to type.
pub fn provide(wanted: &[&Requirement], steps: &mut Steps) -> Result<()> {
    let missing = missing_of(wanted);
    if missing.is_empty() {
        println!("    system packages: all {} are there", wanted.len());
        return Ok(());
    }
    for requirement in &missing {
        println!("    missing: {}", requirement.purpose);
    }
    let Some(manager) = Manager::ALL
        .into_iter()
        .find(|manager| exists(manager.program()))
    else {
        let names: Vec<_> = missing.iter().map(|r| Manager::Apt.name_of(r)).collect();
        bail!(
            "no package manager known here; please install what Debian calls: {}",
            names.join(" ")
        );
    };
    let words = manager.install_words(&missing);
    match (manager, privileges()) {
        (Manager::Apt, Some(prefix)) => install_with_apt(prefix, &words, steps)?,
        (Manager::Brew, _) => bail!("please type:\n    {}", words.join(" ")),
        _ => bail!("please type:\n    sudo {}", words.join(" ")),
    }
    match missing_of(wanted).first() {
        None => Ok(()),
        Some(still) => bail!("installed, and still not found: {}", still.purpose),
    }
}

fn missing_of<'a>(wanted: &[&'a Requirement]) -> Vec<&'a Requirement> {
    wanted
        .iter()
        .copied()
        .filter(|requirement| !requirement.is_met())
        .collect()
}

/// What must stand before a command that wants root: nothing for root, `sudo` where it asks for no
/// password, `None` where root cannot be had.
fn privileges() -> Option<&'static [&'static str]> {
    let user = Command::new("id").arg("-u").output().ok()?;
    if user.stdout.trim_ascii() == b"0" {
        return Some(&[]);
    }
    succeeds("sudo", &["-n", "true"]).then_some(&["sudo", "-n"])
}

fn install_with_apt(prefix: &[&str], words: &[&str], steps: &mut Steps) -> Result<()> {
    let call = |words: &[&str]| {
        let all: Vec<&str> = prefix.iter().chain(words).copied().collect();
        let mut command = Command::new(all[0]);
        command
            .args(&all[1..])
            .env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    let first_try = steps.run("install system packages", &mut call(words));
    if first_try.is_err() {
        // The usual reason is a package list that is missing (fresh containers) or too old.
        steps.run("renew the package list", &mut call(&["apt-get", "update"]))?;
        steps.run("install system packages", &mut call(words))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_every_missing_package_once() {
        let words = Manager::Apt.install_words(&[&HWLOC, &UDEV, &C_COMPILER]);
        assert_eq!(
            words.join(" "),
            "apt-get install --yes --no-install-recommends libhwloc-dev libudev-dev build-essential"
        );
        let words = Manager::Dnf.install_words(&[&C_COMPILER, &SIMDE]);
        assert_eq!(words.join(" "), "dnf install -y gcc gcc-c++ simde-devel");
    }

    #[test]
    fn a_package_that_a_system_does_not_have_leaves_no_hole() {
        let words = Manager::Brew.install_words(&[&NODE, &NPM]);
        assert_eq!(words, ["brew", "install", "node"]);
    }

    #[test]
    fn what_is_not_there_is_missing() {
        const NOTHING: Requirement = Requirement {
            purpose: "nothing",
            probe: Probe::Header("no/such/header.h"),
            names: [""; 6],
        };
        assert_eq!(missing_of(&[&NOTHING]), [&NOTHING]);
    }
}
