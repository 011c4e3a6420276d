//! Random edits of the monorepo: what people, editors, version control and accidents do to one.
//!
//! Owns the kinds of edit and how often each comes. Does not know what has to run because of them.
//! Invariants: every edit is made below all roots alike, but that only the first root has its outputs
//! spoilt: below the others, which are ninja's, they are removed, since ninja does not look into
//! files; a package never runs out of sources; dependencies go to earlier packages.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::{Monorepo, Package, Step, dir, files};

impl Monorepo {
    /// Makes one to four edits below all `roots`. Tells them in words.
    ///
    /// # Panics
    /// When the disk refuses, as every function here.
    pub fn edit(&mut self, roots: &[&Path]) -> Vec<String> {
        let edits = (0..self.rng.usize(1..=4)).map(|_| match self.rng.u8(0..20) {
            0..=8 => self.edit_source(roots),
            9..=13 => self.edit_build_file(roots),
            14..=16 => self.spoil(roots),
            17 => self.permit(roots),
            18 => self.remove_package(roots),
            _ => self.add_package(roots),
        });
        let edits = edits.collect();
        self.write_zako(&roots[..1]);
        edits
    }

    fn any_package(&mut self) -> usize {
        let numbers: Vec<usize> = self.packages.keys().copied().collect();
        numbers[self.rng.usize(0..numbers.len())]
    }

    fn any_source(&mut self, root: &Path) -> (String, usize) {
        let present = files(root, &format!("{}/src", dir(self.any_package())));
        (
            present[self.rng.usize(0..present.len())].clone(),
            present.len(),
        )
    }

    fn edit_source(&mut self, roots: &[&Path]) -> String {
        let (path, present) = self.any_source(roots[0]);
        let old = fs::read_to_string(roots[0].join(&path)).expect("it is there");
        let remove = |path: &str| {
            for root in roots {
                fs::remove_file(root.join(path)).expect("it was there");
            }
        };
        let (what, path, new) = match self.rng.u8(0..8) {
            0 => {
                let new = old.replacen("# comment ", "# another comment ", 1);
                ("comment in", path, new)
            }
            1 => ("body of", path, old.replacen("body ", "new body ", 1)),
            2 => ("export of", path, old.replacen("export ", "export new ", 1)),
            3 => {
                let known = &self.history[&path];
                let known = known[self.rng.usize(0..known.len())].clone();
                ("back to an earlier", path, known)
            }
            4 => ("touched", path, old),
            5 if present > 1 => {
                remove(&path);
                return format!("removed {path}");
            }
            6 => {
                let (dir, _) = path.rsplit_once('/').expect("a path");
                let path = format!("{dir}/f{}.txt", self.rng.u8(3..8));
                ("wrote", path, self.text())
            }
            _ => {
                remove(&path);
                ("gone and back again", path, old)
            }
        };
        self.put(roots, &path, &new);
        format!("{what} {path}")
    }

    /// The files are written when all edits are made.
    fn edit_build_file(&mut self, roots: &[&Path]) -> String {
        let number = self.any_package();
        let earlier: Vec<usize> = self.packages.range(..number).map(|(n, _)| *n).collect();
        let value = self.rng.u8(0..4);
        let other = (!earlier.is_empty()).then(|| earlier[self.rng.usize(0..earlier.len())]);
        let kind = self.rng.u8(0..9);
        let package = self.packages.get_mut(&number).expect("one of them");
        let what = match (kind, other) {
            (0, _) => {
                package.mark = value;
                "MARK"
            }
            (1, _) => {
                package.quiet = value;
                "QUIET"
            }
            (2, _) => {
                package.words = value;
                "command of lib"
            }
            (3, _) => {
                package.line = value;
                "command of api"
            }
            (4, _) => {
                package.elsewhere = !package.elsewhere;
                // Ninja would take it for up to date if it became an output again.
                for root in &roots[1..] {
                    let path = |name| root.join(format!("{}/{name}.out", dir(number)));
                    let _ = fs::remove_file(path("app"));
                    let _ = fs::remove_file(path("other"));
                }
                "output of app"
            }
            (5, _) => {
                package.more = !package.more;
                for root in &roots[1..] {
                    let _ = fs::remove_file(root.join(format!("{}/more.out", dir(number))));
                }
                "step more"
            }
            (6..=7, Some(other)) => {
                if !package.deps.remove(&other) {
                    package.deps.insert(other);
                }
                "dependencies"
            }
            _ => {
                package.comment = package.comment.wrapping_add(1);
                "comment"
            }
        };
        format!("{what} in the build file of {number}")
    }

