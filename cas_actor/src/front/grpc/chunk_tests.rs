//! SplitBlob and SpliceBlob as clients call them.

use tonic::Code;

use super::api::re;
use super::tests::{BLAKE3, Node, SHA256, blake3, sample, sha256};
use crate::Chunking;
use crate::front::{CredentialConfig, FrontConfig, Right};

fn chunks(content: &[u8]) -> Vec<&[u8]> {
    let mut start = 0;
    let cut = Chunking::default().cut(content).map(|length| {
        start += length;
        &content[start - length..start]
    });
    cut.collect()
}

impl Node {
    async fn split(&self, request: re::SplitBlobRequest) -> Result<re::SplitBlobResponse, Code> {
        let answer = self.blobs().split_blob(request).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| status.code())
    }

    async fn splice(
        &self,
        blob: re::Digest,
        chunks: &[re::Digest],
        digest_function: i32,
    ) -> Result<Option<re::Digest>, Code> {
        let request = re::SpliceBlobRequest {
            blob_digest: Some(blob),
            chunk_digests: chunks.to_vec(),
            digest_function,
            ..Default::default()
        };
        let answer = self.blobs().splice_blob(request).await;
        answer
            .map(|answer| answer.into_inner().blob_digest)
            .map_err(|status| status.code())
    }
}

#[tokio::test]
async fn a_blob_is_split_as_every_client_would_and_its_chunks_are_blobs() {
    let node = Node::start(&FrontConfig::default()).await;
    let content = sample(3_000_000);
    let expected = chunks(&content);
    assert!(expected.len() > 1);
    let name = format!(
        "uploads/1/blobs/{}/{}",
        sha256(&content).hash,
        content.len()
    );
    node.write(&name, &content, 0, true).await.unwrap();
    for (function, digest) in [
        (SHA256, sha256 as fn(&[u8]) -> re::Digest),
        (BLAKE3, blake3),
    ] {
        let request = re::SplitBlobRequest {
            blob_digest: Some(digest(&content)),
            digest_function: function,
            ..Default::default()
        };
        let found = node.split(request).await.unwrap();
        let digests: Vec<re::Digest> = expected.iter().map(|chunk| digest(chunk)).collect();
        assert_eq!(found.chunk_digests, digests);
        assert_eq!(
            found.chunking_function,
            re::chunking_function::Value::FastCdc2020 as i32
        );
        assert!(node.missing(&digests, function).await.is_empty());
    }
    let first = sha256(expected[0]);
    let name = format!("blobs/{}/{}", first.hash, first.size_bytes);
    assert!(node.read(&name, 0, 0).await.unwrap() == expected[0]);
}

#[tokio::test]
async fn what_cannot_be_split_is_told() {
    let node = Node::start(&FrontConfig::default()).await;
    let request = |content: &[u8], function| re::SplitBlobRequest {
        blob_digest: Some(sha256(content)),
        chunking_function: function as i32,
        ..Default::default()
    };
    use re::chunking_function::Value::{FastCdc2020, RepMaxCdc};
    let empty = node.split(request(b"", FastCdc2020)).await.unwrap();
    assert!(empty.chunk_digests.is_empty());
    let missing = node.split(request(b"none", FastCdc2020)).await;
    assert_eq!(missing, Err(Code::NotFound));
    let other = node.split(request(b"", RepMaxCdc)).await;
    assert_eq!(other, Err(Code::InvalidArgument));
    let nothing = node.split(re::SplitBlobRequest::default()).await;
    assert_eq!(nothing, Err(Code::InvalidArgument));
}

