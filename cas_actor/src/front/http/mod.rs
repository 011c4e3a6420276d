//! The HTTP dialects: from a request to an answer.
//!
//! Owns: which handler answers which route and method, rights, the limit on running requests.
//! Does not know: connections (`listen`), or what a path means (`route`).
//! Invariants: rights are checked before anything of the store is told or changed; every request
//! gets an answer; an answer that refuses says why in one line.
#![forbid(unsafe_code)]

mod at_once;
mod entry;
mod hot;
mod index;
mod problem;
mod range;
pub(super) mod route;
mod turborepo;
mod webdav;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode, Version};

use self::problem::{Overload, Problem};
use self::route::{Entry, Route, route};
use super::Space;
use super::access::{Refusal, Right};
use super::body::{Answer, grpc_status};
use super::grpc::Grpc;
use super::held::{Share, upload_bytes};
use super::listen::Shared;
use super::pulse::{Busy, Pulse};
use super::rate::{Caller, Peer};
use super::sendfile::Outgoing;
use super::stall::{self, Coming};
use super::watch::Watched;
use crate::{BlobName, HashFunction};

/// A page of the node beside the dialects: `/healthz`, `/metrics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The HTTP status, 200 for a page that is there.
    pub status: u16,
    /// `text/plain; charset=utf-8` or what it is.
    pub content_type: &'static str,
    /// The bytes.
    pub body: Bytes,
}

/// Pages of the node at paths that belong to no dialect.
pub trait Pages: Send + Sync + 'static {
    /// The page at a path; `None` when there is none.
    fn page(&self, path: &str) -> Option<Pin<Box<dyn Future<Output = Page> + Send>>>;
}

/// The connection that a request came over.
pub(crate) struct Line {
    pub(crate) peer: Peer,
    /// Whether it speaks TLS.
    pub(crate) is_secure: bool,
    pub(crate) pulse: Arc<Pulse>,
    /// Where it can send files as they are.
    pub(crate) outgoing: Option<Arc<Outgoing>>,
}

/// Answers requests.
pub(crate) struct Http {
    shared: Arc<Shared>,
    grpc: Grpc,
    /// Which of this process.
    number: u64,
}

/// What is stored.
#[derive(Clone, Copy)]
enum Put<'p> {
    Entry(Entry<'p>),
    /// Under its own hash.
    Blob(BlobName),
}

type Answered = Result<Response<Answer>, Problem>;

impl Http {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            number: NEXT.fetch_add(1, Relaxed),
            grpc: Grpc::new(Arc::clone(&shared)),
            shared,
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Begins to answer a request, which counts as running until the answer's body is gone. `Err` when
    /// something has to be waited for: [`answer`](Self::answer) does.
    pub(crate) fn begin(
        &self,
        request: &mut Request<Incoming>,
        line: &Line,
    ) -> Result<Response<Answer>, Busy> {
        let mut busy = line.pulse.begin();
        if let Some(watcher) = &self.shared.watcher {
            busy.watched = Some(Box::new(Watched::new(watcher, request)));
        }
        let mut answer = match self.admit(request.headers(), line.peer) {
            Ok(()) => match self.answer_at_once(request) {
                Some(mut answer) => {
                    announce(&mut answer, request.version(), line);
                    answer
                }
                None => return Err(busy),
            },
            Err(overload) => {
                self.shared.counters.overloaded.fetch_add(1, Relaxed);
                let is_grpc = Grpc::is_for_us(request.headers());
                let answer = match is_grpc {
                    true => Grpc::turn_away(overload.message()),
                    false => Problem::overload(&overload).answer(None),
                };
                self.count(&answer, is_grpc);
                answer
            }
        };
        keep(&mut answer, busy);
        Ok(answer)
    }

    /// The answer to a request that has begun.
    pub(crate) async fn answer(
        &self,
        request: Request<Incoming>,
        busy: Busy,
        line: &Line,
    ) -> Response<Answer> {
        let version = request.version();
        let is_multiplexed = version == Version::HTTP_2;
        if is_multiplexed {
            stall::ours();
        }
        let limits = &self.shared.limits;
        let request = request.map(|body| Coming::new(body, limits.stall()));
        let is_grpc = Grpc::is_for_us(request.headers());
        let is_upload = *request.method() == Method::PUT;
        let answering = async {
            if is_grpc {
                return self.grpc.answer(request).await;
            }
            let (parts, body) = request.into_parts();
            self.dispatch(&parts, body, line).await
        };
        let mut answer = if is_multiplexed || is_upload {
            let answered = tokio::time::timeout(limits.request(), answering).await;
            answered.unwrap_or_else(|_| match is_grpc {
                true => Grpc::give_up(limits.request()),
                false => Problem::too_long(limits.request(), is_upload).answer(None),
            })
        } else {
            // The connection, which has no other request, has the same limit: `timed`.
            answering.await
        };
        announce(&mut answer, version, line);
        self.count(&answer, is_grpc);
        keep(&mut answer, busy);
        if is_multiplexed {
            stall::theirs();
        }
        answer
    }

