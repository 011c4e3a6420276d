//! Files that somebody cuts off while they are read.

use tonic::Code;

use super::ReapiUpstream;
use super::api::bytestream::ReadRequest;
use super::api::re;
use super::tests::{BLAKE3, Node};
use crate::front::FrontConfig;
use crate::layout::Layout;
use crate::{Chunking, Connection, Digest, HttpUpstream, Sha256Digest, Upstream};

/// Far more than is under way at a time.
const SIZE_BYTES: usize = 24 << 20;

fn cut(node: &Node, digest: &Digest) {
    let path = Layout::new(node.directory.path().into()).blob(digest.hash());
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(4096).unwrap();
}

/// The bytes were those of the map, and touching them ended the process.
#[tokio::test]
async fn a_file_that_is_cut_off_while_it_is_read_ends_the_call_and_nothing_else() {
    let node = Node::start(&FrontConfig::default()).await;
    let store = node.front.probe().0.store.clone();
    let mut content = vec![0; SIZE_BYTES];
    blake3::Hasher::new().finalize_xof().fill(&mut content);
    for kind in ["blobs", "compressed-blobs/zstd"] {
        let digest = store.put(content.clone()).await.unwrap();
        let hex = digest.hex();
        let request = ReadRequest {
            resource_name: format!("{kind}/blake3/{hex}/{SIZE_BYTES}"),
            ..Default::default()
        };
        let answer = node.bytes().read(request.clone()).await.unwrap();
        let mut pieces = answer.into_inner();
        assert!(pieces.message().await.unwrap().is_some());
        cut(&node, &digest);
        let failure = loop {
            match pieces.message().await {
                Ok(piece) => assert!(piece.is_some(), "a part was all of it"),
                Err(status) => break status.code(),
            }
        };
        assert_eq!(failure, Code::Internal, "{kind}");
        let again = node.bytes().read(request).await;
        assert_eq!(again.unwrap_err().code(), Code::NotFound, "{kind}");
    }
}

/// Those who hash a blob, cut it into chunks or hand it on touched the map as well.
#[tokio::test]
async fn a_file_that_is_cut_off_is_an_error_for_who_works_with_it() {
    let node = Node::start(&FrontConfig::default()).await;
    let there = Node::start(&FrontConfig::default()).await;
    let store = node.front.probe().0.store.clone();
    let content = vec![7; SIZE_BYTES];
    let digest = store.put(content.clone()).await.unwrap();
    let blob = store.get(&digest).await.unwrap();
    cut(&node, &digest);
    assert!(Sha256Digest::of_blob(blob.clone()).is_err());
    let mut chunks = Chunking::default().read(blob.clone());
    assert!(chunks.any(|chunk| chunk.is_err()));
    let connection = Connection::default();
    let grpc = ReapiUpstream::new(&there.uri, "", &connection).unwrap();
    let http = HttpUpstream::new(&there.uri, &connection).unwrap();
    let known = Sha256Digest::of(&content);
    for upstream in [&grpc as &dyn Upstream, &http] {
        for known in [None, Some(&known)] {
            assert!(upstream.put(&digest, known, blob.clone()).await.is_err());
        }
    }
    let name = re::Digest {
        hash: digest.hex(),
        size_bytes: SIZE_BYTES as i64,
    };
    assert_eq!(there.missing(&[name], BLAKE3).await.len(), 1);
}
