//! Streams that stand still on connections that do not.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tonic::Code;
use tonic::transport::Channel;

use super::api::bytestream::WriteRequest;
use super::api::bytestream::byte_stream_client::ByteStreamClient;
use super::tests::Node;
use crate::Digest;
use crate::front::{Front, FrontConfig};

/// How often the clients here ping.
const PING: Duration = Duration::from_millis(100);
/// Far longer than any limit here: a request that lasts so long has no limit.
const FOREVER: Duration = Duration::from_secs(60);

fn config() -> FrontConfig {
    let mut config = FrontConfig::default();
    config.limits.stall_seconds = 2;
    config
}

/// Another front of the same store, whose limits nobody meets here.
fn patient(node: &Node) -> (Front, String) {
    let store = node.front.probe().0.store.clone();
    let front = Front::new(store, &FrontConfig::default()).unwrap();
    let address = front.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    (front, format!("http://{address}"))
}

fn pinging(uri: &str) -> Channel {
    let channel = Channel::from_shared(uri.to_owned()).unwrap();
    let channel = channel.http2_keep_alive_interval(PING);
    channel.keep_alive_while_idle(true).connect_lazy()
}

async fn all_end(node: &Node) {
    while node.front.stats().requests > 0 {
        tokio::time::sleep(PING).await;
    }
}

#[tokio::test]
async fn silent_uploads_end_although_their_connection_pings() {
    let node = Node::start(&config()).await;
    let channel = pinging(&node.uri);
    let content = [7; 1000];
    let digest = Digest::of(&content);
    let (hash, size) = (digest.hex(), content.len());
    let silent = |number: u32| {
        let first = WriteRequest {
            resource_name: format!("uploads/{number}/blobs/blake3/{hash}/{size}"),
            data: content[..10].to_vec().into(),
            ..Default::default()
        };
        let pieces = stream::iter([first]).chain(stream::pending());
        let mut client = ByteStreamClient::new(channel.clone());
        async move { client.write(pieces).await.unwrap_err().code() }
    };
    let all = futures_util::future::join_all((0..20).map(silent));
    let ended = tokio::time::timeout(FOREVER, all);
    let codes = ended.await.expect("silent uploads end");
    assert_eq!(codes, vec![Code::DeadlineExceeded; 20]);
    all_end(&node).await;
    // What has come can be gone on with, and the connection serves others.
    let (_front, uri) = patient(&node);
    let mut client = ByteStreamClient::new(pinging(&uri));
    let committed = async {
        loop {
            let asked = super::api::bytestream::QueryWriteStatusRequest {
                resource_name: format!("uploads/3/blobs/blake3/{hash}/{size}"),
            };
            match client.query_write_status(asked).await {
                Ok(status) => return status.into_inner().committed_size,
                // The first piece came too late.
                Err(status) => assert_eq!(status.code(), Code::NotFound),
            }
            assert_eq!(silent(3).await, Code::DeadlineExceeded);
        }
    };
    let committed = tokio::time::timeout(FOREVER, committed);
    assert_eq!(committed.await.expect("some of it is kept"), 10);
}

#[tokio::test]
async fn a_call_that_drips_ends_at_the_limit_of_a_request() {
    let mut config = FrontConfig::default();
    config.limits.request_seconds = 2;
    let node = Node::start(&config).await;
    let content = vec![7; 1_000_000];
    let digest = Digest::of(&content);
    let name = format!("uploads/u/blobs/blake3/{}/{}", digest.hex(), content.len());
    let pieces = stream::unfold(0, move |offset| {
        let resource_name = name.clone();
        async move {
            tokio::time::sleep(PING / 10).await;
            let piece = WriteRequest {
                resource_name,
                write_offset: offset,
                data: vec![7].into(),
                ..Default::default()
            };
            Some((piece, offset + 1))
        }
    });
    let mut client = node.bytes();
    let written = tokio::time::timeout(FOREVER, client.write(pieces));
    let status = written.await.expect("it ends").unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    all_end(&node).await;
}

/// A connection over HTTP/2 that pings, and whose streams have little room.
async fn hyper_client(uri: &str) -> hyper::client::conn::http2::SendRequest<Full<bytes::Bytes>> {
    let address = uri.strip_prefix("http://").unwrap();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(10_000)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn answers_that_nobody_takes_end_although_their_connection_pings() {
    let node = Node::start(&config()).await;
    let (_front, patient) = patient(&node);
    let get = |uri: &str, path: &str| {
        let request = hyper::Request::get(format!("{uri}{path}"));
        request.body(Full::default()).unwrap()
    };
    // The one is sent from its file, the other one from memory.
    for size in [3_000_000, 30_000] {
        let store = &node.front.probe().0.store;
        let digest = store.put(vec![9; size]).await.unwrap();
        let path = format!("/cas/{}", digest.hex());
        let mut sender = hyper_client(&node.uri).await;
        let answer = sender.send_request(get(&node.uri, &path)).await;
        tokio::time::timeout(FOREVER, all_end(&node))
            .await
            .expect("the answer ends");
        // The end may come before its beginning was read.
        if let Ok(answer) = answer {
            assert!(answer.into_body().collect().await.is_err());
        }
        // Who takes the answer gets it.
        let mut sender = hyper_client(&patient).await;
        let taken = sender.send_request(get(&patient, &path)).await.unwrap();
        let taken = taken.into_body().collect().await.unwrap();
        assert_eq!(taken.to_bytes().len(), size);
    }
}

/// A body of which nothing comes after the first byte.
struct Silent(bool);

impl Body for Silent {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<bytes::Bytes>, Self::Error>>> {
        match std::mem::replace(&mut self.0, true) {
            false => Poll::Ready(Some(Ok(hyper::body::Frame::data("x".into())))),
            true => Poll::Pending,
        }
    }
}

#[tokio::test]
async fn a_silent_upload_over_http2_is_told() {
    let node = Node::start(&config()).await;
    let address = node.uri.strip_prefix("http://").unwrap();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let put = hyper::Request::put(format!("{}/gradle/key", node.uri));
    let answer = sender.send_request(put.body(Silent(false)).unwrap());
    let answer = tokio::time::timeout(FOREVER, answer).await;
    assert_eq!(answer.expect("it ends").unwrap().status(), 408);
}