    /// Counts an answer that refuses or fails, if its head says so.
    fn count(&self, answer: &Response<Answer>, is_grpc: bool) {
        let counters = &self.shared.counters;
        counters.http_errors().note(answer.status().as_u16());
        if is_grpc {
            counters.grpc_errors.note(grpc_status(answer.headers()));
        }
    }

    /// Whether there is room for one more request, of this caller's as well.
    fn admit(&self, headers: &HeaderMap, peer: Peer) -> Result<(), Overload> {
        let shared = &self.shared;
        if shared
            .counters
            .has_more_requests_than(shared.limits.requests)
        {
            return Err(Overload::Node);
        }
        let Some(rate) = &shared.rate else {
            return Ok(());
        };
        let authorization = headers.get(header::AUTHORIZATION);
        let known = shared.access.who(authorization.map(HeaderValue::as_bytes));
        let caller = known.map_or(Caller::At(peer), Caller::Known);
        rate.take(caller, Instant::now())
            .map_err(|wait| Overload::Caller { wait })
    }

    async fn dispatch(&self, parts: &Parts, body: Coming, line: &Line) -> Response<Answer> {
        let route = match route(parts.uri.path(), parts.uri.query()) {
            Ok(route) => route,
            Err(error) => return Problem::bad_request(error.to_string()).answer(None),
        };
        let space = space_of(&route);
        let answered = match route {
            Route::Entry(entry) => match parts.method {
                Method::GET | Method::HEAD => self.get_entry(&entry, parts).await,
                Method::PUT => self.put(parts, body, Put::Entry(entry)).await,
                _ => self.other_method(&entry, parts).await,
            },
            Route::Blob(name) => match parts.method {
                Method::GET | Method::HEAD => self.get_blob(&self.known(name), parts).await,
                Method::PUT => self.put(parts, body, Put::Blob(self.known(name))).await,
                _ => Err(Problem::method("GET, HEAD, PUT")),
            },
            Route::TurborepoStatus | Route::TurborepoEvents => self.turborepo(route, parts),
            Route::Collection => self.collection(parts),
            Route::Index if is_read(&parts.method) => {
                Ok(index::page(&parts.headers, line.is_secure))
            }
            Route::Index => Err(Problem::method("GET, HEAD")),
            Route::Unclaimed => self.page(parts).await,
        };
        answered.unwrap_or_else(|problem| {
            if let Some(space) = space
                && problem.is_refusal()
            {
                self.shared.counters.space(space).refuse();
            }
            problem.answer(space)
        })
    }

    /// A name of `/cas/`, which does not say by which hash it is: by one that clients are told is known here.
    fn known(&self, name: BlobName) -> BlobName {
        match self.shared.dialects.blake3 {
            true => name,
            false => BlobName::new(Some(HashFunction::Sha256), *name.hash(), name.size_bytes()),
        }
    }

    async fn put(&self, parts: &Parts, mut body: Coming, what: Put<'_>) -> Answered {
        let space = match what {
            Put::Entry(entry) => entry.space,
            Put::Blob(_) => Space::Bazel,
        };
        self.may(&parts.headers, space, Right::Write)?;
        let put = async {
            // Until the content is in the store.
            let share = Share::new(&self.shared);
            share.add(upload_bytes(
                body.size_hint().exact().unwrap_or(u64::MAX),
                parts.version == Version::HTTP_2,
                // How long it will be is known at its end only.
                is_inflated(&parts.headers).then_some(u64::MAX),
            ))?;
            match what {
                Put::Entry(entry) => self.put_entry(&entry, parts, &mut body, &share).await,
                Put::Blob(name) => self.put_blob(&name, parts, &mut body).await,
            }
        };
        // Boxed: reads, which are most requests, should not carry the state of an upload.
        let stored = Box::pin(put).await;
        if stored.is_err() {
            problem::take_the_rest(&parts.headers, body).await;
        }
        stored
    }