#[tokio::test]
async fn who_may_only_read_has_no_chunks_kept() {
    let mut config = FrontConfig::default();
    config.access.anonymous = Some(Right::Read);
    config.access.credential = vec![CredentialConfig {
        name: "writer".into(),
        bearer: Some("secret".into()),
        right: Right::Write,
        ..Default::default()
    }];
    let node = Node::start(&config).await;
    let content = sample(3_000_000);
    let stored = node.front.probe().0.store.put(content.clone()).await;
    let request = re::SplitBlobRequest {
        blob_digest: Some(blake3(&content)),
        digest_function: BLAKE3,
        ..Default::default()
    };
    assert_eq!(stored.unwrap().hex(), blake3(&content).hash);
    let refused = node.split(request.clone()).await;
    assert_eq!(refused.unwrap_err(), Code::Unauthenticated);
    let digests: Vec<_> = chunks(&content).into_iter().map(blake3).collect();
    assert_eq!(node.missing(&digests, BLAKE3).await, digests);
    // Nothing is cut for this caller, not even to find out that all chunks are here.
    for chunk in chunks(&content) {
        let stored = node.front.probe().0.store.put(chunk.to_vec()).await;
        stored.unwrap();
    }
    let refused = node.split(request.clone()).await;
    assert_eq!(refused.unwrap_err(), Code::Unauthenticated);
    let mut allowed = tonic::Request::new(request.clone());
    let token = "Bearer secret".parse().unwrap();
    allowed.metadata_mut().insert("authorization", token);
    node.blobs().split_blob(allowed).await.unwrap();
    // Now that they are here, whoever may read them is told of them.
    let told = node.split(request).await.unwrap();
    assert_eq!(told.chunk_digests, digests);
    // What is too small to be cut is its own chunk.
    let small = sample(100_000);
    let stored = node.front.probe().0.store.put(small.clone()).await;
    stored.unwrap();
    let request = re::SplitBlobRequest {
        blob_digest: Some(blake3(&small)),
        digest_function: BLAKE3,
        ..Default::default()
    };
    let told = node.split(request).await.unwrap();
    assert_eq!(told.chunk_digests, [blake3(&small)]);
}

#[tokio::test]
async fn chunks_are_spliced_only_to_what_they_are() {
    let node = Node::start(&FrontConfig::default()).await;
    for (function, digest) in [
        (SHA256, sha256 as fn(&[u8]) -> re::Digest),
        (BLAKE3, blake3),
    ] {
        let content: Vec<u8> = [&[function as u8][..], &sample(2_500_000)].concat();
        let blob = digest(&content);
        let parts: Vec<&[u8]> = content.chunks(1_300_000).collect();
        let named: Vec<(re::Digest, &[u8])> =
            parts.iter().map(|part| (digest(part), *part)).collect();
        let digests: Vec<re::Digest> = named.iter().map(|(name, _)| name.clone()).collect();
        let splice = |chunks| node.splice(blob.clone(), chunks, function);
        assert_eq!(splice(&digests).await, Err(Code::NotFound));
        node.update(&named, function).await;
        let swapped = [digests[1].clone(), digests[0].clone()];
        for wrong in [&swapped[..], &digests[..1], &[]] {
            assert_eq!(splice(wrong).await, Err(Code::InvalidArgument));
        }
        assert_eq!(
            node.missing(std::slice::from_ref(&blob), function)
                .await
                .len(),
            1
        );
        assert_eq!(splice(&digests).await, Ok(Some(blob.clone())));
        assert!(
            node.missing(std::slice::from_ref(&blob), function)
                .await
                .is_empty()
        );
        // It is here: nobody asks for the chunks any more.
        assert_eq!(splice(&[]).await, Ok(Some(blob.clone())));
    }
    let huge = re::Digest {
        size_bytes: i64::MAX,
        ..sha256(b"huge")
    };
    assert_eq!(
        node.splice(huge, &[], SHA256).await,
        Err(Code::InvalidArgument)
    );
}

#[tokio::test]
async fn capabilities_tell_how_blobs_are_cut() {
    let node = Node::start(&FrontConfig::default()).await;
    let mut client = re::capabilities_client::CapabilitiesClient::new(node.channel.clone());
    let asked = client.get_capabilities(re::GetCapabilitiesRequest::default());
    let said = asked
        .await
        .unwrap()
        .into_inner()
        .cache_capabilities
        .unwrap();
    assert!(said.split_blob_support && said.splice_blob_support);
    let parameters = said.fast_cdc_2020_params.unwrap();
    assert_eq!(
        (parameters.avg_chunk_size_bytes, parameters.seed),
        (524_288, 0)
    );
    assert!(said.max_cas_blob_size_bytes > 0);
}
