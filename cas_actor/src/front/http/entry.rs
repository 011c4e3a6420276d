//! Reading, storing and deleting entries and blobs: what all dialects have in common.
//!
//! Owns: the way from a route to the store and back.
//! Does not know: credentials, and paths beyond their parts.
//! Invariants: a blob is stored under a digest only when its content has that digest; an entry's
//! name is bound after its content is in the store, and the answer comes after both are durable;
//! what is in memory is answered without asking a shard.
#![forbid(unsafe_code)]

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body, Frame};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

use super::problem::Problem;
use super::range::{Wanted, wanted};
use super::route::{Entry, Part};
use super::{Answered, Http, status, turborepo};
use crate::digest::hash_hex;
use crate::front::Space;
use crate::front::access::Right;
use crate::front::behind::EntryName;
use crate::front::body::Answer;
use crate::front::compress::{self, Coding};
use crate::front::grpc::actions::{RESULT_BYTES, result_bytes, why_no_result};
use crate::front::held::{NoRoom, Share, compressed_bytes};
use crate::front::intake::{Complete, Intake};
use crate::front::names::{Bound, name};
use crate::front::stall::Coming;
use crate::layout::is_packed;
use crate::{Blob, BlobName, ByteRange, Digest, Durability, HASH_BYTES, Upload};

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// What has a hash for its name never changes.
const FOR_EVER: HeaderValue = HeaderValue::from_static("max-age=31536000, immutable");
/// A key may be given to another content at any time; what is at hand can be asked for by its tag.
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");
/// Characters of a content's tag: the half of its hash that is long enough for that.
const TAG_CHARS: usize = HASH_BYTES;
const RANGES: HeaderValue = HeaderValue::from_static("bytes");
/// Compressed content up to this size is made at once; more of it is streamed.
const AT_ONCE_BYTES: usize = 64 * 1024;

/// The name of an entry in the store. `may_be_key` says whether the caller has the right to all
/// entries.
pub(crate) fn name_of(entry: &Entry<'_>, may_be_key: impl FnOnce() -> bool) -> EntryName {
    let key = match entry.part {
        Part::Whole => name(entry.space.name(), &[entry.key]),
        Part::Actions { instance } => name("ac", &[instance, entry.key]),
        Part::Team { id, slug } => name(entry.space.name(), &[id, slug, entry.key]),
    };
    let action = match entry.part {
        Part::Actions { instance: "" } => BlobName::from_hex(entry.key).ok(),
        _ => None,
    };
    EntryName {
        key,
        action,
        may_be_key: action.is_some() && may_be_key(),
    }
}

impl Http {
    pub(super) async fn get_entry(&self, entry: &Entry<'_>, parts: &Parts) -> Answered {
        self.may(&parts.headers, entry.space, Right::Read)?;
        let name = name_of(entry, || self.may_all(&parts.headers, Right::Read));
        let found = self.get(&name, entry.space, parts).await?;
        let (bound, mut answer) = found;
        if entry.space == Space::Turborepo {
            turborepo::add_headers(&bound.note, answer.headers_mut());
        }
        Ok(answer)
    }

    pub(super) async fn get_blob(&self, name: &BlobName, parts: &Parts) -> Answered {
        self.may(&parts.headers, Space::Bazel, Right::Read)?;
        let store = &self.shared().store;
        if parts.method == Method::HEAD {
            // Brought from the cache behind this one, so that the read that follows finds it.
            if let [Some(digest)] = store.bring(&[*name]).await?[..] {
                return Ok(self.head(&digest, Space::Bazel, By::Hash));
            }
        }
        let found = match store.get_named(name).await {
            Err(crate::GetError::Corrupt { .. }) => None,
            found => found?,
        };
        let counters = self.shared().counters.space(Space::Bazel);
        let Some((digest, blob)) = found else {
            counters.miss();
            return Err(Problem::miss());
        };
        self.content(&digest, blob, &parts.headers, Space::Bazel, By::Hash)
    }

    async fn get(
        &self,
        name: &EntryName,
        space: Space,
        parts: &Parts,
    ) -> Result<(Bound, Response<Answer>), Problem> {
        let shared = self.shared();
        let counters = shared.counters.space(space);
        let bound = match shared.names.peek(&name.key) {
            Some(bound) => Some(bound),
            None => shared.names.resolve(name).await?,
        };
        let Some(bound) = bound else {
            counters.miss();
            return Err(Problem::miss());
        };
        if parts.method == Method::HEAD {
            if shared.store.contains(&[bound.digest]).await? == [true] {
                let answer = self.head(&bound.digest, space, By::Key);
                return Ok((bound, answer));
            }
        } else if let Some(blob) = self.content_of(&bound.digest).await? {
            let answer = self.content(&bound.digest, blob, &parts.headers, space, By::Key)?;
            return Ok((bound, answer));
        }
        counters.miss();
        Err(Problem::miss())
    }

