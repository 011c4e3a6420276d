//! A web server of a few fixed answers, or a cache that knows no hash but SHA-256.
//!
//! Owns its answers and the list of what was asked. Does not know who asks, nor for what.
//! Invariant: it is gone with its test; every request is answered, one per connection.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::archive::integrity;

/// Between two bytes of what trickles.
const PAUSE: Duration = Duration::from_millis(100);

/// One answer.
#[derive(Clone, Debug)]
pub enum Answer {
    /// 200 with this body.
    Body(Vec<u8>),
    /// 302 to this address.
    To(String),
    /// This status, with nothing.
    Status(u16),
    /// 200 with a body that ends before it is whole.
    Torn(Vec<u8>),
    /// None, ever: the connection stays open.
    Never,
    /// 200 with this body, a byte every tenth of a second.
    Trickle(Vec<u8>),
}

/// A request: its path (of a proxy the whole address), and what it said under `Authorization` or `Proxy-Authorization`.
pub type Asked = (String, Option<String>);

#[derive(Debug, Default)]
struct Shared {
    answers: BTreeMap<String, Answer>,
    asked: Vec<Asked>,
    ended: bool,
    /// Whether PUT is answered, by keeping what comes.
    is_cache: bool,
    /// What everything below a path is answered, whatever lies there.
    below: BTreeMap<String, Answer>,
    /// Connections without an answer.
    open: Vec<TcpStream>,
}

/// A running server.
#[derive(Debug)]
pub struct Web {
    address: String,
    shared: Arc<Mutex<Shared>>,
    thread: Option<JoinHandle<()>>,
}

impl Default for Web {
    fn default() -> Self {
        Self::new()
    }
}

impl Web {
    /// A server that answers 404 to everything.
    ///
    /// # Panics
    /// When this machine has no ports.
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let seen = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if lock(&seen).ended {
                    break;
                }
                // Who goes away is not answered.
                drop(stream.and_then(|stream| answer(stream, &seen)));
            }
        });
        Self {
            address,
            shared,
            thread: Some(thread),
        }
    }

    /// A cache as Bazel wants it, which takes a blob below `/cas/` by its SHA-256 only, and below `/ac/` anything.
    ///
    /// # Panics
    /// When this machine has no ports.
    pub fn cache() -> Self {
        let web = Self::new();
        lock(&web.shared).is_cache = true;
        web
    }

    /// The paths that have an answer.
    pub fn paths(&self) -> Vec<String> {
        lock(&self.shared).answers.keys().cloned().collect()
    }

    /// What `path` is answered.
    pub fn answer_of(&self, path: &str) -> Option<Answer> {
        lock(&self.shared).answers.get(path).cloned()
    }

    /// The whole address of `path`, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// From now on `path` is answered so.
    pub fn answer(&self, path: &str, answer: Answer) {
        lock(&self.shared).answers.insert(path.to_owned(), answer);
    }

    /// From now on everything whose path begins with `prefix` is answered so, PUT included.
    pub fn answer_below(&self, prefix: &str, answer: Answer) {
        lock(&self.shared).below.insert(prefix.to_owned(), answer);
    }

    /// What was asked since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut lock(&self.shared).asked)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        lock(&self.shared).ended = true;
        // It waits for a connection.
        drop(TcpStream::connect(&self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(mut stream: TcpStream, shared: &Mutex<Shared>) -> std::io::Result<()> {
    let mut request = BufReader::new(Read::by_ref(&mut stream));
    let mut first = String::new();
    request.read_line(&mut first)?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let (mut authorization, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        request.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "authorization" | "proxy-authorization" => {
                authorization = Some(value.trim().to_owned())
            }
            "content-length" => length = value.trim().parse().unwrap_or(0),
            _ => {}
        }
    }
    let below = {
        let shared = lock(shared);
        let mut all = shared.below.iter();
        all.find_map(|(prefix, answer)| path.starts_with(prefix).then(|| answer.clone()))
    };
    if first.starts_with("PUT ") && below.is_none() && lock(shared).is_cache {
        let mut body = vec![0; length];
        request.read_exact(&mut body)?;
        let right = path
            .strip_prefix("/cas/")
            .is_none_or(|name| integrity("sha256", &body).strip_prefix("sha256-") == Some(name));
        if right {
            lock(shared).answers.insert(path, Answer::Body(body));
        }
        let status = if right { 200 } else { 400 };
        return write!(
            stream,
            "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
    }
    let answer = {
        let mut shared = lock(shared);
        shared.asked.push((path.clone(), authorization));
        below.or_else(|| shared.answers.get(&path).cloned())
    };
    let head = |status: u16, length: usize, more: &str| {
        format!(
            "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n{more}\r\n"
        )
    };
    let trickles = matches!(answer, Some(Answer::Trickle(_)));
    let (head, body) = match answer.unwrap_or(Answer::Status(404)) {
        Answer::Never => {
            lock(shared).open.push(stream);
            return Ok(());
        }
        Answer::Body(body) | Answer::Trickle(body) => (head(200, body.len(), ""), body),
        Answer::Torn(body) => (head(200, body.len() + 1, ""), body),
        Answer::To(place) => (head(302, 0, &format!("location: {place}\r\n")), Vec::new()),
        Answer::Status(status) => (head(status, 0, ""), Vec::new()),
    };
    stream.write_all(head.as_bytes())?;
    if trickles {
        // Ends with whoever asked, who says nothing more until then.
        stream.set_read_timeout(Some(PAUSE))?;
        std::thread::spawn(move || {
            for byte in body {
                let is_gone = matches!(stream.read(&mut [0]), Ok(0));
                if is_gone || stream.write_all(&[byte]).is_err() {
                    break;
                }
            }
        });
        return Ok(());
    }
    stream.write_all(&body)
}
