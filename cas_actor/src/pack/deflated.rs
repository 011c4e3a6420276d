//! Small blobs compressed with zstd, where that pays.
//!
//! Owns: the form of such a payload, and when it is worth it.
//! Does not know: names; whether the content is the right one is for its hash to say (`record`).
//! Invariant: inflating takes no more memory than the largest blob that is packed, whatever the
//! bytes are.
//!
//! Format: the size of the content (u32, little endian), one zstd frame.
#![forbid(unsafe_code)]

use bytes::Bytes;

use crate::layout::is_packed;

const SIZE_BYTES: usize = 4;
/// Below this there is nothing to gain.
const WORTH_FROM_BYTES: usize = 256;
/// What is saved has to be at least this share, or reading pays for nothing: one in so many.
const WORTH_SAVING: usize = 8;

/// The payload of a content; `None` where that is not smaller by enough.
pub(crate) fn deflate(content: &[u8], level: i32) -> Option<Bytes> {
    let is_small = u64::try_from(content.len()).is_ok_and(is_packed);
    if !is_small || content.len() < WORTH_FROM_BYTES {
        return None;
    }
    let most = content.len() - content.len() / WORTH_SAVING;
    let mut payload = vec![0; most];
    let size = u32::try_from(content.len()).ok()?;
    payload[..SIZE_BYTES].copy_from_slice(&size.to_le_bytes());
    // What does not fit is not worth it.
    let frame = &mut payload[SIZE_BYTES..];
    let length = zstd::bulk::compress_to_buffer(content, frame, level).ok()?;
    payload.truncate(SIZE_BYTES + length);
    Some(payload.into())
}

/// The size of the content, without looking at it.
pub(super) fn size_of(payload: &[u8]) -> Option<u32> {
    let size = u32::from_le_bytes(*payload.first_chunk::<SIZE_BYTES>()?);
    is_packed(u64::from(size)).then_some(size)
}

/// The content; `None` for what nobody has deflated.
pub(super) fn inflate(payload: &[u8]) -> Option<Vec<u8>> {
    let size = size_of(payload)? as usize;
    let content = zstd::bulk::decompress(&payload[SIZE_BYTES..], size).ok()?;
    (content.len() == size).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::PACK_UP_TO_BYTES;
    use proptest::prelude::*;

    #[test]
    fn only_what_becomes_smaller_is_deflated() {
        let text = vec![b'a'; PACK_UP_TO_BYTES as usize];
        let payload = deflate(&text, 3).unwrap();
        assert!(payload.len() < 100);
        assert_eq!(inflate(&payload), Some(text));
        let mut noise = vec![0; 10_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        assert_eq!(deflate(&noise, 3), None);
        assert_eq!(deflate(&[0; WORTH_FROM_BYTES - 1], 3), None);
        assert_eq!(deflate(&[0; PACK_UP_TO_BYTES as usize + 1], 3), None);
    }

    proptest! {
        #[test]
        fn what_is_deflated_is_inflated(
            pattern in prop::collection::vec(any::<u8>(), 1..40), times in 1usize..1000, level in -5i32..12,
        ) {
            let content = pattern.repeat(times);
            if let Some(payload) = deflate(&content, level) {
                prop_assert!(payload.len() < content.len());
                prop_assert_eq!(size_of(&payload), Some(content.len() as u32));
                prop_assert_eq!(inflate(&payload), Some(content));
            }
        }

        #[test]
        fn any_bytes_are_inflated_or_not(mut bytes in any::<Vec<u8>>(), is_frame in any::<bool>()) {
            if is_frame && bytes.len() > 8 {
                bytes[2..8].copy_from_slice(&[0, 0, 0x28, 0xb5, 0x2f, 0xfd]);
            }
            let content = inflate(&bytes);
            prop_assert!(content.is_none_or(|content| is_packed(content.len() as u64)));
        }
    }
}
