//! The little of WebDAV that sccache speaks.
//!
//! Owns: PROPFIND, MKCOL and OPTIONS.
//! Does not know: listings: a collection always exists and says nothing of what is in it.
#![forbid(unsafe_code)]

use std::time::{Duration, UNIX_EPOCH};

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

use super::entry::name_of;
use super::problem::Problem;
use super::route::Entry;
use super::{Answered, Http, status};
use crate::front::Space;
use crate::front::access::Right;
use crate::front::body::Answer;
use crate::front::names::Bound;

/// The last second of the year 9999: dates have four digits of it.
const LAST_DATE: u64 = 253_402_300_799;
/// What one may do in `/sccache/`.
pub(super) const METHODS: &str = "GET, HEAD, PUT, DELETE, PROPFIND, MKCOL, OPTIONS";

impl Http {
    /// A request to a collection.
    pub(super) fn collection(&self, parts: &Parts) -> Answered {
        match parts.method.as_str() {
            "OPTIONS" => Ok(options()),
            "PROPFIND" => {
                self.may(&parts.headers, Space::Sccache, Right::Read)?;
                Ok(properties(parts.uri.path(), None))
            }
            "MKCOL" => {
                self.may(&parts.headers, Space::Sccache, Right::Write)?;
                Ok(status(StatusCode::CREATED))
            }
            _ => Err(Problem::method("PROPFIND, MKCOL, OPTIONS")),
        }
    }

    /// The properties of an entry. A name that is not bound may be a collection, but clients ask
    /// for those with a slash at the end.
    pub(super) async fn properties_of_entry(&self, entry: &Entry<'_>, path: &str) -> Answered {
        let shared = self.shared();
        let Some(bound) = shared.names.resolve(&name_of(entry, || false)).await? else {
            return Err(Problem::miss());
        };
        if shared.store.contains(&[bound.digest]).await? != [true] {
            return Err(Problem::miss());
        }
        Ok(properties(path, Some(&bound)))
    }
}

pub(super) fn options() -> Response<Answer> {
    let mut answer = status(StatusCode::NO_CONTENT);
    let headers = answer.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static(METHODS));
    headers.insert(
        HeaderName::from_static("dav"),
        HeaderValue::from_static("1"),
    );
    answer
}

/// The answer to PROPFIND: of a file when something is bound, otherwise of a collection.
fn properties(path: &str, bound: Option<&Bound>) -> Response<Answer> {
    let (kind, size, stored_unix_s) = match bound {
        None => ("<D:collection/>", String::new(), 0),
        Some(bound) => {
            let size_bytes = bound.digest.size_bytes();
            let size = format!("<D:getcontentlength>{size_bytes}</D:getcontentlength>");
            ("", size, bound.stored_unix_s)
        }
    };
    // A path holds no character that XML would mind: `route` has seen to that, and hyper to the
    // rest; `&` is the exception.
    let path = path.replace('&', "&amp;").replace('<', "&lt;");
    let stored = UNIX_EPOCH + Duration::from_secs(stored_unix_s.min(LAST_DATE));
    let modified = httpdate::fmt_http_date(stored);
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
         <D:multistatus xmlns:D=\"DAV:\"><D:response><D:href>{path}</D:href><D:propstat><D:prop>\
         <D:resourcetype>{kind}</D:resourcetype>{size}\
         <D:getlastmodified>{modified}</D:getlastmodified>\
         </D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response></D:multistatus>\n"
    );
    let mut answer = Response::new(Answer::bytes(text));
    *answer.status_mut() = StatusCode::MULTI_STATUS;
    let kind = HeaderValue::from_static("application/xml; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_far_away_does_not_panic() {
        let digest = crate::Digest::of(b"x");
        let bound = Bound {
            digest,
            stored_unix_s: u64::MAX,
            note: bytes::Bytes::new(),
        };
        assert_eq!(
            properties("/sccache/a&b", Some(&bound)).status(),
            StatusCode::MULTI_STATUS
        );
    }
}
