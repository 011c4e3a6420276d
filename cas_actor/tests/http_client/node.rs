//! A front over a store of its own, for tests.

use cas_actor::front::{Front, FrontConfig};
use cas_actor::{Store, StoreConfig};
use sha2::{Digest as _, Sha256};

use super::Client;

/// A front over a new store.
pub struct Node {
    pub front: Front,
    pub address: std::net::SocketAddr,
    pub store: Store,
    // Dropped last.
    _system: actor_rt::System,
    pub directory: tempfile::TempDir,
}

impl Node {
    pub fn start(config: &FrontConfig) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let system = actor_rt::System::new().unwrap();
        let store = Store::open(StoreConfig::new(directory.path()), &system).unwrap();
        let front = Front::new(store.clone(), config).unwrap();
        let address = front.listen("127.0.0.1:0".parse().unwrap()).unwrap();
        Self {
            front,
            address,
            store,
            _system: system,
            directory,
        }
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Blobs that the store holds.
    pub async fn blobs(&self) -> u64 {
        self.store.stats().await.unwrap().blobs
    }

    /// Files that uploads have left behind.
    pub fn leftovers(&self) -> usize {
        std::fs::read_dir(self.directory.path().join("tmp"))
            .unwrap()
            .count()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn sha256(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}
