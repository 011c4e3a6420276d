//! Zako's own services: negotiation of blobs, details of the transport, upload and download.
//!
//! Owns: `proto/zako/v1`, as a thin layer over the same store and the same interrupted uploads as
//! the remote execution API.
//! Invariants: an upload begins with metadata and is refused at once when its blob is here; a
//! token gives no more than its caller may do; memory of a negotiation is one message.
#![forbid(unsafe_code)]

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use futures_util::{Stream, stream};
use tonic::{Request, Response, Status, Streaming};

use super::api::zako::{
    self, DownloadRequest, DownloadResponse, GetTransportDetailsRequest,
    GetTransportDetailsResponse, NegotiateBlobsRequest, NegotiateBlobsResponse, Protocol,
    QueryUploadRequest, QueryUploadResponse, UploadRequest, UploadResponse, upload_request::Part,
};
use super::api::zako::{cas_server::Cas, transport_server::Transport};
use super::failure::failed;
use super::stream::{PIECE_BYTES, next_piece};
use super::{Api, Function, Name, share_of};
use crate::front::held::{Share, upload_bytes};
use crate::front::intake::Intake;
use crate::{Blob, ByteRange, Digest, HASH_BYTES, RangeError};

/// How long a token is good.
const TOKEN_LIFE: Duration = Duration::from_secs(3600);

/// The services, over what all of them share.
pub(super) struct Zako(pub(super) Arc<Api>);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Cas for Zako {
    type NegotiateBlobsStream = Answers<NegotiateBlobsResponse>;

