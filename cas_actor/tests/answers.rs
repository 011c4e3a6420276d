//! What answers say beside their content: compression, caching, and what `/ac/` takes.

mod http_client;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cas_actor::front::{Attached, Front, FrontConfig, FrontStats, Page, Pages};
use http_body_util::{BodyExt, Full};
use http_client::node::{Node, sha256};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proptest::prelude::*;

/// What compresses well, and what does not.
fn contents(size: usize) -> [Vec<u8>; 2] {
    let text = "all work and no play ".bytes().cycle().take(size).collect();
    let mut noise = vec![0; size];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    [text, noise]
}

#[tokio::test]
async fn blobs_are_compressed_for_who_accepts_zstd_where_that_pays() {
    let node = Node::start(&FrontConfig::default());
    let mut client = node.client().await;
    let zstd = [("accept-encoding", "gzip, zstd")];
    for size in [10, 20_000, 3_000_000] {
        let [text, noise] = contents(size);
        for (content, pays) in [(text, size > 10), (noise, false)] {
            for path in [format!("/cas/{}", sha256(&content)), "/gradle/key".into()] {
                let put = client.request("PUT", &path, &[], &content).await;
                assert_eq!(put.status, 200);
                let plain = client.get(&path).await;
                assert_eq!(plain.header("content-encoding"), None);
                let read = client.request("GET", &path, &zstd, b"").await;
                assert_eq!(read.status, 200);
                if !pays {
                    assert_eq!(read.header("content-encoding"), None, "{size}");
                    assert!(read.body == content);
                    continue;
                }
                assert_eq!(read.header("content-encoding"), Some("zstd"), "{size}");
                assert_eq!(read.header("vary"), Some("accept-encoding"));
                assert!(read.body.len() < size / 10);
                assert!(zstd::decode_all(&read.body[..]).unwrap() == content);
                // Other bytes have another tag, and each tag is known.
                let tags = [plain.header("etag"), read.header("etag")];
                assert_ne!(tags[0], tags[1]);
                for tag in tags.into_iter().flatten() {
                    let asked = [zstd[0], ("if-none-match", tag)];
                    assert_eq!(client.request("GET", &path, &asked, b"").await.status, 304);
                }
                // A part is a part of the content itself.
                let asked = [zstd[0], ("range", "bytes=5-8")];
                let part = client.request("GET", &path, &asked, b"").await;
                assert_eq!((part.status, &part.body[..]), (206, &content[5..=8]));
            }
        }
    }
    let mut config = FrontConfig::default();
    config.dialects.compress_blobs = false;
    let node = Node::start(&config);
    let mut client = node.client().await;
    let [text, _] = contents(20_000);
    client.request("PUT", "/gradle/key", &[], &text).await;
    let read = client.request("GET", "/gradle/key", &zstd, b"").await;
    assert!(read.body == text);
}

#[tokio::test]
async fn pages_are_compressed_and_say_so() {
    let node = Node::start(&FrontConfig::default());
    let mut client = node.client().await;
    let page = client.get("/").await;
    for coding in ["gzip", "zstd"] {
        let accept = [("accept-encoding", coding)];
        let read = client.request("GET", "/", &accept, b"").await;
        assert_eq!(read.header("content-encoding"), Some(coding));
        assert_eq!(read.header("vary"), Some("accept-encoding"));
        let body = match coding {
            "zstd" => zstd::decode_all(&read.body[..]).unwrap(),
            _ => {
                let mut text = Vec::new();
                let mut decoder = flate2::read::GzDecoder::new(&read.body[..]);
                std::io::Read::read_to_end(&mut decoder, &mut text).unwrap();
                text
            }
        };
        assert!(body == page.body);
    }
}

#[tokio::test]
async fn how_long_an_answer_is_good_follows_from_its_name() {
    let node = Node::start(&FrontConfig::default());
    let mut client = node.client().await;
    let blob = format!("/cas/{}", sha256(b"content"));
    for (path, control) in [(blob.as_str(), "immutable"), ("/ccache/key", "no-cache")] {
        client.request("PUT", path, &[], b"content").await;
        let read = client.get(path).await;
        assert!(read.header("cache-control").unwrap().contains(control));
        let Some(tag) = read.header("etag") else {
            assert_eq!(path, blob, "its address says what it is");
            continue;
        };
        for (known, status) in [
            (tag.to_owned(), 304),
            (format!("W/{tag}"), 304),
            (format!("\"other\", {tag}"), 304),
            ("*".to_owned(), 304),
            ("\"other\"".to_owned(), 200),
        ] {
            let headers = [("if-none-match", known.as_str())];
            let answer = client.request("GET", path, &headers, b"").await;
            assert_eq!(answer.status, status, "{known}");
        }
    }
}

