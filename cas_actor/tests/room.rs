//! What uploads over HTTP hold in memory stays within the limit.

mod http_client;

use cas_actor::front::FrontConfig;
use http_client::node::Node;

const LIMIT_BYTES: u64 = 96 * 1024 * 1024;

#[tokio::test]
async fn many_uploads_at_once_stay_within_the_limit() {
    let mut config = FrontConfig::default();
    config.limits.in_flight_bytes = LIMIT_BYTES;
    let node = Node::start(&config);
    // Each holds a piece of 256 KiB and a frame of 64 KiB: there is room for 307.
    let head = "content-length: 1000000\r\n\r\n";
    let mut uploads = Vec::new();
    for number in 0..310 {
        let mut client = node.client().await;
        let request = format!("PUT /gradle/{number} HTTP/1.1\r\nhost: x\r\n{head}");
        client.send(request.as_bytes()).await;
        client.send(&[7; 1000]).await;
        uploads.push(client);
    }
    while node.front.stats().overloaded < 3 {
        tokio::task::yield_now().await;
    }
    let stats = node.front.stats();
    assert!(stats.held_bytes <= LIMIT_BYTES, "{}", stats.held_bytes);
    let mut client = node.client().await;
    let large = vec![7; 1_000_000];
    let refused = client.request("PUT", "/gradle/other", &[], &large).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), Some("1"));
    // Reads hold nothing, and go on.
    assert_eq!(client.get("/gradle/other").await.status, 404);

    drop(uploads);
    while node.front.stats().held_bytes > 0 {
        tokio::task::yield_now().await;
    }
    let stored = client.request("PUT", "/gradle/other", &[], &large).await;
    assert_eq!(stored.status, 200);
}
