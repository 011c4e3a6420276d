//! Real source trees through the transpiler pool: RxJS, Effect and Zod, where `examples/rxjs` and `examples/effect` were
//! built once, else the examples' own sources over and over. Beside it oxc itself on as many threads: what the pool and
//! our passes add; and swc and esbuild, where `cargo xtask clients` has installed them, through their own interfaces in
//! a Node.js that is warm. All have the sources in memory and end with the results there (esbuild alone reads files), and
//! keep from one run to the next what they keep between files: ours its pool, oxc its arenas, Node.js itself.
//!
//! Outside of the time: what ours and oxc make must be the same, byte by byte, as what one call of oxc after another makes (but
//! for the endings of imports, see `javascript`), and it is parsed. swc and esbuild print other programs by right, so only their own runs are held against each other.
#![forbid(unsafe_code)]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use actor_rt::{CancelToken, System};
use oxc::allocator::Allocator;
use zako_actors::machine::PoolSize;
use zako_actors::transpile::{TranspileJob, TranspilerPool};

use super::ZAKO;
use super::tree::{is_installed, node_modules};
use crate::elapsed::{Elapsed, timed};
use crate::measure::{Case, Sample, Unit};
use crate::options::{Options, Scale};
use crate::scenario::{Family, Scenario};
use crate::threads::Threads;

/// `transpile`.
pub const SCENARIO: Scenario = Scenario {
    name: "transpile",
    family: Family::Build,
    about: "trees of TypeScript sources to ES modules (others: ZAKO_BENCH_SOURCES=DIRECTORY:DIRECTORY)",
    unit: Unit::MillionPerSecond("bytes of source"),
    cases,
};

/// Names other trees.
const SOURCES: &str = "ZAKO_BENCH_SOURCES";

/// What swc and esbuild are called with.
const NODE_SCRIPT: &str = include_str!("transpile.mjs");

/// Where the examples have sources of others once they were built.
const FETCHED: [&str; 6] = [
    "rxjs/package/src",
    "effect/sources/effect/src",
    "effect/sources/platform/src",
    "effect/sources/cli/src",
    "effect/sources/experimental/src",
    "effect/sources/zod/src",
];

/// Trees in memory.
struct Tree {
    name: String,
    /// Path and source.
    files: Vec<(String, Arc<str>)>,
    /// Some files are in it more than once.
    repeated: bool,
    bytes: u64,
    /// Ours, from the first run on.
    pool: OnceLock<Warm>,
    /// Those of oxc that no thread has at the moment.
    arenas: Mutex<Vec<Allocator>>,
}

/// A pool of transpilers in a system of its own.
struct Warm {
    system: System,
    pool: TranspilerPool,
}

impl Warm {
    fn new(workers: usize) -> Self {
        let system = System::builder()
            .workers(workers)
            .build()
            .expect("the system starts");
        let pool = TranspilerPool::new(&system, PoolSize::fixed(workers));
        Self { system, pool }
    }
}

impl Drop for Warm {
    fn drop(&mut self) {
        // What does not end in time is left to the end of the process.
        let _ = self.system.shutdown(Duration::from_secs(10));
    }
}

fn cases(options: &Options) -> Vec<Case> {
    let workers = options.cores.len();
    let tree = Arc::new(Tree::load(options.scale));
    let variant = format!("{}, {} files", tree.name, tree.files.len());
    let case = |implementation, run: fn(&Tree, usize) -> Sample| {
        let tree = Arc::clone(&tree);
        let run = move || run(&tree, workers);
        Case::new(implementation, variant.clone(), Threads::anywhere(), run)
    };
    let by_oxc = |case: Case| {
        let tree = Arc::clone(&tree);
        case.expecting(move || tree.by_oxc())
    };
    let mut cases = vec![by_oxc(case(ZAKO, ours))];
    if options.peers {
        cases.push(by_oxc(case("oxc", bare_oxc)));
        for (name, package, run) in [
            ("swc", "@swc/core", swc as fn(&Tree, usize) -> Sample),
            ("esbuild", "esbuild", esbuild),
        ] {
            // esbuild would take a file that is named twice once.
            if !tree.repeated && can_run(package) {
                cases.push(case(name, run).apart());
            }
        }
    }
    cases
}

fn can_run(package: &str) -> bool {
    is_installed("node") && node_modules().join(package).is_dir()
}