    /// The content of a blob; from memory without asking its shard.
    async fn content_of(&self, digest: &Digest) -> Result<Option<Blob>, Problem> {
        match self.shared().store.get(digest).await {
            Ok(blob) => Ok(Some(blob)),
            Err(crate::GetError::NotFound(_) | crate::GetError::Corrupt { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The answer to a HEAD of a blob that is here.
    fn head(&self, digest: &Digest, space: Space, by: By) -> Response<Answer> {
        self.shared().counters.space(space).hit(0);
        let mut answer = status(StatusCode::OK);
        describe(answer.headers_mut(), digest, by);
        let length = HeaderValue::from(digest.size_bytes());
        answer.headers_mut().insert(header::CONTENT_LENGTH, length);
        answer
    }

    pub(super) async fn put_entry(
        &self,
        entry: &Entry<'_>,
        parts: &Parts,
        body: &mut Coming,
        share: &Share,
    ) -> Answered {
        let note = match entry.space {
            Space::Turborepo => turborepo::note(&parts.headers)?,
            _ => Bytes::new(),
        };
        let name = name_of(entry, || self.may_all(&parts.headers, Right::Write));
        let upload = self.shared().store.upload(None);
        let is_result = matches!(entry.part, Part::Actions { .. })
            && self.shared().dialects.validate_action_results;
        let most_bytes = if is_result { RESULT_BYTES } else { u64::MAX };
        let complete = self.take_in(upload, most_bytes, parts, body).await?;
        if is_result && let Some(why) = why_not(&complete.content()?, share)? {
            return Err(Problem::bad_request(format!(
                "what is stored at /ac/ is an ActionResult of the Remote Execution API, and this is \
                 none: {why}; nothing was stored (`validate_action_results` switches this off)"
            )));
        }
        if entry.space == Space::Nx && self.has_other(&name, &complete).await? {
            let message = "another content is stored under this hash, and records never change";
            return Err(Problem::new(StatusCode::CONFLICT, message.to_owned()));
        }
        // The name, which is durable, makes the content durable with it.
        let stored = self.keep(complete, entry.space, Durability::Relaxed);
        let bound = Bound::now(stored.await?, note);
        self.shared().names.bind(&name, &bound).await?;
        Ok(match entry.space {
            Space::Turborepo => turborepo::stored(),
            _ => status(StatusCode::OK),
        })
    }

    pub(super) async fn put_blob(
        &self,
        name: &BlobName,
        parts: &Parts,
        body: &mut Coming,
    ) -> Answered {
        let upload = self.shared().store.upload_as(*name);
        let complete = self.take_in(upload, u64::MAX, parts, body).await?;
        self.keep(complete, Space::Bazel, Durability::Durable)
            .await?;
        Ok(status(StatusCode::OK))
    }

    /// Reads and hashes the body of a request.
    async fn take_in(
        &self,
        upload: Upload,
        most_bytes: u64,
        parts: &Parts,
        body: &mut Coming,
    ) -> Result<Complete, Problem> {
        let shared = self.shared();
        let limit_bytes = shared.limits.upload_bytes.min(most_bytes);
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
            None | Some(b"identity") => Intake::new(upload, limit_bytes),
            Some(b"zstd") => Intake::inflating(upload, limit_bytes)?,
            Some(other) => {
                let other = String::from_utf8_lossy(other);
                return Err(Problem::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    format!("content encoding `{other}` is not known here; zstd is"),
                ));
            }
        };
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                intake.take(data).await?;
            }
        }
        Ok(intake.complete().await?)
    }

    /// Stores a content.
    async fn keep(
        &self,
        complete: Complete,
        space: Space,
        durability: Durability,
    ) -> Result<Digest, Problem> {
        let shared = self.shared();
        let digest = complete.store(&shared.store, durability).await?;
        shared.counters.space(space).store(digest.size_bytes());
        Ok(digest)
    }

    async fn has_other(&self, name: &EntryName, complete: &Complete) -> Result<bool, Problem> {
        let Some(bound) = self.shared().names.resolve(name).await? else {
            return Ok(false);
        };
        if bound.digest == complete.digest() {
            return Ok(false);
        }
        Ok(self.shared().store.contains(&[bound.digest]).await? == [true])
    }

    pub(super) async fn delete_entry(&self, entry: &Entry<'_>) -> Answered {
        // The blob stays: other names may point at it. Eviction finds it when none does.
        match self
            .shared()
            .names
            .unbind(&name_of(entry, || false))
            .await?
        {
            true => Ok(status(StatusCode::NO_CONTENT)),
            false => Err(Problem::miss()),
        }
    }
}

