//! ContentAddressableStorage: presence, batches and trees; chunks are in `chunks`.
//!
//! Owns: the limits of a batch and the status of each of its blobs.
#![forbid(unsafe_code)]

use std::pin::Pin;

use ::bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tonic::{Code, Request, Response, Status};

use super::api::re::{self, content_addressable_storage_server::ContentAddressableStorage};
use super::api::rpc;
use super::failure::{failed, whole};
use super::tree::Walk;
use super::{Api, BATCH_BYTES, Function, Name, share_of};
use crate::front::intake::{DECODER_BYTES, Intake};

/// Blobs of a batch that are read or written at once: so many are made durable together, and an entry of a
/// few bytes has a task of some thousand.
const AT_ONCE: usize = 1000;
/// The same where each needs a decoder.
const INFLATED_AT_ONCE: usize = 32;

#[tonic::async_trait]
impl ContentAddressableStorage for Api {
    async fn find_missing_blobs(
        &self,
        request: Request<re::FindMissingBlobsRequest>,
    ) -> Result<Response<re::FindMissingBlobsResponse>, Status> {
        let request = request.into_inner();
        let function = self.function(request.digest_function)?;
        let digests = request.blob_digests;
        let names = digests.iter().map(|digest| Name::read(digest, function));
        let names: Vec<Name> = names.collect::<Result<_, _>>()?;
        let present = self.present(&names).await?;
        let missing = digests.into_iter().zip(present);
        Ok(Response::new(re::FindMissingBlobsResponse {
            missing_blob_digests: missing
                .filter(|(_, present)| !present)
                .map(|(digest, _)| digest)
                .collect(),
        }))
    }

    async fn batch_update_blobs(
        &self,
        request: Request<re::BatchUpdateBlobsRequest>,
    ) -> Result<Response<re::BatchUpdateBlobsResponse>, Status> {
        let share = share_of(&request)?;
        let request = request.into_inner();
        let function = self.function(request.digest_function)?;
        // What a batch inflates to is limited as well.
        let sizes = request.requests.iter().map(|blob| {
            let promised = blob.digest.as_ref().map_or(0, |it| it.size_bytes);
            (blob.data.len() as u64).max(u64::try_from(promised).unwrap_or(0))
        });
        check_batch(sizes.fold(0, u64::saturating_add))?;
        let is_zstd = re::compressor::Value::Zstd as i32;
        let blobs = request.requests.iter();
        let inflated = blobs.filter(|blob| blob.compressor == is_zstd).count();
        let at_once = match inflated {
            0 => AT_ONCE,
            _ => INFLATED_AT_ONCE,
        };
        if inflated > 0 {
            let decoders = inflated.min(at_once) as u64;
            let inflating = BATCH_BYTES + decoders * DECODER_BYTES;
            share.add(inflating).map_err(failed)?;
        }
        let updates = request.requests.into_iter().map(async |blob| {
            let stored = self.update_one(&blob, function).await;
            re::batch_update_blobs_response::Response {
                digest: blob.digest,
                status: Some(to_rpc(stored.err())),
            }
        });
        Ok(Response::new(re::BatchUpdateBlobsResponse {
            responses: stream::iter(updates).buffered(at_once).collect().await,
        }))
    }

    async fn batch_read_blobs(
        &self,
        request: Request<re::BatchReadBlobsRequest>,
    ) -> Result<Response<re::BatchReadBlobsResponse>, Status> {
        let share = share_of(&request)?;
        let request = request.into_inner();
        let function = self.function(request.digest_function)?;
        let names = request
            .digests
            .iter()
            .map(|digest| Name::read(digest, function));
        let names: Vec<Name> = names.collect::<Result<_, _>>()?;
        let size_bytes = names
            .iter()
            .fold(0, |sum, name| name.size_bytes.saturating_add(sum));
        check_batch(size_bytes)?;
        // What is read, and its copy in the message.
        share.add(2 * size_bytes).map_err(failed)?;
        let reads = names.into_iter().map(async |name| {
            let read = self.content(&name).await.and_then(whole);
            let (data, failure) = match read {
                Ok(data) => (data, None),
                Err(status) => (Bytes::new(), Some(status)),
            };
            re::batch_read_blobs_response::Response {
                digest: Some(name.digest()),
                data,
                compressor: re::compressor::Value::Identity as i32,
                status: Some(to_rpc(failure)),
            }
        });
        Ok(Response::new(re::BatchReadBlobsResponse {
            responses: stream::iter(reads).buffered(AT_ONCE).collect().await,
        }))
    }

    type GetTreeStream = Pin<Box<dyn Stream<Item = Result<re::GetTreeResponse, Status>> + Send>>;

    async fn get_tree(
        &self,
        request: Request<re::GetTreeRequest>,
    ) -> Result<Response<Self::GetTreeStream>, Status> {
        let share = share_of(&request)?;
        let request = request.into_inner();
        let function = self.function(request.digest_function)?;
        let root = Name::required(request.root_digest.as_ref(), function, "root_digest")?;
        let mut walk = Walk::new(Api::clone(self), root, request.page_size, share);
        // That the root is not here is the status of the call.
        let first = walk.page().await?;
        let pages = stream::try_unfold((first, walk), |(page, mut walk)| async move {
            let Some(directories) = page else {
                return Ok(None);
            };
            let next = walk.page().await?;
            let answer = re::GetTreeResponse {
                directories,
                // Everything comes in this stream.
                next_page_token: String::new(),
            };
            Ok(Some((answer, (next, walk))))
        });
        Ok(Response::new(Box::pin(pages)))
    }

    async fn split_blob(
        &self,
        request: Request<re::SplitBlobRequest>,
    ) -> Result<Response<re::SplitBlobResponse>, Status> {
        self.split(request).await
    }

    async fn splice_blob(
        &self,
        request: Request<re::SpliceBlobRequest>,
    ) -> Result<Response<re::SpliceBlobResponse>, Status> {
        self.splice(request).await
    }
}

impl Api {
    async fn update_one(
        &self,
        blob: &re::batch_update_blobs_request::Request,
        function: Function,
    ) -> Result<(), Status> {
        let name = Name::required(blob.digest.as_ref(), function, "digest")?;
        let upload = self.shared.store.upload_as(name.blob());
        let mut intake = match re::compressor::Value::try_from(blob.compressor) {
            Ok(re::compressor::Value::Identity) => Intake::new(upload, name.size_bytes),
            Ok(re::compressor::Value::Zstd) => {
                Intake::inflating(upload, name.size_bytes).map_err(failed)?
            }
            _ => {
                return Err(Status::invalid_argument("the only compressor here is ZSTD"));
            }
        };
        intake.take(blob.data.clone()).await.map_err(failed)?;
        let complete = intake.complete().await.map_err(failed)?;
        self.keep(complete).await
    }
}

fn check_batch(size_bytes: u64) -> Result<(), Status> {
    if size_bytes <= BATCH_BYTES {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "a batch of {size_bytes} bytes is more than the limit of {BATCH_BYTES} bytes; larger blobs \
         go through ByteStream"
    )))
}

fn to_rpc(failure: Option<Status>) -> rpc::Status {
    match failure {
        None => rpc::Status::default(),
        Some(status) => rpc::Status {
            code: Code::into(status.code()),
            message: status.message().to_owned(),
            ..Default::default()
        },
    }
}
