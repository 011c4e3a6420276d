//! What the figures say of calls is what was done.

use prost::Message;
use tonic::Code;
use tonic::transport::Channel;

use super::api::re;
use super::api::zako::transport_client::TransportClient;
use super::api::zako::{self, DownloadRequest};
use super::tests::Node;
use crate::front::held::Share;
use crate::front::{AccessConfig, FrontConfig, Right, Space, SpaceStats};

fn bazel(node: &Node) -> SpaceStats {
    node.front.stats().spaces[Space::Bazel as usize].1
}

#[tokio::test]
async fn a_result_is_one_hit_or_one_miss_whatever_it_points_at() {
    let node = Node::start(&FrontConfig::default()).await;
    let store = &node.front.probe().0.store;
    let tree = store.put(re::Tree::default().encode_to_vec()).await;
    let empty = tree.unwrap();
    let tree = re::Tree {
        root: Some(re::Directory::default()),
        children: vec![],
    };
    let tree = store.put(tree.encode_to_vec()).await.unwrap();
    let result = node.keep_result(&[empty, tree]).await;
    node.actions()
        .get_action_result(result.clone())
        .await
        .unwrap();
    let stats = bazel(&node);
    assert_eq!((stats.hits, stats.misses, stats.read_bytes), (1, 0, 0));
    assert!(store.delete(&tree).await.unwrap());
    let missed = node.actions().get_action_result(result.clone()).await;
    assert_eq!(missed.unwrap_err().code(), Code::NotFound);
    let stats = bazel(&node);
    assert_eq!((stats.hits, stats.misses, stats.read_bytes), (1, 1, 0));
}

#[tokio::test]
async fn compressed_downloads_have_chunks() {
    let node = Node::start(&FrontConfig::default()).await;
    let content = "all work and no play ".repeat(100_000);
    let store = &node.front.probe().0.store;
    let digest = store.put(content.clone()).await.unwrap();
    let name = format!(
        "compressed-blobs/zstd/blake3/{}/{}",
        digest.hex(),
        digest.size_bytes()
    );
    let read = node.read(&name, 0, 0).await.unwrap();
    assert!(zstd::decode_all(&read[..]).unwrap() == content.as_bytes());
    let chunks = node.front.stats().download_chunks;
    assert_eq!(chunks.sum_bytes, read.len() as u64);
}

#[tokio::test]
async fn a_download_without_room_has_failed() {
    let node = Node::start(&FrontConfig::default()).await;
    let shared = &node.front.probe().0;
    let content = b"content";
    let digest = shared.store.put(&content[..]).await.unwrap();
    let all = Share::new(shared);
    all.add(shared.limits.in_flight_bytes - 1000).unwrap();
    let download = async || {
        let request = DownloadRequest {
            digest: Some(zako::Digest {
                size_bytes: digest.size_bytes(),
                blake3: digest.hash().to_vec().into(),
            }),
            range: None,
        };
        let mut client: TransportClient<Channel> = TransportClient::new(node.channel.clone());
        client.download(request).await.map(drop)
    };
    let refused = download().await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let stats = node.front.stats().transport;
    assert_eq!((stats.downloads, stats.downloads_failed), (1, 1));
    drop(all);
    download().await.unwrap();
    let stats = node.front.stats().transport;
    assert_eq!((stats.downloads, stats.downloads_failed), (2, 1));
}

#[tokio::test]
async fn a_reader_who_asks_what_the_node_can_do_is_not_refused() {
    let config = FrontConfig {
        access: AccessConfig {
            anonymous: Some(Right::Read),
            credential: vec![],
        },
        ..Default::default()
    };
    let node = Node::start(&config).await;
    let mut client = re::capabilities_client::CapabilitiesClient::new(node.channel.clone());
    let request = re::GetCapabilitiesRequest::default();
    client.get_capabilities(request).await.unwrap();
    assert_eq!(bazel(&node).refused, 0);
}
