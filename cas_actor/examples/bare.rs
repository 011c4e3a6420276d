//! The floor that the front ends are measured against: hyper alone, the same answer to every
//! request, with the head that `serve` gives to a small blob. `cargo run --release --example bare -- 127.0.0.1:7472 1024`

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;

type AnyError = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or("127.0.0.1:7472".into());
    let size: usize = arguments.next().unwrap_or("1024".into()).parse()?;
    let content = Bytes::from(vec![b'x'; size]);
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("http://{}/", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let content = content.clone();
        let service = service_fn(move |_: Request<Incoming>| {
            let mut answer = Response::new(Full::new(content.clone()));
            let kind = HeaderValue::from_static("application/octet-stream");
            answer.headers_mut().insert(header::CONTENT_TYPE, kind);
            let kept = HeaderValue::from_static("max-age=31536000, immutable");
            answer.headers_mut().insert(header::CACHE_CONTROL, kept);
            async { Ok::<_, Infallible>(answer) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            // Clients go as they like.
            let _ = connection.await;
        });
    }
}
