//! The node through its binary: limits, rights, TLS, sockets, its end, and the store that it holds.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use zako_tests::wire::{call, curl, field, http, number, read_answer, sha256, write, write_said};
use zako_tests::{Node, Outcome, Project, Running, succeed, until, zako};

/// Starts `zako node` with these arguments; each address that it says, behind the scheme.
fn start(project: &Project, arguments: &[&str], addresses: usize) -> (Running, Vec<String>) {
    let mut all = vec!["node", "--http", "127.0.0.1:0", "--data-dir"];
    let data = project.outside().join("data");
    all.push(data.to_str().unwrap());
    all.extend(arguments);
    let mut node = project.start(&all);
    let mut said = Vec::new();
    while said.len() < addresses {
        let line = node.line();
        if line.is_empty() {
            panic!("{}", node.wait().text());
        }
        if let Some((_, address)) = line.split_once("://") {
            said.push(address.to_owned());
        }
    }
    (node, said)
}

/// What curl reads, and the status.
fn fetch(curl: &mut Command, url: &str) -> (String, String) {
    let said = succeed(curl.args(["--write-out", "\n%{http_code}", url]));
    let (body, status) = said.trim_end().rsplit_once('\n').unwrap();
    (body.to_owned(), status.to_owned())
}

/// How long a node waits at its end for what runs.
const DRAIN: Duration = Duration::from_secs(5);

/// The status of an upload of which the half comes after the node was told to end; `None` when that half
/// was too late.
fn upload_across_the_end(project: &Project) -> Option<u16> {
    let (node, said) = start(project, &[], 2);
    let address = &said[1];
    let mut upload = TcpStream::connect(address).unwrap();
    let head = "PUT /gradle/key HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\nhalf";
    upload.write_all(head.as_bytes()).unwrap();
    // The upload has begun once it counts as a request, beside the one that asks.
    let is_running = || {
        let (_, body) = http(address, "GET", "/metrics", b"").unwrap();
        String::from_utf8(body)
            .unwrap()
            .contains("zako_v1_front_requests 2\n")
    };
    until("the upload runs", || is_running().then_some(()));
    let told = Instant::now();
    node.signal("TERM");
    until("nobody is let in", || {
        TcpStream::connect(address).is_err().then_some(())
    });
    let written = upload.write_all(b"half");
    let answer = written.ok().and_then(|()| read_answer(upload));
    if answer.is_none() && told.elapsed() >= DRAIN {
        return None;
    }
    node.wait().succeeds();
    let (status, _) = answer.expect("an answer");
    Some(status)
}

#[test]
fn an_upload_that_runs_when_the_end_is_asked_for_is_finished() {
    let project = Project::new();
    let status = until("an upload in time", || upload_across_the_end(&project));
    assert_eq!(status, 200);
    let (_node, said) = start(&project, &[], 2);
    let (status, body) = http(&said[1], "GET", "/gradle/key", b"").unwrap();
    assert_eq!((status, &body[..]), (200, &b"halfhalf"[..]));
}

#[test]
fn the_cache_commands_say_which_node_has_the_store() {
    let project = Project::new();
    let (node, _) = start(&project, &[], 2);
    let data = project.outside().join("data");
    let data = data.to_str().unwrap();
    for command in [&["stats"][..], &["verify"], &["gc", "--keep", "0"]] {
        let arguments = [&["--cache-dir", data, "cache"], command].concat();
        let refused = Outcome::of(&mut project.command(&arguments));
        assert_eq!(refused.status.code(), Some(1), "{}", refused.text());
        let pid = format!("process {}", node.id());
        for words in [&pid[..], "zako node", "/metrics", "--wait"] {
            assert!(refused.text().contains(words), "{}", refused.text());
        }
    }
    let arguments = ["--cache-dir", data, "cache", "stats", "--wait"];
    let waiting = project.start(&arguments);
    node.signal("TERM");
    node.wait().succeeds();
    waiting.wait().succeeds();
}

