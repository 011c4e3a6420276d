//! A cache behind a store: another node over gRPC and over HTTP, and one that is down.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actor_rt::System;
use bytes::Bytes;
use cas_actor::front::{
    AccessConfig, ClientCertificate, CredentialConfig, Front, FrontConfig, ReapiUpstream, Right,
    TlsConfig,
};
use cas_actor::{
    Blob, BlobName, Connection, Digest, GetError, HttpUpstream, Pieces, Sha256Digest, Store,
    StoreConfig, Tier, TierConfig, Upstream, UpstreamConfig, UpstreamError, WriteThrough,
};
use futures_util::future::{BoxFuture, join_all};
use futures_util::{FutureExt, StreamExt, stream};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use http_client::Client;

mod http_client;

const SIZES: [usize; 4] = [1, 3_000, 65_537, 3_000_000];

fn content(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at / 7 % 251) as u8).collect()
}

fn open(root: &Path, system: &System) -> Store {
    let config = StoreConfig {
        shards: 2,
        sha256_names: true,
        ..StoreConfig::new(root)
    };
    Store::open(config, system).unwrap()
}

/// A node of its own in this process.
struct Node {
    store: Store,
    address: SocketAddr,
    _front: Front,
    _directory: tempfile::TempDir,
}

fn node(system: &System) -> Node {
    node_behind(system, None)
}

fn node_behind(system: &System, upstream: Option<&UpstreamConfig>) -> Node {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), system);
    if let Some(upstream) = upstream {
        store.set_upstream(upstream.tier(Handle::current()).unwrap());
    }
    let front = Front::new(store.clone(), &FrontConfig::default()).unwrap();
    let address = front.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    Node {
        store,
        address,
        _front: front,
        _directory: directory,
    }
}

fn tier(upstream: impl Upstream, config: TierConfig) -> Tier {
    Tier::new(Box::new(upstream), config, Handle::current())
}

/// Puts contents there, reads them here, and finds them kept.
async fn reads_through(upstream: impl Upstream, there: &Node, by_hash_alone: bool) {
    let (directory, system) = (tempfile::tempdir().unwrap(), System::new().unwrap());
    let here = open(directory.path(), &system);
    let tier = tier(upstream, TierConfig::default());
    assert!(here.set_upstream(tier.clone()) && !here.set_upstream(tier.clone()));
    let mut fetched = 0;
    for size in SIZES {
        let content = content(size);
        let (digest, sha256) = (Digest::of(&content), Sha256Digest::of(&content));
        put_over_http(there, &content).await;
        let name = match by_hash_alone {
            true => BlobName::from_hex(&sha256.hex()).unwrap(),
            false => BlobName::from(sha256),
        };
        assert_eq!(here.contains(&[digest]).await.unwrap(), [false]);
        let (found, blob) = here.get_named(&name).await.unwrap().unwrap();
        assert_eq!((found, &*blob), (digest, &content[..]));
        assert_eq!(here.contains(&[digest]).await.unwrap(), [true], "kept");
        here.get_named(&name).await.unwrap().unwrap();
        fetched += size as u64;
    }
    let stats = tier.stats();
    assert_eq!(
        (stats.hits, stats.fetched_bytes),
        (SIZES.len() as u64, fetched)
    );
    let absent = Sha256Digest::of(b"nowhere").into();
    assert_eq!(here.get_named(&absent).await.unwrap(), None);
    assert_eq!(here.bring(&[absent]).await.unwrap(), [None]);
    assert_eq!((tier.stats().misses, tier.stats().failures), (2, 0));
}

