//! The source files of one evaluation.
//!
//! Owns: finding, reading and checking every file that an entry reaches by imports.
//! Does not know: the JavaScript engine; it is given finished text.
//! Invariants: no file outside the workspace root is read (`workspace`); every file
//! read is listed with its digest, every path tried in vain is listed too; all mistakes of all
//! files are reported together.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::path::Path;
use std::rc::Rc;

use crate::diagnostic::Diagnostic;
use crate::lang::suggest::nearest;
use crate::texts::what_else;
use crate::transpile::{ImportSite, is_relative, join_relative};

use super::compile::{Compiler, Module, is_json};
use super::embedded;
use super::kinds::{FileKind, Refusal, check_file, check_module};
use super::workspace::Workspace;
use super::{ContextKind, LoadedModule};

/// Extensions that build files may have, in the order in which they are tried.
const EXTENSIONS: [&str; 4] = ["ts", "mts", "js", "mjs"];

/// All files reached so far.
pub(super) struct ModuleGraph {
    workspace: Workspace,
    entry: String,
    entry_kind: FileKind,
    compiler: Rc<RefCell<Compiler>>,
    modules: BTreeMap<String, Rc<Module>>,
    digests: BTreeMap<String, String>,
    absent: BTreeSet<String>,
    /// Whether something could not be read that is there.
    is_unread: bool,
}

impl ModuleGraph {
    /// Loads the entry and everything that it imports.
    ///
    /// # Errors
    /// All mistakes found; the graph still knows what was read.
    pub fn load(
        root: &Path,
        entry: &str,
        context: ContextKind,
        compiler: &Rc<RefCell<Compiler>>,
    ) -> (Self, Result<(), Vec<Diagnostic>>) {
        let mut workspace = Workspace::at(root);
        let opened = workspace.open();
        let mut graph = Self {
            workspace,
            entry: entry.to_owned(),
            entry_kind: context.entry_kind(),
            compiler: Rc::clone(compiler),
            modules: BTreeMap::new(),
            digests: BTreeMap::new(),
            absent: BTreeSet::new(),
            is_unread: false,
        };
        if let Err(error) = opened {
            let message = format!("cannot open the workspace `{}`: {error}", root.display());
            return (graph, Err(vec![Diagnostic::error(message)]));
        }
        if entry.split('/').any(|part| matches!(part, "" | "." | "..")) {
            let message = format!("`{entry}` is not a path inside the workspace");
            return (graph, Err(vec![Diagnostic::error(message)]));
        }
        let result = graph.load_from(entry);
        (graph, result)
    }

    /// The file that all others were loaded for.
    pub fn entry(&self) -> &str {
        &self.entry
    }

    /// A loaded file.
    pub fn get(&self, path: &str) -> Option<&Module> {
        self.modules.get(path).map(Rc::as_ref)
    }

    /// All loaded files by path.
    pub fn files(&self) -> impl Iterator<Item = (&str, &Module)> {
        let modules = self.modules.iter();
        modules.map(|(path, module)| (path.as_str(), module.as_ref()))
    }

    /// Every file read, with the digest of its bytes.
    pub fn loaded(&self) -> Vec<LoadedModule> {
        let digests = self.digests.iter();
        digests
            .map(|(path, digest)| LoadedModule {
                path: path.clone(),
                digest: digest.clone(),
            })
            .collect()
    }

    /// Every path that was tried and does not exist; creating one could change the result.
    pub fn absent(&self) -> Vec<String> {
        self.absent.iter().cloned().collect()
    }

    /// Digests of the files read, by path.
    pub fn digests(&self) -> &BTreeMap<String, String> {
        &self.digests
    }

    /// Paths tried in vain.
    pub fn absent_paths(&self) -> &BTreeSet<String> {
        &self.absent
    }

    /// Whether there is something at a path that was tried, and it could not be read.
    pub fn is_unread(&self) -> bool {
        self.is_unread
    }

    /// Whether no module keeps anything from one call of its functions to the next, once all are frozen.
    pub fn is_lasting(&self) -> bool {
        self.modules.values().all(|module| module.is_lasting)
    }

    /// Loads `path` and what it imports, unless that happened before.
    pub fn load_from(&mut self, path: &str) -> Result<(), Vec<Diagnostic>> {
        let mut mistakes = Vec::new();
        let mut queue = VecDeque::from([path.to_owned()]);
        while let Some(path) = queue.pop_front() {
            if self.modules.contains_key(&path) {
                continue;
            }
            match self.load_one(&path) {
                Ok(imports) => queue.extend(imports),
                Err(found) => mistakes.extend(found),
            }
        }
        if mistakes.is_empty() {
            Ok(())
        } else {
            Err(mistakes)
        }
    }

    /// Resolves an import of `importer` to a path (`Ok(None)`: a `zako:` module without one).
    pub fn resolve(&mut self, importer: &str, specifier: &str) -> Result<Option<String>, Refusal> {
        let kind = self.kind_of(importer);
        if !is_relative(specifier) {
            check_module(kind, specifier)?;
            return Ok(embedded::path_of(specifier).map(str::to_owned));
        }
        let Some(target) = join_relative(importer, specifier) else {
            return Err(Refusal {
                message: format!("`{specifier}` leaves the workspace"),
                help: "only files below the workspace root can be imported".to_owned(),
            });
        };
        let found = match embedded::find(&target) {
            Some(path) => path.to_owned(),
            None => self.find(&target, specifier)?,
        };
        check_file(kind, &found)?;
        Ok(Some(found))
    }

