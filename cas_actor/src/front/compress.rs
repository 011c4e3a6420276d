//! Compressed answers.
//!
//! Owns: what a client accepts, whether compressing is worth it, and doing it.
//! Does not know: what is compressed, or how the answer says so.
//! Invariants: content that does not get smaller is answered as it is; a large content is compressed
//! by a thread that may wait for a slow reader, a few pieces ahead of it.
#![forbid(unsafe_code)]

use std::io::{self, Write};

use bytes::Bytes;
use futures_util::{Stream, stream};
use hyper::header::{self, HeaderMap, HeaderValue};
use tokio::sync::mpsc;

use crate::Blob;

/// Fast: the network is faster than a better level.
const LEVEL: i32 = 1;
/// What is compressed at a time.
const PIECE_BYTES: usize = 512 * 1024;
/// Compressed pieces that wait for a slow reader.
const PIECES_AHEAD: usize = 4;
/// What a stream that is compressed holds: the pieces that wait, and what zstd needs.
pub(super) const STREAM_BYTES: u64 = (PIECES_AHEAD as u64 + 2) * PIECE_BYTES as u64 + 1024 * 1024;
/// Less than this is one packet anyhow.
const LEAST_BYTES: usize = 1024;
/// What is compressed to see whether the rest is worth it.
const SAMPLE_BYTES: usize = 16 * 1024;

/// How an answer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Zstd,
    Gzip,
}

impl Coding {
    /// The best one that the client accepts.
    pub(crate) fn accepted(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(header::ACCEPT_ENCODING).into_iter();
        let texts = values.filter_map(|value| value.to_str().ok());
        let mut gzip = None;
        for one in texts.flat_map(|text| text.split(',')) {
            match accepted(one) {
                Some("zstd") => return Some(Self::Zstd),
                Some("gzip" | "x-gzip") => gzip = Some(Self::Gzip),
                _ => {}
            }
        }
        gzip
    }

    /// Its name in headers.
    pub(crate) fn value(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        })
    }

    /// A whole text in memory; `None` when it is not worth it.
    pub(crate) fn compress(self, content: &[u8]) -> Option<Bytes> {
        if content.len() < LEAST_BYTES {
            return None;
        }
        let compressed = match self {
            Self::Zstd => zstd::bulk::compress(content, LEVEL),
            Self::Gzip => {
                let level = flate2::Compression::default();
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                let written = encoder.write_all(content);
                written.and_then(|()| encoder.finish())
            }
        };
        let compressed = compressed.ok()?;
        (compressed.len() < content.len()).then(|| compressed.into())
    }
}

/// The coding that one element of `Accept-Encoding` accepts.
fn accepted(element: &str) -> Option<&str> {
    let (coding, parameters) = element.split_once(';').unwrap_or((element, ""));
    let weight = parameters.trim().strip_prefix("q=");
    let is_refused = weight.is_some_and(|weight| weight.parse() == Ok(0.0_f32));
    (!is_refused).then(|| coding.trim())
}

/// Whether compressing a content with zstd makes it smaller by a tenth, judged by its beginning.
pub(crate) fn is_worth_it(content: &Blob) -> bool {
    if content.len() < LEAST_BYTES {
        return false;
    }
    let sample = content.clone().take_piece(SAMPLE_BYTES);
    sample.is_ok_and(|sample| {
        zstd::bulk::compress(&sample, LEVEL)
            .is_ok_and(|compressed| compressed.len() < sample.len() / 10 * 9)
    })
}

/// A content compressed with zstd on the way, by a thread that may wait for a slow reader.
pub(crate) fn stream(mut content: Blob) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let (pieces, read) = mpsc::channel(PIECES_AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut encoder = match zstd::stream::write::Encoder::new(Vec::new(), LEVEL) {
            Ok(encoder) => encoder,
            Err(error) => {
                let _ = pieces.blocking_send(Err(error));
                return;
            }
        };
        while !content.is_empty() {
            let ready = content.take_piece(PIECE_BYTES).map(|piece| {
                // Into memory: this cannot fail.
                let _ = encoder.write_all(&piece);
                std::mem::take(encoder.get_mut())
            });
            let is_broken = ready.is_err();
            let is_nothing = ready.as_ref().is_ok_and(Vec::is_empty);
            if !is_nothing && pieces.blocking_send(ready.map(Bytes::from)).is_err() || is_broken {
                // The reader has gone.
                return;
            }
        }
        let _ = pieces.blocking_send(encoder.finish().map(Bytes::from));
    });
    stream::unfold(read, |mut read| async move {
        let piece = read.recv().await?;
        Some((piece, read))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::TryStreamExt;

    #[test]
    fn the_best_accepted_coding_is_chosen() {
        let chosen = |text: &'static str| {
            let value = HeaderValue::from_static(text);
            Coding::accepted(&[(header::ACCEPT_ENCODING, value)].into_iter().collect())
        };
        assert_eq!(chosen("gzip, deflate, br, zstd"), Some(Coding::Zstd));
        assert_eq!(chosen("gzip;q=1.0, zstd;q=0"), Some(Coding::Gzip));
        assert_eq!(chosen("gzip ; q=0.0"), None);
        assert_eq!(chosen("identity, br"), None);
        assert_eq!(chosen("*"), None);
        assert_eq!(Coding::accepted(&HeaderMap::new()), None);
    }

    #[tokio::test]
    async fn what_is_compressed_comes_back() {
        let text = "all work and no play ".repeat(100_000);
        let zstd = Coding::Zstd.compress(text.as_bytes()).unwrap();
        assert!(zstd::decode_all(&zstd[..]).unwrap() == text.as_bytes());
        let gzip = Coding::Gzip.compress(text.as_bytes()).unwrap();
        let mut decoder = flate2::read::GzDecoder::new(&gzip[..]);
        assert!(io::read_to_string(&mut decoder).unwrap() == text);
        let pieces: Vec<Bytes> = stream(Bytes::from(text.clone()).into())
            .try_collect()
            .await
            .unwrap();
        assert!(zstd::decode_all(&pieces.concat()[..]).unwrap() == text.as_bytes());
    }

    #[test]
    fn noise_is_left_as_it_is() {
        let blob = |content: &[u8]| Blob::from(Bytes::copy_from_slice(content));
        let mut noise = vec![0; 100_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        assert!(!is_worth_it(&blob(&noise)));
        assert!(Coding::Gzip.compress(&noise).is_none());
        assert!(is_worth_it(&blob(&[7; 5000])));
        assert!(!is_worth_it(&blob(b"short")));
    }
}
