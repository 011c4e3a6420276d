//! Zako's own services over a real connection.

use ::bytes::Bytes;
use futures_util::stream;
use tonic::{Code, Request};

use super::api::zako::cas_client::CasClient;
use super::api::zako::transport_client::TransportClient;
use super::api::zako::upload_request::Part;
use super::api::zako::{
    Digest, DownloadRequest, GetTransportDetailsRequest, NegotiateBlobsRequest, Protocol,
    QueryUploadRequest, Range, UploadMetadata, UploadRequest,
};
use super::tests::{Node, sample};
use crate::front::{AccessConfig, CredentialConfig, FrontConfig, Right};

fn digest(content: &[u8]) -> Digest {
    let digest = crate::Digest::of(content);
    Digest {
        size_bytes: digest.size_bytes(),
        blake3: Bytes::copy_from_slice(digest.hash()),
    }
}

fn metadata(content: &[u8], offset: u64) -> UploadRequest {
    UploadRequest {
        part: Some(Part::Metadata(UploadMetadata {
            digest: Some(digest(content)),
            offset,
        })),
    }
}

fn chunks(content: &[u8]) -> Vec<UploadRequest> {
    let chunk = |piece: &[u8]| UploadRequest {
        part: Some(Part::Chunk(Bytes::copy_from_slice(piece))),
    };
    content.chunks(70_000).map(chunk).collect()
}

impl Node {
    async fn upload(&self, messages: Vec<UploadRequest>) -> Result<u64, Code> {
        let mut client = TransportClient::new(self.channel.clone());
        let answer = client.upload(stream::iter(messages)).await;
        answer
            .map(|answer| answer.into_inner().committed_bytes)
            .map_err(|status| status.code())
    }

    async fn put(&self, content: &[u8]) -> Result<u64, Code> {
        let mut messages = vec![metadata(content, 0)];
        messages.extend(chunks(content));
        self.upload(messages).await
    }

    async fn download(&self, content: &[u8], range: Option<Range>) -> Result<Vec<u8>, Code> {
        let request = DownloadRequest {
            digest: Some(digest(content)),
            range,
        };
        let mut client = TransportClient::new(self.channel.clone());
        let answer = client.download(request).await;
        let mut chunks = answer.map_err(|status| status.code())?.into_inner();
        let mut read = Vec::new();
        while let Some(chunk) = chunks.message().await.unwrap() {
            read.extend_from_slice(&chunk.chunk);
        }
        Ok(read)
    }

    async fn committed(&self, content: &[u8]) -> Result<u64, Code> {
        let request = QueryUploadRequest {
            digest: Some(digest(content)),
        };
        let mut client = TransportClient::new(self.channel.clone());
        let answer = client.query_upload(request).await;
        answer
            .map(|answer| answer.into_inner().committed_bytes)
            .map_err(|status| status.code())
    }
}

#[tokio::test]
async fn what_is_missing_is_negotiated_while_both_streams_are_open() {
    let node = Node::start(&FrontConfig::default()).await;
    node.put(b"here").await.unwrap();
    let (ask, asked) = tokio::sync::mpsc::channel(1);
    let asked = stream::unfold(asked, |mut asked| async move {
        asked.recv().await.map(|request| (request, asked))
    });
    let mut client = CasClient::new(node.channel.clone());
    let answers = client.negotiate_blobs(asked).await.unwrap();
    let mut answers = answers.into_inner();
    for (contents, missing) in [
        (&[&b"here"[..], b"gone"][..], &[&b"gone"[..]][..]),
        (&[b"here"], &[]),
        (&[b"", b"lost", b"here", b"gone"], &[b"lost", b"gone"]),
    ] {
        let digests = contents.iter().map(|content| digest(content)).collect();
        ask.send(NegotiateBlobsRequest { digests }).await.unwrap();
        let answer = answers.message().await.unwrap().unwrap();
        let missing: Vec<Digest> = missing.iter().map(|content| digest(content)).collect();
        assert_eq!(answer.missing, missing);
    }
    let bad = Digest {
        size_bytes: 1,
        blake3: Bytes::from_static(b"short"),
    };
    let digests = vec![bad];
    ask.send(NegotiateBlobsRequest { digests }).await.unwrap();
    let status = answers.message().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    drop(ask);
    let stats = node.front.stats().transport;
    assert_eq!((stats.negotiated, stats.negotiated_missing), (7, 3));
}

