//! What health checks are told while the node serves, cannot, and ends.

use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::tests::Node;
use crate::front::FrontConfig;

const CAS: &str = "build.bazel.remote.execution.v2.ContentAddressableStorage";

fn asked(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

async fn check(channel: &Channel, service: &str) -> Result<ServingStatus, Status> {
    let mut client = HealthClient::new(channel.clone());
    let answer = client.check(asked(service)).await?;
    Ok(answer.into_inner().status())
}

#[tokio::test]
async fn every_service_has_a_status_and_a_failing_store_is_told() {
    let node = Node::start(&FrontConfig::default()).await;
    let channel = node.channel.clone();
    for service in ["", CAS, "google.bytestream.ByteStream", "zako.v1.Cas"] {
        let status = check(&channel, service).await.unwrap();
        assert_eq!(status, ServingStatus::Serving, "{service}");
    }
    let unknown = check(&channel, "no.such.Service").await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);

    // Nothing can be uploaded without that directory.
    let temp = node.directory.path().join("tmp");
    let away = node.directory.path().join("away");
    std::fs::rename(&temp, &away).unwrap();
    while check(&channel, CAS).await.unwrap() == ServingStatus::Serving {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    std::fs::rename(&away, &temp).unwrap();
    while check(&channel, "").await.unwrap() != ServingStatus::Serving {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn who_watches_is_told_of_the_drain() {
    let node = Node::start(&FrontConfig::default()).await;
    let mut client = HealthClient::new(node.channel.clone());
    let watched = client.watch(asked(CAS)).await.unwrap();
    let mut statuses = watched.into_inner();
    let mut next = async || statuses.message().await.unwrap().unwrap().status();
    assert_eq!(next().await, ServingStatus::Serving);
    let unknown = client.watch(asked("no.such.Service")).await.unwrap();
    let mut unknown = unknown.into_inner();
    let told = unknown.message().await.unwrap().unwrap();
    assert_eq!(told.status(), ServingStatus::ServiceUnknown);
    let front = node.front;
    let draining = tokio::spawn(async move { front.drain(Duration::from_secs(60)).await });
    assert_eq!(next().await, ServingStatus::NotServing);
    // Nobody who goes on listening holds up the end.
    assert!(statuses.message().await.unwrap().is_none());
    assert!(unknown.message().await.unwrap().is_none());
    assert!(draining.await.unwrap(), "nobody is left");
}

/// Nobody needs credentials to watch, and each of these streams stays as long as its client likes: together
/// they took the room of all requests.
#[tokio::test]
async fn who_watches_leaves_room_for_requests() {
    let mut config = FrontConfig::default();
    config.limits.requests = 16;
    let node = Node::start(&config).await;
    let mut client = HealthClient::new(node.channel.clone());
    let mut watching = Vec::new();
    for _ in 0..2 {
        watching.push(client.watch(asked(CAS)).await.unwrap());
    }
    for service in [CAS, "no.such.Service"] {
        let refused = client.watch(asked(service)).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
    }
    let status = check(&node.channel, CAS).await.unwrap();
    assert_eq!(status, ServingStatus::Serving);
    drop(watching);
    while client.watch(asked(CAS)).await.is_err() {}
}
