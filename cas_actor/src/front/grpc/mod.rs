//! gRPC: the cache part of the Bazel Remote Execution API v2, and Zako's own services.
//!
//! Owns: which service answers a path, credentials, and errors as gRPC status.
//! Does not know: connections (`listen`), or what a call needs (`call`).
//! Invariants: this is the only folder that knows tonic; rights are checked before anything of a call's body
//! is read; the blob of no bytes always exists; an answer that a blob or a result is stored comes after
//! it is durable.
#![forbid(unsafe_code)]

pub(super) mod actions;
pub(super) mod api;
mod blobs;
mod call;
mod capabilities;
#[cfg(test)]
mod chunk_tests;
mod chunks;
mod counted;
#[cfg(test)]
mod cut_tests;
mod failure;
#[cfg(test)]
mod figures_tests;
mod health;
#[cfg(test)]
mod health_tests;
pub(super) mod name;
mod partial;
#[cfg(test)]
mod resume_tests;
#[cfg(test)]
mod room_tests;
#[cfg(test)]
mod stall_tests;
mod stream;
#[cfg(test)]
mod tests;
mod tree;
mod undecoded;
mod upstream;
mod weight;
mod zako;
#[cfg(test)]
mod zako_tests;

pub use upstream::ReapiUpstream;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use hyper::{Request, Response};
use tonic::codegen::Service;
use tonic::{Code, Status};
use tonic_health::pb::health_server::HealthServer;

use self::api::bytestream::byte_stream_server::ByteStreamServer;
use self::api::re::action_cache_server::ActionCacheServer;
use self::api::re::capabilities_server::CapabilitiesServer;
use self::api::re::content_addressable_storage_server::ContentAddressableStorageServer;
use self::api::zako::cas_server::CasServer;
use self::api::zako::transport_server::TransportServer;
use self::call::Call;
use self::counted::Counted;
use self::failure::failed;
use self::health::HealthOf;
use self::name::{Function, Name};
use self::zako::Zako;
use super::Space;
use super::access::{Refusal, Right};
use super::body::Answer;
use super::held::Share;
use super::intake::Complete;
use super::listen::Shared;
use super::names::name as key_of;
use super::stall::Coming;
use crate::{Blob, BlobName, Digest, Durability};

/// Bytes of all blobs of one batch; larger ones go through ByteStream.
const BATCH_BYTES: u64 = 4 * 1024 * 1024;
/// Bytes of one message. A batch of many tiny blobs is mostly digests.
const MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// The call whose answer holds the address that the caller has used.
const DETAILS: &str = "/zako.v1.Cas/GetTransportDetails";

/// The address that a caller has used.
#[derive(Debug, Clone)]
struct Authority(String);

/// What all services share, and implement.
#[derive(Clone)]
pub(crate) struct Api {
    shared: Arc<Shared>,
}

type Answering = Pin<Box<dyn Future<Output = Response<Answer>> + Send>>;
/// A service behind its generated code.
type Served = Box<dyn Fn(Request<Coming>, Call, Arc<Share>) -> Answering + Send + Sync>;

/// All services by the names in their paths.
pub(crate) struct Grpc {
    api: Arc<Api>,
    services: Vec<(&'static str, Served)>,
}

impl Grpc {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let api = Arc::new(Api { shared });
        let same = || Arc::clone(&api);
        let blobs = ContentAddressableStorageServer::from_arc(same())
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES);
        let bytes = ByteStreamServer::from_arc(same()).max_decoding_message_size(MESSAGE_BYTES);
        let actions = ActionCacheServer::from_arc(same()).max_decoding_message_size(MESSAGE_BYTES);
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
            ("zako.v1.Cas", served(CasServer::new(Zako(same())))),
            (
                "zako.v1.Transport",
                served(TransportServer::new(Zako(same())).max_decoding_message_size(MESSAGE_BYTES)),
            ),
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
        let known = services.iter().map(|(service, _)| *service).collect();
        let health = HealthServer::new(HealthOf::new(Arc::clone(&api.shared), known));
        services.push(("grpc.health.v1.Health", served(health)));
        Self { api, services }
    }

    /// Whether a request is for us.
    pub(crate) fn is_for_us(headers: &HeaderMap) -> bool {
        let kind = headers.get(hyper::header::CONTENT_TYPE);
        kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
    }

    /// The answer to a call for which there is no room.
    pub(crate) fn turn_away(message: &str) -> Response<Answer> {
        Status::resource_exhausted(message)
            .into_http::<tonic::body::Body>()
            .map(body)
    }

    /// The answer to a call that has taken all its time.
    pub(crate) fn give_up(limit: Duration) -> Response<Answer> {
        let limit = limit.as_secs();
        Status::deadline_exceeded(format!("the call took longer than {limit} s"))
            .into_http::<tonic::body::Body>()
            .map(body)
    }

    pub(crate) async fn answer(&self, mut request: Request<Coming>) -> Response<Answer> {
        if request.uri().path() == DETAILS {
            let host = request.uri().authority().map(|host| host.as_str());
            let host = Authority(host.unwrap_or_default().to_owned());
            request.extensions_mut().insert(host);
        }
        match self.find(&request) {
            Ok((served, call)) => served(request, call, Share::new(&self.api.shared)).await,
            Err(status) => status.into_http::<tonic::body::Body>().map(body),
        }
    }

    /// Who answers a call, if its caller may have it.
    fn find(&self, request: &Request<Coming>) -> Result<(&Served, Call), Status> {
        let path = request.uri().path();
        let name = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        let name = name.map_or("", |(service, _)| service);
        let mut services = self.services.iter();
        let found = services.find(|(service, _)| *service == name);
        let (_, served) =
            found.ok_or_else(|| Status::unimplemented(format!("no service `{name}` here")))?;
        let call = Call::at(path);
        self.api.may(request.headers(), call.right)?;
        Ok((served, call))
    }
}

