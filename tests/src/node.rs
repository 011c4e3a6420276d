//! A node with a data directory of its own, which survives the node.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use crate::process::{Outcome, Running};
use crate::project::Project;

/// A configuration in which only `ada` and the bearer of `t0ken` may do anything.
const CREDENTIALS: &str = "\
[[access.credential]]
name = \"ada\"
user = \"ada\"
password = \"s3cret\"
right = \"write\"

[[access.credential]]
name = \"ci\"
bearer = \"t0ken\"
right = \"write\"
";

/// A running node.
#[derive(Debug)]
pub struct Node {
    project: Project,
    running: Option<Running>,
    address: String,
    config: Option<PathBuf>,
}

impl Node {
    /// Starts a node that is open to everybody on this machine.
    ///
    /// # Panics
    /// When it does not start, as every function here.
    pub fn open() -> Self {
        Self::start(None)
    }

    /// Starts a node that wants the user `ada` with the password `s3cret`.
    pub fn closed() -> Self {
        Self::start(Some(CREDENTIALS))
    }

    /// Starts a node with a configuration of its own.
    pub fn with(config: &str) -> Self {
        Self::start(Some(config))
    }

    fn start(config: Option<&str>) -> Self {
        let project = Project::new();
        let path = project.outside().join("node.toml");
        let config = config.map(|text| {
            fs::write(&path, text).expect("a configuration file");
            path
        });
        let mut node = Self {
            project,
            running: None,
            address: "127.0.0.1:0".to_owned(),
            config,
        };
        node.run();
        node
    }

    fn run(&mut self) {
        let data = self.project.outside().join("data");
        let mut command = self.project.command(&["node", "--http", &self.address]);
        command.arg("--data-dir").arg(data);
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        let mut running = Running::start(&mut command);
        self.address = loop {
            let line = running.line();
            assert!(!line.is_empty(), "{}", running.wait().text());
            if let Some((_, address)) = line.split_once("http://") {
                break address.to_owned();
            }
        };
        self.running = Some(running);
    }

    /// Kills the node as a power cut would, and starts it again at the same address.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.restart();
    }

    /// Kills the node as a power cut would; returns its log.
    pub fn kill(&mut self) -> String {
        let Some(running) = self.running.take() else {
            return String::new();
        };
        running.signal("KILL");
        running.wait().stderr
    }

    /// Starts a killed node again at the same address.
    pub fn restart(&mut self) {
        self.run();
    }

    /// The status and the body of the answer to a request without credentials.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).expect("a node that listens");
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        let mut answer = String::new();
        stream
            .write_all(request.as_bytes())
            .and_then(|()| stream.read_to_string(&mut answer))
            .expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        (status.expect("a status"), body.to_owned())
    }

    /// A figure of its metrics, `zako_v1_` before the name left out.
    ///
    /// # Panics
    /// When there is none of that name, or it is not a whole number.
    pub fn figure(&self, name: &str) -> u64 {
        let (_, page) = self.ask("GET", "/metrics", "");
        let start = format!("zako_v1_{name} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&start));
        line.and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("no {name} in {page}"))
    }

    /// Where it answers: an address and a port, with the credentials before it if it wants some.
    pub fn authority(&self) -> String {
        match self.config {
            Some(_) => format!("ada:s3cret@{}", self.address),
            None => self.address.clone(),
        }
    }

    /// Whether it wants credentials.
    pub fn is_closed(&self) -> bool {
        self.config.is_some()
    }

    /// Where it answers, without credentials.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A directory beside the node's, for the client.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.project.outside().join(name);
        fs::create_dir_all(&path).expect("a directory");
        path
    }
}

/// Runs a command that must succeed, and returns both of its outputs.
///
/// # Panics
/// When it fails.
#[track_caller]
pub fn succeed(command: &mut Command) -> String {
    Outcome::of(command).succeeds().text()
}
