//! SplitBlob and SpliceBlob: large blobs as sequences of chunks.
//!
//! Owns: the messages and the status of what goes wrong.
//! Does not know: where a blob is cut (`crate::chunks`).
//! Invariants: a blob is cut in one way only, the one that the capabilities tell, so clients that cut
//! for themselves and the node agree on every chunk; for callers who may only read nothing is cut, they are
//! told of chunks that were kept before.
#![forbid(unsafe_code)]

use tonic::{Request, Response, Status};

use super::api::re;
use super::failure::{Failure, failed};
use super::{Api, Function, Name};
use crate::front::access::Right;
use crate::{Chunk, ChunkError, Chunking};

const FAST_CDC: i32 = re::chunking_function::Value::FastCdc2020 as i32;

impl Api {
    pub(super) async fn split(
        &self,
        request: Request<re::SplitBlobRequest>,
    ) -> Result<Response<re::SplitBlobResponse>, Status> {
        let headers = request.metadata().clone().into_headers();
        let request = request.into_inner();
        let function = self.function(request.digest_function)?;
        check_function(request.chunking_function)?;
        let name = Name::required(request.blob_digest.as_ref(), function, "blob_digest")?;
        let [found] = self.locate(&[name]).await?[..] else {
            return Err(Status::internal("one name, and not one answer"));
        };
        let digest = found.ok_or_else(|| missing(&name))?;
        if digest.size_bytes() <= u64::from(Chunking::default().min_bytes()) {
            // The one chunk is the blob itself.
            let is_chunk = digest.size_bytes() > 0;
            return Ok(split_into(
                is_chunk.then(|| name.digest()).into_iter().collect(),
            ));
        }
        let store = self.shared.store.clone();
        let may_write = self.allows(&headers, Right::Write).is_ok();
        let chunks = wait_for(move || {
            let store = store.blocking();
            match may_write {
                true => store.split(&digest, Chunking::default()).map(Some),
                false => Ok(store.kept_chunks(&digest, Chunking::default())?),
            }
        });
        let Some(chunks) = chunks.await? else {
            self.may(&headers, Right::Write)?;
            return Err(missing(&name));
        };
        let names = chunks.iter().map(|chunk| chunk_name(chunk, function));
        let digests = names.collect::<Option<Vec<_>>>().ok_or_else(|| {
            Status::unimplemented("chunks have no SHA-256 names here; BLAKE3 digests can be split")
        })?;
        Ok(split_into(digests))
    }

    pub(super) async fn splice(
        &self,
        request: Request<re::SpliceBlobRequest>,
    ) -> Result<Response<re::SpliceBlobResponse>, Status> {
        let request = request.into_inner();
        let function = self.function(request.digest_function)?;
        let name = Name::required(request.blob_digest.as_ref(), function, "blob_digest")?;
        let done = Response::new(re::SpliceBlobResponse {
            blob_digest: Some(name.digest()),
        });
        if self.present(&[name]).await? == [true] {
            return Ok(done);
        }
        self.check_size(&name)?;
        let chunks = request.chunk_digests.iter();
        let chunks = chunks.map(|chunk| Name::read(chunk, function));
        let chunks: Vec<Name> = chunks.collect::<Result<_, _>>()?;
        let sizes = chunks.iter().map(|chunk| chunk.size_bytes);
        let size_bytes = sizes.fold(0, u64::saturating_add);
        if size_bytes != name.size_bytes {
            let wanted = name.size_bytes;
            return Err(Status::invalid_argument(format!(
                "the chunks have {size_bytes} bytes, the blob has {wanted}"
            )));
        }
        let found = self.locate(&chunks).await?;
        let found = found.into_iter().zip(&chunks);
        let digests = found.map(|(digest, chunk)| digest.ok_or_else(|| missing(chunk)));
        let digests = digests.collect::<Result<Vec<_>, _>>()?;
        let store = self.shared.store.clone();
        let splice = move || store.blocking().splice(name.blob(), &digests);
        let stored = wait_for(splice).await?;
        let counters = self.shared.counters.space(crate::front::Space::Bazel);
        counters.store(stored.size_bytes());
        Ok(done)
    }
}

fn split_into(chunk_digests: Vec<re::Digest>) -> Response<re::SplitBlobResponse> {
    Response::new(re::SplitBlobResponse {
        chunk_digests,
        chunking_function: FAST_CDC,
    })
}

/// Runs what reads and hashes much on a thread that may wait.
async fn wait_for<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ChunkError> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|_| Status::unavailable("the node is shutting down"))?;
    done.map_err(failed)
}

fn check_function(asked: i32) -> Result<(), Status> {
    match re::chunking_function::Value::try_from(asked) {
        Ok(re::chunking_function::Value::Unknown | re::chunking_function::Value::FastCdc2020) => {
            Ok(())
        }
        other => {
            let name = other.map_or("an unknown function", |value| value.as_str_name());
            Err(Status::invalid_argument(format!(
                "blobs are not cut by {name} here; FAST_CDC_2020 is what they are cut by"
            )))
        }
    }
}

/// The name of a chunk under the client's function.
fn chunk_name(chunk: &Chunk, function: Function) -> Option<re::Digest> {
    let (hash, size_bytes) = match function {
        Function::Blake3 => (*chunk.digest.hash(), chunk.digest.size_bytes()),
        Function::Sha256 => (*chunk.sha256?.hash(), chunk.digest.size_bytes()),
    };
    let name = Name {
        function,
        hash,
        size_bytes,
    };
    Some(name.digest())
}

fn missing(name: &Name) -> Status {
    let (hash, size_bytes) = (name.hex(), name.size_bytes);
    Status::not_found(format!("no blob {hash}/{size_bytes}"))
}

impl Failure for ChunkError {
    fn status(self) -> Status {
        match self {
            Self::Get(error) => error.status(),
            Self::Put(error) => error.status(),
            Self::Shard(error) => error.status(),
        }
    }
}
