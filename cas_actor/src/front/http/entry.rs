//! Reading, storing and deleting entries and blobs: what all dialects have in common.
//!
//! Owns: the way from a route to the store and back.
//! Does not know: credentials, and paths beyond their parts.
//! Invariants: a blob is stored under a digest only when its content has that digest; an entry's
//! name is bound after its content is in the store, and the answer comes after both are durable.
#![forbid(unsafe_code)]

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

use super::problem::Problem;
use super::range::{Wanted, wanted};
use super::route::{Entry, Part};
use super::{Answered, Http, status, turborepo};
use crate::front::Space;
use crate::front::access::Right;
use crate::front::body::Answer;
use crate::front::intake::{Complete, Intake};
use crate::front::names::{Bound, name};
use crate::{ActionKey, Blob, ByteRange, Durability};

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const RANGES: HeaderValue = HeaderValue::from_static("bytes");
/// The name space of digests, SHA-256 and BLAKE3 alike.
pub(crate) const BLOBS: &str = "cas";

/// The name of an entry in the store.
pub(crate) fn name_of(entry: &Entry<'_>) -> ActionKey {
    match entry.part {
        Part::Whole => name(entry.space.name(), &[entry.key]),
        Part::Actions { instance } => name("ac", &[instance, entry.key]),
        Part::Team { id, slug } => name(entry.space.name(), &[id, slug, entry.key]),
    }
}

impl Http {
    pub(super) async fn get_entry(&self, entry: &Entry<'_>, parts: &Parts) -> Answered {
        self.may(&parts.headers, entry.space, Right::Read)?;
        let found = self.get(&name_of(entry), entry.space, parts).await?;
        let (bound, mut answer) = found;
        if entry.space == Space::Turborepo {
            turborepo::add_headers(&bound.note, answer.headers_mut());
        }
        Ok(answer)
    }

    pub(super) async fn get_blob(&self, hash: &str, parts: &Parts) -> Answered {
        self.may(&parts.headers, Space::Bazel, Right::Read)?;
        let name = name(BLOBS, &[hash]);
        let (_, answer) = self.get(&name, Space::Bazel, parts).await?;
        Ok(answer)
    }

    async fn get(
        &self,
        name: &ActionKey,
        space: Space,
        parts: &Parts,
    ) -> Result<(Bound, Response<Answer>), Problem> {
        let counters = self.shared().counters.space(space);
        let found = self.find(name, parts.method == Method::HEAD).await?;
        let Some((bound, blob)) = found else {
            counters.miss();
            return Err(Problem::miss());
        };
        let size_bytes = bound.digest.size_bytes();
        let Some(blob) = blob else {
            counters.hit(0);
            let mut answer = status(StatusCode::OK);
            describe(answer.headers_mut(), &bound);
            let length = HeaderValue::from(size_bytes);
            answer.headers_mut().insert(header::CONTENT_LENGTH, length);
            return Ok((bound, answer));
        };
        counters.hit(size_bytes);
        let answer = content(&bound, blob, &parts.headers)?;
        Ok((bound, answer))
    }

