//! Caches behind this one: where a blob is looked for when it is not here.
//!
//! Owns: what a cache behind this one has to be able to do, and how it fails.
//! Does not know: any protocol. `http` and `s3` speak to servers, and so does `front::grpc`, the one
//! folder with gRPC; `config` chooses one of them.
//! Invariant: what comes from there is hashed before anybody gets it.
#![forbid(unsafe_code)]

mod breaker;
mod config;
mod connection;
mod flights;
mod hand_on;
mod http;
mod promote;
#[cfg(feature = "s3")]
mod s3;
mod tier;

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use futures_util::stream::BoxStream;

use crate::blob::Blob;
use crate::digest::Digest;
use crate::name::{BlobName, HashFunction};
use crate::sha256::Sha256Digest;

pub use config::{S3Config, UpstreamConfig, UpstreamConfigError, without_credentials};
pub use connection::Connection;
pub(crate) use hand_on::{AsyncReadBlob, Encode, Handed};
pub use http::HttpUpstream;
pub(crate) use promote::Fetched;
pub use tier::{Tier, TierConfig, TierStats, WriteThrough};

/// The content of a blob as it comes in.
pub type Pieces = BoxStream<'static, Result<Bytes, UpstreamError>>;

/// A cache behind this one. Calls may be made from many tasks at once.
pub trait Upstream: Send + Sync + 'static {
    /// What it is called in messages: its address.
    fn name(&self) -> &str;

    /// The hash by which it names what it is given. BLAKE3, as the store does, where nothing else is
    /// known of it.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn function(&self) -> BoxFuture<'_, Result<HashFunction, UpstreamError>> {
        ready(Ok(HashFunction::Blake3)).boxed()
    }

    /// The content of a blob; `None` when it has none of that name, or no way to ask for it.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn get<'u>(
        &'u self,
        name: &'u BlobName,
    ) -> BoxFuture<'u, Result<Option<Pieces>, UpstreamError>>;

    /// Stores a blob there: under its second name if that is given, else under the one by
    /// [`function`](Self::function).
    ///
    /// # Errors
    /// When it does not take it.
    fn put<'u>(
        &'u self,
        digest: &'u Digest,
        sha256: Option<&'u Sha256Digest>,
        content: Blob,
    ) -> BoxFuture<'u, Result<(), UpstreamError>>;

    /// The encoded result of an action, if it has one.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn get_action<'u>(
        &'u self,
        action: &'u BlobName,
    ) -> BoxFuture<'u, Result<Option<Bytes>, UpstreamError>>;

    /// Stores the encoded result of an action there.
    ///
    /// # Errors
    /// When it does not take it.
    fn put_action<'u>(
        &'u self,
        action: &'u BlobName,
        result: Bytes,
    ) -> BoxFuture<'u, Result<(), UpstreamError>>;
}

/// Why a cache behind this one did not do what was asked. The work goes on without it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{upstream}: {message}")]
pub struct UpstreamError {
    /// The name of the upstream.
    pub upstream: Arc<str>,
    /// What went wrong.
    pub message: Arc<str>,
}

impl UpstreamError {
    /// A failure of the upstream of that name.
    pub fn new(upstream: &str, message: impl ToString) -> Self {
        Self {
            upstream: upstream.into(),
            message: message.to_string().into(),
        }
    }

    /// A call that failed, told by the innermost cause: what is around it says little more than that a call failed.
    pub(crate) fn caused(upstream: &str, error: &dyn Error) -> Self {
        let mut cause = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        Self::new(upstream, cause)
    }
}
