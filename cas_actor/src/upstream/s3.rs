//! A bucket of an S3-compatible store behind this one.
//!
//! Owns: the names of objects, and how answers are read.
//! Does not know: signatures, retries and where credentials come from (`object_store`); when it is
//! asked, or what becomes of the content (`tier`).
//! Invariant: only "no such object" is a miss.
#![forbid(unsafe_code)]

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use http_body_util::BodyExt;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as TcpConnector;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStoreExt, RetryConfig, WriteMultipart};

use super::config::S3Config;
use super::{Connection, Pieces, Upstream, UpstreamError};
use crate::digest::hex;
use crate::{Blob, BlobName, Digest, Sha256Digest};

/// Larger blobs are sent in parts.
const WHOLE_UP_TO_BYTES: usize = 64 * 1024 * 1024;
/// A part of one.
const PART_BYTES: usize = 16 * 1024 * 1024;
const PARTS_AT_ONCE: usize = 4;
/// The result of an action that is larger than this is not taken for one.
const ACTION_UP_TO_BYTES: u64 = 16 * 1024 * 1024;
/// The tier's patience is for the call with its retries.
const RETRIES: usize = 2;

/// A bucket with `cas/HASH` and `ac/HASH` below a prefix.
#[derive(Debug)]
pub(super) struct S3Upstream {
    name: String,
    prefix: Path,
    bucket: AmazonS3,
}

impl S3Upstream {
    /// The bucket at `BUCKET[/PREFIX]`. What `config` does not say is taken from the environment.
    ///
    /// # Errors
    /// When bucket, prefix or configuration cannot be used.
    pub(super) fn new(
        place: &str,
        config: &S3Config,
        connection: &Connection,
    ) -> Result<Self, UpstreamError> {
        let name = format!("s3://{place}");
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.is_empty() {
            return Err(UpstreamError::new(&name, "names no bucket"));
        }
        let prefix = Path::parse(prefix.trim_end_matches('/'))
            .map_err(|error| UpstreamError::new(&name, error))?;
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_http_connector(Connector(connection.clone()))
            .with_retry(RetryConfig {
                max_retries: RETRIES,
                ..RetryConfig::default()
            });
        if let Some(endpoint) = &config.endpoint {
            let is_plain = endpoint.starts_with("http://");
            builder = builder.with_endpoint(endpoint).with_allow_http(is_plain);
        }
        if let Some(region) = &config.region {
            builder = builder.with_region(region);
        }
        if let Some(key) = &config.access_key_id {
            builder = builder.with_access_key_id(key);
        }
        if let Some(secret) = &config.secret_access_key {
            builder = builder.with_secret_access_key(secret);
        }
        let bucket = builder.build();
        Ok(Self {
            bucket: bucket.map_err(|error| UpstreamError::new(&name, error))?,
            name,
            prefix,
        })
    }

    fn failed(&self, error: impl fmt::Display) -> UpstreamError {
        UpstreamError::new(&self.name, error)
    }

    fn path(&self, space: &str, hash: &[u8; 32]) -> Path {
        self.prefix.clone().join(space).join(hex(hash))
    }

    async fn read(&self, path: &Path) -> Result<Option<object_store::GetResult>, UpstreamError> {
        match self.bucket.get(path).await {
            Ok(found) => Ok(Some(found)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Reads what it sends: somebody may cut off the file of a blob that is mapped.
    async fn write(&self, path: &Path, mut content: Blob) -> Result<(), object_store::Error> {
        let unread = |error| object_store::Error::Generic {
            store: "zako",
            source: Box::new(error),
        };
        if content.len() <= WHOLE_UP_TO_BYTES {
            let content = content.read().map_err(unread)?;
            return self.bucket.put(path, content.into()).await.map(drop);
        }
        let upload = self.bucket.put_multipart(path).await?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        while !content.is_empty() {
            upload.wait_for_capacity(PARTS_AT_ONCE).await?;
            match content.take_piece(PART_BYTES) {
                Ok(piece) => upload.put(piece),
                Err(error) => {
                    upload.abort().await?;
                    return Err(unread(error));
                }
            }
        }
        upload.finish().await.map(drop)
    }
}

impl Upstream for S3Upstream {
    fn name(&self) -> &str {
        &self.name
    }

    fn get<'u>(
        &'u self,
        name: &'u BlobName,
    ) -> BoxFuture<'u, Result<Option<Pieces>, UpstreamError>> {
        async {
            let path = self.path("cas", name.hash());
            let Some(found) = self.read(&path).await? else {
                return Ok(None);
            };
            let name = self.name.clone();
            let pieces = found.into_stream();
            let pieces = pieces.map_err(move |error| UpstreamError::new(&name, error));
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
        let hash = sha256.map_or(*digest.hash(), |name| *name.hash());
        async move {
            let path = self.path("cas", &hash);
            let written = self.write(&path, content).await;
            written.map_err(|error| self.failed(error))
        }
        .boxed()
    }

    fn get_action<'u>(
        &'u self,
        action: &'u BlobName,
    ) -> BoxFuture<'u, Result<Option<Bytes>, UpstreamError>> {
        async {
            let path = self.path("ac", action.hash());
            match self.read(&path).await? {
                Some(found) if found.meta.size > ACTION_UP_TO_BYTES => {
                    Err(self.failed(format!("{path} is too large for a result")))
                }
                Some(found) => {
                    let bytes = found.bytes().await;
                    bytes.map(Some).map_err(|error| self.failed(error))
                }
                None => Ok(None),
            }
        }
        .boxed()
    }

    fn put_action<'u>(
        &'u self,
        action: &'u BlobName,
        result: Bytes,
    ) -> BoxFuture<'u, Result<(), UpstreamError>> {
        async {
            let path = self.path("ac", action.hash());
            let written = self.write(&path, result.into()).await;
            written.map_err(|error| self.failed(error))
        }
        .boxed()
    }
}

/// Has `object_store` send its requests by the client that we have anyway.
#[derive(Debug)]
struct Connector(Connection);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Sender(self.0.client())))
    }
}

#[derive(Debug)]
struct Sender(Client<HttpsConnector<TcpConnector>, HttpRequestBody>);

#[async_trait]
impl HttpService for Sender {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let sent = self.0.request(request).await;
        let answer = sent.map_err(|error| {
            let kind = match error.is_connect() {
                true => HttpErrorKind::Connect,
                false => HttpErrorKind::Request,
            };
            HttpError::new(kind, error)
        })?;
        let broken = |error| HttpError::new(HttpErrorKind::Interrupted, error);
        Ok(answer.map(|body| HttpResponseBody::new(body.map_err(broken))))
    }
}
