//! A build in which everything is up to date: open the workspace, read the state, look at every file, plan.
//!
//! Beside it ninja with as many edges, as a whole process; ours is measured as a whole process too where a `zako`
//! binary lies beside this program.
#![forbid(unsafe_code)]

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use zako_actors::engine::action::Describer;
use zako_actors::engine::analyse::Given;
use zako_actors::engine::cancel::Cancel;
use zako_actors::engine::evaluate::Isolates;
use zako_actors::engine::plan::Plan;
use zako_actors::engine::sandbox::Mode;
use zako_actors::engine::schedule::Capacity;
use zako_actors::engine::services::Services;
use zako_actors::engine::session::{BuildOptions, Session};
use zako_actors::engine::workspace::Workspace;
use zako_actors::isolate::engine_version;
use zako_actors::lang::label::LabelPattern;
use zako_actors::machine::Machine;
use zako_actors::transpile::TRANSPILER_VERSION;

use super::ZAKO;
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::scenario::actors::timed;
use crate::scenario::{Family, Scenario};

/// `build_noop`.
pub const SCENARIO: Scenario = Scenario {
    name: "build_noop",
    family: Family::Build,
    about: "a build of 1000 targets with nothing to do (200 with --quick)",
    unit: Unit::Milliseconds,
    cases,
};

fn cases(options: &Options) -> Vec<Case> {
    let targets = options.count(1_000, 4);
    let mut cases = vec![case(
        ZAKO,
        format!("{targets} targets, in this process"),
        targets,
        Tree::in_process,
    )];
    let whole = format!("{targets} targets, a process");
    let zako = beside("zako");
    if zako.is_some() && options.peers {
        cases.push(case(ZAKO, whole.clone(), targets, Tree::zako_process));
    }
    let ninja = Command::new("ninja")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if options.peers && ninja.is_ok_and(|status| status.success()) {
        cases.push(case("ninja", whole, targets, Tree::ninja_process));
    }
    cases
}

fn case(
    implementation: &'static str,
    variant: String,
    targets: u64,
    run: fn(&Tree) -> Duration,
) -> Case {
    // Built by the first run, which is the warm-up.
    let tree = OnceCell::new();
    Case {
        implementation,
        variant,
        spinning: 0,
        run: Box::new(move || Sample::time(run(tree.get_or_init(|| Tree::new(targets))), targets)),
    }
}

/// A program in the directory of this one.
fn beside(name: &str) -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?.with_file_name(name);
    path.is_file().then_some(path)
}

/// A workspace of targets that copy a file each, built once by every build tool that is asked.
struct Tree {
    directory: tempfile::TempDir,
    targets: u64,
    zako_built: OnceCell<()>,
    ninja_built: OnceCell<()>,
}

impl Tree {
    fn new(targets: u64) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the workspace");
        let write = |name: &str, text: &str| {
            fs::write(directory.path().join(name), text).expect("the disk has room");
        };
        write(
            "zako.toml",
            "group = \"bench\"\nartifact = \"noop\"\nversion = \"1.0.0\"\n",
        );
        write(
            "zako.ts",
            "import { workspace } from \"zako:package\";\nexport default workspace({ builds: [\"BUILD.ts\"] });\n",
        );
        let mut build = String::from("import { target } from \"zako:build\";\nexport default {\n");
        let mut ninja = String::from("rule copy\n  command = cp $in $out\n");
        for number in 0..targets {
            write(&format!("in{number}.txt"), &number.to_string());
            build += &format!(
                "t{number}: target({{ cmd: [\"cp\", \"in{number}.txt\", \"out{number}.txt\"], \
                 srcs: [\"in{number}.txt\"], outs: [\"out{number}.txt\"] }}),\n"
            );
            ninja += &format!("build ninja{number}.txt: copy in{number}.txt\n");
        }
        write("BUILD.ts", &(build + "};\n"));
        write("build.ninja", &ninja);
        Self {
            directory,
            targets,
            zako_built: OnceCell::new(),
            ninja_built: OnceCell::new(),
        }
    }

    fn root(&self) -> &Path {
        self.directory.path()
    }

    fn cache(&self) -> PathBuf {
        self.root().join(".cache")
    }

    fn in_process(&self) -> Duration {
        self.zako_built.get_or_init(|| {
            let (mut session, plan, describer, services) = self.plan();
            assert!(!plan.is_fresh(), "nothing was built yet");
            self.build(&mut session, plan, describer, &services);
            session.save().expect("the disk has room");
            services.end();
        });
        let (elapsed, (session, plan, _, services)) = timed(|| self.plan());
        assert!(
            plan.is_fresh() && services.is_idle(),
            "there was nothing to do"
        );
        assert_eq!(plan.nodes.len() as u64, self.targets);
        drop(session);
        elapsed
    }

    /// What a command does until it knows what is to be done.
    fn plan(&self) -> (Session, Plan, Arc<Describer>, Services) {
        let workspace = Workspace::find(self.root()).expect("it was made");
        let root = workspace.root.clone();
        let mut session = Session::open(workspace, Some(&self.cache()), &mut |_| {})
            .expect("nobody else builds here");
        let services = Services::new(session.layout.store.clone());
        let mut isolates = Isolates::new(
            &services,
            root,
            Duration::from_secs(30),
            Machine::look().defaults().pool,
        );
        let mut loaded = session
            .load(&mut isolates, &Given::default(), "")
            .expect("no mistakes");
        drop(isolates);
        let graph = session.graph(&mut loaded).expect("no mistakes");
        let path = std::env::var("PATH").unwrap_or_default();
        let describer = Describer::new(path, BTreeMap::new(), TRANSPILER_VERSION.to_owned());
        let describer = Arc::new(describer);
        let everything = [LabelPattern::everything()];
        let wanted = graph
            .select(&everything, &|_| true)
            .expect("there are targets");
        let plan = session
            .plan(&graph, &wanted, &describer, false)
            .expect("no mistakes");
        (session, plan, describer, services)
    }

    fn build(
        &self,
        session: &mut Session,
        plan: Plan,
        describer: Arc<Describer>,
        services: &Services,
    ) {
        let options = BuildOptions {
            jobs: std::thread::available_parallelism().map_or(1, usize::from),
            capacity: Capacity::default(),
            pool: Machine::look().defaults().pool,
            keep_going: false,
            keep_scratch: false,
            force: false,
            repeat: 1,
            remote: None,
            sandbox: Mode::Off,
            engine: engine_version(),
            begin: Instant::now(),
        };
        let cancel = Cancel::new().expect("file descriptors are left");
        let (events, _unread) = channel();
        let result = session
            .build(plan, describer, &options, services, &cancel, events)
            .expect("it begins");
        assert_eq!(result.summary.failed, 0, "every copy succeeds");
    }

    fn zako_process(&self) -> Duration {
        let zako = beside("zako").expect("looked for before");
        let build = || {
            let mut command = Command::new(&zako);
            command
                .arg("build")
                .current_dir(self.root())
                .env("ZAKO_CACHE_DIR", self.cache());
            run(&mut command)
        };
        self.zako_built.get_or_init(|| {
            build();
        });
        build()
    }

    fn ninja_process(&self) -> Duration {
        let build = || run(Command::new("ninja").current_dir(self.root()));
        self.ninja_built.get_or_init(|| {
            build();
        });
        build()
    }
}

fn run(command: &mut Command) -> Duration {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let (elapsed, status) = timed(|| command.status().expect("it starts"));
    assert!(status.success(), "{command:?} failed");
    elapsed
}
