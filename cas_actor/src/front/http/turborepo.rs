//! What Turborepo says beside reading and storing artifacts.
//!
//! Owns: its status and events, and the headers that it wants back with an artifact.
//! Does not know: where artifacts lie.
#![forbid(unsafe_code)]

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

use super::problem::Problem;
use super::route::Route;
use super::{Answered, Http, status};
use crate::front::Space;
use crate::front::access::Right;
use crate::front::body::Answer;

const DURATION: HeaderName = HeaderName::from_static("x-artifact-duration");
const TAG: HeaderName = HeaderName::from_static("x-artifact-tag");
/// A signature is 44 characters of base64; nobody needs much more.
const LONGEST_TAG: usize = 600;

impl Http {
    /// `GET status`, `POST events`, and the preflight of both.
    pub(super) fn turborepo(&self, route: Route<'_>, parts: &Parts) -> Answered {
        if parts.method == Method::OPTIONS {
            return Ok(preflight());
        }
        self.may(&parts.headers, Space::Turborepo, Right::Read)?;
        match (route, &parts.method) {
            (Route::TurborepoStatus, &Method::GET) => Ok(json("{\"status\":\"enabled\"}")),
            (Route::TurborepoStatus, _) => Err(Problem::method("GET, OPTIONS")),
            // The client's own hits and misses; ours are counted where they happen.
            (_, &Method::POST) => Ok(json("{}")),
            _ => Err(Problem::method("POST, OPTIONS")),
        }
    }
}

/// What is kept beside an artifact: its duration and its tag.
pub(super) fn note(headers: &HeaderMap) -> Result<Bytes, Problem> {
    let value = |name: &HeaderName| headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
    let (duration, tag) = (value(&DURATION), value(&TAG));
    if duration.len() > 20 || !duration.iter().all(u8::is_ascii_digit) {
        return Err(Problem::bad_request(
            "x-artifact-duration is a number of milliseconds".to_owned(),
        ));
    }
    if tag.len() > LONGEST_TAG {
        return Err(Problem::bad_request(format!(
            "x-artifact-tag is longer than {LONGEST_TAG} characters"
        )));
    }
    if duration.is_empty() && tag.is_empty() {
        return Ok(Bytes::new());
    }
    Ok([duration, b"\n", tag].concat().into())
}

/// Puts what was kept beside an artifact into its answer.
pub(super) fn add_headers(note: &[u8], headers: &mut HeaderMap) {
    let Some(end) = note.iter().position(|byte| *byte == b'\n') else {
        return;
    };
    for (name, value) in [(DURATION, &note[..end]), (TAG, &note[end + 1..])] {
        if let Ok(value) = HeaderValue::from_bytes(value)
            && !value.is_empty()
        {
            headers.insert(name, value);
        }
    }
}

/// The answer to a stored artifact.
pub(super) fn stored() -> Response<Answer> {
    json("{\"urls\":[]}")
}

/// A browser or a careful client asks first.
pub(super) fn preflight() -> Response<Answer> {
    let mut answer = status(StatusCode::NO_CONTENT);
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (
            header::ACCESS_CONTROL_ALLOW_METHODS,
            "GET, HEAD, PUT, POST, OPTIONS",
        ),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, content-type, user-agent, x-artifact-duration, x-artifact-tag, \
             x-artifact-client-ci, x-artifact-client-interactive",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn json(text: &'static str) -> Response<Answer> {
    let mut answer = Response::new(Answer::bytes(text));
    let kind = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_and_tag_come_back_and_nonsense_is_refused() {
        let mut sent = HeaderMap::new();
        assert!(note(&sent).unwrap().is_empty());
        sent.insert(DURATION, HeaderValue::from_static("1234"));
        sent.insert(TAG, HeaderValue::from_static("c2ln"));
        let mut answered = HeaderMap::new();
        add_headers(&note(&sent).unwrap(), &mut answered);
        assert_eq!(answered, sent);

        sent.insert(DURATION, HeaderValue::from_static("soon"));
        assert!(note(&sent).is_err());
    }
}
