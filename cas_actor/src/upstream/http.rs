//! An HTTP cache behind this one, as Bazel's `--remote_cache=http://…` speaks to it.
//!
//! Owns: the requests, how answers are read, and finding out by which hash the cache wants its blobs named.
//! Does not know: when it is asked, or what becomes of the content (`upstream`).
//! Invariants: an answer other than a hit or a clear miss is a failure, not a miss; what is put has the name by
//! which the cache checks it.
#![forbid(unsafe_code)]

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use http_body_util::{BodyExt, BodyStream};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use super::{Connection, Pieces, Upstream, UpstreamError};
use crate::digest::hex;
use crate::{Blob, BlobName, Digest, HashFunction, Sha256Digest};

/// The result of an action that is larger than this is not taken for one.
const ACTION_UP_TO_BYTES: usize = 16 * 1024 * 1024;

/// A blob that says by its name which hash a cache knows: whoever checks contents refuses it under another.
const PROBE: &[u8] = b"zako: which hash?";

/// What is read of a blob at a time, while it is sent.
const PIECE_BYTES: usize = 256 * 1024;

/// A blob that is sent: read, not mapped, for somebody may cut its file off meanwhile.
struct Sent(Blob);

impl Body for Sent {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let is_left = !self.0.is_empty();
        let piece = is_left.then(|| self.0.take_piece(PIECE_BYTES).map(Frame::data));
        Poll::Ready(piece)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

/// A cache at `http[s]://host[:port][/prefix]` with `/cas/HASH` and `/ac/HASH` below it.
#[derive(Debug)]
pub struct HttpUpstream {
    base: String,
    authorization: Option<HeaderValue>,
    client: Client<HttpsConnector<HttpConnector>, Sent>,
    function: OnceCell<HashFunction>,
}

impl HttpUpstream {
    /// The cache at `base`, for instance `http://cache:8080`. Connects at the first call.
    ///
    /// # Errors
    /// When `base` is no `http` or `https` address, or the latter, and `connection` has no TLS.
    pub fn new(base: &str, connection: &Connection) -> Result<Self, UpstreamError> {
        let base = base.trim_end_matches('/');
        let wrong = |what: &str| UpstreamError::new(base, what);
        let uri: Uri = base.parse().map_err(|_| wrong("is no address"))?;
        let known = match uri.scheme_str() {
            Some("http") => true,
            Some("https") => connection.tls.is_some(),
            _ => false,
        };
        if !known || uri.host().is_none_or(str::is_empty) || uri.query().is_some() {
            return Err(wrong("is no address that begins with http://HOST"));
        }
        Ok(Self {
            base: base.to_owned(),
            authorization: connection.authorization.clone(),
            client: connection.client(),
            function: OnceCell::new(),
        })
    }

    fn failed(&self, message: impl ToString) -> UpstreamError {
        UpstreamError::new(&self.base, message)
    }

    async fn send(
        &self,
        method: Method,
        space: &str,
        hash: &[u8; 32],
        body: Blob,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let uri = format!("{}/{space}/{}", self.base, hex(hash));
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(Sent(body));
        let request = request.map_err(|error| self.failed(error))?;
        let sent = self.client.request(request).await;
        sent.map_err(|error| UpstreamError::caused(&self.base, &error))
    }

    async fn read(
        &self,
        space: &str,
        hash: &[u8; 32],
    ) -> Result<Option<Response<Incoming>>, UpstreamError> {
        let nothing = Bytes::new().into();
        let answer = self.send(Method::GET, space, hash, nothing).await?;
        match answer.status() {
            StatusCode::OK => Ok(Some(answer)),
            StatusCode::NOT_FOUND | StatusCode::NO_CONTENT => Ok(None),
            other => Err(self.failed(format!("answered {other} to a GET"))),
        }
    }

