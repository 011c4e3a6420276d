//! A bucket as the cache behind a store: a server that keeps objects as S3 does, in this process.
#![cfg(feature = "s3")]
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cas_actor::{
    Blob, BlobName, Digest, S3Config, Sha256Digest, Store, StoreConfig, Upstream, UpstreamConfig,
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::Handle;

/// Objects by their paths, and parts of unfinished ones.
type Objects = Arc<Mutex<HashMap<String, Bytes>>>;

/// Answers one request as far as S3's form of it is used here.
async fn answer(request: Request<Incoming>, objects: Objects) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let signed = parts.headers.get("authorization");
    let signed = signed
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let with = |status, body: Bytes| {
        let mut answer = Response::new(Full::new(body));
        *answer.status_mut() = status;
        answer
    };
    if !signed.starts_with("AWS4-HMAC-SHA256 Credential=someone/") {
        return with(StatusCode::FORBIDDEN, Bytes::new());
    }
    let path = parts.uri.path().to_owned();
    let query = parts.uri.query().unwrap_or_default();
    let mut objects = objects.lock().unwrap();
    let mut answer = match parts.method {
        Method::POST if query.starts_with("uploads") => {
            let xml = "<InitiateMultipartUploadResult><UploadId>1</UploadId>\
                </InitiateMultipartUploadResult>";
            with(StatusCode::OK, xml.into())
        }
        Method::PUT if query.contains("partNumber=") => {
            let number = query
                .split('&')
                .find_map(|part| part.strip_prefix("partNumber="));
            let number: u32 = number.unwrap().parse().unwrap();
            objects.insert(format!("{path}?{number:05}"), body);
            with(StatusCode::OK, Bytes::new())
        }
        Method::POST => {
            let is_part = |name: &&String| name.starts_with(&format!("{path}?"));
            let mut parts: Vec<String> = objects.keys().filter(is_part).cloned().collect();
            parts.sort();
            let whole = parts.iter().filter_map(|part| objects.remove(part));
            let whole = Bytes::from(whole.collect::<Vec<_>>().concat());
            objects.insert(path, whole);
            let xml =
                "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>";
            with(StatusCode::OK, xml.into())
        }
        Method::PUT => {
            objects.insert(path, body);
            with(StatusCode::OK, Bytes::new())
        }
        Method::GET => match objects.get(&path) {
            Some(object) => with(StatusCode::OK, object.clone()),
            None => with(StatusCode::NOT_FOUND, Bytes::new()),
        },
        _ => with(StatusCode::METHOD_NOT_ALLOWED, Bytes::new()),
    };
    let headers = answer.headers_mut();
    headers.insert("etag", "\"e\"".parse().unwrap());
    headers.insert(
        "last-modified",
        "Fri, 01 Jan 2021 00:00:00 GMT".parse().unwrap(),
    );
    answer
}

async fn serve(objects: &Objects) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let objects = Arc::clone(objects);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let objects = Arc::clone(&objects);
            let service = service_fn(move |request| {
                let objects = Arc::clone(&objects);
                async move { Ok::<_, Infallible>(answer(request, objects).await) }
            });
            let builder = hyper::server::conn::http1::Builder::new();
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

fn bucket(address: SocketAddr, key: &str) -> UpstreamConfig {
    UpstreamConfig {
        s3: S3Config {
            endpoint: Some(format!("http://{address}")),
            region: Some("us-east-1".into()),
            access_key_id: Some(key.into()),
            secret_access_key: Some("secret".into()),
        },
        ..UpstreamConfig::at("s3://bucket/some/prefix")
    }
}

async fn put(upstream: &dyn Upstream, content: &Bytes) -> Sha256Digest {
    let (digest, sha256) = (Digest::of(content), Sha256Digest::of(content));
    let put = upstream.put(&digest, Some(&sha256), Blob::from(content.clone()));
    put.await.unwrap();
    sha256
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_and_results_go_there_and_back() {
    let objects = Objects::default();
    let config = bucket(serve(&objects).await, "someone");
    let upstream = config.connect().unwrap();
    let small = Bytes::from_static(b"small");
    // Sent in parts: they are put together in their order.
    let large: Bytes = (0..65 * 1024 * 1024u32)
        .map(|at| (at >> 12) as u8)
        .collect();
    let names = [put(&*upstream, &small).await, put(&*upstream, &large).await];
    let action = BlobName::from_hex(&Sha256Digest::of(b"action").hex()).unwrap();
    assert_eq!(upstream.get_action(&action).await.unwrap(), None);
    upstream.put_action(&action, small.clone()).await.unwrap();
    assert_eq!(
        upstream.get_action(&action).await.unwrap(),
        Some(small.clone())
    );
    let mut paths: Vec<String> = objects.lock().unwrap().keys().cloned().collect();
    paths.sort();
    let below = |rest: String| format!("/bucket/some/prefix/{rest}");
    let mut expected = names
        .map(|name| below(format!("cas/{}", name.hex())))
        .to_vec();
    expected.push(below(format!("ac/{}", Sha256Digest::of(b"action").hex())));
    expected.sort();
    assert_eq!(paths, expected);

    let (directory, system) = (
        tempfile::tempdir().unwrap(),
        actor_rt::System::new().unwrap(),
    );
    let here = Store::open(StoreConfig::new(directory.path()), &system).unwrap();
    here.set_upstream(config.tier(Handle::current()).unwrap());
    for (name, content) in names.into_iter().zip([small, large]) {
        let found = here.get_named(&name.into()).await.unwrap();
        assert_eq!(
            found.map(|(digest, blob)| (digest, blob.into_bytes())),
            Some((Digest::of(&content), content))
        );
    }
    let absent = BlobName::from(Sha256Digest::of(b"absent"));
    assert_eq!(here.get_named(&absent).await.unwrap(), None);
    let stats = here.upstream().unwrap().stats();
    assert_eq!((stats.hits, stats.misses, stats.failures), (2, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_a_failure_and_no_miss() {
    let objects = Objects::default();
    let config = bucket(serve(&objects).await, "stranger");
    let upstream = config.connect().unwrap();
    let action = BlobName::from(Sha256Digest::of(b"action"));
    let error = upstream.get_action(&action).await.unwrap_err();
    assert!(
        error.to_string().starts_with("s3://bucket/some/prefix: "),
        "{error}"
    );
}