    /// Has an output not be what its step wrote.
    fn spoil(&mut self, roots: &[&Path]) -> String {
        let steps = self.steps();
        let Step { output, .. } = &steps[self.rng.usize(0..steps.len())];
        let path = roots[0].join(output);
        for root in &roots[1..] {
            // It may have been removed before.
            let _ = fs::remove_file(root.join(output));
        }
        let is_file = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file());
        match self.rng.u8(0..6) {
            0 if is_file => {
                fs::write(&path, "damaged\n").expect("room");
                format!("overwrote {output}")
            }
            1 if is_file => {
                let mut text = fs::read(&path).expect("it is there");
                text.push(b'!');
                fs::write(&path, text).expect("room");
                format!("added to {output}")
            }
            2 if is_file => {
                // As an accident does: without a new time.
                let metadata = fs::metadata(&path).expect("it is there");
                fs::write(&path, "").expect("room");
                let file = fs::File::options().write(true).open(&path);
                let time = metadata.modified().expect("a time");
                file.and_then(|file| file.set_modified(time)).expect("ours");
                format!("emptied {output}")
            }
            3 if is_file => {
                fs::remove_file(&path).expect("it is there");
                symlink("BUILD.ts", &path).expect("room");
                format!("linked {output}")
            }
            _ => {
                let _ = fs::remove_file(&path);
                format!("removed {output}")
            }
        }
    }

    /// Changes the permissions of a source below all roots, or of an output below the first one.
    fn permit(&mut self, roots: &[&Path]) -> String {
        if self.rng.bool() {
            let (path, _) = self.any_source(roots[0]);
            roots.iter().for_each(|root| toggle(&root.join(&path)));
            return format!("permissions of {path}");
        }
        let steps = self.steps();
        let path = &steps[self.rng.usize(0..steps.len())].output;
        let full = roots[0].join(path);
        if fs::symlink_metadata(&full).is_ok_and(|metadata| metadata.is_file()) {
            toggle(&full);
        }
        format!("permissions of {path}")
    }

    fn remove_package(&mut self, roots: &[&Path]) -> String {
        if self.packages.len() < 4 {
            return "nothing".to_owned();
        }
        let number = self.any_package();
        let mut package = self.packages.remove(&number).expect("one of them");
        for other in self.packages.values_mut() {
            other.deps.remove(&number);
        }
        for path in files(roots[0], &format!("{}/src", dir(number))) {
            let text = fs::read_to_string(roots[0].join(&path)).expect("it is there");
            package.sources.insert(path, text);
        }
        self.gone.push((number, package));
        // Whoever removes sources by hand leaves the outputs, and zako takes them away.
        let whole = self.rng.bool();
        for root in &roots[usize::from(!whole)..] {
            fs::remove_dir_all(root.join(dir(number))).expect("it was there");
        }
        if !whole {
            let dir = roots[0].join(dir(number));
            // It is not there yet when the package was added just before.
            let _ = fs::remove_file(dir.join("BUILD.ts"));
            fs::remove_dir_all(dir.join("src")).expect("it was there");
        }
        format!(
            "removed package {number}{}",
            if whole { " whole" } else { "" }
        )
    }

    /// Adds a package: a new one, or the last that was removed.
    pub(super) fn add_package(&mut self, roots: &[&Path]) -> String {
        let back = if self.rng.bool() {
            self.gone.pop()
        } else {
            None
        };
        if let Some((number, mut package)) = back {
            package.deps.retain(|dep| self.packages.contains_key(dep));
            for (path, text) in std::mem::take(&mut package.sources) {
                self.put(roots, &path, &text);
            }
            self.packages.insert(number, package);
            return format!("package {number} came back");
        }
        let number = self.made;
        self.made += 1;
        let known: Vec<usize> = self.packages.keys().copied().collect();
        let some = self.rng.usize(0..=3).min(known.len());
        let deps = (0..some).map(|_| known[self.rng.usize(0..known.len())]);
        let package = Package {
            deps: deps.collect(),
            ..Package::default()
        };
        for source in 0..self.rng.usize(1..=3) {
            let text = self.text();
            self.put(roots, &format!("{}/src/f{source}.txt", dir(number)), &text);
        }
        self.packages.insert(number, package);
        format!("added package {number}")
    }

    fn text(&mut self) -> String {
        let number = self.rng.u32(..);
        format!("export name{number}\n# comment {number}\nbody {number}\n")
    }

    fn put(&mut self, roots: &[&Path], path: &str, text: &str) {
        for root in roots {
            let full = root.join(path);
            fs::create_dir_all(full.parent().expect("a directory")).expect("room");
            fs::write(full, text).expect("room");
        }
        let history = self.history.entry(path.to_owned()).or_default();
        history.push(text.to_owned());
    }
}

/// Has a file be executable, or not any more.
fn toggle(path: &Path) {
    let mode = fs::metadata(path).expect("it is there").mode();
    let permissions = fs::Permissions::from_mode((mode & 0o777) ^ 0o100);
    fs::set_permissions(path, permissions).expect("it is ours");
}
