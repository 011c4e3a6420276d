//! Uploads that are interrupted by clients that go away, and by the end of the process.

use ::bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;
use tonic::Code;

use super::api::bytestream::{QueryWriteStatusRequest, WriteRequest};
use super::tests::{Node, SHA256, sample, sha256};
use crate::front::FrontConfig;

impl Node {
    /// How much of an upload the node has, and whether that is all.
    async fn status(&self, name: &str) -> Result<(i64, bool), Code> {
        let request = QueryWriteStatusRequest {
            resource_name: name.to_owned(),
        };
        let answer = self.bytes().query_write_status(request).await;
        let answer = answer.map_err(|status| status.code())?.into_inner();
        Ok((answer.committed_size, answer.complete))
    }

    /// Begins an upload and keeps the call open; waits until the node has `least` bytes on disk.
    async fn leave_open(&self, name: &str, content: &[u8], least: i64) -> mpsc::Sender<Bytes> {
        let (send, mut pieces) = mpsc::channel(100);
        for piece in content.chunks(50_000) {
            send.send(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        let (resource_name, mut at) = (name.to_owned(), 0);
        let messages = stream::poll_fn(move |cx| {
            pieces.poll_recv(cx).map(|data: Option<Bytes>| {
                let data = data?;
                let write_offset = at;
                at += data.len() as i64;
                Some(WriteRequest {
                    resource_name: resource_name.clone(),
                    write_offset,
                    finish_write: false,
                    data,
                })
            })
        });
        let mut bytes = self.bytes();
        tokio::spawn(async move { bytes.write(messages).await });
        while self.status(name).await.unwrap_or_default().0 < least {}
        send
    }
}

fn upload_name(kind: &str, content: &[u8]) -> String {
    let digest = sha256(content);
    format!("uploads/1/{kind}/{}/{}", digest.hash, digest.size_bytes)
}

#[tokio::test]
async fn an_interrupted_upload_is_resumed_where_it_ended() {
    let node = Node::start(&FrontConfig::default()).await;
    let content = sample(1_000_000);
    let name = upload_name("blobs", &content);
    assert_eq!(node.status(&name).await, Err(Code::NotFound));

    assert_eq!(
        node.write(&name, &content[..600_000], 0, false).await,
        Ok(600_000)
    );
    assert_eq!(node.status(&name).await, Ok((600_000, false)));
    // Behind the place where it ended.
    assert_eq!(
        node.write(&name, &content, 700_000, true).await,
        Err(Code::OutOfRange)
    );
    // Before it: a connection that was given up too early may have brought more than was known.
    assert_eq!(
        node.write(&name, &content, 500_000, true).await,
        Ok(1_000_000)
    );
    assert_eq!(node.status(&name).await, Ok((1_000_000, true)));
    assert!(node.missing(&[sha256(&content)], SHA256).await.is_empty());

    let stats = node.front.stats();
    assert_eq!(stats.transport.uploads_resumed, 1);
    assert!(stats.upload_chunks.sum_bytes >= 1_000_000);
    let count = |code: Code| {
        let wanted = u16::try_from(code as i32).unwrap();
        let mut errors = stats.grpc_errors.iter();
        errors.find_map(|(code, count)| (*code == wanted).then_some(*count))
    };
    assert_eq!(
        (count(Code::NotFound), count(Code::OutOfRange)),
        (Some(1), Some(1))
    );
}

#[tokio::test]
async fn a_small_upload_is_resumed_as_well() {
    let node = Node::start(&FrontConfig::default()).await;
    let content = sample(5000);
    let name = upload_name("blobs", &content);
    assert_eq!(
        node.write(&name, &content[..3000], 0, false).await,
        Ok(3000)
    );
    assert_eq!(node.status(&name).await, Ok((3000, false)));
    assert_eq!(node.write(&name, &content, 3000, true).await, Ok(5000));
}

#[tokio::test]
async fn what_resumes_a_compressed_upload_is_a_stream_of_its_own() {
    let node = Node::start(&FrontConfig::default()).await;
    let content = sample(1_000_000);
    let name = upload_name("compressed-blobs/zstd", &content);
    // Whole blocks, so that all of them can be inflated, and no end.
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    std::io::Write::write_all(&mut encoder, &content[..400_000]).unwrap();
    std::io::Write::flush(&mut encoder).unwrap();
    let first = encoder.get_ref().clone();
    node.write(&name, &first, 0, false).await.unwrap();
    let (committed, complete) = node.status(&name).await.unwrap();
    assert_eq!((committed, complete), (400_000, false));

    let rest = zstd::encode_all(&content[400_000..], 1).unwrap();
    // Offsets go on from the content's by the bytes of the wire.
    let padded = [&vec![0; 400_000][..], &rest].concat();
    let all = (400_000 + rest.len()) as i64;
    assert_eq!(node.write(&name, &padded, 400_000, true).await, Ok(all));
    assert_eq!(node.status(&name).await, Ok((1_000_000, true)));
}

#[tokio::test]
async fn a_client_that_goes_away_may_come_back() {
    let node = Node::start(&FrontConfig::default()).await;
    let content = sample(1_000_000);
    let name = upload_name("blobs", &content);
    let open = node.leave_open(&name, &content[..600_000], 500_000).await;
    // Somebody else may not write to it meanwhile.
    assert_eq!(
        node.write(&name, &content, 500_000, true).await,
        Err(Code::Unavailable)
    );
    drop(open);
    // As soon as the node has noticed.
    let resumed = loop {
        let (committed, _) = node.status(&name).await.unwrap();
        match node.write(&name, &content, committed as usize, true).await {
            Err(Code::Unavailable) => {}
            resumed => break resumed,
        }
    };
    assert_eq!(resumed, Ok(1_000_000));
    let read = node.read(&upload_name("blobs", &content)[10..], 0, 0).await;
    assert!(read.unwrap() == content);
}

#[tokio::test]
async fn an_upload_is_resumed_after_the_end_of_the_process() {
    let node = Node::start(&FrontConfig::default()).await;
    let content = sample(1_000_000);
    let name = upload_name("blobs", &content);
    let _open = node.leave_open(&name, &content[..700_000], 500_000).await;
    // What a process that is killed now leaves behind.
    let left = tempfile::tempdir().unwrap();
    let (from, to) = (node.directory.path(), left.path().join("partial"));
    std::fs::create_dir(&to).unwrap();
    for file in std::fs::read_dir(from.join("partial")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    let next = Node::over(left, &FrontConfig::default()).await;
    let (committed, complete) = next.status(&name).await.unwrap();
    assert!((500_000..=700_000).contains(&committed) && !complete);
    let resumed = next.write(&name, &content, committed as usize, true).await;
    assert_eq!(resumed, Ok(1_000_000));
    assert!(next.missing(&[sha256(&content)], SHA256).await.is_empty());
    let left = std::fs::read_dir(next.directory.path().join("partial"));
    assert_eq!(left.unwrap().count(), 0);
}

#[tokio::test]
async fn what_was_damaged_meanwhile_is_noticed_at_the_end() {
    let node = Node::start(&FrontConfig::default()).await;
    let content = sample(500_000);
    let name = upload_name("blobs", &content);
    node.write(&name, &content[..300_000], 0, false)
        .await
        .unwrap();
    let mut files = std::fs::read_dir(node.directory.path().join("partial")).unwrap();
    let path = files.next().unwrap().unwrap().path();
    std::fs::write(&path, vec![7; 300_000]).unwrap();
    assert_eq!(
        node.write(&name, &content, 300_000, true).await,
        Err(Code::InvalidArgument)
    );
    assert_eq!(node.status(&name).await, Err(Code::NotFound));
    assert_eq!(node.write(&name, &content, 0, true).await, Ok(500_000));
}

#[tokio::test]
async fn one_call_too_many_is_told_so() {
    let mut config = FrontConfig::default();
    config.limits.requests = 1;
    let node = Node::start(&config).await;
    let begin = || {
        let (open, mut pieces) = mpsc::channel::<WriteRequest>(1);
        let messages = stream::poll_fn(move |cx| pieces.poll_recv(cx));
        let mut bytes = node.bytes();
        let call = tokio::spawn(async move { bytes.write(messages).await });
        (open, call)
    };
    // Neither ends by itself, so whichever comes second is one too many.
    let ((open_a, mut a), (open_b, mut b)) = (begin(), begin());
    let (refused, open, call) = tokio::select! {
        refused = &mut a => (refused, open_b, b),
        refused = &mut b => (refused, open_a, a),
    };
    assert_eq!(
        refused.unwrap().unwrap_err().code(),
        Code::ResourceExhausted
    );
    let all = WriteRequest {
        resource_name: upload_name("blobs", b"content"),
        finish_write: true,
        data: Bytes::from_static(b"content"),
        ..Default::default()
    };
    open.send(all).await.unwrap();
    let answer = call.await.unwrap().unwrap().into_inner();
    assert_eq!(answer.committed_size, 7);
}
