//! What a request costs in memory: buffers of a connection are used again, and a hit in memory allocates next to nothing.
#![cfg(feature = "store")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use actor_rt::System;
use bench_harness::alloc_count::{self, Counting};
use cas_actor::front::{Front, FrontConfig};
use cas_actor::{Store, StoreConfig};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Requests that are counted, after as many that are not.
const REQUESTS: u64 = 2_000;

/// A client that allocates nothing once it is connected.
struct Client {
    stream: TcpStream,
    answer: Box<[u8]>,
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            answer: vec![0; 1 << 16].into(),
        }
    }

    /// Asks, and reads so many bytes of a body.
    fn ask(&mut self, request: &[u8], body_bytes: usize) {
        self.stream.write_all(request).unwrap();
        let mut length = 0;
        loop {
            let read = self.stream.read(&mut self.answer[length..]).unwrap();
            assert!(read > 0, "the server hung up");
            length += read;
            let answer = &self.answer[..length];
            let head = answer.windows(4).position(|four| four == b"\r\n\r\n");
            if head.is_some_and(|head| length - head - 4 == body_bytes) {
                break;
            }
        }
        assert!(self.answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    }
}

/// Allocations for each of many requests like this one.
fn allocations(client: &mut Client, request: &[u8], body_bytes: usize) -> f64 {
    let mut ask = || (0..REQUESTS).for_each(|_| client.ask(request, body_bytes));
    ask();
    let (counts, ()) = alloc_count::count(ask);
    counts.allocations as f64 / REQUESTS as f64
}

#[test]
fn a_hit_in_memory_allocates_next_to_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let system = System::new().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = Store::open(StoreConfig::new(directory.path()), &system).unwrap();
    let front = Front::new(store.clone(), &FrontConfig::default()).unwrap();
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let address = runtime.block_on(async { front.listen(any_port).unwrap() });

    let mut client = Client::connect(address);
    let head = "PUT /ccache/0123 HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1024\r\n\r\n";
    client.ask(&[head.as_bytes(), &[7; 1024]].concat(), 0);
    let request = b"GET /ccache/0123 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let each = allocations(&mut client, request, 1024);
    println!("{each} allocations for a hit");
    assert!(each < 2.0, "{each} allocations for a hit");

    runtime.block_on(async {
        front.drain(Duration::from_secs(5)).await;
        store.close().await;
    });
}