    async fn negotiate_blobs(
        &self,
        request: Request<Streaming<NegotiateBlobsRequest>>,
    ) -> Result<Response<Self::NegotiateBlobsStream>, Status> {
        let state = (Arc::clone(&self.0), request.into_inner());
        let answers = stream::unfold(state, |(api, mut asked)| async move {
            let answer = match asked.message().await {
                Ok(Some(request)) => api.negotiate(request).await,
                Ok(None) => return None,
                Err(status) => Err(status),
            };
            Some((answer, (api, asked)))
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn get_transport_details(
        &self,
        request: Request<GetTransportDetailsRequest>,
    ) -> Result<Response<GetTransportDetailsResponse>, Status> {
        let transport = &self.0.shared.counters.transport;
        transport.details.fetch_add(1, Relaxed);
        let answer = self.details(&request);
        if answer.is_err() {
            transport.details_failed.fetch_add(1, Relaxed);
        }
        answer.map(Response::new)
    }
}

impl Zako {
    fn details(
        &self,
        request: &Request<GetTransportDetailsRequest>,
    ) -> Result<GetTransportDetailsResponse, Status> {
        let asked = &request.get_ref().protocols;
        if !asked.is_empty() && !asked.contains(&(Protocol::Grpc as i32)) {
            let said = "none of these protocols is spoken here; PROTOCOL_GRPC is";
            return Err(Status::failed_precondition(said));
        }
        let expires = SystemTime::now() + TOKEN_LIFE;
        let expires = expires.duration_since(SystemTime::UNIX_EPOCH);
        let expires_unix_s = expires.map_or(0, |since| since.as_secs());
        let authorization = request.metadata().get("authorization");
        let authorization = authorization.map(|value| value.as_bytes());
        let token = self.0.shared.access.token(authorization, expires_unix_s);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(GetTransportDetailsResponse {
            protocol: Protocol::Grpc as i32,
            address: authority(request),
            token_expires_unix_s: if token.is_some() { expires_unix_s } else { 0 },
            token: token.unwrap_or_default(),
            recommended_concurrency: u32::try_from((4 * cores).max(8)).unwrap_or(u32::MAX),
            recommended_chunk_bytes: PIECE_BYTES as u32,
        })
    }
}

/// The address that the caller has used.
fn authority<T>(request: &Request<T>) -> String {
    let host = request.extensions().get::<super::Authority>();
    host.map_or_else(String::new, |host| host.0.clone())
}

#[tonic::async_trait]
impl Transport for Zako {
    type DownloadStream = Answers<DownloadResponse>;

    async fn upload(
        &self,
        request: Request<Streaming<UploadRequest>>,
    ) -> Result<Response<UploadResponse>, Status> {
        let share = share_of(&request)?;
        let uploaded = self.0.take_upload(request.into_inner(), &share).await;
        let transport = &self.0.shared.counters.transport;
        match &uploaded {
            Ok(bytes) => transport.upload_bytes.fetch_add(*bytes, Relaxed),
            Err(status) if status.code() == tonic::Code::AlreadyExists => {
                transport.uploads_present.fetch_add(1, Relaxed)
            }
            Err(_) => transport.uploads_failed.fetch_add(1, Relaxed),
        };
        transport.uploads.fetch_add(1, Relaxed);
        uploaded.map(|committed_bytes| Response::new(UploadResponse { committed_bytes }))
    }

    async fn query_upload(
        &self,
        request: Request<QueryUploadRequest>,
    ) -> Result<Response<QueryUploadResponse>, Status> {
        let name = required(request.get_ref().digest.as_ref())?;
        let committed_bytes = match self.0.present(&[name]).await? == [true] {
            true => name.size_bytes,
            false => self.0.committed_bytes(&upload_name(&name))?,
        };
        Ok(Response::new(QueryUploadResponse { committed_bytes }))
    }

    async fn download(
        &self,
        request: Request<DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        let transport = &self.0.shared.counters.transport;
        transport.downloads.fetch_add(1, Relaxed);
        let part = self.0.part(&request).await;
        let part = part.inspect_err(|_| {
            transport.downloads_failed.fetch_add(1, Relaxed);
        })?;
        let bytes = part.len() as u64;
        transport.download_bytes.fetch_add(bytes, Relaxed);
        let counters = Arc::clone(&self.0.shared.counters);
        let chunks = stream::unfold((part, counters), |(mut rest, counters)| async move {
            let piece = next_piece(&mut rest)?;
            let piece = piece.map(|chunk| {
                counters.download_chunks.note(chunk.len());
                DownloadResponse { chunk }
            });
            Some((piece, (rest, counters)))
        });
        Ok(Response::new(Box::pin(chunks)))
    }
}

impl Api {
    async fn negotiate(
        &self,
        request: NegotiateBlobsRequest,
    ) -> Result<NegotiateBlobsResponse, Status> {
        let names = request.digests.iter().map(read);
        let names: Vec<Name> = names.collect::<Result<_, _>>()?;
        let present = self.present(&names).await?;
        let asked = request.digests.len() as u64;
        let pairs = request.digests.into_iter().zip(present);
        let missing: Vec<zako::Digest> = pairs
            .filter(|(_, present)| !present)
            .map(|(digest, _)| digest)
            .collect();
        let transport = &self.shared.counters.transport;
        transport.negotiated.fetch_add(asked, Relaxed);
        let missed = missing.len() as u64;
        transport.negotiated_missing.fetch_add(missed, Relaxed);
        Ok(NegotiateBlobsResponse { missing })
    }

    async fn take_upload(
        &self,
        mut parts: Streaming<UploadRequest>,
        share: &Share,
    ) -> Result<u64, Status> {
        let metadata = match parts.message().await?.and_then(|first| first.part) {
            Some(Part::Metadata(metadata)) => metadata,
            _ => {
                let said = "the first message of an upload is its metadata";
                return Err(Status::invalid_argument(said));
            }
        };
        let name = required(metadata.digest.as_ref())?;
        if self.present(&[name]).await? == [true] {
            let hash = name.hex();
            return Err(Status::already_exists(format!("blob {hash} is here")));
        }
        self.check_size(&name)?;
        let holds = upload_bytes(name.size_bytes, true, None);
        share.add(holds).map_err(failed)?;
        let begin = metadata.offset;
        let upload = self.begin(&upload_name(&name), &name, begin).await?;
        if begin > 0 {
            let transport = &self.shared.counters.transport;
            transport.uploads_resumed.fetch_add(1, Relaxed);
        }
        let mut intake = Intake::new(upload, name.size_bytes);
        loop {
            match parts.message().await {
                Ok(Some(UploadRequest {
                    part: Some(Part::Chunk(chunk)),
                })) => {
                    self.shared.counters.upload_chunks.note(chunk.len());
                    intake.take(chunk).await.map_err(failed)?;
                }
                Ok(Some(_)) => {
                    let said = "after the metadata of an upload come chunks";
                    return Err(Status::invalid_argument(said));
                }
                Ok(None) => break,
                Err(status) => {
                    intake.park().await;
                    return Err(status);
                }
            }
        }
        let (taken, size_bytes) = (begin + intake.taken_bytes(), name.size_bytes);
        if taken < size_bytes {
            intake.park().await;
            return Err(Status::aborted(format!(
                "{taken} of {size_bytes} bytes have come; go on at offset {taken}"
            )));
        }
        let complete = intake.complete().await.map_err(failed)?;
        self.keep(complete).await?;
        Ok(name.size_bytes)
    }

    async fn part(&self, request: &Request<DownloadRequest>) -> Result<Blob, Status> {
        // A piece that waits, and its copy in a message.
        let waiting = 2 * PIECE_BYTES as u64;
        share_of(request)?.add(waiting).map_err(failed)?;
        let request = request.get_ref();
        let name = required(request.digest.as_ref())?;
        let start = request.range.map_or(0, |range| range.start);
        let rest = name.size_bytes.saturating_sub(start);
        let length = request.range.and_then(|range| range.length).unwrap_or(rest);
        let outside = |error: RangeError| Status::out_of_range(error.to_string());
        let part = ByteRange::new(start, length);
        part.within(name.size_bytes).map_err(outside)?;
        self.content(&name).await?.slice(part).map_err(outside)
    }
}

/// Interrupted uploads of this service, apart from those of ByteStream.
fn upload_name(name: &Name) -> String {
    format!("zako/{}/{}", name.hex(), name.size_bytes)
}

fn required(digest: Option<&zako::Digest>) -> Result<Name, Status> {
    read(digest.ok_or_else(|| Status::invalid_argument("`digest` is missing"))?)
}

fn read(digest: &zako::Digest) -> Result<Name, Status> {
    let hash = <[u8; HASH_BYTES]>::try_from(&digest.blake3[..]).map_err(|_| {
        let length = digest.blake3.len();
        Status::invalid_argument(format!("`blake3` has {length} bytes instead of 32"))
    })?;
    let digest = Digest::new(hash, digest.size_bytes);
    Ok(Name {
        function: Function::Blake3,
        hash: *digest.hash(),
        size_bytes: digest.size_bytes(),
    })
}
