//! What calls hold in memory stays within the limit.

use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, stream};
use prost::Message;
use tonic::Code;

use super::api::bytestream::WriteRequest;
use super::api::re;
use super::tests::{BLAKE3, Node, blake3};
use crate::front::FrontConfig;

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
    let mut directories = Vec::new();
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
        directories.push(re::OutputDirectory {
            path: number.to_string(),
            tree_digest: Some(re::Digest {
                hash: tree.hex(),
                size_bytes: tree.size_bytes() as i64,
            }),
            ..Default::default()
        });
    }
    let action_digest = Some(blake3(b"action"));
    let update = re::UpdateActionResultRequest {
        action_digest: action_digest.clone(),
        action_result: Some(re::ActionResult {
            output_directories: directories,
            ..Default::default()
        }),
        digest_function: BLAKE3,
        ..Default::default()
    };
    node.actions().update_action_result(update).await.unwrap();
    let get = || re::GetActionResultRequest {
        action_digest: action_digest.clone(),
        digest_function: BLAKE3,
        ..Default::default()
    };
    node.actions().get_action_result(get()).await.unwrap();
    // Each of their files is asked for.
    assert!(store.delete(&leaf).await.unwrap());
    let missed = node.actions().get_action_result(get()).await;
    assert_eq!(missed.unwrap_err().code(), Code::NotFound);
    while node.front.stats().held_bytes > 0 {
        tokio::task::yield_now().await;
    }
}