/// What a call holds.
fn share_of<T>(request: &tonic::Request<T>) -> Result<Arc<Share>, Status> {
    let share = request.extensions().get().map(Arc::clone);
    share.ok_or_else(|| Status::internal("a call that holds nothing"))
}

fn served<S>(service: S) -> Served
where
    S: Service<Request<Counted>, Response = Response<tonic::body::Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    Box::new(move |mut request, call, share| {
        request.extensions_mut().insert(Arc::clone(&share));
        let request = request.map(|body| Counted::new(body, Arc::clone(&share), call));
        let answered = service.clone().call(request);
        Box::pin(async move {
            let mut answer = match answered.await {
                Ok(answer) => answer.map(body),
                Err(never) => match never {},
            };
            answer.body_mut().hold(share);
            answer
        })
    })
}

fn body(body: tonic::body::Body) -> Answer {
    Answer::stream(http_body_util::BodyExt::map_err(body, Into::into))
}

impl Api {
    /// Checks the credentials of a call.
    fn may(&self, headers: &HeaderMap, wanted: Right) -> Result<(), Status> {
        self.allows(headers, wanted).map_err(|refusal| {
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

    fn allows(&self, headers: &HeaderMap, wanted: Right) -> Result<(), Refusal> {
        let authorization = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let access = &self.shared.access;
        access.check(authorization, Space::Bazel, wanted)
    }

    /// The function of a request, if it is served.
    fn function(&self, value: i32) -> Result<Function, Status> {
        self.served(Function::read(value)?)
    }

    fn served(&self, function: Function) -> Result<Function, Status> {
        match function {
            Function::Blake3 if !self.shared.dialects.blake3 => Err(Status::invalid_argument(
                "digests of BLAKE3 are not served here; SHA256 are",
            )),
            served => Ok(served),
        }
    }

    /// Whether the credentials of a call are good for every space.
    fn may_all(&self, headers: &HeaderMap, wanted: Right) -> bool {
        let authorization = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        self.shared.access.check_all(authorization, wanted)
    }

    /// Which blobs are here, in the order asked; counts as a use of them.
    async fn present(&self, names: &[Name]) -> Result<Vec<bool>, Status> {
        let located = self.locate(names).await?;
        Ok(located.iter().map(Option::is_some).collect())
    }

    /// The store's digests of the blobs that are here, in the order asked.
    async fn locate(&self, names: &[Name]) -> Result<Vec<Option<Digest>>, Status> {
        let names: Vec<BlobName> = names.iter().map(Name::blob).collect();
        self.shared.store.locate(&names).await.map_err(failed)
    }

    /// Refuses a blob that is larger than what may be uploaded.
    fn check_size(&self, name: &Name) -> Result<(), Status> {
        let limit = self.shared.limits.upload_bytes;
        let size_bytes = name.size_bytes;
        if size_bytes <= limit {
            return Ok(());
        }
        Err(Status::invalid_argument(format!(
            "a blob of {size_bytes} bytes is more than the limit of {limit} bytes"
        )))
    }

    /// The content of a blob that a client reads.
    async fn content(&self, name: &Name) -> Result<Blob, Status> {
        let counters = self.shared.counters.space(Space::Bazel);
        let Some(content) = self.find(name).await? else {
            counters.miss();
            let (hash, size_bytes) = (name.hex(), name.size_bytes);
            return Err(Status::not_found(format!("no blob {hash}/{size_bytes}")));
        };
        counters.hit(content.len() as u64);
        Ok(content)
    }

    /// The content of a blob, if it is here.
    async fn find(&self, name: &Name) -> Result<Option<Blob>, Status> {
        match self.shared.store.get_named(&name.blob()).await {
            Ok(found) => Ok(found.map(|(_, blob)| blob)),
            Err(crate::GetError::Corrupt { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Stores a content, if it is what its upload was started for.
    async fn keep(&self, complete: Complete) -> Result<(), Status> {
        let counters = self.shared.counters.space(Space::Bazel);
        let stored = complete.store(&self.shared.store, Durability::Durable);
        let digest = stored.await.map_err(|error| {
            let status = failed(error);
            if status.code() == Code::InvalidArgument {
                counters.refuse();
            }
            status
        })?;
        counters.store(digest.size_bytes());
        Ok(())
    }
}