#[tokio::test]
async fn uploads_begin_with_metadata_and_are_refused_when_they_are_not_needed() {
    let node = Node::start(&FrontConfig::default()).await;
    let content = sample(300_000);
    assert_eq!(node.download(&content, None).await, Err(Code::NotFound));
    assert_eq!(
        node.upload(chunks(&content)).await,
        Err(Code::InvalidArgument)
    );
    assert_eq!(node.upload(Vec::new()).await, Err(Code::InvalidArgument));
    assert_eq!(node.put(&content).await, Ok(300_000));
    // Only the metadata: the answer does not wait for chunks.
    assert_eq!(
        node.upload(vec![metadata(&content, 0)]).await,
        Err(Code::AlreadyExists)
    );

    let part = |start, length| Some(Range { start, length });
    assert!(node.download(&content, None).await.unwrap() == content);
    let read = node.download(&content, part(100_000, Some(5))).await;
    assert_eq!(read.unwrap(), &content[100_000..100_005]);
    let rest = node.download(&content, part(299_990, None)).await;
    assert_eq!(rest.unwrap(), &content[299_990..]);
    for outside in [
        part(0, Some(300_001)),
        part(300_001, None),
        part(u64::MAX, Some(2)),
    ] {
        assert_eq!(
            node.download(&content, outside).await,
            Err(Code::OutOfRange)
        );
    }

    let mut wrong = content.clone();
    wrong[7] ^= 1;
    let other = sample(300_001);
    let mut messages = vec![metadata(&other, 0)];
    messages.extend(chunks(&wrong));
    messages.extend(chunks(b"x"));
    assert_eq!(node.upload(messages).await, Err(Code::InvalidArgument));
    assert_eq!(node.committed(&other).await, Err(Code::NotFound));
    let stats = node.front.stats().transport;
    assert_eq!(
        (stats.uploads, stats.uploads_present, stats.uploads_failed),
        (5, 1, 3)
    );
    assert_eq!(stats.upload_bytes, 300_000);
}

#[tokio::test]
async fn an_upload_that_broke_off_goes_on_where_it_ended() {
    let node = Node::start(&FrontConfig::default()).await;
    let content = sample(1_000_000);
    assert_eq!(node.committed(&content).await, Err(Code::NotFound));
    let mut messages = vec![metadata(&content, 0)];
    messages.extend(chunks(&content[..420_000]));
    assert_eq!(node.upload(messages).await, Err(Code::Aborted));
    assert_eq!(node.committed(&content).await, Ok(420_000));
    let at = |offset: usize| {
        let mut messages = vec![metadata(&content, offset as u64)];
        messages.extend(chunks(&content[offset..]));
        messages
    };
    assert_eq!(node.upload(at(430_000)).await, Err(Code::OutOfRange));
    assert_eq!(node.upload(at(420_000)).await, Ok(1_000_000));
    assert_eq!(node.committed(&content).await, Ok(1_000_000));
    assert!(node.download(&content, None).await.unwrap() == content);
}

#[tokio::test]
async fn the_details_of_the_transport_hold_a_token_that_works() {
    let credential = |name: &str, right| CredentialConfig {
        name: name.into(),
        bearer: Some(name.into()),
        right,
        ..Default::default()
    };
    let node = Node::start(&FrontConfig {
        access: AccessConfig {
            anonymous: None,
            credential: vec![
                credential("reader", Right::Read),
                credential("writer", Right::Write),
            ],
        },
        ..Default::default()
    })
    .await;
    let with = |token: &str| {
        let token = format!("Bearer {token}");
        move |mut request: Request<()>| {
            let value = token.parse().unwrap();
            request.metadata_mut().insert("authorization", value);
            Ok(request)
        }
    };
    let details = async |token: &str, protocols: Vec<i32>| {
        let mut client = CasClient::with_interceptor(node.channel.clone(), with(token));
        let request = GetTransportDetailsRequest { protocols };
        let answer = client.get_transport_details(request).await;
        answer.map(tonic::Response::into_inner)
    };
    let stranger = details("nobody", vec![]).await.unwrap_err();
    assert_eq!(stranger.code(), Code::Unauthenticated);
    let other = details("reader", vec![77]).await.unwrap_err();
    assert_eq!(other.code(), Code::FailedPrecondition);
    let upload = async |token: &str, content: &[u8]| {
        let mut client = TransportClient::with_interceptor(node.channel.clone(), with(token));
        let mut messages = vec![metadata(content, 0)];
        messages.extend(chunks(content));
        let answer = client.upload(stream::iter(messages)).await;
        answer.map_err(|status| status.code()).map(drop)
    };
    for (name, expected) in [("reader", Err(Code::PermissionDenied)), ("writer", Ok(()))] {
        let found = details(name, vec![Protocol::Grpc as i32]).await.unwrap();
        assert!(node.uri.ends_with(&found.address), "{}", found.address);
        assert!(found.recommended_concurrency >= 8 && found.token_expires_unix_s > 0);
        assert_eq!(upload(&found.token, b"content").await, expected, "{name}");
    }
    assert_eq!(
        upload("zako1.AAAA", b"more").await,
        Err(Code::Unauthenticated)
    );

    let open = Node::start(&FrontConfig::default()).await;
    let mut client = CasClient::new(open.channel.clone());
    let found = client.get_transport_details(GetTransportDetailsRequest::default());
    assert_eq!(found.await.unwrap().into_inner().token, "");
}
