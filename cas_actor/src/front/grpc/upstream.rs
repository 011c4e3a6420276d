//! Another server of the Remote Execution API behind this one.
//!
//! Owns: the calls to it.
//! Does not know: when it is asked, or what becomes of the content (`upstream`).
//! Invariants: only "not found" is a miss; a server is not asked by a hash that it does not know; what it
//! answers becomes no more in memory than was weighed, or is bounded by its length.
#![forbid(unsafe_code)]

use std::iter;
use std::sync::{Arc, OnceLock};

use ::bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::http::uri::PathAndQuery;
use prost::Message;
use tokio::sync::OnceCell;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::actions::result_bytes;
use super::api::bytestream::byte_stream_client::ByteStreamClient;
use super::api::bytestream::{ReadRequest, WriteRequest};
use super::api::re::capabilities_client::CapabilitiesClient;
use super::api::re::content_addressable_storage_client::ContentAddressableStorageClient;
use super::api::re::{self, batch_update_blobs_request, digest_function};
use super::failure::whole;
use super::undecoded::Undecoded;
use crate::digest::hex;
use crate::{
    Blob, BlobName, Connection, Digest, HashFunction, Pieces, Sha256Digest, Upstream, UpstreamError,
};

/// Blobs up to this size are sent in one message; gRPC takes 4 MiB of them.
const BATCH_UP_TO_BYTES: usize = 1024 * 1024;
/// A message of a larger one.
const PIECE_BYTES: usize = 256 * 1024;
/// The result of an action that is larger than this is not taken for one.
const RESULT_UP_TO_BYTES: usize = 16 * 1024 * 1024;
/// Nor is what would be larger than this in memory.
const DECODED_UP_TO_BYTES: u64 = 128 * 1024 * 1024;
/// All other answers are short; few bytes of one may become much.
const ANSWER_UP_TO_BYTES: usize = 64 * 1024;

const GET_RESULT: &str = "/build.bazel.remote.execution.v2.ActionCache/GetActionResult";
const UPDATE_RESULT: &str = "/build.bazel.remote.execution.v2.ActionCache/UpdateActionResult";

/// A server at `http[s]://host:port`.
#[derive(Debug)]
pub struct ReapiUpstream {
    name: String,
    instance: String,
    authorization: Option<HeaderValue>,
    channel: Channel,
    /// What it said when it was asked.
    function: OnceCell<HashFunction>,
}

impl ReapiUpstream {
    /// The server at `address`, for instance `http://cache:9092`, and the name of the instance
    /// there, usually empty. Connects at the first call, on the runtime that this is called on.
    ///
    /// # Errors
    /// When `address` is no address.
    pub fn new(
        address: &str,
        instance: &str,
        connection: &Connection,
    ) -> Result<Self, UpstreamError> {
        let endpoint = Channel::from_shared(address.to_owned());
        let endpoint = endpoint.map_err(|error| UpstreamError::new(address, error))?;
        Ok(Self {
            name: address.to_owned(),
            instance: instance.to_owned(),
            authorization: connection.authorization.clone(),
            channel: endpoint.connect_with_connector_lazy(connection.http2()),
            function: OnceCell::new(),
        })
    }

