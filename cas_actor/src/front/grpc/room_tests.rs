//! What calls hold in memory stays within the limit.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tonic::Code;

use super::api::bytestream::WriteRequest;
use super::api::{self, re};
use super::tests::{BLAKE3, Node, blake3};
use crate::front::{AccessConfig, FrontConfig, Right};

const MIB: u64 = 1024 * 1024;

#[tokio::test]
async fn uploads_that_hold_too_much_together_are_refused_early() {
    let mut config = FrontConfig::default();
    config.limits.in_flight_bytes = 96 * MIB;
    let node = Node::start(&config).await;
    let content = vec![7; 3_000_000];
    let name = blake3(&content);
    let mut uploads: FuturesUnordered<_> = (0..100)
        .map(|number| {
            let first = WriteRequest {
                resource_name: format!(
                    "uploads/{number}/blobs/blake3/{}/{}",
                    name.hash, name.size_bytes
                ),
                data: content[..1000].to_vec().into(),
                ..Default::default()
            };
            let pieces = stream::iter([first]).chain(stream::pending());
            let mut client = node.bytes();
            async move { client.write(pieces).await.unwrap_err().code() }
        })
        .collect();
    // Each holds a window of HTTP/2 and a piece: more than 2 MiB, so at least 52 find no room.
    for _ in 0..52 {
        assert_eq!(uploads.next().await, Some(Code::ResourceExhausted));
        assert!(node.front.stats().held_bytes <= 96 * MIB);
    }
    assert!(node.front.stats().held_bytes > 80 * MIB);
    let hash = name.hash.clone();
    assert!(node.front.stats().overloaded >= 52);
    // Once they are gone there is room again.
    drop(uploads);
    while node.front.stats().held_bytes > 0 {
        tokio::task::yield_now().await;
    }
    let name = format!("uploads/1/blobs/blake3/{hash}/3000000");
    node.write(&name, &content, 0, true).await.unwrap();
}