#[tokio::test]
async fn only_results_of_actions_are_stored_as_such_unless_that_is_switched_off() {
    let node = Node::start(&FrontConfig::default());
    let mut client = node.client().await;
    let path = format!("/prefix/ac/{}", sha256(b"action"));
    // An output file whose hash is none: field 2, of path `o` and digest `x`/1.
    let bad_digest = b"\x12\x0a\x0a\x01o\x12\x05\x0a\x01x\x10\x01";
    for content in [&b"no result"[..], bad_digest, &[0xff; 100_000]] {
        let answer = client.request("PUT", &path, &[], content).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.text().contains("ActionResult"), "{}", answer.text());
        assert_eq!(client.get(&path).await.status, 404);
    }
    assert_eq!((node.blobs().await, node.leftovers()), (0, 0));
    // Standard output of 100,000 bytes: too large for the memory of an upload.
    let large = [&b"\x2a\xa0\x8d\x06"[..], &[7; 100_000]].concat();
    for content in [&b""[..], b"*\nsome words", &large] {
        let answer = client.request("PUT", &path, &[], content).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(client.get(&path).await.body == content);
    }

    let mut config = FrontConfig::default();
    config.dialects.validate_action_results = false;
    let node = Node::start(&config);
    let mut client = node.client().await;
    let answer = client.request("PUT", &path, &[], b"no result").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn one_request_too_many_is_told_so() {
    let mut config = FrontConfig::default();
    config.limits.requests = 1;
    let node = Node::start(&config);
    let mut busy = node.client().await;
    busy.send(
        b"PUT /gradle/a HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n",
    )
    .await;
    assert_eq!(busy.answer(false).await.status, 100);
    let mut client = node.client().await;
    let answer = client.get("/gradle/a").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(answer.text().contains("too many requests"));
    busy.send(b"x").await;
    assert_eq!(busy.answer(false).await.status, 200);
    assert_eq!(node.front.stats().overloaded, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever is sent, the connection ends with an answer or without, and the next client is served.
    #[test]
    fn any_request_leaves_the_node_well(
        method in "(GET|PUT|HEAD|PROPFIND|MKCOL|[A-Z]{0,5})",
        path in "/?(cas/|ac/|ccache/|sccache/|gradle/|v8/artifacts/|v1/cache/)?(\\.\\./|%2e%2e/|[ -~]{0,20}){0,3}",
        headers in prop::collection::vec("(range: bytes=|content-length: |content-encoding: |accept-encoding: |authorization: |if-none-match: |[a-z]{1,8}: )[ -~]{0,20}", 0..4),
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut config = FrontConfig::default();
            config.limits.head_seconds = 1;
            let node = Node::start(&config);
            let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\n{}\r\n\r\n", headers.join("\r\n"));
            let mut stream = tokio::net::TcpStream::connect(node.address).await.unwrap();
            let sent = [head.as_bytes(), &body].concat();
            // The node may have hung up already.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, &sent).await;
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream).await;
            let mut answer = Vec::new();
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await;
            let mut client = node.client().await;
            assert_eq!(client.get("/gradle/none").await.status, 404);
            assert_eq!(node.leftovers(), 0);
            assert!(node.front.drain(Duration::from_secs(10)).await);
        });
    }
}

/// Whoever answers it often has it at hand; that must not outlive a change.
#[tokio::test]
async fn what_is_asked_for_often_changes_at_once() {
    let node = Node::start(&FrontConfig::default());
    let mut client = node.client().await;
    let path = "/ccache/ab/cdef";
    for content in [b"first".as_slice(), b"second", b"third"] {
        assert_eq!(client.request("PUT", path, &[], content).await.status, 200);
        for _ in 0..10 {
            assert_eq!(client.get(path).await.body, content);
        }
    }
    assert_eq!(client.request("DELETE", path, &[], b"").await.status, 204);
    assert_eq!(client.get(path).await.status, 404);

    for size in [10, 1_000_000] {
        let content = vec![b'x'; size];
        let path = format!("/cas/{}", sha256(&content));
        assert_eq!(
            client.request("PUT", &path, &[], &content).await.status,
            200
        );
        for _ in 0..10 {
            assert!(client.get(&path).await.body == content);
        }
        let digest = cas_actor::Digest::of(&content);
        assert!(node.store.delete(&digest).await.unwrap());
        assert_eq!(client.get(&path).await.status, 404, "{size}");
    }
    let hits = node.store.stats().await.unwrap().memory_hits;
    assert!(hits >= 3 * 10 + 9, "{hits}");
}

