//! The cache part of the Bazel Remote Execution API v2, over gRPC.
//!
//! Owns: which service answers a path, credentials, and errors as gRPC status.
//! Does not know: connections (`listen`).
//! Invariants: this is the only folder that knows tonic; the blob of no bytes always exists; an
//! answer that a blob or a result is stored comes after it is durable.
#![forbid(unsafe_code)]

mod actions;
mod api;
mod blobs;
mod capabilities;
mod failure;
pub(super) mod name;
mod partial;
mod stream;
#[cfg(test)]
mod tests;
mod tree;
mod upstream;

pub use upstream::ReapiUpstream;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, Response};
use tonic::Status;
use tonic::codegen::Service;
use tonic::metadata::MetadataMap;

use self::api::bytestream::byte_stream_server::ByteStreamServer;
use self::api::re::action_cache_server::ActionCacheServer;
use self::api::re::capabilities_server::CapabilitiesServer;
use self::api::re::content_addressable_storage_server::ContentAddressableStorageServer;
use self::failure::failed;
use self::name::{Function, Name};
use self::partial::Partials;
use super::Space;
use super::access::{Refusal, Right};
use super::body::Answer;
use super::intake::Complete;
use super::listen::Shared;
use super::names::{Bound, name as key_of};
use crate::{Digest, Durability};

/// The name space of digests of SHA-256, shared with HTTP.
const BLOBS: &str = "cas";
/// Bytes of all blobs of one batch; larger ones go through ByteStream.
const BATCH_BYTES: u64 = 4 * 1024 * 1024;
/// Bytes of one message. A batch of many tiny blobs is mostly digests.
const MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// What all services share, and implement.
pub(crate) struct Api {
    shared: Arc<Shared>,
    partials: Partials,
}

type Answering = Pin<Box<dyn Future<Output = Response<Answer>> + Send>>;
/// A service behind its generated code.
type Served = Box<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>;

/// All services by the names in their paths.
pub(crate) struct Grpc {
    services: Vec<(&'static str, Served)>,
}

impl Grpc {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let partials = Partials::default();
        let api = Arc::new(Api { shared, partials });
        let same = || Arc::clone(&api);
        let blobs = ContentAddressableStorageServer::from_arc(same())
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES);
        let bytes = ByteStreamServer::from_arc(same()).max_decoding_message_size(MESSAGE_BYTES);
        let actions = ActionCacheServer::from_arc(same()).max_decoding_message_size(MESSAGE_BYTES);
        let (_, health) = tonic_health::server::health_reporter();
        let mut services = vec![
            (
                "build.bazel.remote.execution.v2.ContentAddressableStorage",
                served(blobs),
            ),
            ("google.bytestream.ByteStream", served(bytes)),
            (
                "build.bazel.remote.execution.v2.ActionCache",
                served(actions),
            ),
            (
                "build.bazel.remote.execution.v2.Capabilities",
                served(CapabilitiesServer::from_arc(same())),
            ),
            ("grpc.health.v1.Health", served(health)),
        ];
        let builder = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(api::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        // The descriptors are ours: `reflection_knows_the_services` sees to it that they are right.
        if let (Ok(new), Ok(old)) = (builder().build_v1(), builder().build_v1alpha()) {
            services.push(("grpc.reflection.v1.ServerReflection", served(new)));
            // Many clients still ask for the old name only.
            services.push(("grpc.reflection.v1alpha.ServerReflection", served(old)));
        }
        Self { services }
    }

    /// Whether a request is for us.
    pub(crate) fn is_for_us(request: &Request<Incoming>) -> bool {
        let kind = request.headers().get(hyper::header::CONTENT_TYPE);
        kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
    }

    /// The answer to a call for which there is no room.
    pub(crate) fn turn_away(message: &str) -> Response<Answer> {
        Status::resource_exhausted(message)
            .into_http::<tonic::body::Body>()
            .map(body)
    }

    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        let path = request.uri().path();
        let name = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        let name = name.map_or("", |(service, _)| service);
        match self.services.iter().find(|(service, _)| *service == name) {
            Some((_, served)) => served(request).await,
            None => Status::unimplemented(format!("no service `{name}` here"))
                .into_http::<tonic::body::Body>()
                .map(body),
        }
    }
}

fn served<S>(service: S) -> Served
where
    S: Service<Request<Incoming>, Response = Response<tonic::body::Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    Box::new(move |request| {
        let answered = service.clone().call(request);
        Box::pin(async move {
            match answered.await {
                Ok(answer) => answer.map(body),
                Err(never) => match never {},
            }
        })
    })
}

fn body(body: tonic::body::Body) -> Answer {
    Answer::stream(http_body_util::BodyExt::map_err(body, Into::into))
}

