//! One large file over one HTTP connection: what a reader gets when the processor has nothing to do but to move bytes.
//!
//! Beside our front ends nginx with `sendfile`, where it is installed. The reader is the same thread with the same buffer;
//! it adds up every word.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use actor_rt::System;
use cas_actor::front::{Front, FrontConfig};
use cas_actor::{Store, StoreConfig};

use super::http::{self, Ended};
use super::store::{STORE, blob, sum_of_blobs};
use super::{Family, Scenario};
use crate::elapsed::timed;
use crate::measure::{Case, Sample, Unit};
use crate::options::Options;
use crate::threads::Threads;

/// `http_large`.
pub const SCENARIO: Scenario = Scenario {
    name: "http_large",
    family: Family::Store,
    about: "one file of 1 GiB over one HTTP connection",
    unit: Unit::MillionPerSecond("bytes"),
    cases,
};

const MIB: usize = 1 << 20;
/// What is served.
const FILE: &str = "file";
/// How much the reader takes at a time.
const PIECE_BYTES: usize = 256 * 1024;
/// No head of an answer is longer.
const HEAD_BYTES: usize = 4096;
/// Longer than any server needs to listen.
const START: Duration = Duration::from_secs(20);

/// Serves [`FILE`] of a directory with so many threads, while something asks for it.
type Serve = fn(&Path, usize, &dyn Fn(SocketAddr, &str) -> Sample) -> Sample;

fn cases(options: &Options) -> Vec<Case> {
    let mebibytes = options.count(1024, 1);
    let workers = options.cores.len();
    let case = |implementation, serve: Serve| {
        let run = move || {
            let directory = tempfile::tempdir().expect("a directory");
            write(&directory.path().join(FILE), mebibytes).expect("the disk has room");
            serve(directory.path(), workers, &|address, path| {
                // Whatever is done once for a file is done before it is measured.
                read(address, path).expect("an answer");
                let (elapsed, (bytes, sum)) = timed(|| read(address, path).expect("an answer"));
                assert_eq!(bytes, mebibytes * MIB as u64, "the answer is whole");
                Sample::rate(bytes, elapsed, sum)
            })
        };
        let variant = format!("{mebibytes} MiB");
        Case::new(implementation, variant, Threads::anywhere(), run)
            .expecting(move || sum_of_blobs(mebibytes, MIB))
    };
    let mut cases = vec![case(STORE, ours)];
    if options.peers && nginx_is_installed() {
        cases.push(case("nginx", peer));
    }
    cases
}

/// Whether that peer can be measured.
pub(super) fn nginx_is_installed() -> bool {
    nginx().arg("-v").status().is_ok_and(|it| it.success())
}

fn write(path: &Path, mebibytes: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    for number in 0..mebibytes {
        file.write_all(&blob(number, MIB))?;
    }
    Ok(())
}

/// Asks for a path and reads the answer: how many bytes it has, and the sum of their words.
fn read(address: SocketAddr, path: &str) -> io::Result<(u64, u64)> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    // Only the head passes through this buffer: it is smaller than the pieces.
    let mut answer = BufReader::with_capacity(HEAD_BYTES, stream);
    let mut line = String::new();
    answer.read_line(&mut line)?;
    assert!(line.starts_with("HTTP/1.1 200"), "{line}");
    while line != "\r\n" {
        line.clear();
        answer.read_line(&mut line)?;
    }
    let mut piece = vec![0; PIECE_BYTES];
    let (mut bytes, mut sum) = (0, 0_u64);
    loop {
        let mut filled = 0;
        while filled < piece.len() {
            match answer.read(&mut piece[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        // Files are whole mebibytes, so the last piece too is whole words.
        let words = piece[..filled].chunks_exact(8);
        sum = words
            .map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")))
            .fold(sum, u64::wrapping_add);
        bytes += filled as u64;
        if filled < piece.len() {
            return Ok((bytes, sum));
        }
    }
}

/// Where the file is in our store.
const ENTRY: &str = "/ccache/f11e";

fn upload(address: SocketAddr, path: &str, source: &Path) -> io::Result<()> {
    let mut file = File::open(source)?;
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "PUT {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        file.metadata()?.len()
    )?;
    io::copy(&mut file, &mut stream)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    assert!(line.starts_with("HTTP/1.1 20"), "{line}");
    Ok(())
}

/// Our front ends over a store with the file in it.
fn ours(directory: &Path, workers: usize, ask: &dyn Fn(SocketAddr, &str) -> Sample) -> Sample {
    let runtime = http::runtime(workers);
    let system = System::new().expect("the system starts");
    let store = Store::open(StoreConfig::new(directory.join("store")), &system);
    let store = store.expect("a new store opens");
    let front = Front::new(store.clone(), &FrontConfig::default()).expect("defaults");
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let address = runtime.block_on(async { front.listen(any_port).expect("a free port") });
    upload(address, ENTRY, &directory.join(FILE)).expect("the disk has room");
    let sample = ask(address, ENTRY);
    runtime.block_on(async {
        front.drain(Duration::from_secs(5)).await;
        store.close().await;
    });
    let _ = system.shutdown(Duration::from_secs(10));
    sample
}

/// Where Debian puts it is not on everybody's path.
fn nginx() -> Command {
    let debian = Path::new("/usr/sbin/nginx");
    let mut command = Command::new(if debian.exists() {
        debian
    } else {
        "nginx".as_ref()
    });
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// nginx as its documentation recommends for large files.
fn peer(directory: &Path, workers: usize, ask: &dyn Fn(SocketAddr, &str) -> Sample) -> Sample {
    // Its workers run as another user when it is started by root.
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("our own directory");
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("a socket");
    drop(free);
    let (place, config) = (directory.display(), directory.join("nginx.conf"));
    let text = format!(
        "daemon off; worker_processes {workers}; pid {place}/pid; error_log {place}/errors;
events {{ worker_connections 64; }}
http {{
    access_log off; sendfile on; tcp_nopush on; keepalive_timeout 65;
    client_body_temp_path {place}/bodies; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
    server {{ listen {address}; root {place}; }}
}}
"
    );
    fs::write(&config, text).expect("the disk has room");
    let mut server = Ended(
        nginx()
            .arg("-c")
            .arg(&config)
            .spawn()
            .expect("nginx starts"),
    );
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        let ended = server.0.try_wait().expect("our own child");
        assert!(
            ended.is_none() && began.elapsed() < START,
            "nginx does not listen: {}",
            fs::read_to_string(directory.join("errors")).unwrap_or_default()
        );
        thread::yield_now();
    }
    ask(address, &format!("/{FILE}"))
}