#[test]
fn a_node_may_have_as_many_files_open_as_the_system_allows() {
    let project = Project::new();
    let data = project.outside().join("data");
    let mut command = Command::new("bash");
    command
        .args(["-c", "ulimit -Sn 512 && exec \"$0\" \"$@\""])
        .arg(zako())
        .args(["node", "--http", "127.0.0.1:0", "--data-dir"])
        .arg(data);
    let mut node = Running::start(&mut command);
    while !node.line().contains("http://") {}
    let limits = fs::read_to_string(format!("/proc/{}/limits", node.id())).unwrap();
    let files = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let mut files = files.unwrap().split_whitespace();
    let (soft, hard) = (files.next().unwrap(), files.next().unwrap());
    assert_eq!(soft, hard);
    assert_ne!(
        soft, "512",
        "this test needs a hard limit of more open files"
    );
}

#[test]
fn a_node_whose_store_fails_says_so() {
    let node = Node::open();
    let is_well = || (node.ask("GET", "/healthz", "").0 == 200).then_some(());
    until("the node is well", is_well);
    let temp = node.directory("data/store/tmp");
    let away = node.directory("data/store").join("away");
    fs::rename(&temp, &away).unwrap();
    // An answer may be a second old.
    let report = until("the node is not well, and only that", || {
        let (status, report) = node.ask("GET", "/healthz", "");
        assert!(matches!(status, 200 | 503), "{status} {report}");
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        let components = &report["components"];
        let is_so =
            components["transport"]["healthy"] == false && components["actors"]["healthy"] == true;
        (status == 503 && is_so).then_some(report)
    });
    assert_eq!(report["healthy"], false);
    fs::rename(&away, &temp).unwrap();
    until("the node is well again", is_well);
}

#[test]
fn grpc_tells_the_health_of_each_service() {
    let node = Node::open();
    let url = format!("http://{}/grpc.health.v1.Health/Check", node.address());
    let check = |service: &[u8]| {
        let mut curl = curl();
        call(
            curl.arg("--http2-prior-knowledge"),
            &url,
            &field(1, service),
        )
    };
    let serving = Some(number(1, 1));
    assert_eq!(check(b""), serving);
    assert_eq!(check(b"google.bytestream.ByteStream"), serving);
    assert_eq!(check(b"no.such.Service"), None);
}

#[test]
fn a_second_address_and_a_socket_serve_the_same_store() {
    let project = Project::new();
    let socket = project.outside().join("node.sock");
    let socket = socket.to_str().unwrap();
    let arguments = ["--grpc", "127.0.0.1:0", "--unix", socket];
    let (_node, said) = start(&project, &arguments, 2);
    assert_ne!(said[0], said[1]);
    let content = b"the same store";
    let origin = format!("http://{}", said[0]);
    let mut over_grpc = curl();
    assert!(write(
        over_grpc.arg("--http2-prior-knowledge"),
        &origin,
        content
    ));
    let path = format!("/cas/{}", sha256(content));
    let (status, body) = http(&said[1], "GET", &path, b"").unwrap();
    assert_eq!((status, &body[..]), (200, &content[..]));
    let (body, status) = fetch(
        curl().args(["--unix-socket", socket]),
        &format!("http://node{path}"),
    );
    assert_eq!((body.as_bytes(), &status[..]), (&content[..], "200"));
}

