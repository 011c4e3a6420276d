//! A bit flips under an open node that checks every read: over HTTP, alone and with a cache behind it.

mod http_client;

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use actor_rt::System;
use cas_actor::front::{Front, FrontConfig};
use cas_actor::{Digest, Store, StoreConfig, UpstreamConfig, VerifyReads};
use http_client::Client;
use http_client::node::{Node, sha256};

/// Flips a bit of a large blob.
fn flip(root: &Path, digest: &Digest) {
    let hex = digest.hex();
    let path = root.join("blobs").join(&hex[..2]).join(&hex[2..]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 70_000).unwrap();
    file.write_all_at(&[byte[0] ^ 4], 70_000).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_flips_under_a_node_that_checks_every_read_is_not_found_or_healed() {
    let there = Node::start(&FrontConfig::default());
    let content: Vec<u8> = (0..100_000u32).map(|at| (at / 7 % 251) as u8).collect();
    let (digest, path) = (Digest::of(&content), format!("/cas/{}", sha256(&content)));
    let put = |mut client: Client| {
        let (path, content) = (path.clone(), content.clone());
        async move { client.request("PUT", &path, &[], &content).await.status }
    };
    assert_eq!(put(there.client().await).await, 200);
    for (verify_reads, is_healed) in [
        (VerifyReads::Always, true),
        (VerifyReads::Always, false),
        // That the bit matters.
        (VerifyReads::SmallOnly, false),
    ] {
        let (directory, system) = (tempfile::tempdir().unwrap(), System::new().unwrap());
        let store = Store::open(
            StoreConfig {
                verify_reads,
                ..StoreConfig::new(directory.path())
            },
            &system,
        )
        .unwrap();
        if is_healed {
            let behind = UpstreamConfig::at(format!("http://{}", there.address));
            let runtime = tokio::runtime::Handle::current();
            store.set_upstream(behind.tier(runtime).unwrap());
        }
        let front = Front::new(store.clone(), &FrontConfig::default()).unwrap();
        let address = front.listen("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_eq!(put(Client::connect(address).await).await, 200);
        for _ in 0..2 {
            let read = Client::connect(address).await.get(&path).await;
            assert!(read.status == 200 && read.body == content);
            flip(directory.path(), &digest);
            let read = Client::connect(address).await.get(&path).await;
            match verify_reads {
                VerifyReads::Always if is_healed => {
                    assert!(read.status == 200 && read.body == content);
                }
                VerifyReads::Always => assert_eq!(read.status, 404),
                _ => assert!(read.status == 200 && read.body != content),
            }
            if !is_healed {
                break;
            }
        }
        let is_here = store.contains(&[digest]).await.unwrap();
        assert_eq!(is_here, [is_healed || verify_reads != VerifyReads::Always]);
        let corrupt = store.stats().await.unwrap().corrupt;
        assert_eq!(corrupt, if is_healed { 2 } else { u64::from(!is_here[0]) });
    }
}
