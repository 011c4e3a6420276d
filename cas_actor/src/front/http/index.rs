//! The page at `/`: how to point each client at this node.
//!
//! Owns: the page and filling the node's own address into it.
//! Does not know: what the node holds.
//! Invariant: nothing of a request gets into the page but a host that looks like one.
#![forbid(unsafe_code)]

use bytes::Bytes;
use hyper::Response;
use hyper::header::{self, HeaderMap, HeaderValue};

use crate::front::body::Answer;
use crate::front::compress::Coding;

const PAGE: &str = include_str!("index.html");
/// Stand in the page for how the client has reached us: the host, and what the address begins with.
const PLACE: &str = "NODE";
const SCHEMES: [(&str, &str, &str); 2] = [
    ("HTTP://", "http://", "https://"),
    ("GRPC://", "grpc://", "grpcs://"),
];
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

/// The page, with the address that the client used, with or without TLS.
pub(super) fn page(headers: &HeaderMap, is_secure: bool) -> Response<Answer> {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let host = host
        .filter(|host| is_host(host))
        .unwrap_or("127.0.0.1:7471");
    let mut page = PAGE.replace(PLACE, host);
    for (place, plain, secure) in SCHEMES {
        page = page.replace(place, if is_secure { secure } else { plain });
    }
    let mut answer = text(page, headers);
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// A text as an answer, compressed if the client likes that.
pub(super) fn text(text: impl Into<Bytes>, headers: &HeaderMap) -> Response<Answer> {
    let text = text.into();
    let coding = Coding::accepted(headers);
    let compressed = coding.and_then(|coding| Some((coding, coding.compress(&text)?)));
    let mut answer = Response::new(match &compressed {
        Some((_, compressed)) => Answer::bytes(compressed.clone()),
        None => Answer::bytes(text),
    });
    let headers = answer.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Some((coding, _)) = compressed {
        headers.insert(header::CONTENT_ENCODING, coding.value());
    }
    answer
}

fn is_host(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    !text.is_empty() && text.len() <= 255 && text.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_host() {
        for good in [
            "localhost",
            "10.0.0.1:8980",
            "[::1]:80",
            "cache.example.org",
        ] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["", "a<script>", "a\"b", "a b", "a/b"] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}
