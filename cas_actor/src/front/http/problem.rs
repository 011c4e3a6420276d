//! Refusals and failures as HTTP answers.
//!
//! Owns: status and wording per kind of problem, and the form that a dialect wants.
//! Does not know: how the problem came about.
#![forbid(unsafe_code)]

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};

use crate::front::Space;
use crate::front::access::Right;
use crate::front::body::Answer;
use crate::front::held::NoRoom;
use crate::front::intake::IntakeError;
use crate::front::stall::{Coming, ComingError};
use crate::{GetError, PutError, ShardError};

/// What is read of a refused upload, so that the client listens to the answer. One that sends
/// more finds the connection closed.
const REST_BYTES: u64 = 8 * 1024 * 1024;
const REST_TIME: Duration = Duration::from_secs(2);

/// Why a request is not even looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overload {
    /// Everybody together asks too much.
    Node,
    /// This caller does.
    Caller {
        /// When there is room again.
        wait: Duration,
    },
}

impl Overload {
    pub(crate) fn message(&self) -> &'static str {
        match self {
            Self::Node => "too many requests at this node; try again in a second",
            Self::Caller { .. } => {
                "more requests than the node's configuration allows one caller                  (requests_per_second); try again later"
            }
        }
    }
}

/// Why a request has no better answer.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    message: String,
    header: Option<(header::HeaderName, HeaderValue)>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, message: String) -> Self {
        Self {
            status,
            message,
            header: None,
        }
    }

    pub(crate) fn bad_request(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// The usual end of a read in a cache. Cheap.
    pub(crate) fn miss() -> Self {
        Self::new(StatusCode::NOT_FOUND, String::new())
    }

    pub(crate) fn method(allowed: &'static str) -> Self {
        Self {
            status: StatusCode::METHOD_NOT_ALLOWED,
            message: format!("here one may {allowed}"),
            header: Some((header::ALLOW, HeaderValue::from_static(allowed))),
        }
    }

    pub(crate) fn busy(message: &str) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            message: message.to_owned(),
            header: Some((header::RETRY_AFTER, HeaderValue::from_static("1"))),
        }
    }

    pub(crate) fn overload(overload: &Overload) -> Self {
        let busy = Self::busy(overload.message());
        match overload {
            Overload::Node => busy,
            Overload::Caller { wait } => Self {
                status: StatusCode::TOO_MANY_REQUESTS,
                header: Some((
                    header::RETRY_AFTER,
                    HeaderValue::from(wait.as_secs().saturating_add(1)),
                )),
                ..busy
            },
        }
    }

    pub(crate) fn unknown() -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            message: "this node wants credentials: a bearer token, or a user and a password"
                .to_owned(),
            header: Some((
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"zako\", charset=\"UTF-8\""),
            )),
        }
    }

    pub(crate) fn forbidden(space: Space, wanted: Right) -> Self {
        let verb = match wanted {
            Right::Write => "write to",
            Right::Read | Right::None => "read from",
        };
        let message = format!("these credentials may not {verb} `{}`", space.name());
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// Whether the client asked for something that it should not have asked for.
    pub(crate) fn is_refusal(&self) -> bool {
        self.status.is_client_error() && self.status != StatusCode::NOT_FOUND
    }

    /// The request has taken all its time.
    pub(crate) fn too_long(limit: Duration, is_upload: bool) -> Self {
        let limit = limit.as_secs();
        match is_upload {
            true => Self::new(
                StatusCode::REQUEST_TIMEOUT,
                format!("the upload took longer than {limit} s"),
            ),
            false => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                format!("there was no answer within {limit} s"),
            ),
        }
    }

    /// The answer, in the form that clients of `space` want.
    pub(crate) fn answer(self, space: Option<Space>) -> Response<Answer> {
        let is_json = space == Some(Space::Turborepo) && !self.message.is_empty();
        let (body, kind) = if is_json {
            (self.json(), "application/json")
        } else if self.message.is_empty() {
            (String::new(), "")
        } else {
            (format!("{}\n", self.message), "text/plain; charset=utf-8")
        };
        let mut answer = Response::new(Answer::bytes(body));
        *answer.status_mut() = self.status;
        let headers = answer.headers_mut();
        if !kind.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        if let Some((name, value)) = self.header {
            headers.insert(name, value);
        }
        answer
    }

    /// The form of Turborepo, which stops using the cache for the run when it reads this code.
    fn json(&self) -> String {
        let code = match self.status {
            StatusCode::FORBIDDEN => "remote_caching_disabled",
            StatusCode::UNAUTHORIZED => "unauthorized",
            StatusCode::PAYLOAD_TOO_LARGE => "too_large",
            _ => "failed",
        };
        serde_json::json!({ "error": { "code": code, "message": self.message } }).to_string()
    }
}

