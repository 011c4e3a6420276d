//! Large blobs up and down through a node's front end over gRPC (ByteStream), one after another over one connection.
//!
//! The client is the one that a node has for the cache behind it. Beside it bare TCP and a file per blob: the far side copies
//! what comes while it hashes it, compares the name, writes a file, syncs and renames it, as the store promises; on the way
//! back it sends the file. Both names are BLAKE3, and on the way down both clients hash what comes before they believe it.
//! Every byte that came down is added up outside of the time.
#![forbid(unsafe_code)]

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use bytes::Bytes;
use cas_actor::front::ReapiUpstream;
use cas_actor::{BlobName, Connection, Digest, Hasher, Upstream as _};
use futures_util::stream::StreamExt as _;

use super::files::Files;
use super::http::{self, Server};
use super::store::{STORE, blob, sum, sum_of_blobs};
use super::{Family, Scenario};
use crate::elapsed::{Elapsed, timed};
use crate::measure::{Case, Sample, Unit};
use crate::options::{Options, Scale};
use crate::threads::Threads;

/// `grpc_stream`.
pub const SCENARIO: Scenario = Scenario {
    name: "grpc_stream",
    family: Family::Store,
    about: "blobs of 64 MiB up (on disk when answered) and down over gRPC ByteStream, hashed at both ends",
    unit: Unit::MillionPerSecond("bytes"),
    cases,
};

const MIB: usize = 1 << 20;
/// What bare TCP writes and reads at a time: as much as our client sends in a message.
const PIECE_BYTES: usize = 256 * 1024;
const HASH_BYTES: usize = 32;

#[derive(Clone, Copy)]
struct Load {
    blobs: u64,
    bytes: usize,
    workers: usize,
}

impl Load {
    fn blobs(self) -> Vec<(Digest, Bytes)> {
        let all = (0..self.blobs).map(|number| blob(number, self.bytes));
        all.map(|blob| (Digest::of(&blob), blob)).collect()
    }
}

/// What the way up and the way down took, and every word that came down.
struct Streamed {
    up: Elapsed,
    down: Elapsed,
    sum: u64,
}

fn cases(options: &Options) -> Vec<Case> {
    let load = Load {
        blobs: options.count(4, 2),
        // In a message of its own a blob of a mebibyte would be no stream.
        bytes: match options.scale {
            Scale::Tiny => 2 * MIB,
            Scale::Quick | Scale::Full => 64 * MIB,
        },
        workers: options.cores.len(),
    };
    let mut cases = Vec::new();
    for (way, is_up) in [("up", true), ("down", false)] {
        let case = |implementation, stream: fn(Load) -> Streamed| {
            let run = move || {
                let streamed = stream(load);
                let bytes = load.blobs * load.bytes as u64;
                let elapsed = if is_up { streamed.up } else { streamed.down };
                Sample::rate(bytes, elapsed, streamed.sum)
            };
            let variant = format!("{way}, {} MiB", load.bytes / MIB);
            Case::new(implementation, variant, Threads::anywhere(), run)
                .expecting(move || sum_of_blobs(load.blobs, load.bytes))
        };
        cases.push(case(STORE, front));
        if options.peers {
            cases.push(case("bare TCP, file per blob", bare));
        }
    }
    cases
}

/// Our front end, asked by our client.
fn front(load: Load) -> Streamed {
    let runtime = http::runtime(load.workers);
    let server = Server::front(&runtime);
    let clients = http::runtime(load.workers);
    let blobs = load.blobs();
    let node = clients.block_on(async {
        let address = format!("http://{}", server.address);
        let node = ReapiUpstream::new(&address, "", &Connection::default()).expect("an address");
        // It connects when it is asked first.
        node.function().await.expect("the node answers");
        node
    });
    let (up, ()) = timed(|| {
        clients.block_on(async {
            for (name, blob) in &blobs {
                let put = node.put(name, None, blob.clone().into()).await;
                put.expect("the disk has room");
            }
        });
    });
    let (down, came) = timed(|| {
        clients.block_on(async {
            let mut came = Vec::new();
            for (name, _) in &blobs {
                came.push(download(&node, *name).await);
            }
            came
        })
    });
    let sums = came.iter().map(|pieces| sum(&pieces.concat()));
    let sum = sums.fold(0, u64::wrapping_add);
    drop((node, came));
    drop(clients);
    server.end(&runtime);
    Streamed { up, down, sum }
}

/// The pieces of a blob that is what its name says.
async fn download(node: &ReapiUpstream, name: Digest) -> Vec<Bytes> {
    let (mut came, mut hasher) = (Vec::new(), Hasher::new());
    let blob = BlobName::from(name);
    let answer = node.get(&blob).await.expect("the node answers");
    let mut pieces = answer.expect("it was put");
    while let Some(piece) = pieces.next().await {
        let piece = piece.expect("the whole blob comes");
        hasher.update(&piece);
        came.push(piece);
    }
    assert_eq!(hasher.finish(), name);
    came
}

/// A connection of its own and nothing between it and the files.
fn bare(load: Load) -> Streamed {
    let directory = tempfile::tempdir().expect("a directory for the files");
    let files = Files::new(directory.path(), true);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::scope(|scope| {
        scope.spawn(|| serve(&listener, &files, load).expect("the client stays"));
        ask(address, load).expect("the server stays")
    })
}

/// Takes so many blobs, then sends those that are asked for.
fn serve(listener: &TcpListener, files: &Files, load: Load) -> io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    for _ in 0..load.blobs {
        let name = read_name(&mut stream)?;
        let (digest, blob) = receive(&mut stream, load.bytes)?;
        assert_eq!(digest.hash(), &name);
        files.put(&digest.hex(), &blob);
        stream.write_all(&[1])?;
    }
    for _ in 0..load.blobs {
        let name = read_name(&mut stream)?;
        let hex: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
        stream.write_all(&files.get(&hex))?;
    }
    Ok(())
}

fn read_name(stream: &mut TcpStream) -> io::Result<[u8; HASH_BYTES]> {
    let mut name = [0; HASH_BYTES];
    stream.read_exact(&mut name)?;
    Ok(name)
}

/// A blob and its name, hashed as it comes.
fn receive(stream: &mut TcpStream, bytes: usize) -> io::Result<(Digest, Vec<u8>)> {
    let (mut blob, mut hasher) = (vec![0; bytes], Hasher::new());
    for piece in blob.chunks_mut(PIECE_BYTES) {
        stream.read_exact(piece)?;
        hasher.update(piece);
    }
    Ok((hasher.finish(), blob))
}

fn ask(address: SocketAddr, load: Load) -> io::Result<Streamed> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let blobs = load.blobs();
    let (up, sent) = timed(|| {
        for (name, blob) in &blobs {
            stream.write_all(name.hash())?;
            for piece in blob.chunks(PIECE_BYTES) {
                stream.write_all(piece)?;
            }
            stream.read_exact(&mut [0])?;
        }
        Ok::<(), io::Error>(())
    });
    sent?;
    let (down, came) = timed(|| {
        let mut came = Vec::new();
        for (name, _) in &blobs {
            stream.write_all(name.hash())?;
            let (digest, blob) = receive(&mut stream, load.bytes)?;
            assert_eq!(digest, *name);
            came.push(blob);
        }
        Ok::<_, io::Error>(came)
    });
    let sums = came?
        .iter()
        .map(|blob| sum(blob))
        .fold(0, u64::wrapping_add);
    Ok(Streamed {
        up,
        down,
        sum: sums,
    })
}
