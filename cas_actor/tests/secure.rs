//! Who is let in: TLS with and without certificates of clients, sockets in the file system, and
//! limits on single callers.

mod http_client;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cas_actor::front::{
    AccessConfig, ClientCertificate, CredentialConfig, Front, FrontConfig, Right, TlsConfig,
};
use cas_actor::{Store, StoreConfig};
use http_client::Client;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Somebody who vouches for others.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// A certificate and its key, both PEM.
struct Identity {
    certificate: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    fn issue(&self, usage: ExtendedKeyUsagePurpose, last_year: i32) -> Identity {
        let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.extended_key_usages = vec![usage];
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate().unwrap();
        Identity {
            certificate: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn server(&self) -> Identity {
        self.issue(ExtendedKeyUsagePurpose::ServerAuth, 4000)
    }

    fn client(&self) -> Identity {
        self.issue(ExtendedKeyUsagePurpose::ClientAuth, 4000)
    }
}

struct Node {
    front: Front,
    address: SocketAddr,
    directory: tempfile::TempDir,
    _system: actor_rt::System,
}

impl Node {
    fn start(config: &FrontConfig) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let system = actor_rt::System::new().unwrap();
        let store = Store::open(StoreConfig::new(directory.path().join("s")), &system).unwrap();
        let front = Front::new(store, config).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            address: front.listen(address).unwrap(),
            front,
            directory,
            _system: system,
        }
    }

    async fn tls(&self, trusted: &Authority, identity: Option<&Identity>) -> Option<Client> {
        let stream = connect(self.address, trusted, identity, &[]).await.ok()?;
        Some(Client::over(stream))
    }
}

async fn connect(
    address: SocketAddr,
    trusted: &Authority,
    identity: Option<&Identity>,
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(trusted.certificate.as_bytes()).unwrap();
    roots.add(root).unwrap();
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain =
                vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    let stream = TcpStream::connect(address).await?;
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("localhost").unwrap();
    connector.connect(name, stream).await
}

fn files(directory: &Path, identity: &Identity, client_ca: Option<&Authority>) -> TlsConfig {
    let write = |name: &str, text: &str| -> PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    TlsConfig {
        certificate: write("node.pem", &identity.certificate),
        key: write("node.key", &identity.key),
        client_ca: client_ca.map(|ca| write("clients.pem", &ca.certificate)),
        client_certificate: ClientCertificate::Required,
    }
}

fn with_tls(tls: TlsConfig) -> FrontConfig {
    FrontConfig {
        tls: Some(tls),
        ..Default::default()
    }
}

/// Whether a request over this connection is answered. With TLS 1.3 a client learns only then that
/// its certificate was refused.
async fn is_served(client: Option<Client>) -> bool {
    match client {
        Some(mut client) => client.try_get("/gradle/x").await == Some(404),
        None => false,
    }
}

#[tokio::test]
async fn tls_is_spoken_and_strangers_are_not_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let ca = Authority::new("ca");
    let node = Node::start(&with_tls(files(directory.path(), &ca.server(), None)));
    let mut client = node.tls(&ca, None).await.unwrap();
    let content = vec![7; 300_000];
    let put = client.request("PUT", "/gradle/k", &[], &content).await;
    assert_eq!(put.status, 200);
    assert!(client.get("/gradle/k").await.body == content);
    let page = client.get("/").await;
    for address in ["https://test.example:1234", "grpcs://test.example:1234"] {
        assert!(page.text().contains(address), "{}", page.text());
    }
    assert!(!page.text().contains("http://"), "{}", page.text());

    // A client who trusts others does not talk to us.
    let other = Authority::new("other");
    assert!(node.tls(&other, None).await.is_none());
    // One who speaks no TLS gets no HTTP.
    let mut plain = Client::connect(node.address).await;
    assert_eq!(plain.try_get("/gradle/k").await, None);
    assert!(is_served(node.tls(&ca, None).await).await);
}

