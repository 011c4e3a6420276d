//! ByteStream: blobs of any size, in pieces.
//!
//! Owns: offsets, resumption and compression on the wire.
//! Invariants: a piece of an upload is taken only at the offset where the last one ended; an
//! upload whose client went away is kept for resumption, one that was wrong is not.
#![forbid(unsafe_code)]

use std::io::Write;
use std::pin::Pin;

use ::bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::Api;
use super::api::bytestream::{
    QueryWriteStatusRequest, QueryWriteStatusResponse, ReadRequest, ReadResponse, WriteRequest,
    WriteResponse, byte_stream_server::ByteStream,
};
use super::failure::failed;
use super::name::{Resource, resource};
use crate::front::access::Right;
use crate::front::intake::Intake;

/// Bytes of one message of a read.
pub(super) const PIECE_BYTES: usize = 512 * 1024;
/// Compressed pieces that wait for a slow reader.
const PIECES_AHEAD: usize = 4;
/// Fast: the network is faster than a better level.
const LEVEL: i32 = 1;
/// The answer of a compressed upload that was not needed.
const PRESENT_COMPRESSED: i64 = -1;

#[tonic::async_trait]
impl ByteStream for Api {
    type ReadStream = Pin<Box<dyn Stream<Item = Result<ReadResponse, Status>> + Send>>;

    async fn read(
        &self,
        request: Request<ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        self.may(request.metadata(), Right::Read)?;
        let request = request.into_inner();
        let wanted = download(&request.resource_name)?;
        let size_bytes = wanted.name.size_bytes;
        let start = u64::try_from(request.read_offset).ok();
        let start = start.filter(|start| *start <= size_bytes).ok_or_else(|| {
            let offset = request.read_offset;
            Status::out_of_range(format!("offset {offset} in a blob of {size_bytes} bytes"))
        })?;
        let limit = u64::try_from(request.read_limit)
            .map_err(|_| Status::invalid_argument("`read_limit` is negative"))?;
        if wanted.is_zstd && limit != 0 {
            let said = "a compressed read has no `read_limit`";
            return Err(Status::invalid_argument(said));
        }
        let content = self.content(&wanted.name).await?;
        let end = match limit {
            0 => size_bytes,
            limit => size_bytes.min(start.saturating_add(limit)),
        };
        // Both are at most the length of what is in memory or mapped.
        let content = content.slice(start as usize..end as usize);
        if wanted.is_zstd {
            return Ok(Response::new(Box::pin(compressed(content))));
        }
        let pieces = stream::unfold(content, |mut rest| async move {
            let piece = rest.split_to(rest.len().min(PIECE_BYTES));
            (!piece.is_empty()).then(|| (Ok(ReadResponse { data: piece }), rest))
        });
        Ok(Response::new(Box::pin(pieces)))
    }