impl Api {
    /// Checks the credentials of a call.
    fn may(&self, metadata: &MetadataMap, wanted: Right) -> Result<(), Status> {
        let authorization = metadata.get("authorization").map(|value| value.as_bytes());
        let checked = self
            .shared
            .access
            .check(authorization, Space::Bazel, wanted);
        checked.map_err(|refusal| {
            self.shared.counters.space(Space::Bazel).refuse();
            match refusal {
                Refusal::Unknown => Status::unauthenticated(
                    "this node wants credentials: a bearer token, or a user and a password",
                ),
                Refusal::Forbidden => Status::permission_denied(match wanted {
                    Right::Write => "these credentials may not write to `bazel`",
                    Right::Read | Right::None => "these credentials may not read from `bazel`",
                }),
            }
        })
    }

    /// The store's own name of a blob, if it is known.
    async fn resolve(&self, name: &Name) -> Result<Option<Digest>, Status> {
        if let Some(digest) = known(name) {
            return Ok(Some(digest));
        }
        let key = key_of(BLOBS, &[&name.hex()]);
        let bound = self.shared.names.resolve(&key).await.map_err(failed)?;
        let digest = bound.map(|bound| bound.digest);
        Ok(digest.filter(|digest| digest.size_bytes() == name.size_bytes))
    }

    /// Which blobs are here, in the order asked; counts as a use of them.
    async fn present(&self, names: &[Name]) -> Result<Vec<bool>, Status> {
        // What is not in the cache of names is asked for at once, and answered in any order.
        let resolved = names.iter().map(|name| self.resolve(name));
        let resolved = futures_util::future::join_all(resolved).await;
        let resolved: Vec<Option<Digest>> = resolved.into_iter().collect::<Result<_, _>>()?;
        let known: Vec<Digest> = resolved.iter().flatten().copied().collect();
        let present = self.shared.store.contains(&known).await.map_err(failed)?;
        let mut present = present.into_iter();
        let is_here = |digest: Option<Digest>| digest.is_some() && present.next() == Some(true);
        Ok(resolved.into_iter().map(is_here).collect())
    }

    /// The content of a blob.
    async fn content(&self, name: &Name) -> Result<::bytes::Bytes, Status> {
        let counters = self.shared.counters.space(Space::Bazel);
        let missing = || {
            counters.miss();
            let (hash, size_bytes) = (name.hex(), name.size_bytes);
            Status::not_found(format!("no blob {hash}/{size_bytes}"))
        };
        let digest = self.resolve(name).await?.ok_or_else(missing)?;
        match self.shared.store.get(&digest).await {
            Ok(blob) => {
                counters.hit(digest.size_bytes());
                Ok(blob.into_bytes())
            }
            Err(crate::GetError::NotFound(_) | crate::GetError::Corrupt { .. }) => Err(missing()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Stores a content that is what `name` says.
    async fn keep(&self, complete: Complete, name: &Name) -> Result<(), Status> {
        let names = complete.names;
        let size_bytes = names.digest.size_bytes();
        let hash = match name.function {
            Function::Blake3 => *names.digest.hash(),
            Function::Sha256 => names.sha256,
        };
        if hash != name.hash || size_bytes != name.size_bytes {
            self.shared.counters.space(Space::Bazel).refuse();
            return Err(Status::invalid_argument(format!(
                "the content does not match its digest: expected {}/{}, got {}/{size_bytes}; \
                 nothing was stored",
                name.hex(),
                name.size_bytes,
                Digest::new(hash, 0).hex(),
            )));
        }
        let durability = match name.function {
            Function::Blake3 => Durability::Durable,
            // The name, which is durable, makes the content durable with it.
            Function::Sha256 => Durability::Relaxed,
        };
        let stored = complete.store(&self.shared.store, durability).await;
        stored.map_err(failed)?;
        if name.function == Function::Sha256 {
            let key = key_of(BLOBS, &[&name.hex()]);
            let bound = Bound::now(names.digest, ::bytes::Bytes::new());
            let bind = self.shared.names.bind(&key, &bound);
            bind.await.map_err(failed)?;
        }
        self.shared.counters.space(Space::Bazel).store(size_bytes);
        Ok(())
    }
}

/// The store's own name of a blob where it follows from the client's.
fn known(name: &Name) -> Option<Digest> {
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    match name.function {
        Function::Blake3 => Some(Digest::new(name.hash, name.size_bytes)),
        Function::Sha256 => {
            let is_empty = name.size_bytes == 0 && name.hex() == EMPTY;
            is_empty.then(|| Digest::of(b""))
        }
    }
}