#[tokio::test]
async fn a_client_needs_a_valid_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, theirs, wrong) = (
        Authority::new("nodes"),
        Authority::new("clients"),
        Authority::new("somebody"),
    );
    let config = with_tls(files(directory.path(), &ours.server(), Some(&theirs)));
    let node = Node::start(&config);
    let expired = theirs.issue(ExtendedKeyUsagePurpose::ClientAuth, 2021);
    let purpose = theirs.server();
    let stranger = wrong.client();
    for (refused, why) in [
        (None, "none"),
        (Some(&expired), "expired"),
        (Some(&purpose), "a server's"),
        (Some(&stranger), "another authority's"),
    ] {
        assert!(!is_served(node.tls(&ours, refused).await).await, "{why}");
    }
    assert!(is_served(node.tls(&ours, Some(&theirs.client())).await).await);

    let mut config = config;
    if let Some(tls) = &mut config.tls {
        tls.client_certificate = ClientCertificate::Optional;
    }
    let node = Node::start(&config);
    assert!(is_served(node.tls(&ours, None).await).await);
    assert!(!is_served(node.tls(&ours, Some(&stranger)).await).await);
}

#[tokio::test]
async fn grpc_goes_through_tls() {
    use http_body_util::{BodyExt, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let directory = tempfile::tempdir().unwrap();
    let ca = Authority::new("ca");
    let node = Node::start(&with_tls(files(directory.path(), &ca.server(), None)));
    let stream = connect(node.address, &ca, None, &["h2"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let io = TokioIo::new(stream);
    let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
    let (mut client, connection) = shaken.unwrap();
    let connection = tokio::spawn(connection);
    // An empty message: no compression, no bytes.
    let check = hyper::Request::post("https://localhost/grpc.health.v1.Health/Check")
        .header("content-type", "application/grpc")
        .body(Full::new(bytes::Bytes::from_static(&[0; 5])));
    let answer = client.send_request(check.unwrap()).await.unwrap();
    let answer = answer.into_body().collect().await.unwrap();
    assert_eq!(answer.trailers().unwrap()["grpc-status"], "0");
    // SERVING.
    assert_eq!(&answer.to_bytes()[..], &[0, 0, 0, 0, 2, 8, 1]);
    connection.abort();
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let good = files(directory.path(), &ca.server(), Some(&ca));
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "nothing\n").unwrap();
    let absent = directory.path().join("absent.pem");
    let foreign = directory.path().join("foreign.key");
    std::fs::write(&foreign, other.server().key).unwrap();
    let system = actor_rt::System::new().unwrap();
    let store = Store::open(StoreConfig::new(directory.path().join("s")), &system).unwrap();
    let said = |change: &dyn Fn(&mut TlsConfig)| {
        let mut tls = good.clone();
        change(&mut tls);
        match Front::new(store.clone(), &with_tls(tls)) {
            Ok(_) => panic!("that cannot work"),
            Err(error) => error.to_string(),
        }
    };
    let missing = said(&|tls| tls.certificate.clone_from(&absent));
    assert!(
        missing.contains("certificate") && missing.contains("absent.pem"),
        "{missing}"
    );
    let nothing = said(&|tls| tls.key.clone_from(&empty));
    assert!(
        nothing.contains("key") && nothing.contains("BEGIN PRIVATE KEY"),
        "{nothing}"
    );
    let ca_missing = said(&|tls| tls.client_ca = Some(empty.clone()));
    assert!(ca_missing.contains("client_ca"), "{ca_missing}");
    let mixed = said(&|tls| tls.key.clone_from(&foreign));
    assert!(mixed.contains("cannot be used together"), "{mixed}");
}

#[tokio::test]
async fn a_peer_who_never_shakes_hands_is_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let ca = Authority::new("ca");
    let mut config = with_tls(files(directory.path(), &ca.server(), None));
    config.limits.head_seconds = 1;
    let node = Node::start(&config);
    let mut silent = TcpStream::connect(node.address).await.unwrap();
    let mut rest = Vec::new();
    // It ends, however: that is the whole point.
    let _ = silent.read_to_end(&mut rest).await;
    // Who is slow to shake hands is cut off as well, and tries again.
    let served = async { while !is_served(node.tls(&ca, None).await).await {} };
    let served = tokio::time::timeout(Duration::from_secs(60), served).await;
    served.expect("who shakes hands is served");
}

#[tokio::test]
async fn a_socket_in_the_file_system_is_served_and_goes_with_the_node() {
    let node = Node::start(&FrontConfig::default());
    let path = node.directory.path().join("socket");
    node.front.listen_unix(&path).unwrap();
    let mut client = Client::over(UnixStream::connect(&path).await.unwrap());
    let put = client.request("PUT", "/gradle/k", &[], b"content").await;
    assert_eq!(put.status, 200);
    let mut other = Client::connect(node.address).await;
    assert_eq!(other.get("/gradle/k").await.body, b"content");
    drop((client, other));
    assert!(node.front.drain(Duration::from_secs(60)).await);
    assert!(!path.exists());
}

fn bearer(token: &str) -> CredentialConfig {
    CredentialConfig {
        name: token.into(),
        bearer: Some(token.into()),
        right: Right::Write,
        ..Default::default()
    }
}

#[tokio::test]
async fn one_caller_may_not_ask_too_often() {
    let mut config = FrontConfig {
        access: AccessConfig {
            anonymous: Some(Right::Read),
            credential: vec![bearer("a"), bearer("b")],
        },
        ..Default::default()
    };
    // Too slow to fill up again while the test runs.
    config.limits.requests_per_second = 1;
    let node = Node::start(&config);
    let mut client = Client::connect(node.address).await;
    for who in ["Bearer a", "Bearer b", "nobody"] {
        let headers = [("authorization", who)];
        let mut refused = None;
        // Two at once are allowed, and what comes back while we ask.
        for _ in 0..100_000 {
            let answer = client.request("GET", "/gradle/x", &headers, b"").await;
            if answer.status == 429 {
                refused = Some(answer);
                break;
            }
            assert_eq!(answer.status, 404, "{who}");
        }
        let refused = refused.expect("nobody asks a hundred thousand times");
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert!(refused.text().contains("requests_per_second"));
    }
    let grpc = [("content-type", "application/grpc"), ("authorization", "x")];
    let path = "/build.bazel.remote.execution.v2.Capabilities/GetCapabilities";
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let answer = client.request("POST", path, &grpc, b"\0\0\0\0\0").await;
        statuses.push(answer.header("grpc-status").map(str::to_owned));
    }
    assert!(statuses.contains(&Some("8".into())), "{statuses:?}");
    assert!(node.front.stats().overloaded >= 4);
}

#[tokio::test]
async fn one_peer_may_not_take_all_connections() {
    let mut config = FrontConfig::default();
    config.limits.connections_per_peer = 1;
    let node = Node::start(&config);
    let socket = node.directory.path().join("socket");
    node.front.listen_unix(&socket).unwrap();
    let mut first = Client::connect(node.address).await;
    assert_eq!(first.get("/gradle/x").await.status, 404);
    let mut second = Client::connect(node.address).await;
    assert_eq!(second.answer(false).await.status, 503);
    // Another one has its own count: another address of this machine, the socket.
    let local = tokio::net::TcpSocket::new_v4().unwrap();
    local
        .bind((IpAddr::from([127, 0, 0, 2]), 0).into())
        .unwrap();
    let mut other = Client::over(local.connect(node.address).await.unwrap());
    assert_eq!(other.get("/gradle/x").await.status, 404);
    let mut third = Client::over(UnixStream::connect(&socket).await.unwrap());
    assert_eq!(third.get("/gradle/x").await.status, 404);
}