/// Peers that are not measured, and why.
pub(crate) fn absent(options: &Options) -> Vec<String> {
    let repeated = Tree::load(options.scale).repeated;
    let why = |(name, package)| match (can_run(package), repeated) {
        (false, _) => Some(format!("{name} (not installed: cargo xtask clients)")),
        (true, true) => Some(format!(
            "{name} (the tree is too small and is measured several times over)"
        )),
        (true, false) => None,
    };
    let peers = [("swc", "@swc/core"), ("esbuild", "esbuild")];
    peers.into_iter().filter_map(why).collect()
}

impl Tree {
    fn load(scale: Scale) -> Self {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let fetched = FETCHED.map(|directory| examples.join(directory));
        let fetched: Vec<PathBuf> = fetched.into_iter().filter(|it| it.is_dir()).collect();
        let (name, directories) = match std::env::var_os(SOURCES) {
            Some(named) => ("named".to_owned(), std::env::split_paths(&named).collect()),
            None if scale != Scale::Tiny && !fetched.is_empty() => ("packages".to_owned(), fetched),
            None => ("examples".to_owned(), vec![examples]),
        };
        let mut files = Vec::new();
        for directory in &directories {
            collect(directory, &mut files);
        }
        assert!(
            !files.is_empty(),
            "{directories:?} have no TypeScript sources"
        );
        files.sort();
        let few = files.clone();
        // A tree of a few files is over before the pool is warm.
        while scale != Scale::Tiny && files.len() < 200 {
            files.extend_from_slice(&few);
        }
        let bytes = files.iter().map(|(_, source)| source.len() as u64).sum();
        Self {
            name,
            repeated: files.len() > few.len(),
            files,
            bytes,
            pool: OnceLock::new(),
            arenas: Mutex::default(),
        }
    }

    /// The checksum of what comes out is over every byte of every file, in their order; each is parsed for it.
    fn sample(&self, elapsed: Elapsed, outputs: &[String]) -> Sample {
        assert_eq!(outputs.len(), self.files.len());
        Sample::rate(self.bytes, elapsed, digest(outputs))
    }

    /// What the checksum must be: oxc alone, one file after another.
    fn by_oxc(&self) -> u64 {
        let mut arena = Allocator::default();
        let outputs = self.files.iter().map(|(path, source)| {
            arena.reset();
            transpile(&arena, path, source)
        });
        digest(&outputs.collect::<Vec<String>>())
    }
}

/// FNV-1a over all outputs, one after another, each with its end.
fn digest(outputs: &[String]) -> u64 {
    let mut arena = Allocator::default();
    outputs
        .iter()
        .fold(0xCBF2_9CE4_8422_2325, |digest, output| {
            arena.reset();
            let text = javascript(&arena, output);
            let bytes = text.bytes().chain([0xFF]);
            bytes.fold(digest, |digest: u64, byte| {
                (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
            })
        })
}

fn collect(directory: &Path, files: &mut Vec<(String, Arc<str>)>) {
    let entries = fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("cannot list {}: {error}", directory.display()));
    for path in entries.flatten().map(|entry| entry.path()) {
        let hidden = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with('.') || name == "node_modules" || name == "dist"
        };
        let name = path.to_string_lossy();
        if path.is_dir() && !hidden(&path) {
            collect(&path, files);
        } else if name.ends_with(".ts") && !name.ends_with(".d.ts") {
            let source = fs::read_to_string(&path).unwrap_or_default();
            files.push((name.into_owned(), source.into()));
        }
    }
}

fn ours(tree: &Tree, workers: usize) -> Sample {
    let warm = tree.pool.get_or_init(|| Warm::new(workers));
    let (elapsed, outputs) = timed(|| {
        let never = CancelToken::new();
        let jobs = tree.files.iter().map(|(path, source)| {
            let job = TranspileJob::new(path.clone(), Arc::clone(source));
            warm.pool.run(job, &never)
        });
        let answers: Vec<_> = jobs.collect();
        // From the last on, since who waits for the first is woken by every one, on a core that transpiles.
        let outputs = answers
            .into_iter()
            .rev()
            .map(|answer| answer.wait().expect("an answer"));
        outputs.collect::<Vec<_>>()
    });
    // A file of types alone is empty when it comes out.
    let outputs = outputs.into_iter().rev().flatten();
    let outputs = outputs.map(|output| output.code);
    tree.sample(elapsed, &outputs.collect::<Vec<String>>())
}

fn swc(tree: &Tree, workers: usize) -> Sample {
    in_node("swc", tree, workers)
}

fn esbuild(tree: &Tree, workers: usize) -> Sample {
    in_node("esbuild", tree, workers)
}

