//! What calls hold in memory stays within the limit.

use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, stream};
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
