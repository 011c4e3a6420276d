//! A node behind which lies a bucket of an S3 server that is nobody's here (moto): what others put there is
//! found, what is stored here gets there, and a server that is gone or refuses costs nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use zako_tests::wire::{field, http, sha256};
use zako_tests::{Node, Running, moto, succeed, until_so};

/// More than is sent in one piece.
const LARGE_BYTES: usize = 65 << 20;

/// A server with one bucket, and a client that is not ours either.
struct Bucket {
    python: PathBuf,
    server: Running,
    /// Address, name and secret.
    who: [String; 3],
}

fn script(python: &Path) -> Command {
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/bucket.py"));
    command
}

impl Bucket {
    fn open() -> Option<Self> {
        let python = moto()?;
        let mut server = Running::start(script(&python).arg("serve"));
        let line = server.line();
        let who: Vec<_> = line.split(' ').map(str::to_owned).collect();
        let Ok(who) = who.try_into() else {
            panic!("{line}{}", server.wait().text());
        };
        Some(Self {
            python,
            server,
            who,
        })
    }

    /// A node behind which it lies.
    fn node(&self, secret: &str) -> Node {
        let [address, name, _] = &self.who;
        Node::with(&format!(
            "[upstream]\naddress = \"s3://bucket/team\"\nwrite = \"background\"\npatience_seconds = 60\n\
             [upstream.s3]\nendpoint = \"{address}\"\nregion = \"us-east-1\"\n\
             access_key_id = \"{name}\"\nsecret_access_key = \"{secret}\"\n"
        ))
    }

    fn call(&self, what: &str, object: &str, file: &Path) {
        let object = format!("team/{object}");
        let mut client = script(&self.python);
        succeed(client.arg(what).args(&self.who).arg(object).arg(file));
    }

    fn put(&self, object: &str, node: &Node, content: &[u8]) {
        let file = node.directory("bucket").join("put");
        fs::write(&file, content).unwrap();
        self.call("put", object, &file);
    }

    fn get(&self, object: &str, node: &Node) -> Vec<u8> {
        let file = node.directory("bucket").join("got");
        self.call("get", object, &file);
        fs::read(file).unwrap()
    }
}

fn get(node: &Node, path: &str) -> (u16, Vec<u8>) {
    http(node.address(), "GET", path, b"").expect("an answer")
}

fn put(node: &Node, path: &str, content: &[u8]) {
    let answer = http(node.address(), "PUT", path, content);
    assert_eq!(answer.map(|(status, _)| status), Some(200), "{path}");
}

#[test]
fn what_lies_in_a_bucket_is_found_and_what_is_stored_gets_there() {
    let Some(bucket) = Bucket::open() else {
        return;
    };
    let node = bucket.node(&bucket.who[2]);
    let theirs = b"put there by somebody else".as_slice();
    let their_result = field(5, theirs);
    let (blob, action) = (sha256(theirs), sha256(b"their action"));
    bucket.put(&format!("cas/{blob}"), &node, theirs);
    bucket.put(&format!("ac/{action}"), &node, &their_result);
    let found = (200, theirs.to_vec());
    assert_eq!(get(&node, &format!("/cas/{blob}")), found);
    let result = (200, their_result);
    assert_eq!(get(&node, &format!("/ac/{action}")), result);
    assert_eq!(get(&node, &format!("/cas/{}", sha256(b"absent"))).0, 404);
    assert_eq!(node.figure("upstream_failures_total"), 0);

    let our_result = field(5, b"stored here");
    let small = b"a small blob".to_vec();
    // Nothing of it is the same as another part.
    let numbers = (0..LARGE_BYTES as u64 / 8).flat_map(u64::to_le_bytes);
    let large: Vec<u8> = numbers.collect();
    let ours = [
        (format!("ac/{}", sha256(b"our action")), our_result),
        (format!("cas/{}", sha256(&small)), small),
        (format!("cas/{}", sha256(&large)), large),
    ];
    for (object, content) in &ours {
        put(&node, &format!("/{object}"), content);
    }
    until_so("all is handed on", || {
        node.figure("upstream_handed_on_total") + node.figure("upstream_not_handed_on_total") >= 3
    });
    assert_eq!(node.figure("upstream_not_handed_on_total"), 0);
    for (object, content) in &ours {
        assert!(bucket.get(object, &node) == *content, "{object}");
    }
    // Another node finds it there, in several parts or not.
    let other = bucket.node(&bucket.who[2]);
    for (object, content) in &ours {
        let (status, found) = get(&other, &format!("/{object}"));
        assert!(status == 200 && found == *content, "{object}: {status}");
    }

    bucket.server.signal("KILL");
    bucket.server.wait();
    assert_eq!(get(&node, &format!("/cas/{blob}")), found, "it was kept");
    for number in 0..9 {
        let absent = sha256(&[number]);
        assert_eq!(get(&node, &format!("/cas/{absent}")).0, 404);
    }
    let alone = b"stored while the bucket is gone";
    let path = format!("/cas/{}", sha256(alone));
    put(&node, &path, alone);
    assert_eq!(get(&node, &path), (200, alone.to_vec()));
    assert_eq!(node.figure("upstream_up"), 0);
}

#[test]
fn a_bucket_that_refuses_our_credentials_is_named_in_the_log_and_costs_nothing() {
    let Some(bucket) = Bucket::open() else {
        return;
    };
    let mut node = bucket.node("another secret");
    for number in 0..9 {
        let absent = sha256(&[number]);
        assert_eq!(get(&node, &format!("/cas/{absent}")).0, 404);
    }
    let content = b"stored all the same";
    let path = format!("/cas/{}", sha256(content));
    put(&node, &path, content);
    assert_eq!(get(&node, &path), (200, content.to_vec()));
    assert_eq!(node.figure("upstream_up"), 0);
    assert_eq!(
        node.figure("upstream_misses_total"),
        0,
        "a refusal is no miss"
    );
    let log = node.kill();
    for word in [
        "upstream is down",
        "s3://bucket/team",
        "403",
        "SignatureDoesNotMatch",
    ] {
        assert!(log.contains(word), "{word} is not in {log}");
    }
}
