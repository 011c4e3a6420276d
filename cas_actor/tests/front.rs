//! The front ends over real sockets: every dialect, every limit, and clients that misbehave.

mod http_client;

use std::io::{BufRead, BufReader};
use std::time::Duration;

use bytes::Bytes;
use cas_actor::front::{AccessConfig, CredentialConfig, Front, FrontConfig, Right, Space};
use http_client::node::{Node, sha256};
use http_client::{Answer, Client};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[tokio::test]
async fn every_dialect_stores_and_reads() {
    let node = Node::start(&FrontConfig::default());
    let mut client = node.client().await;
    // Also an `ActionResult`, of some words on standard output.
    let content = b"*\nsome words".as_slice();
    for path in [
        format!("/cas/{}", sha256(content)),
        format!("/prefix/cas/{}", blake3::hash(content).to_hex()),
        format!("/ac/{}", sha256(b"action")),
        format!("/a/b/ac/{}", sha256(b"action")),
        "/ccache/ab/cdef".into(),
        "/ccache/abcdef".into(),
        format!("/ccache/ac/{}", sha256(b"any")),
        "/sccache/a/b/c/abc".into(),
        "/gradle/0123abcd".into(),
        "/v8/artifacts/0123?teamId=team".into(),
        "/v1/cache/9876".into(),
    ] {
        let path = path.as_str();
        // A blob that came by one hash is there under the other as well.
        let before = if path.starts_with("/prefix") {
            200
        } else {
            404
        };
        assert_eq!(client.get(path).await.status, before, "{path}");
        assert_eq!(
            client.request("HEAD", path, &[], b"").await.status,
            before,
            "{path}"
        );
        assert_eq!(
            client.request("PUT", path, &[], content).await.status,
            200,
            "{path}"
        );
        let read = client.get(path).await;
        assert_eq!((read.status, &read.body[..]), (200, content), "{path}");
        let head = client.request("HEAD", path, &[], b"").await;
        assert_eq!(head.status, 200, "{path}");
        assert_eq!(head.header("content-length"), Some("12"), "{path}");
    }
    assert_eq!(node.blobs().await, 1, "one content is one blob");
    assert_eq!(
        client.get("/v8/artifacts/0123?teamId=other").await.status,
        404
    );
    assert_eq!(client.get("/gradle/ab/cdef").await.status, 404);
    let stats = node.front.stats();
    let ccache = stats.spaces[Space::Ccache as usize].1;
    assert_eq!((ccache.stored, ccache.hits, ccache.misses), (3, 6, 6));
}

#[tokio::test]
async fn large_content_streams_both_ways_and_in_parts() {
    let node = Node::start(&FrontConfig::default());
    let mut client = node.client().await;
    let content: Vec<u8> = (0..3_000_001u32)
        .map(|at| (at.wrapping_mul(at) >> 7) as u8)
        .collect();
    let path = format!("/cas/{}", sha256(&content));
    assert_eq!(
        client.request("PUT", &path, &[], &content).await.status,
        200
    );
    assert!(client.get(&path).await.body == content);
    // This one is sent from its file.
    let smaller = &content[..100_000];
    let other = format!("/cas/{}", sha256(smaller));
    let stored = client.request("PUT", &other, &[], smaller).await;
    assert_eq!(stored.status, 200);
    assert!(client.get(&other).await.body == smaller);

    let part = client
        .request("GET", &path, &[("range", "bytes=70000-80000")], b"")
        .await;
    assert_eq!(part.status, 206);
    assert_eq!(
        part.header("content-range"),
        Some("bytes 70000-80000/3000001")
    );
    assert_eq!(part.body, &content[70_000..=80_000]);
    let outside = client
        .request("GET", &path, &[("range", "bytes=3000001-")], b"")
        .await;
    assert_eq!(outside.status, 416);

    let whole = client.get(&path).await;
    let kept = whole.header("cache-control").unwrap();
    assert!(kept.contains("immutable"), "{kept}");
    let tag = whole.header("etag").unwrap().to_owned();
    let again = client
        .request("GET", &path, &[("if-none-match", &tag)], b"")
        .await;
    assert_eq!((again.status, again.body.len()), (304, 0));

    let packed = zstd::encode_all(&content[..], 3).unwrap();
    let path = format!("/other/cas/{}", blake3::hash(&content).to_hex());
    let zstd = [("content-encoding", "zstd")];
    assert_eq!(
        client.request("PUT", &path, &zstd, &packed).await.status,
        200
    );
    assert!(client.get(&path).await.body == content);
    assert_eq!(
        client.request("PUT", &path, &zstd, &content).await.status,
        400
    );
    let brotli = [("content-encoding", "br")];
    assert_eq!(
        client.request("PUT", &path, &brotli, &content).await.status,
        415
    );
}

