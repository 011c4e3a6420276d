//! A build in which everything is up to date: open the workspace, read the state, look at every file, plan.
//!
//! Beside it ninja with as many edges, as a whole process; ours is measured as a whole process too where a `zako`
//! binary lies beside this program.
#![forbid(unsafe_code)]

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Instant;

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
use zako_actors::isolate::{Limits, engine_version};
use zako_actors::lang::label::LabelPattern;
use zako_actors::machine::Machine;
use zako_actors::transpile::TRANSPILER_VERSION;

use super::ZAKO;
use super::tree::{Steps, Tree, is_installed};
use crate::elapsed::{Elapsed, timed};
use crate::measure::{Case, Sample, Unit};
use crate::options::{Options, Scale};
use crate::probe::beside;
use crate::scenario::{Family, Scenario};
use crate::threads::Threads;

/// `build_noop`.
pub const SCENARIO: Scenario = Scenario {
    name: "build_noop",
    family: Family::Build,
    about: "a build of 1,000 and of 10,000 targets with nothing to do (a fifth with --quick)",
    unit: Unit::Milliseconds,
    cases,
};

fn cases(options: &Options) -> Vec<Case> {
    let small = options.count(1_000, 4);
    let mut cases = vec![case(
        ZAKO,
        format!("{small} targets, in this process"),
        small,
        Built::in_process,
    )];
    if !options.peers {
        return cases;
    }
    let mut sizes = vec![small];
    if options.scale != Scale::Tiny {
        sizes.push(options.count(10_000, 8));
    }
    for targets in sizes {
        let whole = format!("{targets} targets, a process");
        if beside("zako").is_some() {
            cases.push(case(ZAKO, whole.clone(), targets, Built::zako_process));
        }
        if is_installed("ninja") {
            cases.push(case("ninja", whole, targets, Built::ninja_process));
        }
    }
    cases
}

fn case(
    implementation: &'static str,
    variant: String,
    targets: u64,
    run: fn(&Built) -> (Elapsed, u64),
) -> Case {
    // Built by the first run, which is the warm-up.
    let tree = OnceCell::new();
    let run = move || {
        let (elapsed, found) = run(tree.get_or_init(|| Built::new(targets)));
        Sample::time(elapsed, found)
    };
    Case::new(implementation, variant, Threads::anywhere(), run).expecting(move || targets)
}

/// A workspace of targets that copy a file each, built once by every build tool that is asked.
struct Built {
    tree: Tree,
    by_zako: OnceCell<()>,
    by_ninja: OnceCell<()>,
}

impl Built {
    fn new(targets: u64) -> Self {
        Self {
            tree: Tree::new(targets, Steps::Copy),
            by_zako: OnceCell::new(),
            by_ninja: OnceCell::new(),
        }
    }

    fn in_process(&self) -> (Elapsed, u64) {
        self.by_zako.get_or_init(|| {
            let planned = Planned::of(&self.tree);
            assert!(!planned.plan.is_fresh(), "nothing was built yet");
            planned.build();
        });
        let (elapsed, planned) = timed(|| Planned::of(&self.tree));
        assert!(
            planned.plan.is_fresh() && planned.services.is_idle(),
            "there was nothing to do"
        );
        (elapsed, planned.plan.nodes.len() as u64)
    }

    fn zako_process(&self) -> (Elapsed, u64) {
        self.by_zako.get_or_init(|| {
            self.tree.zako_cold();
        });
        self.tree.zako_noop()
    }

    fn ninja_process(&self) -> (Elapsed, u64) {
        self.by_ninja.get_or_init(|| {
            self.tree.ninja();
        });
        let (elapsed, said) = self.tree.ninja();
        assert!(said.contains("no work to do"), "{said}");
        (elapsed, self.tree.ninja_targets())
    }
}

/// What a command has in hands once it knows what is to be done.
pub struct Planned {
    session: Session,
    /// What is to be done.
    pub plan: Arc<Plan>,
    describer: Arc<Describer>,
    services: Services,
}

impl Planned {
    /// Everything in `tree`, planned in this process.
    pub fn of(tree: &Tree) -> Self {
        let workspace = Workspace::find(tree.root()).expect("it was made");
        let root = workspace.root.clone();
        let mut session = Session::open(workspace, Some(&tree.cache()), None, &mut |_| {})
            .expect("nobody else builds here");
        let services = Services::new(session.layout.store.clone());
        let mut isolates = Isolates::new(
            &services,
            root,
            Limits::default(),
            Machine::look().defaults().pool,
        );
        let (_, graph) = session
            .targets(&mut isolates, &Given::default(), "", &[])
            .expect("no mistakes");
        drop(isolates);
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
        Self {
            session,
            plan,
            describer,
            services,
        }
    }

    /// Carries the plan out and saves what was learnt; how many steps ran.
    pub fn build(mut self) -> u64 {
        let options = BuildOptions {
            jobs: std::thread::available_parallelism().map_or(1, usize::from),
            capacity: Capacity::default(),
            pool: Machine::look().defaults().pool,
            keep_going: false,
            keep_scratch: false,
            overwrite: false,
            force: false,
            repeat: 1,
            remote: None,
            sandbox: Mode::Off,
            readable: Vec::new(),
            edits: None,
            engine: engine_version(),
            begin: Instant::now(),
        };
        let cancel = Cancel::new().expect("file descriptors are left");
        // Nobody reads them, so nobody is to keep them.
        let (events, _) = channel();
        let summary = self
            .session
            .build(
                self.plan,
                self.describer,
                &options,
                &self.services,
                &cancel,
                events,
            )
            .expect("it begins");
        assert_eq!(summary.failed, 0, "every step succeeds");
        self.session.save().expect("the disk has room");
        self.services.end();
        summary.executed as u64
    }
}
