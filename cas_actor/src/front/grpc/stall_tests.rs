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
use crate::front::FrontConfig;

/// How often the clients here ping.
const PING: Duration = Duration::from_millis(100);
/// Far longer than any limit here: a request that lasts so long has no limit.
const FOREVER: Duration = Duration::from_secs(60);

fn config() -> FrontConfig {
    let mut config = FrontConfig::default();
    config.limits.stall_seconds = 2;
    config
}

fn pinging(node: &Node) -> Channel {
    let channel = Channel::from_shared(node.uri.clone()).unwrap();
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
    let channel = pinging(&node);
    let content = [7; 1000];
    let digest = Digest::of(&content);
    let (hash, size) = (digest.hex(), content.len());
    let silent = (0..20).map(|number| {
        let first = WriteRequest {
            resource_name: format!("uploads/{number}/blobs/blake3/{hash}/{size}"),
            data: content[..10].to_vec().into(),
            ..Default::default()
        };
        let pieces = stream::iter([first]).chain(stream::pending());
        let mut client = ByteStreamClient::new(channel.clone());
        async move { client.write(pieces).await.unwrap_err().code() }
    });
    let ended = tokio::time::timeout(FOREVER, futures_util::future::join_all(silent));
    let codes = ended.await.expect("silent uploads end");
    assert_eq!(codes, vec![Code::DeadlineExceeded; 20]);
    // What has come can be gone on with, and the connection serves others.
    all_end(&node).await;
    let name = format!("uploads/3/blobs/blake3/{hash}/{size}");
    let asked = super::api::bytestream::QueryWriteStatusRequest {
        resource_name: name,
    };
    let mut client = ByteStreamClient::new(channel);
    let status = client.query_write_status(asked);
    assert_eq!(status.await.unwrap().into_inner().committed_size, 10);
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
async fn hyper_client(node: &Node) -> hyper::client::conn::http2::SendRequest<Full<bytes::Bytes>> {
    let address = node.uri.strip_prefix("http://").unwrap();
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
    let mut sender = hyper_client(&node).await;
    let get = |path: &str| {
        let request = hyper::Request::get(format!("{}{path}", node.uri));
        request.body(Full::default()).unwrap()
    };
    // The one is sent from its file, the other one from memory.
    for size in [3_000_000, 30_000] {
        let content = vec![9; size];
        let path = format!("/cas/{}", Digest::of(&content).hex());
        let put = hyper::Request::put(format!("{}{path}", node.uri));
        let put = put.body(Full::from(content)).unwrap();
        assert_eq!(sender.send_request(put).await.unwrap().status(), 200);
        let answer = sender.send_request(get(&path)).await.unwrap();
        assert_eq!(node.front.stats().requests, 1, "{size}");
        tokio::time::timeout(FOREVER, all_end(&node))
            .await
            .expect("the answer ends");
        assert!(answer.into_body().collect().await.is_err());
        // Who takes the answer gets it.
        sender = hyper_client(&node).await;
        let taken = sender.send_request(get(&path)).await.unwrap();
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