/// The time that a peer takes in a Node.js that is warm, as it measures it itself: sources in memory (esbuild reads
/// them), results in memory.
fn in_node(name: &str, tree: &Tree, workers: usize) -> Sample {
    let place = tempfile::tempdir().expect("a directory for the list");
    let list = place.path().join("files");
    let paths: Vec<&str> = tree.files.iter().map(|(path, _)| path.as_str()).collect();
    fs::write(&list, paths.join("\n")).expect("the disk has room");
    let mut node = std::process::Command::new("node");
    node.args(["--input-type=module", "-", name])
        .arg(node_modules())
        .arg(&list)
        .env("UV_THREADPOOL_SIZE", workers.to_string())
        .env("GOMAXPROCS", workers.to_string())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut child = node.spawn().expect("node starts");
    let mut script = child.stdin.take().expect("a pipe");
    script.write_all(NODE_SCRIPT.as_bytes()).expect("it reads");
    drop(script);
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout);
    let figures: Vec<f64> = text.split_whitespace().flat_map(str::parse).collect();
    let [milliseconds, transpiled, checksum] = figures[..] else {
        panic!("{name} printed `{text}`")
    };
    assert_eq!(transpiled as usize, tree.files.len());
    let elapsed = Duration::from_secs_f64(milliseconds / 1e3);
    Sample::rate(tree.bytes, elapsed, checksum as u64)
}

/// Parse, check, transform, print: with an arena per thread that is kept between files and runs, and our options.
fn bare_oxc(tree: &Tree, workers: usize) -> Sample {
    let next = AtomicUsize::new(0);
    let arenas = || tree.arenas.lock().expect("nobody panicked");
    let work = || {
        let mut arena = arenas().pop().unwrap_or_default();
        let mut outputs = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some((path, source)) = tree.files.get(number) else {
                arenas().push(arena);
                return outputs;
            };
            outputs.push((number, transpile(&arena, path, source)));
            arena.reset();
        }
    };
    let (elapsed, mut outputs) = timed(|| {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            threads
                .into_iter()
                .flat_map(|it| it.join().expect("a thread ends"))
                .collect::<Vec<(usize, String)>>()
        })
    });
    outputs.sort_unstable_by_key(|(number, _)| *number);
    let outputs = outputs.into_iter().map(|(_, output)| output);
    tree.sample(elapsed, &outputs.collect::<Vec<String>>())
}

/// What came out must be whole JavaScript without any types: it is parsed. Of what ours and oxc make one difference is right: an
/// `import` of `./a.ts` is one of `./a.js` in ours, where the output of that file is. Here it is so in both.
fn javascript(arena: &Allocator, output: &str) -> String {
    let kind = oxc::span::SourceType::unambiguous();
    let parsed = oxc::parser::Parser::new(arena, output, kind).parse();
    let mistakes = parsed.diagnostics;
    assert!(mistakes.is_empty(), "no JavaScript: {mistakes:?}\n{output}");
    let modules = &parsed.module_record;
    let requests = modules.requested_modules.values().flatten();
    let requests = requests.map(|request| request.span);
    let dynamic = modules.dynamic_imports.iter().map(|it| it.module_request);
    let mut text = output.to_owned();
    for span in requests.chain(dynamic) {
        let (start, end) = (span.start as usize, span.end as usize);
        if output[start..end].starts_with("\".") && output[start..end].ends_with(".ts\"") {
            text.replace_range(end - 4..end, ".js\"");
        }
    }
    text
}

fn transpile(arena: &Allocator, path: &str, source: &str) -> String {
    use oxc::codegen::Codegen;
    use oxc::parser::{ParseOptions, Parser};
    use oxc::semantic::SemanticBuilder;
    use oxc::transformer::{TransformOptions, Transformer};

    let kind = oxc::span::SourceType::from_path(path).expect("a TypeScript source");
    // With what it needs to find every mistake, as we have it.
    let options = ParseOptions {
        parse_regular_expression: true,
        ..ParseOptions::default()
    };
    let parsed = Parser::new(arena, source, kind)
        .with_options(options)
        .parse();
    assert!(parsed.diagnostics.is_empty(), "{path} has mistakes");
    let mut program = parsed.program;
    let checked = SemanticBuilder::new()
        .with_check_syntax_error(true)
        .with_enum_eval(true)
        .with_excess_capacity(2.0)
        .build(&program);
    let scoping = checked.semantic.into_scoping();
    let options = TransformOptions::from_target("es2022").expect("a target");
    Transformer::new(arena, Path::new(path), &options).build_with_scoping(scoping, &mut program);
    Codegen::new().build(&program).code
}
