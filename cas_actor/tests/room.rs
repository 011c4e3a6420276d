//! What uploads over HTTP hold in memory, and how long they take, stays within the limits.

mod http_client;

use std::time::Duration;

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

#[tokio::test]
async fn an_upload_that_drips_is_told_that_it_took_too_long() {
    let mut config = FrontConfig::default();
    config.limits.request_seconds = 1;
    let node = Node::start(&config);
    let (mut reader, mut writer) = tokio::net::TcpStream::connect(node.address)
        .await
        .unwrap()
        .into_split();
    let head = b"PUT /gradle/k HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut writer, head)
        .await
        .unwrap();
    let drip = tokio::spawn(async move {
        let mut drip = tokio::time::interval(Duration::from_millis(20));
        while tokio::io::AsyncWriteExt::write_all(&mut writer, b"x")
            .await
            .is_ok()
        {
            drip.tick().await;
        }
    });
    let mut status = [0; 12];
    let read = tokio::io::AsyncReadExt::read_exact(&mut reader, &mut status).await;
    read.unwrap();
    assert_eq!(&status, b"HTTP/1.1 408");
    drop(reader);
    drip.await.unwrap();
}

#[tokio::test]
async fn a_compressed_upload_counts_with_what_inflating_takes() {
    let mut config = FrontConfig::default();
    config.limits.in_flight_bytes = LIMIT_BYTES;
    let node = Node::start(&config);
    // Each may ask for a window of 8 MiB, however short it is: there is no room for twelve.
    let head = "content-length: 1000\r\ncontent-encoding: zstd\r\n\r\n";
    let mut uploads = Vec::new();
    for number in 0..12 {
        let mut client = node.client().await;
        let request = format!("PUT /gradle/{number} HTTP/1.1\r\nhost: x\r\n{head}");
        client.send(request.as_bytes()).await;
        uploads.push(client);
    }
    let refused = async {
        while node.front.stats().overloaded == 0 {
            tokio::task::yield_now().await;
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(60), refused).await;
    refused.expect("one of them is refused");
    assert!(node.front.stats().held_bytes <= LIMIT_BYTES);
}