#[test]
fn readers_may_not_write_and_a_rate_is_kept() {
    let node = Node::with(
        "[limits]\nrequests_per_second = 5\n[access]\nanonymous = \"none\"\n\
         [[access.credential]]\nname = \"reader\"\nbearer = \"r\"\nright = \"read\"\n\
         [[access.credential]]\nname = \"ada\"\nuser = \"ada\"\npassword = \"s3cret\"\nright = \"write\"\n",
    );
    let url = format!("http://{}/gradle/key", node.address());
    let ask = |arguments: &[&str]| fetch(curl().args(arguments), &url).1;
    let reader = ["--header", "authorization: Bearer r"];
    let writer = ["--user", "ada:s3cret"];
    let put = ["--request", "PUT", "--data", "content"];
    assert_eq!(ask(&put), "401");
    assert_eq!(ask(&[&reader[..], &put].concat()), "403");
    assert_eq!(ask(&[&writer[..], &put].concat()), "200");
    assert_eq!(ask(&reader), "200");
    // A burst of two seconds' worth, then no more than five in a second: far from five hundred at once.
    let mut many = curl();
    many.args(writer).args(["--write-out", "\n%{http_code}\n"]);
    let said = succeed(many.args(vec![&url; 500]));
    let refused = said.lines().filter(|line| *line == "429").count();
    assert!(refused > 0, "no rate is kept");
}

#[test]
fn a_full_disk_is_told_over_http_and_grpc_and_small_things_go_on() {
    let project = Project::new();
    let data = project.outside().join("data");
    let mut command = Command::new("bash");
    // A file that may not grow fails as a full disk does.
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 600 && exec \"$0\" \"$@\""])
        .arg(zako())
        .args(["node", "--http", "127.0.0.1:0", "--data-dir"])
        .arg(data);
    let mut node = Running::start(&mut command);
    let address = loop {
        if let Some((_, address)) = node.line().split_once("http://") {
            break address.to_owned();
        }
    };
    let large: Vec<u8> = (0..2_000_000_u32)
        .map(|at| (at.wrapping_mul(at) >> 7) as u8)
        .collect();
    let path = format!("/cas/{}", sha256(&large));
    for _ in 0..2 {
        let (status, body) = http(&address, "PUT", &path, &large).unwrap();
        assert_eq!(status, 507, "{}", String::from_utf8_lossy(&body));
        assert_eq!(http(&address, "GET", &path, b"").unwrap().0, 404);
    }
    let origin = format!("http://{address}");
    let mut over_grpc = curl();
    over_grpc.args(["--http2-prior-knowledge", "--include"]);
    let said = write_said(&mut over_grpc, &origin, &large);
    assert!(said.contains("grpc-status: 8"), "{said}");
    let (status, _) = http(&address, "PUT", "/gradle/small", b"small").unwrap();
    assert_eq!(status, 200);
}

#[test]
fn one_blob_that_comes_over_http_and_grpc_at_once_is_stored_once() {
    let node = Node::open();
    let content: Vec<u8> = (0..1_000_000_u32)
        .map(|at| (at.wrapping_mul(at) >> 9) as u8)
        .collect();
    let path = format!("/cas/{}", sha256(&content));
    let origin = format!("http://{}", node.address());
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let (status, _) = http(node.address(), "PUT", &path, &content).unwrap();
                assert_eq!(status, 200);
            });
            scope.spawn(|| {
                let mut curl = curl();
                let curl = curl.arg("--http2-prior-knowledge");
                assert!(write(curl, &origin, &content));
            });
        }
    });
    let (status, body) = http(node.address(), "GET", &path, b"").unwrap();
    assert!(status == 200 && body == content);
    let (_, metrics) = node.ask("GET", "/metrics", "");
    assert!(metrics.contains("zako_v1_store_blobs 1\n"), "{metrics}");
}