    /// What a name points at, with its content unless only its presence is asked for.
    async fn find(
        &self,
        name: &ActionKey,
        is_head: bool,
    ) -> Result<Option<(Bound, Option<Blob>)>, Problem> {
        let shared = self.shared();
        let bound = match shared.names.peek(name) {
            Some(bound) => bound,
            None => match shared.names.resolve(name).await? {
                Some(bound) => bound,
                None => return Ok(None),
            },
        };
        if is_head {
            let present = shared.store.contains(&[bound.digest]).await?;
            return Ok((present == [true]).then_some((bound, None)));
        }
        if let Some(blob) = shared.store.peek(&bound.digest) {
            return Ok(Some((bound, Some(blob))));
        }
        match shared.store.get(&bound.digest).await {
            Ok(blob) => Ok(Some((bound, Some(blob)))),
            Err(crate::GetError::NotFound(_) | crate::GetError::Corrupt { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn put_entry(
        &self,
        entry: &Entry<'_>,
        parts: &Parts,
        body: &mut Incoming,
    ) -> Answered {
        let note = match entry.space {
            Space::Turborepo => turborepo::note(&parts.headers)?,
            _ => Bytes::new(),
        };
        let name = name_of(entry);
        let complete = self.take_in(parts, body).await?;
        if entry.space == Space::Nx && self.has_other(&name, &complete).await? {
            let message = "another content is stored under this hash, and records never change";
            return Err(Problem::new(StatusCode::CONFLICT, message.to_owned()));
        }
        self.keep(complete, entry.space, &[name], note).await?;
        Ok(match entry.space {
            Space::Turborepo => turborepo::stored(),
            _ => status(StatusCode::OK),
        })
    }

    pub(super) async fn put_blob(
        &self,
        hash: &str,
        parts: &Parts,
        body: &mut Incoming,
    ) -> Answered {
        let complete = self.take_in(parts, body).await?;
        let blake3 = complete.names.digest.hex();
        let sha256 = hex(&complete.names.sha256);
        if hash != blake3 && hash != sha256 {
            let size_bytes = complete.names.digest.size_bytes();
            return Err(Problem::bad_request(format!(
                "the content does not match its digest: expected {hash}, got {size_bytes} bytes \
                 with SHA-256 {sha256} and BLAKE3 {blake3}; nothing was stored"
            )));
        }
        let mut names = vec![name(BLOBS, &[&sha256])];
        if hash == blake3 {
            names.push(name(BLOBS, &[&blake3]));
        }
        self.keep(complete, Space::Bazel, &names, Bytes::new())
            .await?;
        Ok(status(StatusCode::OK))
    }

    /// Reads and hashes the body of a request.
    async fn take_in(&self, parts: &Parts, body: &mut Incoming) -> Result<Complete, Problem> {
        let shared = self.shared();
        let limit_bytes = shared.limits.upload_bytes;
        // The lower bound is the announced length, when there is one.
        let announced = body.size_hint().lower();
        if announced > limit_bytes {
            return Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("{announced} bytes are more than the limit of {limit_bytes} bytes"),
            ));
        }
        let encoding = parts.headers.get(header::CONTENT_ENCODING);
        let mut intake = match encoding.map(HeaderValue::as_bytes) {
            None | Some(b"identity") => Intake::new(&shared.store, limit_bytes),
            Some(b"zstd") => Intake::inflating(&shared.store, limit_bytes)?,
            Some(other) => {
                let other = String::from_utf8_lossy(other);
                return Err(Problem::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    format!("content encoding `{other}` is not known here; zstd is"),
                ));
            }
        };
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Problem::bad_request(format!("the body ended early, nothing was stored: {error}"))
            })?;
            if let Ok(data) = frame.into_data() {
                intake.take(data).await?;
            }
        }
        Ok(intake.complete().await?)
    }

    /// Stores a content and points names at it.
    async fn keep(
        &self,
        complete: Complete,
        space: Space,
        names: &[ActionKey],
        note: Bytes,
    ) -> Result<(), Problem> {
        let shared = Arc::clone(self.shared());
        let digest = complete.names.digest;
        // The names, which are durable, make the content durable with them.
        complete.store(&shared.store, Durability::Relaxed).await?;
        let bound = Bound::now(digest, note);
        for name in names {
            shared.names.bind(name, &bound).await?;
        }
        shared.counters.space(space).store(digest.size_bytes());
        Ok(())
    }

    async fn has_other(&self, name: &ActionKey, complete: &Complete) -> Result<bool, Problem> {
        let Some(bound) = self.shared().names.resolve(name).await? else {
            return Ok(false);
        };
        if bound.digest == complete.names.digest {
            return Ok(false);
        }
        Ok(self.shared().store.contains(&[bound.digest]).await? == [true])
    }

    pub(super) async fn delete_entry(&self, entry: &Entry<'_>) -> Answered {
        // The blob stays: other names may point at it. Eviction finds it when none does.
        match self.shared().names.unbind(&name_of(entry)).await? {
            true => Ok(status(StatusCode::NO_CONTENT)),
            false => Err(Problem::miss()),
        }
    }
}

/// A blob as the answer to a GET, whole or in part.
fn content(bound: &Bound, blob: Blob, headers: &HeaderMap) -> Answered {
    let size_bytes = bound.digest.size_bytes();
    let mut answer = match wanted(headers, size_bytes) {
        Wanted::Whole => Response::new(Answer::bytes(blob.into_bytes())),
        Wanted::Part { start, length } => {
            let part = blob
                .slice(ByteRange::new(start, length))
                .map_err(|error| Problem::bad_request(error.to_string()))?;
            let mut answer = Response::new(Answer::bytes(part.into_bytes()));
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = format!("bytes {start}-{}/{size_bytes}", start + length - 1);
            if let Ok(range) = HeaderValue::try_from(range) {
                answer.headers_mut().insert(header::CONTENT_RANGE, range);
            }
            answer
        }
        Wanted::Outside => {
            let mut answer = status(StatusCode::RANGE_NOT_SATISFIABLE);
            if let Ok(range) = HeaderValue::try_from(format!("bytes */{size_bytes}")) {
                answer.headers_mut().insert(header::CONTENT_RANGE, range);
            }
            return Ok(answer);
        }
    };
    describe(answer.headers_mut(), bound);
    let known = headers.get(header::IF_NONE_MATCH);
    if known.is_some_and(|known| Some(known) == answer.headers().get(header::ETAG)) {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        answer.headers_mut().remove(header::CONTENT_RANGE);
        *answer.body_mut() = Answer::empty();
    }
    Ok(answer)
}

fn describe(headers: &mut HeaderMap, bound: &Bound) {
    headers.insert(header::CONTENT_TYPE, OCTETS);
    headers.insert(header::ACCEPT_RANGES, RANGES);
    if let Ok(tag) = HeaderValue::try_from(format!("\"{}\"", bound.digest.hex())) {
        headers.insert(header::ETAG, tag);
    }
}

/// A hash in lower-case hex.
pub(crate) fn hex(hash: &[u8; 32]) -> String {
    let mut text = String::with_capacity(2 * hash.len());
    crate::digest::push_hex(&mut text, hash);
    text
}
