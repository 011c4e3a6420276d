//! Files that somebody cuts off while they are read.

use tonic::Code;

use super::api::bytestream::ReadRequest;
use super::tests::Node;
use crate::front::FrontConfig;

/// Far more than is under way at a time.
const SIZE_BYTES: usize = 24 << 20;

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
        let path = node
            .directory
            .path()
            .join("blobs")
            .join(&hex[..2])
            .join(&hex[2..]);
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(4096).unwrap();
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
