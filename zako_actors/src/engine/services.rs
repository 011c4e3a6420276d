//! The parts that only a build that has something to do needs.
//!
//! Owns the actor system, the store and the pools of one command, started at the first use and ended together.
//! Does not know what they are used for.
//! Invariant: a no-op starts none of them.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::time::Duration;

use actor_rt::{StartError, System};
use cas_actor::{Durability, MemoryConfig, Store, StoreConfig, StoreError};

use crate::isolate::IsolatePool;
use crate::machine::cpus;
use crate::transpile::TranspilerPool;

/// How long actors may take to end after a build.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// What the store keeps in memory: a step's outputs are hardly ever read again in the build that wrote them, and a blob of
/// a few bytes costs some hundred there.
const STORE_MEMORY_BYTES: u64 = 4 << 20;

/// Lazily started services.
pub struct Services {
    store_root: PathBuf,
    system: OnceCell<System>,
    store: OnceCell<Store>,
    isolates: OnceCell<IsolatePool>,
    transpilers: OnceCell<TranspilerPool>,
}

/// Why a service did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// No threads.
    #[error("cannot start the actor system: {0}")]
    System(#[from] StartError),
    /// No store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Services {
    /// Services with the store at `store_root`; nothing is started.
    pub fn new(store_root: PathBuf) -> Self {
        Self {
            store_root,
            system: OnceCell::new(),
            store: OnceCell::new(),
            isolates: OnceCell::new(),
            transpilers: OnceCell::new(),
        }
    }

    /// Whether nothing has been started.
    pub fn is_idle(&self) -> bool {
        self.system.get().is_none()
    }

    /// The actor system.
    ///
    /// # Errors
    /// When the machine refuses threads.
    pub fn system(&self) -> Result<&System, StartError> {
        if let Some(system) = self.system.get() {
            return Ok(system);
        }
        // Unpinned: a child process inherits the affinity of the thread that starts it, and a
        // build's time is its children's.
        let system = System::builder()
            .name("zako")
            .pin(false)
            // Its actors hand on what threads of steps, shards and pools do. Each worker more is one more
            // to be woken, and takes its CPU from processes.
            .workers(1 + cpus() / 8)
            // Messages come when processes end, not within microseconds: a worker that waits for them
            // takes a CPU from those.
            .linger(Duration::ZERO)
            .build()?;
        Ok(self.system.get_or_init(|| system))
    }

    /// The store. Waits for another process that has it.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn store(&self) -> Result<&Store, ServiceError> {
        self.open_store(true)
    }

    /// The store, unless another process has it.
    ///
    /// # Errors
    /// When it cannot be used, or not now.
    pub fn store_now(&self) -> Result<&Store, ServiceError> {
        self.open_store(false)
    }

    fn open_store(&self, wait_for_lock: bool) -> Result<&Store, ServiceError> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let config = StoreConfig::new(&self.store_root);
        let config = StoreConfig {
            wait_for_lock,
            memory: MemoryConfig {
                capacity_bytes: STORE_MEMORY_BYTES,
                ..config.memory
            },
            // A build's results can be had again: after a power cut a damaged or missing blob is
            // noticed by its digest and its step runs again. Waiting for the disk at every output
            // would cost more than that ever saves.
            durability: Durability::Volatile,
            ..config
        };
        let store = Store::open(config, self.system()?)?;
        Ok(self.store.get_or_init(|| store))
    }

    /// The isolates, made by `make` at the first use.
    ///
    /// # Errors
    /// When the machine refuses threads.
    pub fn isolates(
        &self,
        make: impl FnOnce(&System) -> IsolatePool,
    ) -> Result<&IsolatePool, StartError> {
        let system = self.system()?;
        Ok(self.isolates.get_or_init(|| make(system)))
    }

    /// The isolates, when there are some already.
    pub fn isolates_in_use(&self) -> Option<&IsolatePool> {
        self.isolates.get()
    }

    /// The transpilers, made by `make` at the first use.
    ///
    /// # Errors
    /// When the machine refuses threads.
    pub fn transpilers(
        &self,
        make: impl FnOnce(&System) -> TranspilerPool,
    ) -> Result<&TranspilerPool, StartError> {
        let system = self.system()?;
        Ok(self.transpilers.get_or_init(|| make(system)))
    }

    /// Ends what was started.
    pub fn end(self) {
        if let Some(store) = self.store.into_inner() {
            store.blocking().close();
        }
        if let Some(system) = self.system.into_inner()
            && let Err(error) = system.shutdown(SHUTDOWN)
        {
            tracing::warn!("{error}");
        }
    }
}
