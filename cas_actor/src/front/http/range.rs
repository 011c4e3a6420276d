//! The `Range` header: one range of bytes.
//!
//! Owns: reading it against the size of a blob.
//! Does not know: blobs.
//! Invariants: a part lies within the blob and is not empty; what is no single range of bytes is
//! ignored, as the protocol wants it.
#![forbid(unsafe_code)]

use hyper::header::{self, HeaderMap};

/// What a client wants of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Whole,
    Part {
        start: u64,
        length: u64,
    },
    /// Nothing of the range is in the blob.
    Outside,
}

/// What the headers ask for of a blob of `size_bytes`.
pub(super) fn wanted(headers: &HeaderMap, size_bytes: u64) -> Wanted {
    let range = headers
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok());
    match range {
        // Whether the client's part is still of this content is not known here: send all of it.
        Some(_) if headers.contains_key(header::IF_RANGE) => Wanted::Whole,
        Some(range) => read(range, size_bytes).unwrap_or(Wanted::Whole),
        None => Wanted::Whole,
    }
}

fn read(range: &str, size_bytes: u64) -> Option<Wanted> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse::<u64>().ok()).flatten()
    };
    let (start, end) = match (first, last) {
        ("", last) => (size_bytes.saturating_sub(number(last)?), size_bytes),
        (first, "") => (number(first)?, size_bytes),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            (first, last.saturating_add(1).min(size_bytes))
        }
    };
    if start >= end {
        return Some(Wanted::Outside);
    }
    Some(Wanted::Part {
        start,
        length: end - start,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_are_read_as_the_protocol_says() {
        let part = |start, length| Some(Wanted::Part { start, length });
        for (text, expected) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=2-4", part(2, 3)),
            ("bytes=7-", part(7, 3)),
            ("bytes=-4", part(6, 4)),
            ("bytes=-99", part(0, 10)),
            ("bytes=5-99", part(5, 5)),
            ("bytes=10-", Some(Wanted::Outside)),
            ("bytes=-0", Some(Wanted::Outside)),
            ("bytes=4-2", None),
            ("bytes=0-1,3-4", None),
            ("bytes=+1-2", None),
            ("bytes=-", None),
            ("lines=1-2", None),
        ] {
            assert_eq!(read(text, 10), expected, "{text}");
        }
        assert_eq!(read("bytes=0-", 0), Some(Wanted::Outside));
    }

    proptest! {
        #[test]
        fn a_part_is_inside(text in "bytes=[0-9]{0,20}-[0-9]{0,20}", size in any::<u64>()) {
            if let Some(Wanted::Part { start, length }) = read(&text, size) {
                prop_assert!(length > 0 && start.checked_add(length).unwrap() <= size);
            }
        }
    }
}
