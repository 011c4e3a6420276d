//! Finding out by which hash an HTTP cache wants its blobs named, where it takes none.
#![forbid(unsafe_code)]

use std::convert::Infallible;

use bytes::Bytes;
use cas_actor::{Connection, HashFunction, HttpUpstream, Upstream};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// A cache that has nothing and answers each PUT like this.
async fn answers_puts_with(status: StatusCode) -> HttpUpstream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(move |request: Request<Incoming>| async move {
                let mut answer = Response::new(Full::new(Bytes::new()));
                *answer.status_mut() = match *request.method() {
                    Method::PUT => status,
                    _ => StatusCode::NOT_FOUND,
                };
                Ok::<_, Infallible>(answer)
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    HttpUpstream::new(&address, &Connection::default()).unwrap()
}

/// A cache that only reads, or is full, must go on being read.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_takes_nothing_is_read_all_the_same() {
    for refusal in [400, 403, 404, 405, 500, 501, 507] {
        let upstream = answers_puts_with(StatusCode::from_u16(refusal).unwrap()).await;
        let function = upstream.function().await.unwrap();
        assert_eq!(function, HashFunction::Blake3, "{refusal}");
    }
    for passing in [429, 502, 503, 504] {
        let upstream = answers_puts_with(StatusCode::from_u16(passing).unwrap()).await;
        assert!(upstream.function().await.is_err(), "{passing}");
    }
}
