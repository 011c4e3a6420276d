//! ByteStream: blobs of any size, in pieces.
//!
//! Owns: offsets, resumption and compression on the wire.
//! Invariants: a piece of an upload is taken only at the offset where the last one ended; an
//! upload whose client went away is kept for resumption, one that was wrong is not.
//!
//! The first offset of an upload counts bytes of the content, also where they come compressed; from
//! there on it counts the bytes of the wire. What resumes a compressed upload is a stream of its own.
#![forbid(unsafe_code)]

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use ::bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tonic::{Request, Response, Status, Streaming};

use super::api::bytestream::{
    QueryWriteStatusRequest, QueryWriteStatusResponse, ReadRequest, ReadResponse, WriteRequest,
    WriteResponse, byte_stream_server::ByteStream,
};
use super::failure::failed;
use super::name::{Resource, resource};
use super::{Api, share_of};
use crate::front::compress;
use crate::front::held::{compressed_bytes, upload_bytes};
use crate::front::intake::Intake;
use crate::{Blob, ByteRange};

/// Bytes of one message of a read.
pub(super) const PIECE_BYTES: usize = 512 * 1024;
/// The answer of a compressed upload that was not needed.
const PRESENT_COMPRESSED: i64 = -1;

#[tonic::async_trait]
impl ByteStream for Api {
    type ReadStream = Pin<Box<dyn Stream<Item = Result<ReadResponse, Status>> + Send>>;

    async fn read(
        &self,
        request: Request<ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let share = share_of(&request)?;
        let request = request.into_inner();
        let wanted = download(&request.resource_name)?;
        self.served(wanted.name.function)?;
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
        let content = content.slice(ByteRange::new(start, end - start));
        let content = content.map_err(|error| Status::out_of_range(error.to_string()))?;
        let length = content.len() as u64;
        if wanted.is_zstd {
            share.add(compressed_bytes(length)).map_err(failed)?;
            let counters = Arc::clone(&self.shared.counters);
            let pieces = compress::stream(content).map(move |piece| match piece {
                Ok(data) => {
                    counters.download_chunks.note(data.len());
                    Ok(ReadResponse { data })
                }
                Err(error) => Err(Status::internal(error.to_string())),
            });
            return Ok(Response::new(Box::pin(pieces)));
        }
        // A piece that waits, and its copy in a message.
        let pieces_bytes = length.min(2 * PIECE_BYTES as u64);
        share.add(pieces_bytes).map_err(failed)?;
        let counters = Arc::clone(&self.shared.counters);
        let pieces = stream::unfold((content, counters), |(mut rest, counters)| async move {
            let piece = next_piece(&mut rest)?;
            let piece = piece.map(|data| {
                counters.download_chunks.note(data.len());
                ReadResponse { data }
            });
            Some((piece, (rest, counters)))
        });
        Ok(Response::new(Box::pin(pieces)))
    }

    async fn write(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<WriteResponse>, Status> {
        let share = share_of(&request)?;
        let mut pieces = request.into_inner();
        let first = pieces.message().await?;
        let first = first.ok_or_else(|| Status::invalid_argument("an upload of no messages"))?;
        let resource_name = first.resource_name.clone();
        let wanted = upload(&resource_name)?;
        self.served(wanted.name.function)?;
        self.check_size(&wanted.name)?;
        if self.present(&[wanted.name]).await? == [true] {
            return Ok(committed(if wanted.is_zstd {
                PRESENT_COMPRESSED
            } else {
                wanted.name.size_bytes.cast_signed()
            }));
        }
        let begin = u64::try_from(first.write_offset)
            .map_err(|_| Status::invalid_argument("`write_offset` is negative"))?;
        let size_bytes = wanted.name.size_bytes;
        let holds = upload_bytes(size_bytes, true, wanted.is_zstd.then_some(size_bytes));
        share.add(holds).map_err(failed)?;
        let upload = self.begin(&resource_name, &wanted.name, begin).await?;
        if begin > 0 {
            let transport = &self.shared.counters.transport;
            transport.uploads_resumed.fetch_add(1, Relaxed);
        }
        let mut intake = match wanted.is_zstd {
            true => Intake::inflating(upload, wanted.name.size_bytes).map_err(failed)?,
            false => Intake::new(upload, wanted.name.size_bytes),
        };
        let mut piece = first;
        loop {
            let offset = piece.write_offset;
            let expected = begin + intake.taken_bytes();
            if u64::try_from(offset).ok() != Some(expected) {
                intake.park().await;
                return Err(Status::invalid_argument(format!(
                    "a piece at offset {offset}, expected at {expected}"
                )));
            }
            if !piece.resource_name.is_empty() && piece.resource_name != resource_name {
                let said = "the resource name changed within one upload";
                return Err(Status::invalid_argument(said));
            }
            self.shared.counters.upload_chunks.note(piece.data.len());
            intake.take(piece.data).await.map_err(failed)?;
            if piece.finish_write {
                break;
            }
            piece = match pieces.message().await {
                Ok(Some(piece)) => piece,
                ended => {
                    let taken = begin + intake.taken_bytes();
                    intake.park().await;
                    return ended.map(|_| committed(taken.cast_signed()));
                }
            };
        }
        let taken = begin + intake.taken_bytes();
        let complete = intake.complete().await.map_err(failed)?;
        self.keep(complete).await?;
        Ok(committed(taken.cast_signed()))
    }

    async fn query_write_status(
        &self,
        request: Request<QueryWriteStatusRequest>,
    ) -> Result<Response<QueryWriteStatusResponse>, Status> {
        let resource_name = request.into_inner().resource_name;
        let wanted = upload(&resource_name)?;
        self.served(wanted.name.function)?;
        if self.present(&[wanted.name]).await? == [true] {
            return Ok(Response::new(QueryWriteStatusResponse {
                committed_size: wanted.name.size_bytes.cast_signed(),
                complete: true,
            }));
        }
        Ok(Response::new(QueryWriteStatusResponse {
            committed_size: self.committed_bytes(&resource_name)?.cast_signed(),
            complete: false,
        }))
    }
}

/// The next piece of a download; none after the last one, nor after one that cannot be read.
pub(super) fn next_piece(rest: &mut Blob) -> Option<Result<Bytes, Status>> {
    if rest.is_empty() {
        return None;
    }
    let piece = rest.take_piece(PIECE_BYTES);
    Some(piece.map_err(|error| {
        *rest = Blob::from(Bytes::new());
        failed(error)
    }))
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