#[tokio::test]
async fn a_reader_who_stops_reading_is_given_up() {
    let mut config = FrontConfig::default();
    config.limits.stall_seconds = 1;
    let node = Node::start(&config);
    // More than the buffers of both sockets hold.
    let content = vec![1; 32 << 20];
    let path = format!("/cas/{}", cas_actor::Digest::of(&content).hex());
    node.store.put(content).await.unwrap();
    let mut client = node.client().await;
    // From now on the node knows of the connection.
    assert_eq!(client.get("/gradle/none").await.status, 404);
    let get = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    client.send(get.as_bytes()).await;
    let given_up = async {
        while node.front.stats().connections > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), given_up)
        .await
        .expect("who does not read is not waited for");
    assert!(client.try_get(&path).await.is_none());
}

#[tokio::test]
async fn figures_tell_what_was_read() {
    let node = Node::start(&FrontConfig::default());
    let mut client = node.client().await;
    let content = vec![7; 100_000];
    let path = format!("/cas/{}", sha256(&content));
    // Small ones and large ones are answered in different ways, and entries in another one.
    for (path, content) in [
        (path.as_str(), &content[..]),
        ("/gradle/large", &content),
        ("/gradle/small", b"content"),
    ] {
        let put = client.request("PUT", path, &[], content).await;
        assert_eq!(put.status, 200);
        let tag = client.get(path).await.header("etag").unwrap().to_owned();
        let before = node.front.stats();
        let outside = [("range", "bytes=1000000-")];
        let answer = client.request("GET", path, &outside, b"").await;
        assert_eq!(answer.status, 416, "{path}");
        let after = node.front.stats();
        assert_eq!(after.spaces, before.spaces, "{path}");
        let refused = |stats: &FrontStats| {
            let mut codes = stats.http_errors.iter();
            codes
                .find(|(code, _)| *code == 416)
                .map_or(0, |(_, count)| *count)
        };
        assert_eq!(refused(&after), refused(&before) + 1, "{path}");

        let known = [("if-none-match", tag.as_str())];
        assert_eq!(client.request("GET", path, &known, b"").await.status, 304);
        let part = [("range", "bytes=2-4")];
        assert_eq!(client.request("GET", path, &part, b"").await.status, 206);
        let sum = |stats: &FrontStats| {
            let spaces = stats.spaces.iter().map(|(_, stats)| stats);
            spaces.fold((0, 0), |(hits, bytes), stats| {
                (hits + stats.hits, bytes + stats.read_bytes)
            })
        };
        let ((hits, bytes), (hits_before, bytes_before)) = (sum(&node.front.stats()), sum(&before));
        assert_eq!((hits - hits_before, bytes - bytes_before), (2, 3), "{path}");
    }
}

/// A page that takes its time.
struct Slow;

impl Pages for Slow {
    fn page(&self, path: &str) -> Option<Pin<Box<dyn Future<Output = Page> + Send>>> {
        (path == "/slow").then(|| {
            Box::pin(async {
                tokio::time::sleep(Duration::from_millis(2500)).await;
                Page {
                    status: 200,
                    content_type: "text/plain",
                    body: "done".into(),
                }
            }) as _
        })
    }
}

#[tokio::test]
async fn what_the_node_works_at_is_not_cut_off() {
    let node = Node::start(&FrontConfig::default());
    let mut config = FrontConfig::default();
    config.limits.stall_seconds = 1;
    let attached = Attached {
        pages: Some(Arc::new(Slow)),
        ..Attached::default()
    };
    let front = Front::with(node.store.clone(), &config, attached).unwrap();
    let address = front.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut client = http_client::Client::connect(address).await;
    assert_eq!(client.get("/slow").await.body, b"done");

    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (executor, io) = (TokioExecutor::new(), TokioIo::new(stream));
    let shaken = hyper::client::conn::http2::handshake(executor, io).await;
    let (mut client, connection) = shaken.unwrap();
    tokio::spawn(connection);
    let get = hyper::Request::get(format!("http://{address}/slow"));
    let get = get.body(Full::<bytes::Bytes>::default()).unwrap();
    let answer = client.send_request(get).await.unwrap();
    let answer = answer.into_body().collect().await.unwrap();
    assert_eq!(answer.to_bytes(), "done");
}

#[tokio::test]
async fn a_silent_upload_is_told_so() {
    let mut config = FrontConfig::default();
    config.limits.stall_seconds = 1;
    let node = Node::start(&config);
    let mut client = node.client().await;
    client
        .send(b"PUT /gradle/key HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\nhalf")
        .await;
    let answer = client.answer(false).await;
    assert_eq!(answer.status, 408);
    assert!(answer.text().contains("1 s"), "{}", answer.text());
    assert_eq!(node.leftovers(), 0);
}
