//! Caches that are nobody's here: servers that others wrote, with a directory of their own.
//!
//! Owns: how they are started and that they end. Does not know: what is kept in them.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::needs::{buildgrid, nginx};
use crate::process::Running;
use crate::until::until_so;

/// A running server.
#[derive(Debug)]
pub struct Server {
    running: Option<Running>,
    address: String,
    /// `http` or `grpc`.
    scheme: &'static str,
    directory: TempDir,
}

impl Server {
    /// nginx, which keeps what is put by WebDAV as files: an HTTP cache as Bazel's manual describes one. `None` where it may be
    /// missing and is.
    ///
    /// # Panics
    /// When it does not start, as every function here.
    pub fn nginx() -> Option<Self> {
        let program = nginx()?;
        let start = |directory: &Path, address: &str| {
            let place = directory.display();
            let config = format!(
                "daemon off; master_process off; pid {place}/pid; error_log {place}/log;
events {{ worker_connections 256; }}
http {{
    access_log off; client_max_body_size 0; client_body_temp_path {place}/bodies; proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi; uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
    server {{
        listen {address}; root {place}/kept;
        location / {{ dav_methods PUT; create_full_put_path on; }}
    }}
}}
"
            );
            fs::write(directory.join("config"), config).expect("a file");
            let mut command = Command::new(program);
            command.arg("-c").arg(directory.join("config"));
            command
        };
        Some(Self::start("http", start))
    }

    /// BuildGrid, which has the storage and the action cache of the Remote Execution API, with SHA-256 only. `None` as above.
    pub fn buildgrid() -> Option<Self> {
        let program = buildgrid()?;
        let start = |directory: &Path, address: &str| {
            let place = directory.display();
            let config = format!(
                "server:\n  - !channel\n    address: \"{address}\"\n    insecure-mode: true\n\
                 authorization:\n  method: none\n\
                 storages:\n  - !disk-storage &storage\n    path: {place}/kept\n\
                 caches:\n  - !lru-action-cache &actions\n    storage: *storage\n    max-cached-refs: 1024\n    \
                 allow-updates: true\n    cache-failed-actions: false\n\
                 instances:\n  - name: ''\n    services:\n      - !action-cache\n        cache: *actions\n      \
                 - !cas\n        storage: *storage\n      - !bytestream\n        storage: *storage\n"
            );
            fs::write(directory.join("config"), config).expect("a file");
            let mut command = Command::new("sh");
            // Nobody reads what it has to say while it runs.
            command
                .args(["-c", "exec \"$0\" server start config > log 2>&1"])
                .arg(program)
                .current_dir(directory);
            command
        };
        Some(Self::start("grpc", start))
    }

    fn start(scheme: &'static str, command: impl FnOnce(&Path, &str) -> Command) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("zako-server-")
            .tempdir()
            .expect("a temporary directory");
        fs::create_dir(directory.path().join("kept")).expect("a directory");
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("an address").to_string();
        drop(free);
        let running = Running::start(&mut command(directory.path(), &address));
        let log = directory.path().join("log");
        until_so("a server that listens", || {
            let is_there = TcpStream::connect(&address).is_ok();
            let log = || fs::read_to_string(&log).unwrap_or_default();
            assert!(is_there || running.is_alive(), "{}", log());
            is_there
        });
        Self {
            running: Some(running),
            address,
            scheme,
            directory,
        }
    }

    /// How clients call it.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Where it answers: an address and a port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// How many files it keeps.
    pub fn files(&self) -> usize {
        count(&self.directory.path().join("kept"))
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.signal("KILL");
            running.wait();
        }
    }
}

/// The files below a directory.
fn count(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).expect("a directory").flatten();
    let each = entries.map(|entry| match entry.path() {
        path if path.is_dir() => count(&path),
        _ => 1,
    });
    each.sum()
}