    /// A call with our credentials.
    fn call<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let authorization = self.authorization.as_ref();
        if let Some(value) =
            authorization.and_then(|value| MetadataValue::try_from(value.as_bytes()).ok())
        {
            let metadata = request.metadata_mut();
            metadata.insert(AUTHORIZATION.as_str(), value);
        }
        request
    }

    fn failed(&self, status: &Status) -> UpstreamError {
        UpstreamError::caused(&self.name, status)
    }

    /// By which hash it names what we give it: BLAKE3 if it knows that, else what every server
    /// knows.
    async fn negotiated(&self) -> Result<HashFunction, UpstreamError> {
        let ask = || async {
            let request = re::GetCapabilitiesRequest {
                instance_name: self.instance.clone(),
            };
            let client = CapabilitiesClient::new(self.channel.clone());
            let mut client = client.max_decoding_message_size(ANSWER_UP_TO_BYTES);
            let known = match client.get_capabilities(self.call(request)).await {
                Ok(answer) => answer.into_inner().cache_capabilities,
                Err(status) if status.code() == Code::Unimplemented => None,
                Err(status) => return Err(self.failed(&status)),
            };
            let knows_blake3 = known.is_some_and(|known| {
                known
                    .digest_functions
                    .contains(&value(HashFunction::Blake3))
            });
            Ok(match knows_blake3 {
                true => HashFunction::Blake3,
                false => HashFunction::Sha256,
            })
        };
        self.function.get_or_try_init(ask).await.copied()
    }

    /// A name in the form of the protocol; `None` if that server can have nothing of this name.
    async fn named(
        &self,
        name: &BlobName,
    ) -> Result<Option<(re::Digest, HashFunction)>, UpstreamError> {
        let Some(named) = digest_of(name) else {
            return Ok(None);
        };
        let is_known = match named.1 {
            HashFunction::Sha256 => true,
            HashFunction::Blake3 => self.negotiated().await? == HashFunction::Blake3,
        };
        Ok(is_known.then_some(named))
    }

    /// `instance/kind/hash/size`.
    fn resource(&self, kind: &str, function: HashFunction, digest: &re::Digest) -> String {
        let mut parts = vec![kind];
        if !self.instance.is_empty() {
            parts.insert(0, &self.instance);
        }
        if function == HashFunction::Blake3 {
            parts.push("blake3");
        }
        format!("{}/{}/{}", parts.join("/"), digest.hash, digest.size_bytes)
    }

    /// The second name of a content, made on a thread that may take long.
    async fn hashed(&self, content: &Blob) -> Result<Sha256Digest, UpstreamError> {
        let content = content.clone();
        let hashed = tokio::task::spawn_blocking(move || Sha256Digest::of_blob(content)).await;
        let hashed = hashed.map_err(|error| UpstreamError::new(&self.name, error))?;
        hashed.map_err(|error| UpstreamError::new(&self.name, error))
    }

    /// Makes a call whose answer is a result; the answer is not decoded.
    async fn ask<T>(&self, path: &'static str, message: T) -> Result<Bytes, Status>
    where
        T: Message + Send + Sync + 'static,
    {
        let grpc = Grpc::new(self.channel.clone());
        let mut grpc = grpc.max_decoding_message_size(RESULT_UP_TO_BYTES);
        let ready = grpc.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::from_static(path);
        let answer = grpc.unary(self.call(message), path, Undecoded::default());
        Ok(answer.await?.into_inner())
    }

    async fn write(
        &self,
        digest: re::Digest,
        function: HashFunction,
        content: Blob,
    ) -> Result<(), Status> {
        if content.len() <= BATCH_UP_TO_BYTES {
            let request = re::BatchUpdateBlobsRequest {
                instance_name: self.instance.clone(),
                digest_function: value(function),
                requests: vec![batch_update_blobs_request::Request {
                    digest: Some(digest),
                    data: whole(content)?,
                    ..Default::default()
                }],
            };
            let client = ContentAddressableStorageClient::new(self.channel.clone());
            let mut client = client.max_decoding_message_size(ANSWER_UP_TO_BYTES);
            let answer = client
                .batch_update_blobs(self.call(request))
                .await?
                .into_inner();
            let refused = answer.responses.into_iter().filter_map(|one| one.status);
            return match refused.into_iter().find(|status| status.code != 0) {
                Some(status) => Err(Status::new(Code::from(status.code), status.message)),
                None => Ok(()),
            };
        }
        // Whoever sends the same blob at the same time sends the same bytes.
        let upload = format!(
            "uploads/{}",
            hex(blake3::hash(digest.hash.as_bytes()).as_bytes())
        );
        let resource_name = self.resource(&format!("{upload}/blobs"), function, &digest);
        // Where the file of the blob is cut off meanwhile, the upload never ends, and that is told.
        let unread = Arc::new(OnceLock::new());
        let untold = Arc::clone(&unread);
        let (size_bytes, mut rest) = (content.len(), content);
        let requests = iter::from_fn(move || {
            let write_offset = (size_bytes - rest.len()) as i64;
            let piece = (!rest.is_empty()).then(|| rest.take_piece(PIECE_BYTES))?;
            let data = piece.map_err(|error| untold.set(error)).ok()?;
            Some(WriteRequest {
                resource_name: resource_name.clone(),
                write_offset,
                finish_write: rest.is_empty(),
                data,
            })
        });
        let client = ByteStreamClient::new(self.channel.clone());
        let mut client = client.max_decoding_message_size(ANSWER_UP_TO_BYTES);
        let written = client.write(self.call(stream::iter(requests.fuse()))).await;
        match unread.get() {
            Some(error) => Err(Status::internal(error.to_string())),
            None => written.map(drop),
        }
    }
}