#[tokio::test]
async fn what_does_not_match_its_digest_is_not_kept() {
    let node = Node::start(&FrontConfig::default());
    let mut client = node.client().await;
    for size in [10, 1_000_000] {
        let path = format!("/cas/{}", sha256(b"promised"));
        let answer = client.request("PUT", &path, &[], &vec![7; size]).await;
        assert_eq!(answer.status, 400);
        assert!(
            answer.text().contains("nothing was stored"),
            "{}",
            answer.text()
        );
        assert_eq!(client.get(&path).await.status, 404);
    }
    assert_eq!((node.blobs().await, node.leftovers()), (0, 0));
}

#[tokio::test]
async fn a_disconnect_in_the_middle_leaves_nothing() {
    let node = Node::start(&FrontConfig::default());
    for path in ["/gradle/key".to_owned(), format!("/cas/{}", sha256(b"x"))] {
        let mut client = node.client().await;
        let head = format!("PUT {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n");
        client.send(head.as_bytes()).await;
        client.send(&[1; 600_000]).await;
        drop(client);
        let mut client = node.client().await;
        assert_eq!(client.get(&path).await.status, 404);
    }
    // Both uploads are gone once nobody is connected.
    assert!(node.front.drain(Duration::from_secs(60)).await);
    let left = std::fs::read_dir(node.directory.path().join("tmp")).unwrap();
    assert_eq!(left.count(), 0);
    assert_eq!(node.store.stats().await.unwrap().blobs, 0);
}