    async fn other_method(&self, entry: &Entry<'_>, parts: &Parts) -> Answered {
        let headers = &parts.headers;
        match (entry.space, parts.method.as_str()) {
            (Space::Ccache | Space::Sccache | Space::Gradle, "DELETE") => {
                self.may(headers, entry.space, Right::Write)?;
                self.delete_entry(entry).await
            }
            (Space::Sccache, "PROPFIND") => {
                self.may(headers, entry.space, Right::Read)?;
                self.properties_of_entry(entry, parts.uri.path()).await
            }
            (Space::Sccache, "MKCOL") => {
                self.may(headers, entry.space, Right::Write)?;
                Ok(status(StatusCode::CREATED))
            }
            (Space::Sccache, "OPTIONS") => Ok(webdav::options()),
            (Space::Turborepo, "OPTIONS") => Ok(turborepo::preflight()),
            (Space::Sccache, _) => Err(Problem::method(webdav::METHODS)),
            (Space::Ccache | Space::Gradle, _) => Err(Problem::method("GET, HEAD, PUT, DELETE")),
            _ => Err(Problem::method("GET, HEAD, PUT")),
        }
    }

    /// Checks the credentials of a request.
    fn may(&self, headers: &HeaderMap, space: Space, wanted: Right) -> Result<(), Problem> {
        let access = &self.shared.access;
        if access.lets_anybody(wanted) {
            return Ok(());
        }
        let authorization = headers.get(header::AUTHORIZATION);
        let authorization = authorization.map(HeaderValue::as_bytes);
        match access.check(authorization, space, wanted) {
            Ok(()) => Ok(()),
            Err(Refusal::Unknown) => Err(Problem::unknown()),
            Err(Refusal::Forbidden) => Err(Problem::forbidden(space, wanted)),
        }
    }

    /// Whether the credentials of a request are good for every space.
    fn may_all(&self, headers: &HeaderMap, wanted: Right) -> bool {
        let authorization = headers.get(header::AUTHORIZATION);
        let authorization = authorization.map(HeaderValue::as_bytes);
        self.shared.access.check_all(authorization, wanted)
    }

    async fn page(&self, parts: &Parts) -> Answered {
        let pages = self.shared.pages.as_ref();
        let Some(page) = pages.and_then(|pages| pages.page(parts.uri.path())) else {
            return Err(Problem::new(
                StatusCode::NOT_FOUND,
                "nothing is here; the page at / lists what this node serves".to_owned(),
            ));
        };
        if !is_read(&parts.method) {
            return Err(Problem::method("GET, HEAD"));
        }
        let page = page.await;
        let mut answer = index::text(page.body, &parts.headers);
        *answer.status_mut() =
            StatusCode::from_u16(page.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let kind = HeaderValue::from_static(page.content_type);
        answer.headers_mut().insert(header::CONTENT_TYPE, kind);
        Ok(answer)
    }
}

/// Has the connection send the file that an answer lies in, where it can; over HTTP/2 an answer goes out
/// in pieces instead.
fn announce(answer: &mut Response<Answer>, version: Version, line: &Line) {
    if version == Version::HTTP_2 {
        answer.body_mut().multiplex();
    } else if let Some(outgoing) = &line.outgoing
        && let Some((bytes, part)) = answer.body_mut().take_file()
    {
        outgoing.announce(bytes, part);
    } else if line.is_secure {
        answer.body_mut().read_out();
    }
}

/// Keeps a request running until its answer is gone.
fn keep(answer: &mut Response<Answer>, mut busy: Busy) {
    if let Some(watched) = &mut busy.watched {
        watched.answered(answer.status(), answer.headers());
        if answer.body().is_end_stream() {
            watched.is_whole();
        }
    }
    answer.body_mut().keep(busy);
}

/// Whether a body comes compressed.
fn is_inflated(headers: &HeaderMap) -> bool {
    let encoding = headers.get(header::CONTENT_ENCODING);
    encoding.is_some_and(|encoding| encoding == "zstd")
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

fn space_of(route: &Route<'_>) -> Option<Space> {
    match route {
        Route::Entry(entry) => Some(entry.space),
        Route::Blob(_) => Some(Space::Bazel),
        Route::TurborepoStatus | Route::TurborepoEvents => Some(Space::Turborepo),
        Route::Collection => Some(Space::Sccache),
        Route::Index | Route::Unclaimed => None,
    }
}

/// An answer without a body.
fn status(status: StatusCode) -> Response<Answer> {
    let mut answer = Response::new(Answer::empty());
    *answer.status_mut() = status;
    answer
}
