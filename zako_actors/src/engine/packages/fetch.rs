//! One package, fetched from where it comes from.
//!
//! Owns what is asked of whom for each kind of origin, and the comparison of digests. Does not know what was
//! there before, nor where the package goes.
//! Invariant: an archive is unpacked only after its digest was found to be the one that it must have.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use url::Url;

use super::git::Repository;
use super::npm;
use super::porter::{Brought, NewDir, Porter};
use super::tree::Tree;
use super::web::{Web, Wish};
use super::{Package, Problem, archive, changed, local};
use crate::lang::dependency::Origin;
use crate::lang::integrity::{Function, Hashing, Integrity};
use crate::lang::manifest::MANIFEST;
use crate::lang::npmrc::Npmrc;
use crate::texts::read_text;

/// Where the file of an archive is put.
const ARCHIVE: &str = "archive";

impl Porter<'_> {
    /// Fetches a package into `new`.
    pub(super) fn fetch(&self, package: &Package<'_>, new: &NewDir) -> Result<Brought, Problem> {
        let limits = &self.workspace.manifest.settings.packages;
        let file = new.0.join(ARCHIVE);
        let (integrity, commit) = match &package.fetched.origin {
            origin @ Origin::Archive { url, integrity } => {
                match local::archive(&self.workspace.root, origin) {
                    Some(archive) => archive.copy(limits.max_download, &file)?,
                    None => self.download(&Url::parse(url)?, &file)?,
                }
                let locked = package.locked.and_then(|locked| locked.integrity.as_ref());
                let found = verified(url, &file, integrity.as_ref(), locked)?;
                (Some(found), None)
            }
            Origin::Npm { name, version } => (Some(self.npm(package, name, version, new)?), None),
            Origin::Git { repo, checkout } => {
                let repository = Repository::create(new.0.join("git"), limits.max_download)?;
                let locked = package.locked.and_then(|locked| locked.commit.as_deref());
                let commit =
                    repository.fetch(&self.workspace.root, repo, locked.unwrap_or(checkout))?;
                let mut tree = Tree::new(new.empty("files")?, limits);
                repository.unpack(&commit, &mut tree)?;
                return Ok(Brought {
                    dir: tree.finish(false)?,
                    commit: Some(commit),
                    integrity: None,
                });
            }
        };
        let mut tree = Tree::new(new.empty("files")?, limits);
        archive::unpack(&file, &mut tree)?;
        Ok(Brought {
            dir: tree.finish(true)?,
            commit,
            integrity,
        })
    }

    fn download(&self, url: &Url, to: &Path) -> Result<(), Problem> {
        let nothing = |_: &Url| None;
        let wish = Wish {
            url,
            accept: "*/*",
            authorization: &nothing,
            limit: self.workspace.manifest.settings.packages.max_download,
        };
        Ok(self.web(None)?.download(&wish, to)?)
    }

    fn web(&self, authorities: Option<&Path>) -> Result<Web, Problem> {
        Web::new(self.runtime.clone(), authorities).map_err(|message| Problem {
            message,
            help: None,
        })
    }

    fn npm(
        &self,
        package: &Package<'_>,
        name: &str,
        version: &str,
        new: &NewDir,
    ) -> Result<Integrity, Problem> {
        let npmrc = npmrc(&self.workspace.root);
        let problem = |message| Problem {
            message,
            help: None,
        };
        let registry = npmrc.registry(name).map_err(|text| {
            problem(format!(
                "the npm registry `{text}`, from .npmrc or the environment, is no address"
            ))
        })?;
        let authorities = npmrc
            .authorities()
            .map(|path| self.workspace.root.join(path));
        let web = self.web(authorities.as_deref())?;
        let authorization = |url: &Url| npmrc.authorization(url);
        let document = npm::document(&registry, name);
        let document =
            document.ok_or_else(|| problem(format!("`{name}` has no address at {registry}")))?;
        let described = new.0.join("npm.json");
        let wish = Wish {
            url: &document,
            accept: npm::ACCEPT,
            authorization: &authorization,
            limit: npm::LONGEST,
        };
        web.download(&wish, &described)?;
        let tarball =
            npm::tarball(&fs::read(&described)?, &registry, name, version).map_err(problem)?;
        let locked = package.locked.and_then(|locked| locked.integrity.as_ref());
        if let Some(locked) = locked.filter(|locked| **locked != tarball.integrity) {
            let source = package.fetched.origin.source();
            return Err(changed(
                &source,
                &locked.to_string(),
                &tarball.integrity.to_string(),
            ));
        }
        let file = new.0.join(ARCHIVE);
        let wish = Wish {
            url: &tarball.url,
            accept: "*/*",
            authorization: &authorization,
            limit: self.workspace.manifest.settings.packages.max_download,
        };
        web.download(&wish, &file)?;
        let found = digest(&file, tarball.integrity.function())?;
        match found == tarball.integrity {
            true => Ok(found),
            false => Err(problem(format!(
                "{} has the digest {found}, but {registry} says {}; it was damaged or replaced on its way",
                tarball.url, tarball.integrity
            ))),
        }
    }
}

/// The digest of the archive `file`, which comes from `url`, when it is what is declared, and what was locked.
pub(super) fn verified(
    url: &str,
    file: &Path,
    declared: Option<&Integrity>,
    locked: Option<&Integrity>,
) -> Result<Integrity, Problem> {
    let expected = declared.or(locked);
    let found = digest(file, expected.map_or(Function::Sha256, Integrity::function))?;
    if let Some(declared) = declared.filter(|declared| **declared != found) {
        return Err(undeclared(url, declared, &found));
    }
    if let Some(locked) = locked.filter(|locked| **locked != found) {
        return Err(changed(url, &locked.to_string(), &found.to_string()));
    }
    Ok(found)
}

fn undeclared(url: &str, expected: &Integrity, found: &Integrity) -> Problem {
    Problem {
        message: format!("{url} has the digest {found}, but {MANIFEST} says {expected}"),
        help: Some("if you trust the new one, write its digest there; if not, find out who changed it before you build".to_owned()),
    }
}

fn digest(file: &Path, function: Function) -> io::Result<Integrity> {
    let mut file = File::open(file)?;
    let mut hashing = Hashing::new(function);
    let mut piece = vec![0; 64 * 1024];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hashing.finish()),
            length => hashing.update(&piece[..length]),
        }
    }
}

/// What npm is told: by the environment, by the workspace, by the user.
fn npmrc(root: &Path) -> Npmrc {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut npmrc = Npmrc::default();
    for name in ["npm_config_registry", "NPM_CONFIG_REGISTRY"] {
        if let Some(registry) = variable(name) {
            npmrc.set("registry", &registry);
        }
    }
    let home = variable("HOME").map(|home| Path::new(&home).join(".npmrc"));
    let user = variable("NPM_CONFIG_USERCONFIG").map(Into::into).or(home);
    for file in [Some(root.join(".npmrc")), user].into_iter().flatten() {
        // One that is not there says nothing.
        if let Ok(text) = read_text(&file) {
            npmrc.add(&text, &variable);
        }
    }
    npmrc
}