/// A failure of our own: told to the log as well.
fn failure(status: StatusCode, error: &dyn std::error::Error) -> Problem {
    tracing::warn!(%error, "a request failed");
    Problem::new(status, error.to_string())
}

impl From<ShardError> for Problem {
    fn from(error: ShardError) -> Self {
        match error {
            ShardError::Closed => Self::busy("the store is closing or restarting"),
            ShardError::Io(_) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error),
        }
    }
}

impl From<GetError> for Problem {
    fn from(error: GetError) -> Self {
        match &error {
            // Damaged is as good as missing, and a new upload heals it.
            GetError::NotFound(_) | GetError::Corrupt { .. } => Self::miss(),
            GetError::OutOfRange(_) => {
                Self::new(StatusCode::RANGE_NOT_SATISFIABLE, error.to_string())
            }
            GetError::Closed => Self::busy("the store is closing or restarting"),
            GetError::Io(_) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error),
        }
    }
}

impl From<PutError> for Problem {
    fn from(error: PutError) -> Self {
        match &error {
            PutError::DigestMismatch { .. } | PutError::NameMismatch(_) => {
                Self::bad_request(format!("{error}; nothing was stored"))
            }
            PutError::EntryTooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string())
            }
            PutError::NoSpace(_) | PutError::OverBudget { .. } => {
                failure(StatusCode::INSUFFICIENT_STORAGE, &error)
            }
            PutError::Closed => Self::busy("the store is closing or restarting"),
            _ => failure(StatusCode::INTERNAL_SERVER_ERROR, &error),
        }
    }
}

impl From<NoRoom> for Problem {
    fn from(no_room: NoRoom) -> Self {
        Self::busy(&no_room.to_string())
    }
}

impl From<ComingError> for Problem {
    fn from(error: ComingError) -> Self {
        let status = match error {
            ComingError::Broken(_) => StatusCode::BAD_REQUEST,
            ComingError::Late | ComingError::Stalled(_) => StatusCode::REQUEST_TIMEOUT,
        };
        let message = format!("the body ended early, nothing was stored: {error}");
        Self::new(status, message)
    }
}

impl From<IntakeError> for Problem {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::TooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string())
            }
            IntakeError::Compression(_) => Self::bad_request(error.to_string()),
            IntakeError::Put(error) => error.into(),
            IntakeError::Stopping => Self::busy("the node is shutting down"),
        }
    }
}

/// Reads and forgets some of an upload that was refused.
pub(crate) async fn take_the_rest(headers: &HeaderMap, mut body: Coming) {
    if headers.contains_key(header::EXPECT) {
        // The client waits for our word before it sends anything.
        return;
    }
    let rest = async {
        let mut taken = 0;
        while taken < REST_BYTES {
            match body.frame().await {
                Some(Ok(frame)) => taken += frame.data_ref().map_or(0, |data| data.len() as u64),
                _ => break,
            }
        }
    };
    // In time or not: the answer goes out now.
    let _ = tokio::time::timeout(REST_TIME, rest).await;
}