#[test]
fn no_path_leads_out_of_the_store() {
    let project = Project::new();
    let (_node, said) = start(&project, &[], 2);
    let address = &said[1];
    let hash = sha256(b"x");
    let up = "../../../../../../../..";
    let escaped = "..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f";
    let outside = project.outside().to_str().unwrap();
    for prefix in [
        "/ac",
        "/cas",
        "/ccache",
        "/sccache",
        "/gradle",
        "/v8/artifacts",
        "/v1/cache",
    ] {
        for path in [
            format!("{prefix}/{up}{outside}/escaped"),
            format!("{prefix}/{escaped}{}/escaped", &outside[1..]),
            format!("/{up}{outside}{prefix}/{hash}"),
            format!("{prefix}/{up}/etc/passwd"),
            format!("{prefix}//etc/passwd"),
            format!("{prefix}/%00/escaped"),
        ] {
            // Stored under a name that is hashed, or refused; never a path.
            let put = http(address, "PUT", &path, b"x").unwrap().0;
            assert!(matches!(put, 200 | 202 | 400 | 404 | 405), "{path}: {put}");
            let (status, body) = http(address, "GET", &path, b"").unwrap();
            let is_ours = status != 200 || body == b"x";
            assert!(is_ours, "{path}: {}", String::from_utf8_lossy(&body));
        }
    }
    for name in [
        format!("{up}{outside}/uploads/../blobs/{hash}/1"),
        format!("uploads/{up}{outside}/escaped/blobs/{hash}/1"),
        format!("uploads/u/blobs/{up}{outside}/escaped/1"),
    ] {
        let message = [field(1, name.as_bytes()), number(3, 1), field(10, b"x")].concat();
        let url = format!("http://{address}/google.bytestream.ByteStream/Write");
        let mut curl = curl();
        call(curl.arg("--http2-prior-knowledge"), &url, &message);
    }
    let mut beside: Vec<_> = fs::read_dir(project.outside())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    beside.retain(|name| name.contains("escaped"));
    assert_eq!(beside, Vec::<String>::new());
    let mut within: Vec<_> = fs::read_dir(project.outside().join("data"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    within.retain(|name| !["store", "check", "max-bytes"].contains(&&name[..]));
    assert_eq!(within, Vec::<String>::new());
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: PathBuf,
}

impl Authority {
    fn new(directory: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let names = &mut params.distinguished_name;
        names.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = directory.join(format!("{name}.pem"));
        fs::write(&certificate, params.self_signed(&key).unwrap().pem()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    /// The paths of a certificate and its key.
    fn issue(&self, directory: &Path, usage: ExtendedKeyUsagePurpose) -> [String; 2] {
        let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.extended_key_usages = vec![usage.clone()];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        [("crt", certificate), ("key", key.serialize_pem())].map(|(kind, text)| {
            let path = directory.join(format!("{usage:?}.{kind}"));
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        })
    }
}

#[test]
fn tls_is_spoken_and_clients_need_a_certificate_if_told_so() {
    let project = Project::new();
    let directory = project.outside();
    let authority = Authority::new(directory, "authority");
    let [certificate, key] = authority.issue(directory, ExtendedKeyUsagePurpose::ServerAuth);
    let [ours, our_key] = authority.issue(directory, ExtendedKeyUsagePurpose::ClientAuth);
    let ca = authority.certificate.to_str().unwrap();
    let tls = ["--tls-cert", &certificate, "--tls-key", &key];
    let trusting = || {
        let mut curl = curl();
        curl.args(["--cacert", ca]);
        curl
    };
    let (node, said) = start(&project, &tls, 2);
    let port = said[1].rsplit_once(':').unwrap().1.to_owned();
    let url = format!("https://localhost:{port}/healthz");
    until("the node is well", || {
        (fetch(&mut trusting(), &url).1 == "200").then_some(())
    });
    let doubting = curl().arg(&url).output().unwrap();
    assert!(!doubting.status.success(), "nobody vouches for the node");
    let origin = format!("https://localhost:{port}");
    assert!(write(trusting().arg("--http2"), &origin, b"over TLS"));
    node.signal("TERM");
    node.wait().succeeds();

    let arguments = [&tls[..], &["--tls-client-ca", ca]].concat();
    let (_node, said) = start(&project, &arguments, 2);
    let port = said[1].rsplit_once(':').unwrap().1;
    let url = format!("https://localhost:{port}/healthz");
    let stranger = trusting().arg(&url).output().unwrap();
    assert!(!stranger.status.success(), "a stranger was let in");
    let known = ["--cert", &ours, "--key", &our_key];
    until("the node is well", || {
        (fetch(trusting().args(known), &url).1 == "200").then_some(())
    });
}