impl Http {
    /// A blob as the answer to a GET: whole, in part, compressed, or known already. Counts it as a hit with
    /// what is read of it.
    pub(super) fn content(
        &self,
        digest: &Digest,
        blob: Blob,
        headers: &HeaderMap,
        space: Space,
        by: By,
    ) -> Answered {
        let counters = self.shared().counters.space(space);
        if is_known(headers, digest) {
            counters.hit(0);
            let mut answer = status(StatusCode::NOT_MODIFIED);
            describe(answer.headers_mut(), digest, by);
            return Ok(answer);
        }
        let mut answer = match wanted(headers, digest.size_bytes()) {
            Wanted::Whole => {
                counters.hit(digest.size_bytes());
                match self.room_to_compress(headers, &blob) {
                    Some(share) => return Ok(compressed(digest, blob, by, share)),
                    None => Response::new(Answer::blob(blob)),
                }
            }
            Wanted::Part { start, length } => {
                let answer = part(digest, &blob, start, length)?;
                counters.hit(length);
                answer
            }
            Wanted::Outside => {
                let mut answer = status(StatusCode::RANGE_NOT_SATISFIABLE);
                let range = format!("bytes */{}", digest.size_bytes());
                insert(answer.headers_mut(), header::CONTENT_RANGE, range);
                return Ok(answer);
            }
        };
        describe(answer.headers_mut(), digest, by);
        Ok(answer)
    }

    /// Room for compressing, if the answer may be and is worth it. Without room it goes out as it is.
    fn room_to_compress(&self, headers: &HeaderMap, blob: &Blob) -> Option<Arc<Share>> {
        if !self.may_compress(headers) || !compress::is_worth_it(blob) {
            return None;
        }
        let share = Share::new(self.shared());
        share.try_add(compressed_bytes(blob.len() as u64)).ok()?;
        Some(share)
    }

    fn may_compress(&self, headers: &HeaderMap) -> bool {
        self.shared().dialects.compress_blobs
            && headers.contains_key(header::ACCEPT_ENCODING)
            && Coding::accepted(headers) == Some(Coding::Zstd)
    }
}

fn part(digest: &Digest, blob: &Blob, start: u64, length: u64) -> Answered {
    let part = blob.slice(ByteRange::new(start, length));
    let part = part.map_err(|error| Problem::bad_request(error.to_string()))?;
    let mut answer = Response::new(Answer::blob(part));
    *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
    let range = format!(
        "bytes {start}-{}/{}",
        start + length - 1,
        digest.size_bytes()
    );
    insert(answer.headers_mut(), header::CONTENT_RANGE, range);
    Ok(answer)
}

fn compressed(digest: &Digest, blob: Blob, by: By, share: Arc<Share>) -> Response<Answer> {
    let is_short = !blob.is_mapped() && blob.len() <= AT_ONCE_BYTES;
    let at_once = is_short.then(|| Coding::Zstd.compress(&blob));
    let mut answer = Response::new(match at_once.flatten() {
        Some(compressed) => Answer::bytes(compressed),
        None => {
            let pieces = compress::stream(blob).map_ok(Frame::data);
            Answer::stream(StreamBody::new(pieces.map_err(Into::into)))
        }
    });
    answer.body_mut().hold(share);
    let headers = answer.headers_mut();
    describe(headers, digest, by);
    // Other bytes have another tag; a part of these bytes cannot be asked for.
    let tag = format!("\"{}-zstd\"", &digest.hex()[..TAG_CHARS]);
    insert(headers, header::ETAG, tag);
    headers.remove(header::ACCEPT_RANGES);
    headers.insert(header::CONTENT_ENCODING, Coding::Zstd.value());
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    answer
}

/// Why a content is no result of an action, looked at within the limit of memory.
fn why_not(content: &[u8], share: &Share) -> Result<Option<String>, NoRoom> {
    let bytes = result_bytes(content);
    share.add(bytes)?;
    let why = why_no_result(content);
    share.give_back(bytes);
    Ok(why)
}

/// Whether the client has this content, compressed or not, and asks for anything newer.
fn is_known(headers: &HeaderMap, digest: &Digest) -> bool {
    let Some(known) = headers.get(header::IF_NONE_MATCH) else {
        return false;
    };
    let hex = digest.hex();
    let mut tags = known.to_str().unwrap_or_default().split(',').map(str::trim);
    tags.any(|tag| {
        let tag = tag.trim_start_matches("W/").trim_matches('"');
        tag == "*" || tag.strip_suffix("-zstd").unwrap_or(tag) == &hex[..TAG_CHARS]
    })
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: String) {
    // What we write has no control characters.
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// What a content was asked for by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Hash,
    Key,
}

/// Says what a content is. Clients read every byte of this, and most contents are small: what is of
/// no use to anybody is left out.
pub(super) fn describe(headers: &mut HeaderMap, digest: &Digest, by: By) {
    headers.insert(header::CONTENT_TYPE, OCTETS);
    let is_large = !is_packed(digest.size_bytes());
    if is_large {
        headers.insert(header::ACCEPT_RANGES, RANGES);
    }
    headers.insert(
        header::CACHE_CONTROL,
        match by {
            By::Hash => FOR_EVER,
            By::Key => ASK_AGAIN,
        },
    );
    // Whoever has a small blob by its hash has nothing to ask again.
    if is_large || by == By::Key {
        let mut tag = [b'"'; TAG_CHARS + 2];
        tag[1..=TAG_CHARS].copy_from_slice(&hash_hex(digest.hash())[..TAG_CHARS]);
        if let Ok(tag) = HeaderValue::from_bytes(&tag) {
            headers.insert(header::ETAG, tag);
        }
    }
}