    fn kind_of(&self, path: &str) -> FileKind {
        if path == self.entry {
            self.entry_kind
        } else {
            FileKind::of(path)
        }
    }

    /// The file that `target` means: itself, with an extension, or the index of a directory.
    fn find(&mut self, target: &str, specifier: &str) -> Result<String, Refusal> {
        let mut candidates = vec![target.to_owned()];
        if let Some(stem) = target.strip_suffix(".js") {
            candidates.push(format!("{stem}.ts"));
        } else if let Some(stem) = target.strip_suffix(".mjs") {
            candidates.push(format!("{stem}.mts"));
        }
        candidates.extend(EXTENSIONS.map(|extension| format!("{target}.{extension}")));
        candidates.extend(EXTENSIONS.map(|extension| format!("{target}/index.{extension}")));
        for candidate in candidates {
            let extension = candidate.rsplit_once('.').map(|(_, extension)| extension);
            let is_data = is_json(&candidate) && candidate == target;
            if !is_data && !extension.is_some_and(|known| EXTENSIONS.contains(&known)) {
                continue;
            }
            if !self.workspace.join(&candidate).is_file() {
                self.absent.insert(candidate);
                continue;
            }
            if self.workspace.real_path(&candidate).is_ok() {
                return Ok(candidate);
            }
            self.is_unread = true;
            return Err(Refusal {
                message: format!("`{specifier}` is a symbolic link that leaves the workspace"),
                help: "only files below the workspace root can be imported".to_owned(),
            });
        }
        if let Some(what) = self.what_else(target) {
            self.is_unread = true;
            return Err(Refusal {
                message: format!("cannot read `{specifier}`: {target} is {what}"),
                help: "put a file there, or a symbolic link to one".to_owned(),
            });
        }
        Err(Refusal {
            message: format!("cannot find `{specifier}`: there is no module `{target}`"),
            help: match self
                .similar(target, specifier)
                .filter(|near| near != specifier)
            {
                Some(near) => format!("did you mean \"{near}\"?"),
                None if self.workspace.join(target).is_file() => {
                    "the file exists, but only .ts, .mts, .js, .mjs and .json can be imported"
                        .to_owned()
                }
                None => "the path is relative to the importing file".to_owned(),
            },
        })
    }

    /// What lies in the place of the file that `target` names with its extension.
    fn what_else(&self, target: &str) -> Option<String> {
        let (_, extension) = target.rsplit_once('.')?;
        let is_named = is_json(target) || EXTENSIONS.contains(&extension);
        is_named.then(|| what_else(&self.workspace.join(target)))?
    }

    /// The specifier of an existing file or directory whose name is close.
    fn similar(&self, target: &str, specifier: &str) -> Option<String> {
        let (directory, name) = target.rsplit_once('/').unwrap_or(("", target));
        let entries = fs::read_dir(self.workspace.join(directory)).ok()?;
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        let stem = |name: &'_ str| -> String {
            let known = EXTENSIONS
                .iter()
                .find_map(|e| name.strip_suffix(&format!(".{e}")));
            known.unwrap_or(name).to_owned()
        };
        let stems: Vec<String> = names.iter().map(|name| stem(name)).collect();
        let near = nearest(&stem(name), stems.iter().map(String::as_str))?;
        let index = stems.iter().position(|candidate| candidate == near)?;
        let prefix = specifier.rsplit_once('/').map_or(".", |(prefix, _)| prefix);
        Some(format!("{prefix}/{}", names[index]))
    }

    /// Reads, checks and transpiles one file; returns the files that it imports.
    fn load_one(&mut self, path: &str) -> Result<Vec<String>, Vec<Diagnostic>> {
        let compiler = Rc::clone(&self.compiler);
        let mut compiler = compiler.borrow_mut();
        let module = if let Some(source) = embedded::source(path) {
            let source = source.as_bytes();
            compiler.compile(path, blake3::hash(source), source)?
        } else {
            let mut bytes = compiler.lend_buffer();
            let read = self.read(path, &mut bytes);
            let module = read.and_then(|digest| compiler.compile(path, digest, &bytes));
            compiler.take_buffer(bytes);
            module?
        };
        drop(compiler);
        let mut imports = Vec::new();
        let mut mistakes = Vec::new();
        for site in &module.imports {
            match self.resolve(path, &site.specifier) {
                Ok(Some(file)) => imports.push(file),
                Ok(None) => {}
                Err(refusal) => mistakes.push(refused(path, &module.source, site, refusal)),
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        self.modules.insert(path.to_owned(), module);
        Ok(imports)
    }

    fn read(&mut self, path: &str, bytes: &mut Vec<u8>) -> Result<blake3::Hash, Vec<Diagnostic>> {
        self.workspace.read(path, bytes).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                self.absent.insert(path.to_owned());
            } else {
                self.is_unread = true;
            }
            vec![Diagnostic::error(format!("cannot read `{path}`: {error}"))]
        })?;
        let digest = blake3::hash(bytes);
        self.digests
            .insert(path.to_owned(), digest.to_hex().to_string());
        Ok(digest)
    }
}

fn refused(path: &str, source: &str, site: &ImportSite, refusal: Refusal) -> Diagnostic {
    Diagnostic::error(refusal.message)
        .at(path, source, site.start_bytes, site.length_bytes)
        .with_help(refusal.help)
}