fn value(function: HashFunction) -> i32 {
    (match function {
        HashFunction::Blake3 => digest_function::Value::Blake3,
        HashFunction::Sha256 => digest_function::Value::Sha256,
    }) as i32
}

/// A name in the form of the protocol, which needs to know the function and the size.
fn digest_of(name: &BlobName) -> Option<(re::Digest, HashFunction)> {
    let digest = re::Digest {
        hash: hex(name.hash()),
        size_bytes: i64::try_from(name.size_bytes()?).ok()?,
    };
    Some((digest, name.function()?))
}

/// "Not found" is no failure.
fn found<T>(answer: Result<T, Status>) -> Result<Option<T>, Status> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status),
    }
}

/// Why what a server calls the result of an action cannot be taken for one.
fn why_unusable(result: &Bytes) -> Option<String> {
    if result_bytes(result) > DECODED_UP_TO_BYTES {
        return Some("its result of an action is too large in memory".to_owned());
    }
    let error = re::ActionResult::decode(result.clone()).err()?;
    Some(format!(
        "what it answered is no result of an action: {error}"
    ))
}

impl Upstream for ReapiUpstream {
    fn name(&self) -> &str {
        &self.name
    }

    fn function(&self) -> BoxFuture<'_, Result<HashFunction, UpstreamError>> {
        self.negotiated().boxed()
    }

    fn get<'u>(
        &'u self,
        name: &'u BlobName,
    ) -> BoxFuture<'u, Result<Option<Pieces>, UpstreamError>> {
        async {
            let Some((digest, function)) = self.named(name).await? else {
                return Ok(None);
            };
            let request = ReadRequest {
                resource_name: self.resource("blobs", function, &digest),
                ..Default::default()
            };
            let mut client = ByteStreamClient::new(self.channel.clone());
            let answer = found(client.read(self.call(request)).await);
            let Some(answer) = answer.map_err(|status| self.failed(&status))? else {
                return Ok(None);
            };
            let mut pieces = answer.into_inner();
            // A server may say "not found" with the answer or behind its start.
            let first = found(pieces.message().await);
            let Some(first) = first.map_err(|status| self.failed(&status))? else {
                return Ok(None);
            };
            let upstream = self.name.clone();
            let pieces = stream::iter(first.map(Ok))
                .chain(pieces)
                .map_ok(|piece| piece.data)
                .map_err(move |status| UpstreamError::new(&upstream, status));
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
            let name = match sha256 {
                Some(sha256) => BlobName::from(*sha256),
                None => match self.negotiated().await? {
                    HashFunction::Blake3 => BlobName::from(*digest),
                    HashFunction::Sha256 => self.hashed(&content).await?.into(),
                },
            };
            let Some((digest, function)) = digest_of(&name) else {
                return Ok(());
            };
            let written = self.write(digest, function, content).await;
            written.map_err(|status| self.failed(&status))
        }
        .boxed()
    }

    fn get_action<'u>(
        &'u self,
        action: &'u BlobName,
    ) -> BoxFuture<'u, Result<Option<Bytes>, UpstreamError>> {
        async {
            let Some((digest, function)) = self.named(action).await? else {
                return Ok(None);
            };
            let request = re::GetActionResultRequest {
                instance_name: self.instance.clone(),
                action_digest: Some(digest),
                digest_function: value(function),
                ..Default::default()
            };
            let answer = found(self.ask(GET_RESULT, request).await);
            let answer = answer.map_err(|status| self.failed(&status))?;
            // Kept, it would stand before the right one.
            match answer.as_ref().and_then(why_unusable) {
                Some(why) => Err(UpstreamError::new(&self.name, why)),
                None => Ok(answer),
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
            let Some((digest, function)) = self.named(action).await? else {
                return Ok(());
            };
            // What came over HTTP may be anything.
            if result_bytes(&result) > DECODED_UP_TO_BYTES {
                return Ok(());
            }
            let Ok(result) = re::ActionResult::decode(result) else {
                return Ok(());
            };
            let request = re::UpdateActionResultRequest {
                instance_name: self.instance.clone(),
                action_digest: Some(digest),
                action_result: Some(result),
                digest_function: value(function),
                ..Default::default()
            };
            let answer = self.ask(UPDATE_RESULT, request).await;
            answer.map(drop).map_err(|status| self.failed(&status))
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, Full};
    use hyper::Response;
    use hyper::header::{CONTENT_TYPE, HeaderMap};
    use hyper::server::conn::http2;
    use hyper::service::service_fn;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use std::convert::Infallible;
    use std::future::ready;
    use tokio::net::TcpListener;

    /// What a server answers that has this for the result of any action.
    async fn result_from(result: Bytes) -> Result<Option<Bytes>, UpstreamError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = service_fn(|_| {
                let length = u32::try_from(result.len()).unwrap().to_be_bytes();
                let body = [&[0], &length[..], &result].concat();
                let trailers = HeaderMap::from_iter([(
                    "grpc-status".parse().unwrap(),
                    HeaderValue::from_static("0"),
                )]);
                let body = Full::new(Bytes::from(body));
                let body = body.with_trailers(ready(Some(Ok(trailers))));
                let answer = Response::builder().header(CONTENT_TYPE, "application/grpc");
                ready(Ok::<_, Infallible>(answer.body(body).unwrap()))
            });
            let server = http2::Builder::new(TokioExecutor::new());
            server.serve_connection(TokioIo::new(stream), answer).await
        });
        let address = format!("http://{address}");
        let upstream = ReapiUpstream::new(&address, "", &Connection::default()).unwrap();
        let action = BlobName::from(Sha256Digest::of(b"action"));
        let result = upstream.get_action(&action).await;
        drop(upstream);
        server.abort();
        result
    }

    /// It was bound, and nobody asked any more for the one that the server had later.
    #[tokio::test]
    async fn what_is_no_result_is_not_taken_for_one() {
        let garbage = result_from(Bytes::from_static(&[0xff; 20])).await;
        let why = garbage.unwrap_err().to_string();
        assert!(why.contains("no result of an action"), "{why}");
        let good = re::ActionResult {
            exit_code: 7,
            ..Default::default()
        };
        let good = Bytes::from(good.encode_to_vec());
        assert_eq!(result_from(good.clone()).await.unwrap(), Some(good));
    }

    /// It was decoded before anybody had weighed it: two bytes of it may become two hundred.
    #[tokio::test]
    async fn a_result_that_becomes_too_much_is_not_decoded() {
        let files = [0x12, 0x00].repeat(RESULT_UP_TO_BYTES / 4);
        let why = result_from(files.into()).await.unwrap_err().to_string();
        assert!(why.contains("too large"), "{why}");
    }
}