/// As a client of the other node does, so that its front knows the name.
async fn put_over_http(there: &Node, content: &[u8]) {
    let client =
        HttpUpstream::new(&format!("http://{}", there.address), &Connection::default()).unwrap();
    let sha256 = Sha256Digest::of(content);
    let blob = Blob::from(Bytes::copy_from_slice(content));
    let put = client.put(&Digest::of(content), Some(&sha256), blob).await;
    put.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_through_to_another_node_over_grpc() {
    let system = System::new().unwrap();
    let there = node(&system);
    let upstream = ReapiUpstream::new(
        &format!("http://{}", there.address),
        "",
        &Connection::default(),
    )
    .unwrap();
    reads_through(upstream, &there, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_through_to_an_http_cache() {
    let system = System::new().unwrap();
    let there = node(&system);
    let upstream = HttpUpstream::new(
        &format!("http://{}/", there.address),
        &Connection::default(),
    )
    .unwrap();
    reads_through(upstream, &there, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_is_handed_on_in_the_background() {
    let (directory, system) = (tempfile::tempdir().unwrap(), System::new().unwrap());
    let there = node(&system);
    let address = format!("http://{}", there.address);
    let config = TierConfig {
        write_through: WriteThrough::Background,
        ..TierConfig::default()
    };
    let here = open(directory.path(), &system);
    let tier = tier(
        ReapiUpstream::new(&address, "", &Connection::default()).unwrap(),
        config,
    );
    here.set_upstream(tier.clone());
    let mut digests = Vec::new();
    for size in SIZES {
        digests.push(here.put(content(size)).await.unwrap());
    }
    while tier.stats().handed_on < SIZES.len() as u64 {
        assert_eq!(tier.stats().not_handed_on, 0, "{:?}", tier.stats());
        tokio::task::yield_now().await;
    }
    assert_eq!(there.store.contains(&digests).await.unwrap(), [true; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn action_results_go_there_and_back() {
    let system = System::new().unwrap();
    let there = node(&system);
    let address = format!("http://{}", there.address);
    let action = BlobName::from(Sha256Digest::of(b"action"));
    let http = tier(
        HttpUpstream::new(&address, &Connection::default()).unwrap(),
        TierConfig::default(),
    );
    assert_eq!(http.get_action(&action).await, None);
    // An empty ActionResult with exit code 7 (field 4).
    let result = Bytes::from_static(&[0x20, 7]);
    let grpc = tier(
        ReapiUpstream::new(&address, "", &Connection::default()).unwrap(),
        TierConfig::default(),
    );
    assert!(grpc.put_action(&action, result.clone()).await);
    assert_eq!(grpc.get_action(&action).await, Some(result.clone()));
    assert_eq!(http.get_action(&action).await, Some(result));
    assert_eq!((grpc.stats().failures, http.stats().failures), (0, 0));
}

/// What clients of either node store under a name is found by clients of the other.
async fn names_go_there_and_back(scheme: &str) {
    let system = System::new().unwrap();
    let there = node(&system);
    let config = UpstreamConfig {
        write: WriteThrough::Background,
        ..UpstreamConfig::at(format!("{scheme}://{}", there.address))
    };
    let here = node_behind(&system, Some(&config));
    let mut at_there = Client::connect(there.address).await;
    let mut at_here = Client::connect(here.address).await;
    let large = content(100_000);
    let team = "/v8/artifacts/0123?teamId=a";
    let tag = [("x-artifact-tag", "signed")];

    assert_eq!(at_here.get("/ccache/key").await.status, 404);
    for (path, body) in [("/ccache/key", &b"small"[..]), (team, &large)] {
        let put = at_there.request("PUT", path, &tag, body).await;
        assert!((200..300).contains(&put.status), "{put:?}");
        let got = at_here.get(path).await;
        assert_eq!((got.status, &got.body[..]), (200, body), "{path}");
    }
    assert_eq!(
        at_here.get(team).await.header("x-artifact-tag"),
        Some("signed")
    );
    assert_eq!(at_here.get("/v8/artifacts/0123?teamId=b").await.status, 404);

    at_here
        .request("PUT", "/gradle/back", &[], b"to there")
        .await;
    let got = loop {
        let got = at_there.get("/gradle/back").await;
        if got.status == 200 {
            break got;
        }
    };
    assert_eq!(got.body, b"to there");
    let stats = here.store.upstream().unwrap().stats();
    assert_eq!((stats.failures, stats.not_handed_on), (0, 0), "{stats:?}");
    // What was found stays here.
    drop(there);
    let mut again = Client::connect(here.address).await;
    assert_eq!(again.get("/ccache/key").await.body, b"small");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_found_behind_over_http() {
    names_go_there_and_back("http").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_found_behind_over_grpc() {
    names_go_there_and_back("grpc").await;
}

/// The result of an action as far as it matters here: one output file.
#[derive(Clone, PartialEq, prost::Message)]
struct ActionResult {
    #[prost(message, repeated, tag = "2")]
    output_files: Vec<OutputFile>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OutputFile {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(message, optional, tag = "2")]
    digest: Option<WireDigest>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireDigest {
    #[prost(string, tag = "1")]
    hash: String,
    #[prost(int64, tag = "2")]
    size_bytes: i64,
}

fn result_with(output: &[u8]) -> Bytes {
    let digest = WireDigest {
        hash: Sha256Digest::of(output).hex(),
        size_bytes: output.len() as i64,
    };
    let file = OutputFile {
        path: "out".into(),
        digest: Some(digest),
    };
    let result = ActionResult {
        output_files: vec![file],
    };
    prost::Message::encode_to_vec(&result).into()
}

/// Clients of the Remote Execution API on two nodes share results, with the blobs in them.
#[tokio::test(flavor = "multi_thread")]
async fn results_of_actions_are_found_behind_under_their_own_name() {
    let system = System::new().unwrap();
    let there = node(&system);
    let config = UpstreamConfig {
        write: WriteThrough::Background,
        ..UpstreamConfig::at(format!("grpc://{}", there.address))
    };
    let here = node_behind(&system, Some(&config));
    let client = |node: &Node| {
        let address = format!("http://{}", node.address);
        ReapiUpstream::new(&address, "", &Connection::default()).unwrap()
    };
    let (at_there, at_here) = (client(&there), client(&here));
    let output = content(70_000);
    put_over_http(&there, &output).await;
    let result = result_with(&output);
    let first = BlobName::from(Sha256Digest::of(b"first"));
    assert_eq!(at_here.get_action(&first).await.unwrap(), None);
    at_there.put_action(&first, result.clone()).await.unwrap();
    assert_eq!(
        at_here.get_action(&first).await.unwrap(),
        Some(result.clone())
    );
    // The client may rely on what the result names.
    assert_eq!(
        here.store.contains(&[Digest::of(&output)]).await.unwrap(),
        [true]
    );
    let hollow = BlobName::from(Sha256Digest::of(b"hollow"));
    at_here
        .put_action(&hollow, result_with(b"nowhere"))
        .await
        .unwrap();
    assert_eq!(at_here.get_action(&hollow).await.unwrap(), None);

    let second = BlobName::from(Sha256Digest::of(b"second"));
    at_here.put_action(&second, result.clone()).await.unwrap();
    while at_there.get_action(&second).await.unwrap() != Some(result.clone()) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_sent_to_the_cache_behind() {
    let system = System::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), &system);
    let config = FrontConfig {
        access: AccessConfig {
            credential: vec![CredentialConfig {
                name: "node".into(),
                bearer: Some("t0ken".into()),
                right: Right::Write,
                ..CredentialConfig::default()
            }],
            ..AccessConfig::default()
        },
        ..FrontConfig::default()
    };
    let front = Front::new(store, &config).unwrap();
    let address = front.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let action = BlobName::from(Sha256Digest::of(b"action"));
    for scheme in ["http", "grpc"] {
        let stranger = UpstreamConfig::at(format!("{scheme}://{address}"));
        let known = UpstreamConfig {
            bearer: Some("t0ken".into()),
            ..stranger.clone()
        };
        let stranger = stranger.connect().unwrap();
        let error = stranger.get_action(&action).await.unwrap_err().to_string();
        assert!(
            error.contains("401") || error.contains("credentials"),
            "{error}"
        );
        let known = known.connect().unwrap();
        assert_eq!(known.get_action(&action).await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_with_whom_the_authority_vouches_for_and_nobody_else() {
    let system = System::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let own = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let stranger = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let certificate = file("node.pem", own.cert.pem());
    let config = FrontConfig {
        tls: Some(TlsConfig {
            key: file("node.key", own.signing_key.serialize_pem()),
            certificate: certificate.clone(),
            client_ca: None,
            client_certificate: ClientCertificate::default(),
        }),
        ..FrontConfig::default()
    };
    let store = open(&directory.path().join("store"), &system);
    let front = Front::new(store, &config).unwrap();
    let port = front.listen("127.0.0.1:0".parse().unwrap()).unwrap().port();
    let action = BlobName::from(Sha256Digest::of(b"action"));
    let other = file("other.pem", stranger.cert.pem());
    for scheme in ["https", "grpcs"] {
        let config = |ca| UpstreamConfig {
            ca: Some(ca),
            ..UpstreamConfig::at(format!("{scheme}://localhost:{port}"))
        };
        let trusting = config(certificate.clone()).connect().unwrap();
        assert_eq!(trusting.get_action(&action).await.unwrap(), None);
        let distrusting = config(other.clone()).connect().unwrap();
        assert!(distrusting.get_action(&action).await.is_err(), "{scheme}");
    }
}

/// An upstream that answers as it is told.
struct Scripted {
    asked: Arc<AtomicUsize>,
    /// Every answer waits for this.
    go: Option<Arc<Notify>>,
    answer: Option<Result<Bytes, &'static str>>,
}

impl Upstream for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    fn get<'u>(&'u self, _: &'u BlobName) -> BoxFuture<'u, Result<Option<Pieces>, UpstreamError>> {
        async {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if let Some(go) = &self.go {
                go.notified().await;
            }
            match self.answer.clone() {
                None => Ok(None),
                Some(Ok(bytes)) => Ok(Some(stream::iter([Ok(bytes)]).boxed())),
                Some(Err(message)) => Err(UpstreamError::new(self.name(), message)),
            }
        }
        .boxed()
    }

    fn put<'u>(
        &'u self,
        _: &'u Digest,
        _: Option<&'u Sha256Digest>,
        _: Blob,
    ) -> BoxFuture<'u, Result<(), UpstreamError>> {
        async { Ok(()) }.boxed()
    }

    fn get_action<'u>(
        &'u self,
        _: &'u BlobName,
    ) -> BoxFuture<'u, Result<Option<Bytes>, UpstreamError>> {
        async { Ok(None) }.boxed()
    }

    fn put_action<'u>(
        &'u self,
        _: &'u BlobName,
        _: Bytes,
    ) -> BoxFuture<'u, Result<(), UpstreamError>> {
        async { Ok(()) }.boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_miss_the_same_blob_fetch_it_once() {
    let (directory, system) = (tempfile::tempdir().unwrap(), System::new().unwrap());
    let here = open(directory.path(), &system);
    let (asked, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let scripted = Scripted {
        asked: Arc::clone(&asked),
        go: Some(Arc::clone(&go)),
        answer: Some(Ok(Bytes::from_static(b"content"))),
    };
    here.set_upstream(tier(scripted, TierConfig::default()));
    let name = BlobName::from(Digest::of(b"content"));
    let readers = (0..20).map(|_| {
        let here = here.clone();
        tokio::spawn(async move { here.get_named(&name).await.unwrap().unwrap().1 })
    });
    let readers: Vec<_> = readers.collect();
    while asked.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    go.notify_one();
    for blob in join_all(readers).await {
        assert_eq!(&*blob.unwrap(), b"content");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_content_from_there_is_not_kept() {
    let (directory, system) = (tempfile::tempdir().unwrap(), System::new().unwrap());
    let here = open(directory.path(), &system);
    let scripted = Scripted {
        asked: Arc::default(),
        go: None,
        answer: Some(Ok(Bytes::from_static(b"another"))),
    };
    let tier = tier(scripted, TierConfig::default());
    here.set_upstream(tier.clone());
    let digest = Digest::of(b"content");
    assert!(matches!(
        here.get(&digest).await,
        Err(GetError::NotFound(_))
    ));
    assert_eq!(tier.stats().failures, 1);
    assert!(here.list().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_down_is_left_alone_and_everything_else_goes_on() {
    let (directory, system) = (tempfile::tempdir().unwrap(), System::new().unwrap());
    let here = open(directory.path(), &system);
    // Bound and closed again: nobody listens there.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let tier = tier(
        HttpUpstream::new(&address, &Connection::default()).unwrap(),
        TierConfig::default(),
    );
    here.set_upstream(tier.clone());
    for seed in 0..20u8 {
        assert!(matches!(
            here.get(&Digest::of(&[seed])).await,
            Err(GetError::NotFound(_))
        ));
    }
    assert!(tier.is_down());
    let stats = tier.stats();
    assert!(stats.failures >= 3 && stats.skipped >= 10, "{stats:?}");
    let digest = here.put("content").await.unwrap();
    assert_eq!(&*here.get(&digest).await.unwrap(), b"content");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_never_answers_is_waited_for_within_bounds() {
    let (directory, system) = (tempfile::tempdir().unwrap(), System::new().unwrap());
    let here = open(directory.path(), &system);
    let scripted = Scripted {
        asked: Arc::default(),
        go: Some(Arc::default()),
        answer: None,
    };
    let config = TierConfig {
        patience: Duration::from_millis(20),
        ..TierConfig::default()
    };
    let tier = tier(scripted, config);
    here.set_upstream(tier.clone());
    assert!(matches!(
        here.get(&Digest::of(b"x")).await,
        Err(GetError::NotFound(_))
    ));
    assert_eq!(tier.stats().failures, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_blob_is_healed_from_there() {
    let (directory, system) = (tempfile::tempdir().unwrap(), System::new().unwrap());
    let here = open(directory.path(), &system);
    let content = content(100_000);
    let digest = here.put(content.clone()).await.unwrap();
    let hex = digest.hex();
    let path = directory
        .path()
        .join("blobs")
        .join(&hex[..2])
        .join(&hex[2..]);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, vec![0; content.len()]).unwrap();
    let scripted = Scripted {
        asked: Arc::default(),
        go: None,
        answer: Some(Ok(content.clone().into())),
    };
    here.set_upstream(tier(scripted, TierConfig::default()));
    assert_eq!(*here.get(&digest).await.unwrap(), content);
    assert!(here.verify(|_| ()).await.unwrap().is_clean());
}
