//! Somebody who watches hears of every request, once, with what came of it.

mod http_client;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::{Duration, SystemTime};

use cas_actor::front::{Attached, Front, FrontConfig, Served, Watcher};
use http_body_util::{BodyExt, Full};
use http_client::Client;
use http_client::node::{Node, sha256};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

struct Ear(Sender<Served>);

impl Watcher for Ear {
    fn served(&self, request: Served) {
        self.0.send(request).unwrap();
    }
}

/// Another front over the node's store, whose requests are told.
fn watched(node: &Node) -> (Front, std::net::SocketAddr, Receiver<Served>) {
    let (told, heard) = channel();
    let attached = Attached {
        watcher: Some(Arc::new(Ear(told))),
        ..Attached::default()
    };
    let front = Front::with(node.store.clone(), &FrontConfig::default(), attached).unwrap();
    let address = front.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    (front, address, heard)
}

fn next(heard: &Receiver<Served>) -> Served {
    let heard = heard.recv_timeout(Duration::from_secs(30));
    heard.expect("the request is told")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_told_with_its_caller_its_answer_and_its_time() {
    let node = Node::start(&FrontConfig::default());
    let (_front, address, heard) = watched(&node);
    let mut client = Client::connect(address).await;
    let begin = SystemTime::now();
    let path = format!("/cas/{}", sha256(&[1; 100]));
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let caller = [("traceparent", parent)];
    let expect = |method: &str, path: &str, status, body_bytes| {
        let told = next(&heard);
        assert_eq!((&told.method[..], &told.path[..]), (method, path));
        let answer = (told.status, told.body_bytes, told.is_cut_off);
        assert_eq!(answer, (Some(status), body_bytes, false), "{told:?}");
        assert_eq!((told.protocol, told.grpc_status), ("1.1", None));
        assert!(told.begin + told.duration <= SystemTime::now());
        assert!(told.begin >= begin);
        told
    };
    client.request("PUT", &path, &caller, &[1; 100]).await;
    let told = expect("PUT", &path, 200, 0);
    assert_eq!(told.traceparent.as_deref(), Some(parent));
    // The second of them is answered at once.
    for _ in 0..3 {
        client.get(&path).await;
        assert_eq!(expect("GET", &path, 200, 100).traceparent, None);
    }
    client.request("HEAD", "/?token=secret", &[], b"").await;
    expect("HEAD", "/", 200, 0);
    client.get("/gradle/absent").await;
    let told = next(&heard);
    assert_eq!((told.status, told.is_cut_off), (Some(404), false));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_cut_off_is_told_with_what_came_of_it() {
    let node = Node::start(&FrontConfig::default());
    let (_front, address, heard) = watched(&node);
    let mut client = Client::connect(address).await;
    client
        .send(b"PUT /gradle/a HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        .await;
    assert_eq!(client.answer(false).await.status, 100);
    drop(client);
    let told = next(&heard);
    assert_eq!(told.method, "PUT");
    assert_eq!(told.status, Some(400), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_is_told_when_it_is_written_and_whether_it_was_cut_off() {
    const SIZE: usize = 16 << 20;
    let node = Node::start(&FrontConfig::default());
    let (_front, address, heard) = watched(&node);
    let content = vec![1; SIZE];
    let path = format!("/cas/{}", sha256(&content));
    let mut client = Client::connect(address).await;
    let put = client.request("PUT", &path, &[], &content).await;
    assert_eq!(put.status, 200);
    assert_eq!(next(&heard).method, "PUT");
    for is_cut_off in [false, true] {
        let socket = TcpSocket::new_v4().unwrap();
        // What this reader does not take cannot lie in the kernel.
        socket.set_recv_buffer_size(64 * 1024).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        // The answer has begun: hyper has taken the body, all of it.
        stream.read_exact(&mut [0; 4096]).await.unwrap();
        assert_eq!(heard.try_recv(), Err(TryRecvError::Empty));
        if is_cut_off {
            drop(stream);
        } else {
            stream.read_to_end(&mut Vec::new()).await.unwrap();
        }
        let told = next(&heard);
        assert_eq!((told.status, told.is_cut_off), (Some(200), is_cut_off));
        assert_eq!(told.body_bytes < SIZE as u64, is_cut_off, "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_grpc_are_told_with_their_status() {
    let node = Node::start(&FrontConfig::default());
    let (_front, address, heard) = watched(&node);
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let io = TokioIo::new(stream);
    let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
    let (mut client, connection) = shaken.unwrap();
    let connection = tokio::spawn(connection);
    for (path, status) in [
        ("/grpc.health.v1.Health/Check", 0),
        ("/no.such.Service/Call", 12),
    ] {
        // An empty message: no compression, no bytes.
        let call = hyper::Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .body(Full::new(bytes::Bytes::from_static(&[0; 5])));
        let answer = client.send_request(call.unwrap()).await.unwrap();
        answer.into_body().collect().await.unwrap();
        let told = next(&heard);
        assert_eq!((&told.path[..], told.protocol), (path, "2"));
        assert_eq!((told.grpc_status, told.is_cut_off), (Some(status), false));
    }
    connection.abort();
}