#[tokio::test]
async fn limits_are_told() {
    let mut config = FrontConfig::default();
    config.limits.upload_bytes = 1000;
    config.limits.head_bytes = 8192;
    let node = Node::start(&config);
    let mut client = node.client().await;
    assert_eq!(
        client
            .request("PUT", "/gradle/k", &[], &[0; 1000])
            .await
            .status,
        200
    );
    let answer = client.request("PUT", "/gradle/k", &[], &[0; 1001]).await;
    assert_eq!(answer.status, 413);
    assert!(
        answer.text().contains("limit of 1000 bytes"),
        "{}",
        answer.text()
    );

    // Without an announced length it is noticed on the way.
    let mut client = node.client().await;
    client
        .send(b"PUT /gradle/k HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    client.send(b"400\r\n").await;
    client.send(&[0; 1024]).await;
    client.send(b"\r\n0\r\n\r\n").await;
    assert_eq!(client.answer(false).await.status, 413);

    let bomb = zstd::encode_all(&vec![0; 10_000_000][..], 3).unwrap();
    assert!(bomb.len() <= 1000);
    let zstd = [("content-encoding", "zstd")];
    let mut client = node.client().await;
    assert_eq!(
        client
            .request("PUT", "/gradle/k", &zstd, &bomb)
            .await
            .status,
        413
    );

    let mut client = node.client().await;
    let long = "x".repeat(20_000);
    let head = format!("GET /gradle/k HTTP/1.1\r\nhost: x\r\nx: {long}\r\n\r\n");
    client.send(head.as_bytes()).await;
    assert_eq!(client.answer(false).await.status, 431);
    assert_eq!(node.leftovers(), 0);
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_at_once() {
    let mut config = FrontConfig::default();
    config.limits.connections = 2;
    let node = Node::start(&config);
    let (mut first, mut second) = (node.client().await, node.client().await);
    assert_eq!(first.get("/gradle/a").await.status, 404);
    assert_eq!(second.get("/gradle/a").await.status, 404);
    let mut third = node.client().await;
    let answer = third.answer(false).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(answer.text().contains("too many connections"));
    assert!(third.is_closed().await);
    drop(first);
    // As soon as the node has noticed that one is gone, there is room again.
    loop {
        let mut next = node.client().await;
        if next.try_get("/gradle/a").await == Some(404) {
            break;
        }
    }
    assert!(node.front.stats().overloaded >= 1);
}

#[tokio::test]
async fn requests_may_be_sent_ahead() {
    let node = Node::start(&FrontConfig::default());
    let mut client = node.client().await;
    for name in ["a", "b"] {
        let path = format!("/gradle/{name}");
        let put = client.request("PUT", &path, &[], name.as_bytes());
        assert_eq!(put.await.status, 200);
    }
    let requests: String = ["a", "none", "b"]
        .map(|name| format!("GET /gradle/{name} HTTP/1.1\r\nhost: x\r\n\r\n"))
        .concat();
    client.send(requests.as_bytes()).await;
    let mut answers = Vec::new();
    for _ in 0..3 {
        let Answer { status, body, .. } = client.answer(false).await;
        answers.push((status, body));
    }
    let expected = [(200, b"a".to_vec()), (404, vec![]), (200, b"b".to_vec())];
    assert_eq!(answers, expected);
}

fn credentials() -> FrontConfig {
    let ci = CredentialConfig {
        name: "ci".into(),
        bearer: Some("token".into()),
        right: Right::Write,
        ..Default::default()
    };
    let ada = CredentialConfig {
        name: "ada".into(),
        user: Some("ada".into()),
        password: Some("secret".into()),
        right: Right::Read,
        spaces: [(Space::Ccache, Right::Write)].into(),
        ..Default::default()
    };
    FrontConfig {
        access: AccessConfig {
            anonymous: None,
            credential: vec![ci, ada],
        },
        ..Default::default()
    }
}

#[tokio::test]
async fn rights_are_asked_for_in_every_dialect() {
    let node = Node::start(&credentials());
    let mut client = node.client().await;
    let paths = [
        format!("/cas/{}", sha256(b"*\x01x")),
        format!("/ac/{}", sha256(b"*\x01x")),
        "/ccache/x".into(),
        "/sccache/x".into(),
        "/gradle/x".into(),
        "/v8/artifacts/x".into(),
        "/v1/cache/x".into(),
    ];
    let ada = ("authorization", "Basic YWRhOnNlY3JldA==");
    for path in &paths {
        for method in ["GET", "HEAD", "PUT"] {
            let answer = client.request(method, path, &[], b"").await;
            assert_eq!(answer.status, 401, "{method} {path}");
            assert!(answer.header("www-authenticate").is_some());
        }
        let put = client.request("PUT", path, &[ada], b"*\x01x").await;
        let may = path.starts_with("/ccache");
        assert_eq!(put.status, if may { 200 } else { 403 }, "{path}");
        let bearer = ("authorization", "Bearer token");
        assert_eq!(
            client
                .request("PUT", path, &[bearer], b"*\x01x")
                .await
                .status,
            200
        );
        assert_eq!(
            client.request("GET", path, &[ada], b"").await.body,
            b"*\x01x"
        );
    }
    for (method, path) in [
        ("PROPFIND", "/sccache/"),
        ("DELETE", "/ccache/x"),
        ("MKCOL", "/sccache/d/"),
    ] {
        assert_eq!(client.request(method, path, &[], b"").await.status, 401);
    }
    let refused = client
        .request("PUT", "/v8/artifacts/x", &[ada], b"*\x01x")
        .await;
    assert!(
        refused.text().contains("\"remote_caching_disabled\""),
        "{}",
        refused.text()
    );
    assert_eq!(
        client.get("/").await.status,
        200,
        "the page is for everybody"
    );
}

#[tokio::test]
async fn webdav_as_sccache_speaks_it() {
    let node = Node::start(&FrontConfig::default());
    let mut client = node.client().await;
    for path in ["/sccache/", "/sccache/a/", "/sccache/a/b/"] {
        let found = client
            .request("PROPFIND", path, &[("depth", "0")], b"")
            .await;
        assert_eq!(found.status, 207, "{path}");
        assert!(found.text().contains("<D:collection/>"));
        let made = client.request("MKCOL", path, &[], b"").await.status;
        assert!(matches!(made, 201 | 405), "{path}: {made}");
    }
    let file = "/sccache/a/b/c/key";
    assert_eq!(client.request("PROPFIND", file, &[], b"").await.status, 404);
    assert_eq!(client.request("PUT", file, &[], b"12345").await.status, 200);
    let found = client.request("PROPFIND", file, &[], b"").await;
    assert_eq!(found.status, 207);
    for part in [
        "<D:getcontentlength>5<",
        "<D:getlastmodified>",
        "<D:resourcetype></",
    ] {
        assert!(found.text().contains(part), "{}", found.text());
    }
    assert_eq!(client.request("DELETE", file, &[], b"").await.status, 204);
    assert_eq!(client.request("DELETE", file, &[], b"").await.status, 404);
    assert_eq!(client.get(file).await.status, 404);
}

#[tokio::test]
async fn turborepo_gets_its_headers_back_and_nx_records_never_change() {
    let node = Node::start(&FrontConfig::default());
    let mut client = node.client().await;
    assert!(
        client
            .get("/v8/artifacts/status")
            .await
            .text()
            .contains("enabled")
    );
    let events = client
        .request("POST", "/v8/artifacts/events", &[], b"[]")
        .await;
    assert_eq!(events.status, 200);
    let sent = [
        ("x-artifact-duration", "417"),
        ("x-artifact-tag", "c2lnbmVk"),
    ];
    assert_eq!(
        client
            .request("PUT", "/v8/artifacts/h", &sent, b"a")
            .await
            .status,
        200
    );
    let read = client.get("/v8/artifacts/h").await;
    for (name, value) in sent {
        assert_eq!(read.header(name), Some(value));
    }

    assert_eq!(
        client.request("PUT", "/v1/cache/h", &[], b"a").await.status,
        200
    );
    assert_eq!(
        client.request("PUT", "/v1/cache/h", &[], b"a").await.status,
        200
    );
    assert_eq!(
        client.request("PUT", "/v1/cache/h", &[], b"b").await.status,
        409
    );
    assert_eq!(client.get("/v1/cache/h").await.body, b"a");
}

#[tokio::test]
async fn an_entry_that_is_replaced_reads_as_the_new_one() {
    let node = Node::start(&FrontConfig::default());
    let mut client = node.client().await;
    for round in 0..50u32 {
        let content = round.to_string();
        client
            .request("PUT", "/ccache/k", &[], content.as_bytes())
            .await;
        assert_eq!(client.get("/ccache/k").await.text(), content);
    }
}

#[tokio::test]
async fn paths_that_climb_are_refused_in_every_dialect() {
    let node = Node::start(&FrontConfig::default());
    for prefix in [
        "/ccache/",
        "/sccache/",
        "/gradle/",
        "/v8/artifacts/",
        "/v1/cache/",
    ] {
        for climb in ["../x", "a/../../x", "%2e%2e/x", "..%2fx", "a//b", "./x"] {
            let path = format!("{prefix}{climb}");
            let mut client = node.client().await;
            for method in ["GET", "PUT"] {
                assert_eq!(
                    client.request(method, &path, &[], b"x").await.status,
                    400,
                    "{path}"
                );
            }
        }
    }
    assert_eq!(node.blobs().await, 0);
}

#[tokio::test]
async fn the_page_tells_the_address_that_was_used() {
    let node = Node::start(&FrontConfig::default());
    let mut client = node.client().await;
    let page = client.get("/").await;
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(
        page.text()
            .contains("remote_cache=http://test.example:1234")
    );
    assert_eq!(client.get("/nothing/here").await.status, 404);
    assert_eq!(client.request("DELETE", "/", &[], b"").await.status, 405);
}

#[tokio::test]
async fn draining_finishes_what_runs_and_closes_what_idles() {
    let node = Node::start(&FrontConfig::default());
    let mut idle = node.client().await;
    assert_eq!(idle.get("/gradle/a").await.status, 404);
    let mut busy = node.client().await;
    busy.send(
        b"PUT /gradle/a HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n",
    )
    .await;
    // The node has begun with the upload once it says so.
    assert_eq!(busy.answer(false).await.status, 100);
    let draining = tokio::spawn(node.front.drain(Duration::from_secs(60)));
    assert!(idle.is_closed().await);
    busy.send(b"12345").await;
    assert_eq!(busy.answer(false).await.status, 200);
    assert!(draining.await.unwrap());
    let entry = tokio::net::TcpStream::connect(node.address).await;
    assert!(entry.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn entries_survive_a_new_front_on_the_same_store() {
    let node = Node::start(&FrontConfig::default());
    let mut client = node.client().await;
    client
        .request("PUT", "/gradle/k", &[("x", "y")], b"content")
        .await;
    let other = Front::new(node.store.clone(), &FrontConfig::default()).unwrap();
    let address = other.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut client = Client::connect(address).await;
    assert_eq!(Bytes::from(client.get("/gradle/k").await.body), "content");
}

#[tokio::test]
async fn a_head_that_drips_is_cut_off_and_others_are_served() {
    let mut config = FrontConfig::default();
    config.limits.head_seconds = 1;
    let node = Node::start(&config);
    let mut slow = tokio::net::TcpStream::connect(node.address).await.unwrap();
    let mut client = node.client().await;
    let mut drip = tokio::time::interval(Duration::from_millis(20));
    // A byte now and then keeps nobody waiting for ever.
    while tokio::io::AsyncWriteExt::write_all(&mut slow, b"G")
        .await
        .is_ok()
    {
        assert_eq!(client.get("/gradle/x").await.status, 404);
        drip.tick().await;
    }
}

/// Tells the child of the next test where to connect to.
const CROWD_AT: &str = "ZAKO_TEST_CROWD_AT";
const CROWD: u64 = 10_000;

/// Lets this process have so many files open.
fn allow_files(files: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= files) {
        return;
    }
    let current = Some(files);
    let raised = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
    raised.unwrap_or_else(|error| {
        panic!("this test needs {files} open files, and the hard limit is {limit:?}: {error}")
    });
}

/// The other end, a process of its own: one may have too few files open for both ends.
fn crowd(address: &str) {
    let connect = |_| std::net::TcpStream::connect(address).unwrap();
    let idle: Vec<_> = (0..CROWD).map(connect).collect();
    println!("\nall are connected");
    // Until the parent hangs up.
    std::io::stdin().read_line(&mut String::new()).unwrap();
    drop(idle);
}

#[tokio::test]
async fn ten_thousand_idle_connections_disturb_nobody() {
    allow_files(CROWD + 300);
    if let Ok(address) = std::env::var(CROWD_AT) {
        return crowd(&address);
    }
    let mut config = FrontConfig::default();
    config.limits.connections = CROWD + 1;
    let node = Node::start(&config);
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ten_thousand_idle_connections_disturb_nobody"])
        .arg("--nocapture")
        .env(CROWD_AT, node.address.to_string())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.take().unwrap()).lines();
    let connected = tokio::task::spawn_blocking(move || {
        let mut said = said.map_while(Result::ok);
        let connected = said.any(|line| line == "all are connected");
        (connected, said)
    });
    // Kept, as the child says more when it ends.
    let (connected, said) = connected.await.unwrap();
    assert!(connected, "the crowd could not connect");
    let mut client = node.client().await;
    for _ in 0..100 {
        assert_eq!(client.get("/gradle/x").await.status, 404);
    }
    assert_eq!(node.front.stats().connections, CROWD + 1);
    drop((child.stdin.take(), client));
    assert!(node.front.drain(Duration::from_secs(60)).await);
    assert!(child.wait().unwrap().success());
    drop(said);
}
