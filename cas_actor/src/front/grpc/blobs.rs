//! ContentAddressableStorage: presence, batches and trees; chunks are in `chunks`.
//!
//! Owns: the limits of a batch and the status of each of its blobs.
#![forbid(unsafe_code)]

use std::pin::Pin;

use ::bytes::Bytes;
use futures_util::Stream;
use futures_util::future::join_all;
use tonic::{Code, Request, Response, Status};

use super::api::re::{self, content_addressable_storage_server::ContentAddressableStorage};
use super::api::rpc;
use super::failure::failed;
use super::{Api, BATCH_BYTES, Function, Name};
use crate::front::access::Right;
use crate::front::intake::Intake;

#[tonic::async_trait]
impl ContentAddressableStorage for Api {
    async fn find_missing_blobs(
        &self,
        request: Request<re::FindMissingBlobsRequest>,
    ) -> Result<Response<re::FindMissingBlobsResponse>, Status> {
        self.may(request.metadata(), Right::Read)?;
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
        self.may(request.metadata(), Right::Write)?;
        let request = request.into_inner();
        let function = self.function(request.digest_function)?;
        let sizes = request.requests.iter().map(|blob| blob.data.len() as u64);
        check_batch(sizes.sum())?;
        // At once, so that all of them are made durable together.
        let updates = request.requests.into_iter().map(async |blob| {
            let stored = self.update_one(&blob, function).await;
            re::batch_update_blobs_response::Response {
                digest: blob.digest,
                status: Some(to_rpc(stored.err())),
            }
        });
        Ok(Response::new(re::BatchUpdateBlobsResponse {
            responses: join_all(updates).await,
        }))
    }

    async fn batch_read_blobs(
        &self,
        request: Request<re::BatchReadBlobsRequest>,
    ) -> Result<Response<re::BatchReadBlobsResponse>, Status> {
        self.may(request.metadata(), Right::Read)?;
        let request = request.into_inner();
        let function = self.function(request.digest_function)?;
        let names = request
            .digests
            .iter()
            .map(|digest| Name::read(digest, function));
        let names: Vec<Name> = names.collect::<Result<_, _>>()?;
        check_batch(
            names
                .iter()
                .fold(0, |sum, name| name.size_bytes.saturating_add(sum)),
        )?;
        let reads = names.iter().map(async |name| {
            let read = self.content(name).await;
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
            responses: join_all(reads).await,
        }))
    }

    type GetTreeStream = Pin<Box<dyn Stream<Item = Result<re::GetTreeResponse, Status>> + Send>>;

    async fn get_tree(
        &self,
        request: Request<re::GetTreeRequest>,
    ) -> Result<Response<Self::GetTreeStream>, Status> {
        self.may(request.metadata(), Right::Read)?;
        let request = request.into_inner();
        let function = self.function(request.digest_function)?;
        let root = Name::required(request.root_digest.as_ref(), function, "root_digest")?;
        let pages = self.tree(root, request.page_size).await?;
        let pages = pages.into_iter().map(|directories| {
            Ok(re::GetTreeResponse {
                directories,
                // Everything comes in this stream.
                next_page_token: String::new(),
            })
        });
        Ok(Response::new(Box::pin(futures_util::stream::iter(pages))))
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
                // What a batch inflates to is limited as well.
                check_batch(name.size_bytes)?;
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