    async fn write(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<WriteResponse>, Status> {
        self.may(request.metadata(), Right::Write)?;
        let mut pieces = request.into_inner();
        let first = pieces.message().await?;
        let first = first.ok_or_else(|| Status::invalid_argument("an upload of no messages"))?;
        let resource_name = first.resource_name.clone();
        let wanted = upload(&resource_name)?;
        self.check_size(&wanted)?;
        if self.present(&[wanted.name]).await? == [true] {
            return Ok(committed(if wanted.is_zstd {
                PRESENT_COMPRESSED
            } else {
                wanted.name.size_bytes.cast_signed()
            }));
        }
        let mut intake = self.begin(&resource_name, &wanted, first.write_offset)?;
        let mut piece = first;
        loop {
            let offset = piece.write_offset;
            if u64::try_from(offset).ok() != Some(intake.taken_bytes()) {
                let expected = intake.taken_bytes();
                self.partials.keep(&resource_name, intake);
                return Err(Status::invalid_argument(format!(
                    "a piece at offset {offset}, expected at {expected}"
                )));
            }
            if !piece.resource_name.is_empty() && piece.resource_name != resource_name {
                let said = "the resource name changed within one upload";
                return Err(Status::invalid_argument(said));
            }
            intake.take(piece.data).await.map_err(failed)?;
            if piece.finish_write {
                break;
            }
            piece = match pieces.message().await {
                Ok(Some(piece)) => piece,
                ended => {
                    let taken = intake.taken_bytes();
                    self.partials.keep(&resource_name, intake);
                    return ended.map(|_| committed(taken.cast_signed()));
                }
            };
        }
        let taken = intake.taken_bytes();
        let complete = intake.complete().await.map_err(failed)?;
        self.keep(complete).await?;
        Ok(committed(taken.cast_signed()))
    }

    async fn query_write_status(
        &self,
        request: Request<QueryWriteStatusRequest>,
    ) -> Result<Response<QueryWriteStatusResponse>, Status> {
        self.may(request.metadata(), Right::Read)?;
        let resource_name = request.into_inner().resource_name;
        let wanted = upload(&resource_name)?;
        if self.present(&[wanted.name]).await? == [true] {
            return Ok(Response::new(QueryWriteStatusResponse {
                committed_size: wanted.name.size_bytes.cast_signed(),
                complete: true,
            }));
        }
        let taken = self.partials.taken_bytes(&resource_name);
        let taken = taken.ok_or_else(|| Status::not_found("no such upload; start again"))?;
        Ok(Response::new(QueryWriteStatusResponse {
            committed_size: taken.cast_signed(),
            complete: false,
        }))
    }
}

impl Api {
    /// A new upload, or one to be resumed.
    fn begin(&self, name: &str, wanted: &Resource, offset: i64) -> Result<Intake, Status> {
        let kept = self.partials.take(name);
        if offset != 0 {
            return kept
                .ok_or_else(|| Status::not_found("no such upload; start again at offset 0"));
        }
        let upload = self.shared.store.upload_as(wanted.name.blob());
        let size_bytes = wanted.name.size_bytes;
        match wanted.is_zstd {
            true => Intake::inflating(upload, size_bytes).map_err(failed),
            false => Ok(Intake::new(upload, size_bytes)),
        }
    }

    fn check_size(&self, wanted: &Resource) -> Result<(), Status> {
        let limit = self.shared.limits.upload_bytes;
        let size_bytes = wanted.name.size_bytes;
        if size_bytes <= limit {
            return Ok(());
        }
        Err(Status::invalid_argument(format!(
            "a blob of {size_bytes} bytes is more than the limit of {limit} bytes"
        )))
    }
}

fn committed(committed_size: i64) -> Response<WriteResponse> {
    Response::new(WriteResponse { committed_size })
}

fn upload(name: &str) -> Result<Resource, Status> {
    let found = resource(name)?;
    if found.is_upload {
        return Ok(found);
    }
    let said = "the name of an upload begins with [INSTANCE/]uploads/UUID/";
    Err(Status::invalid_argument(said))
}

fn download(name: &str) -> Result<Resource, Status> {
    let found = resource(name)?;
    if !found.is_upload {
        return Ok(found);
    }
    Err(Status::invalid_argument("an upload cannot be read"))
}

/// A content compressed on the way, by a thread that may wait for a slow reader.
fn compressed(content: Bytes) -> impl Stream<Item = Result<ReadResponse, Status>> + Send {
    let (pieces, read) = mpsc::channel(PIECES_AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut encoder = match zstd::stream::write::Encoder::new(Vec::new(), LEVEL) {
            Ok(encoder) => encoder,
            Err(error) => {
                let _ = pieces.blocking_send(Err(Status::internal(error.to_string())));
                return;
            }
        };
        for piece in content.chunks(PIECE_BYTES) {
            // Into memory: this cannot fail.
            let _ = encoder.write_all(piece);
            let ready = std::mem::take(encoder.get_mut());
            if !ready.is_empty() && pieces.blocking_send(Ok(ready)).is_err() {
                // The reader has gone.
                return;
            }
        }
        let _ = pieces.blocking_send(
            encoder
                .finish()
                .map_err(|error| Status::internal(error.to_string())),
        );
    });
    let pieces = stream::unfold(read, |mut read| async move {
        let piece = read.recv().await?;
        Some((piece, read))
    });
    pieces.map(|piece| piece.map(|data| ReadResponse { data: data.into() }))
}
