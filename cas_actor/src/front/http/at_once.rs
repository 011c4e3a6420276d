//! Answers to reads of what is in memory, given while the request is taken in.
//!
//! Owns: which requests these are, and the shortest way to their answers.
//! Does not know: what else an answer to a read may be (`entry`), nor any way that waits.
//! Invariants: such an answer is the one that the longer way would give; whoever cannot be answered
//! here finds the request as it came.
//!
//! Most requests of a busy cache are these. Their requests are gone before hyper looks for the next
//! one, so that it can go on using its buffer, and the answer takes over the memory of the request's
//! headers.
#![forbid(unsafe_code)]

use hyper::body::Incoming;
use hyper::header::{self, HeaderMap};
use hyper::{Method, Request, Response};

use super::entry::{By, describe, name_of};
use super::hot::{self, Asked};
use super::route::{Route, route};
use super::{Http, Shared};
use crate::front::Space;
use crate::front::access::Right;
use crate::front::body::Answer;
use crate::{Blob, Digest, HASH_BYTES};

/// A request with more headers than this is not read one by one.
const FEW_HEADERS: usize = 16;

impl Http {
    /// The answer to a GET of a small blob or of an entry, if it is in memory.
    pub(super) fn answer_at_once(
        &self,
        request: &mut Request<Incoming>,
    ) -> Option<Response<Answer>> {
        if *request.method() != Method::GET {
            return None;
        }
        let (space, by, digest, blob) = self.in_memory(request)?;
        Some(match wants_it_whole(request.headers()) {
            true => {
                self.shared().counters.space(space).hit(digest.size_bytes());
                let mut headers = std::mem::take(request.headers_mut());
                headers.clear();
                let mut answer = Response::new(Answer::blob(blob));
                *answer.headers_mut() = headers;
                describe(answer.headers_mut(), &digest, by);
                answer
            }
            false => {
                let headers = request.headers();
                let answer = self.content(&digest, blob, headers, space, by).ok()?;
                // A part that is not there.
                self.count(&answer, false);
                answer
            }
        })
    }

    fn in_memory(&self, request: &Request<Incoming>) -> Option<(Space, By, Digest, Blob)> {
        let (uri, headers) = (request.uri(), request.headers());
        match route(uri.path(), uri.query()).ok()? {
            Route::Blob(name) => {
                self.may(headers, Space::Bazel, Right::Read).ok()?;
                let name = self.known(name);
                let asked = self.asked(false, *name.hash());
                let (digest, blob) = self.find(asked, || self.shared().store.lead_of(&name))?;
                Some((Space::Bazel, By::Hash, digest, blob))
            }
            // Turborepo's answers say more than the content.
            Route::Entry(entry) if entry.space != Space::Turborepo => {
                self.may(headers, entry.space, Right::Read).ok()?;
                let key = name_of(&entry, || false).key;
                let bound = || Some(self.shared().names.peek(&key)?.digest);
                let (digest, blob) = self.find(self.asked(true, key), bound)?;
                Some((entry.space, By::Key, digest, blob))
            }
            _ => None,
        }
    }

    fn asked(&self, is_entry: bool, key: [u8; HASH_BYTES]) -> Asked {
        Asked {
            front: self.number,
            is_entry,
            key,
        }
    }

    /// What was asked for, from this thread's memory or from the one of all; `lead` says which blob
    /// it is.
    fn find(&self, asked: Asked, lead: impl FnOnce() -> Option<Digest>) -> Option<(Digest, Blob)> {
        let Shared { store, names, .. } = &**self.shared();
        // Where a hash leads never changes.
        let renamed = match asked.is_entry {
            true => names.changes(&asked.key),
            false => 0,
        };
        if let Some(found) = hot::get(&asked, |digest| {
            (renamed, store.shard(digest.hash()).removals())
        }) {
            store.shard(found.0.hash()).count_memory_hit(&found.0);
            return Some(found);
        }
        let digest = lead()?;
        let removals = store.shard(digest.hash()).removals();
        let blob = store.peek(&digest)?;
        hot::keep(asked, (renamed, removals), digest, &blob);
        Some((digest, blob))
    }
}

/// Whether a request's headers ask for nothing but the content as it is.
fn wants_it_whole(headers: &HeaderMap) -> bool {
    headers.keys_len() <= FEW_HEADERS
        && headers.keys().all(|name| {
            *name != header::RANGE
                && *name != header::IF_NONE_MATCH
                && *name != header::ACCEPT_ENCODING
        })
}