#[tokio::test]
async fn large_messages_are_refused_before_they_are_read() {
    let mut config = FrontConfig::default();
    config.limits.in_flight_bytes = 96 * MIB;
    let node = Node::start(&config).await;
    // Some 14 MiB, which hold four times as much.
    let request = re::FindMissingBlobsRequest {
        blob_digests: vec![blake3(b"x"); 200_000],
        digest_function: BLAKE3,
        ..Default::default()
    };
    let calls = (0..8).map(|_| {
        let (client, request) = (node.blobs(), request.clone());
        let mut client = client.max_decoding_message_size(usize::MAX);
        async move {
            let answer = client.find_missing_blobs(request).await;
            answer.map(|_| ()).map_err(|status| status.code())
        }
    });
    let ended: Vec<_> = futures_util::future::join_all(calls).await;
    let is_expected = |end: &_| matches!(end, Ok(()) | Err(Code::ResourceExhausted));
    assert!(ended.iter().all(is_expected), "{ended:?}");
    assert!(ended.contains(&Err(Code::ResourceExhausted)), "{ended:?}");
    while node.front.stats().held_bytes > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn results_with_large_trees_are_served_at_the_least_limit() {
    let mut config = FrontConfig::default();
    config.limits.in_flight_bytes = 96 * MIB;
    let node = Node::start(&config).await;
    let store = &node.front.probe().0.store;
    let leaf = store.put("leaf").await.unwrap();
    let mut trees = Vec::new();
    for number in 0..3 {
        let file = |index: u64| re::FileNode {
            name: format!("{number}{index}{}", "x".repeat(MIB as usize)),
            digest: Some(blake3(b"leaf")),
            ..Default::default()
        };
        let tree = re::Tree {
            root: Some(re::Directory {
                files: (0..25).map(file).collect(),
                ..Default::default()
            }),
            children: vec![],
        };
        let tree = store.put(tree.encode_to_vec()).await.unwrap();
        assert!(tree.size_bytes() >= 25 * MIB);
        trees.push(tree);
    }
    let result = node.keep_result(&trees).await;
    node.actions()
        .get_action_result(result.clone())
        .await
        .unwrap();
    // Each of their files is asked for.
    assert!(store.delete(&leaf).await.unwrap());
    let missed = node.actions().get_action_result(result.clone()).await;
    assert_eq!(missed.unwrap_err().code(), Code::NotFound);
    while node.front.stats().held_bytes > 0 {
        tokio::task::yield_now().await;
    }
}

/// Each time that it appeared it was read, counted and decoded by the thread that serves connections.
#[tokio::test]
async fn a_tree_that_a_result_names_often_is_read_once() {
    let node = Node::start(&FrontConfig::default()).await;
    let store = &node.front.probe().0.store;
    store.put("leaf").await.unwrap();
    let tree = re::Tree {
        root: Some(re::Directory {
            files: vec![re::FileNode {
                digest: Some(blake3(b"leaf")),
                ..Default::default()
            }],
            ..Default::default()
        }),
        children: vec![],
    };
    let tree = store.put(tree.encode_to_vec()).await.unwrap();
    let result = node.keep_result(&vec![tree; 1000]).await;
    let before = store.stats().await.unwrap();
    node.actions().get_action_result(result).await.unwrap();
    let after = store.stats().await.unwrap();
    let reads = |stats: &crate::Stats| stats.memory_hits + stats.disk_hits;
    assert!(reads(&after) - reads(&before) < 10, "{after:?}");
}

/// A message that becomes more than the limit in memory, and its call.
async fn swollen(node: &Node, call: &str) -> Option<Code> {
    let many = 500_000;
    let (mut blobs, mut actions) = (node.blobs(), node.actions());
    let refused = match call {
        "FindMissingBlobs" => {
            let request = re::FindMissingBlobsRequest {
                blob_digests: vec![re::Digest::default(); 3 * many],
                ..Default::default()
            };
            blobs.find_missing_blobs(request).await.err()
        }
        "BatchUpdateBlobs" => {
            let request = re::BatchUpdateBlobsRequest {
                requests: vec![Default::default(); many],
                ..Default::default()
            };
            blobs.batch_update_blobs(request).await.err()
        }
        "BatchReadBlobs" => {
            let request = re::BatchReadBlobsRequest {
                acceptable_compressors: vec![0; 20 * many],
                ..Default::default()
            };
            blobs.batch_read_blobs(request).await.err()
        }
        "UpdateActionResult" => {
            let request = re::UpdateActionResultRequest {
                action_result: Some(re::ActionResult {
                    output_files: vec![Default::default(); many],
                    ..Default::default()
                }),
                ..Default::default()
            };
            actions.update_action_result(request).await.err()
        }
        _ => {
            let root = re::Directory {
                files: vec![Default::default(); many],
                ..Default::default()
            };
            let store = &node.front.probe().0.store;
            let root = store.put(root.encode_to_vec()).await.unwrap();
            let request = re::GetTreeRequest {
                root_digest: Some(re::Digest {
                    hash: root.hex(),
                    size_bytes: root.size_bytes() as i64,
                }),
                digest_function: BLAKE3,
                ..Default::default()
            };
            blobs.get_tree(request).await.err()
        }
    };
    refused.map(|status| status.code())
}

#[tokio::test]
async fn empty_entries_count_as_what_they_become() {
    let mut config = FrontConfig::default();
    config.limits.in_flight_bytes = 96 * MIB;
    let node = Node::start(&config).await;
    for call in [
        "FindMissingBlobs",
        "BatchUpdateBlobs",
        "BatchReadBlobs",
        "UpdateActionResult",
        "GetTree",
    ] {
        let refused = swollen(&node, call).await;
        assert_eq!(refused, Some(Code::ResourceExhausted), "{call}");
    }
}

/// A connection whose streams have little room, so that answers wait.
async fn narrow(node: &Node) -> hyper::client::conn::http2::SendRequest<Asked> {
    let address = node.uri.strip_prefix("http://").unwrap();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(10)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

type Asked = UnsyncBoxBody<bytes::Bytes, Infallible>;

/// A call over HTTP/2 with this body.
fn called(node: &Node, path: &str, body: Asked) -> hyper::Request<Asked> {
    let request = hyper::Request::post(format!("{}{path}", node.uri));
    let request = request.header("content-type", "application/grpc");
    request.body(body).unwrap()
}

#[tokio::test]
async fn results_that_wait_for_their_readers_are_counted() {
    let mut config = FrontConfig::default();
    config.limits.in_flight_bytes = 96 * MIB;
    let node = Node::start(&config).await;
    let action_digest = Some(blake3(b"action"));
    let update = re::UpdateActionResultRequest {
        action_digest: action_digest.clone(),
        action_result: Some(re::ActionResult {
            stdout_raw: vec![7; 15 * MIB as usize].into(),
            ..Default::default()
        }),
        digest_function: BLAKE3,
        ..Default::default()
    };
    let mut actions = node.actions().max_decoding_message_size(usize::MAX);
    actions.update_action_result(update).await.unwrap();
    while node.front.stats().held_bytes > 0 {
        tokio::task::yield_now().await;
    }
    let get = re::GetActionResultRequest {
        action_digest,
        digest_function: BLAKE3,
        ..Default::default()
    };
    let mut message = vec![0; 5];
    message[4] = get.encoded_len() as u8;
    get.encode(&mut message).unwrap();
    let path = "/build.bazel.remote.execution.v2.ActionCache/GetActionResult";
    let mut sender = narrow(&node).await;
    let mut answers = Vec::new();
    let mut refused = 0;
    for _ in 0..8 {
        let body = Full::from(message.clone()).boxed_unsync();
        let answer = sender.send_request(called(&node, path, body)).await;
        let answer = answer.unwrap();
        refused += u32::from(answer.headers().contains_key("grpc-status"));
        answers.push(answer);
    }
    // One of them holds the result, decoded and encoded.
    assert!(node.front.stats().held_bytes >= 30 * MIB);
    assert!((5..8).contains(&refused), "{refused}");
}

#[tokio::test]
async fn strangers_are_refused_before_their_messages_come() {
    let mut config = FrontConfig {
        access: AccessConfig {
            anonymous: Some(Right::None),
            credential: vec![],
        },
        ..Default::default()
    };
    // Nobody waits for the rest of a message.
    config.limits.stall_seconds = 3600;
    let node = Node::start(&config).await;
    let files = prost_types::FileDescriptorSet::decode(api::DESCRIPTORS).unwrap();
    let mut asked = 0;
    for (file, service) in files
        .file
        .iter()
        .flat_map(|file| file.service.iter().map(move |service| (file, service)))
    {
        if ["Execution", "Operations"].contains(&service.name()) {
            continue;
        }
        for method in &service.method {
            let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
            let body = StreamBody::new(stream::pending()).boxed_unsync();
            let mut sender = narrow(&node).await;
            let answer = sender.send_request(called(&node, &path, body));
            let answer = tokio::time::timeout(Duration::from_secs(60), answer).await;
            let answer = answer.unwrap_or_else(|_| panic!("{path} waits")).unwrap();
            let status = answer.headers().get("grpc-status").unwrap();
            assert_eq!(status, "16", "{path}");
            asked += 1;
        }
    }
    assert!(asked > 15, "{asked}");
}
