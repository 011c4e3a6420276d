//! A server that knows no BLAKE3 behind stores that name everything by it.
#![forbid(unsafe_code)]

mod http_client;

use cas_actor::front::{DialectsConfig, FrontConfig};
use cas_actor::{BlobName, Digest, Sha256Digest, TierStats, UpstreamConfig, WriteThrough};
use http_client::node::Node;
use tokio::runtime::Handle;

fn behind(there: &Node) -> Node {
    let node = Node::start(&FrontConfig::default());
    let config = UpstreamConfig {
        write: WriteThrough::Background,
        ..UpstreamConfig::at(format!("grpc://{}", there.address))
    };
    let tier = config.tier(Handle::current()).unwrap();
    assert!(node.store.set_upstream(tier));
    node
}

fn stats(node: &Node) -> TierStats {
    node.store.upstream().unwrap().stats()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_handed_on_gets_a_name_that_is_known_there() {
    let there = Node::start(&FrontConfig {
        dialects: DialectsConfig {
            blake3: false,
            ..DialectsConfig::default()
        },
        ..FrontConfig::default()
    });
    let (first, second) = (behind(&there), behind(&there));
    let content = vec![b'z'; 100_000];
    let mut client = first.client().await;
    let put = client.request("PUT", "/ccache/key", &[], &content).await;
    assert_eq!(put.status, 200);

    // An entry travels as a result, which says where its blob is: by SHA-256 here.
    let mut client = second.client().await;
    let found = loop {
        let found = client.get("/ccache/key").await;
        if found.status == 200 {
            break found;
        }
    };
    assert_eq!(found.body, content);
    let there_by_name = there.store.resolve(&[Sha256Digest::of(&content)]).await;
    assert_eq!(there_by_name.unwrap(), [Some(Digest::of(&content))]);

    // It is not asked by names that it does not take, so nothing fails.
    let absent = BlobName::from(Digest::of(b"absent"));
    assert_eq!(second.store.get_named(&absent).await.unwrap(), None);
    let tier = second.store.upstream().unwrap();
    assert_eq!(tier.get_action(&absent).await, None);
    assert!(tier.put_action(&absent, Vec::new().into()).await);
    for stats in [stats(&first), stats(&second)] {
        assert_eq!((stats.failures, stats.not_handed_on), (0, 0), "{stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_says_it_knows_no_blake3_takes_no_such_name_over_http_either() {
    let node = Node::start(&FrontConfig {
        dialects: DialectsConfig {
            blake3: false,
            ..DialectsConfig::default()
        },
        ..FrontConfig::default()
    });
    let content = b"named by either".as_slice();
    let by = |hash: String| format!("/cas/{hash}");
    let blake3 = by(Digest::of(content).hex());
    let sha256 = by(Sha256Digest::of(content).hex());
    let mut client = node.client().await;
    let refused = client.request("PUT", &blake3, &[], content).await;
    assert_eq!(refused.status, 400);
    assert_eq!(client.get(&sha256).await.status, 404, "nothing was stored");
    let put = client.request("PUT", &sha256, &[], content).await;
    assert_eq!(put.status, 200);
    // From memory as well.
    for _ in 0..3 {
        let found = client.get(&sha256).await;
        assert_eq!((found.status, &*found.body), (200, content));
        assert_eq!(client.get(&blake3).await.status, 404);
    }
}