    /// Which hash the cache knows. Nothing in the protocol says so: a cache that checks contents takes a blob
    /// under one name and refuses it under the other, and one that does not takes any name. Where somebody
    /// found out before, the blob is there and nothing has to be written.
    async fn probe(&self) -> Result<HashFunction, UpstreamError> {
        let names = [
            (HashFunction::Blake3, *Digest::of(PROBE).hash()),
            (HashFunction::Sha256, *Sha256Digest::of(PROBE).hash()),
        ];
        for (function, name) in &names {
            let nothing = Bytes::new().into();
            let answer = self.send(Method::GET, "cas", name, nothing).await?;
            if answer.status() == StatusCode::OK {
                return Ok(*function);
            }
        }
        for (function, name) in &names {
            let probe = Bytes::from_static(PROBE).into();
            let answer = self.send(Method::PUT, "cas", name, probe).await?;
            match answer.status() {
                status if status.is_success() => return Ok(*function),
                // Not because of the name, and not for long: asked again the next time.
                status @ (StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT) => {
                    return Err(self.failed(format!("answered {status} to a PUT")));
                }
                _ => {}
            }
        }
        // Nothing can be put there, so that it makes no difference.
        Ok(HashFunction::Blake3)
    }

    async fn write(
        &self,
        space: &str,
        hash: &[u8; 32],
        content: Blob,
    ) -> Result<(), UpstreamError> {
        let answer = self.send(Method::PUT, space, hash, content).await?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            other => Err(self.failed(format!("answered {other} to a PUT"))),
        }
    }
}

impl Upstream for HttpUpstream {
    fn name(&self) -> &str {
        &self.base
    }

    fn function(&self) -> BoxFuture<'_, Result<HashFunction, UpstreamError>> {
        let known = self.function.get_or_try_init(|| self.probe());
        known.map(|known| known.copied()).boxed()
    }

    fn get<'u>(
        &'u self,
        name: &'u BlobName,
    ) -> BoxFuture<'u, Result<Option<Pieces>, UpstreamError>> {
        async {
            let Some(answer) = self.read("cas", name.hash()).await? else {
                return Ok(None);
            };
            let base = self.base.clone();
            let pieces = BodyStream::new(answer.into_body())
                .try_filter_map(async |frame| Ok(frame.into_data().ok()))
                .map_err(move |error| UpstreamError::new(&base, error));
            Ok(Some(pieces.boxed()))
        }
        .boxed()
    }

    fn put<'u>(
        &'u self,
        digest: &'u Digest,
        sha256: Option<&'u Sha256Digest>,
        content: Blob,
    ) -> BoxFuture<'u, Result<(), UpstreamError>> {
        async move {
            let hash = match sha256 {
                Some(name) => *name.hash(),
                None => match self.function().await? {
                    HashFunction::Blake3 => *digest.hash(),
                    HashFunction::Sha256 => {
                        let content = content.clone();
                        let named = spawn_blocking(move || Sha256Digest::of_blob(content));
                        let named = named.await.map_err(|error| self.failed(error))?;
                        *named.map_err(|error| self.failed(error))?.hash()
                    }
                },
            };
            self.write("cas", &hash, content).await
        }
        .boxed()
    }

    fn get_action<'u>(
        &'u self,
        action: &'u BlobName,
    ) -> BoxFuture<'u, Result<Option<Bytes>, UpstreamError>> {
        async {
            let Some(answer) = self.read("ac", action.hash()).await? else {
                return Ok(None);
            };
            let body = http_body_util::Limited::new(answer.into_body(), ACTION_UP_TO_BYTES);
            let body = body.collect().await;
            Ok(Some(body.map_err(|error| self.failed(error))?.to_bytes()))
        }
        .boxed()
    }

    fn put_action<'u>(
        &'u self,
        action: &'u BlobName,
        result: Bytes,
    ) -> BoxFuture<'u, Result<(), UpstreamError>> {
        async { self.write("ac", action.hash(), result.into()).await }.boxed()
    }
}
