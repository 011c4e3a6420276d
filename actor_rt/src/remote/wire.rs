//! What is on the wire.
//!
//! Owns: greetings and frames. Does not know: sockets, actors.
//!
//! The side that connects sends a greeting: `ACTR`, a version byte, then the name of the actor and that of the
//! message's type, each with its length in two bytes. The other side answers one byte. Then come frames: a
//! length in four bytes, a message. All numbers are little-endian.

use bytes::{Buf, BufMut, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Most bytes of a message.
pub(super) const LARGEST: usize = 16 << 20;

const MAGIC: &[u8; 5] = b"ACTR\x01";
const LENGTH: usize = size_of::<u32>();

/// The answer to a greeting.
pub(super) const WELCOME: u8 = 0;
pub(super) const UNKNOWN: u8 = 1;
pub(super) const OTHER_TYPE: u8 = 2;

/// Why bytes are not what they should be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    #[error("a message of {0} bytes is larger than the {LARGEST} that are allowed")]
    TooLarge(usize),
    #[error("a message cannot be encoded or decoded: {0}")]
    Malformed(#[from] postcard::Error),
    #[error("the other side does not greet as an actor system does")]
    Stranger,
}

/// Appends a greeting.
///
/// # Errors
/// A name is longer than 65,535 bytes.
pub(super) fn greet(actor: &str, message: &str, out: &mut BytesMut) -> Result<(), WireError> {
    out.put_slice(MAGIC);
    for text in [actor, message] {
        let length = u16::try_from(text.len()).map_err(|_| WireError::TooLarge(text.len()))?;
        out.put_u16_le(length);
        out.put_slice(text.as_bytes());
    }
    Ok(())
}

/// The actor and the type that a greeting names, or `None` if more bytes are needed.
///
/// # Errors
/// The bytes are no greeting.
pub(super) fn greeting(bytes: &mut BytesMut) -> Result<Option<(String, String)>, WireError> {
    let known = bytes.len().min(MAGIC.len());
    if bytes[..known] != MAGIC[..known] {
        return Err(WireError::Stranger);
    }
    let mut rest = &bytes[known..];
    let mut texts = [String::new(), String::new()];
    for text in &mut texts {
        let Some((length, after)) = rest.split_first_chunk() else {
            return Ok(None);
        };
        let Some((name, after)) = after.split_at_checked(usize::from(u16::from_le_bytes(*length)))
        else {
            return Ok(None);
        };
        *text = String::from_utf8(name.to_vec()).map_err(|_| WireError::Stranger)?;
        rest = after;
    }
    let used = bytes.len() - rest.len();
    bytes.advance(used);
    let [actor, message] = texts;
    Ok(Some((actor, message)))
}

/// Appends a message; leaves `out` as it was if it cannot be encoded.
///
/// # Errors
/// It cannot be encoded, or is too large.
pub(super) fn put<M: Serialize>(message: &M, out: &mut Vec<u8>) -> Result<(), WireError> {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH]);
    let encoded = postcard::serialize_with_flavor(message, Append(out));
    let length = out.len() - start - LENGTH;
    let error = match encoded {
        Err(error) => WireError::Malformed(error),
        Ok(()) if length > LARGEST => WireError::TooLarge(length),
        Ok(()) => {
            // Below `LARGEST`, so it fits.
            out[start..start + LENGTH].copy_from_slice(&(length as u32).to_le_bytes());
            return Ok(());
        }
    };
    out.truncate(start);
    Err(error)
}

/// Lets postcard write into the buffer itself.
struct Append<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Append<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Takes the next whole message from the front; `None` if more bytes are needed.
///
/// # Errors
/// The bytes are no message of this type, or too many.
pub(super) fn take<M: DeserializeOwned>(bytes: &mut &[u8]) -> Result<Option<M>, WireError> {
    let Some((length, rest)) = bytes.split_first_chunk() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*length) as usize;
    if length > LARGEST {
        return Err(WireError::TooLarge(length));
    }
    let Some((frame, rest)) = rest.split_at_checked(length) else {
        return Ok(None);
    };
    let message = postcard::from_bytes(frame)?;
    *bytes = rest;
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_come_out_as_they_went_in_however_they_are_cut() {
        let mut all = Vec::new();
        for n in 0..50_u64 {
            put(&(n, "text".repeat(n as usize)), &mut all).expect("it fits");
        }
        for cut in [1, 7, 64, 1000] {
            let (mut bytes, mut next) = (Vec::new(), 0);
            for piece in all.chunks(cut) {
                bytes.extend_from_slice(piece);
                let mut rest = &bytes[..];
                while let Some((n, text)) = take::<(u64, String)>(&mut rest).expect("well formed") {
                    assert_eq!((n, text.len()), (next, 4 * n as usize));
                    next += 1;
                }
                bytes = rest.to_vec();
            }
            assert_eq!(next, 50);
        }
    }

    #[test]
    fn a_greeting_may_come_in_pieces_and_strangers_are_known_early() {
        let mut whole = BytesMut::new();
        greet("tally", "u64", &mut whole).expect("short names");
        for cut in 0..whole.len() {
            let mut part = BytesMut::from(&whole[..cut]);
            assert_eq!(greeting(&mut part), Ok(None));
        }
        let names = greeting(&mut whole).expect("it is one");
        assert_eq!(names, Some(("tally".into(), "u64".into())));
        assert!(whole.is_empty());
        let mut http = BytesMut::from(&b"GET"[..]);
        assert_eq!(greeting(&mut http), Err(WireError::Stranger));
        assert!(greet(&"x".repeat(70_000), "u64", &mut whole).is_err());
    }

    #[test]
    fn lengths_out_of_bounds_are_refused_before_anything_is_waited_for() {
        let refused = take::<u64>(&mut &[255_u8; 4][..]).expect_err("too large");
        assert_eq!(refused, WireError::TooLarge(u32::MAX as usize));
    }

    #[test]
    fn what_is_too_large_leaves_the_buffer_as_it_was() {
        let mut out = Vec::new();
        put(&1_u8, &mut out).expect("it fits");
        let before = out.clone();
        assert!(put(&vec![0_u8; LARGEST + 1], &mut out).is_err());
        assert_eq!(out, before);
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut garbage = BytesMut::from(&bytes[..]);
            let _ = greeting(&mut garbage);
            let mut garbage = &bytes[..];
            loop {
                let before = garbage.len();
                let Ok(Some(_)) = take::<(u8, String, Option<Vec<u32>>)>(&mut garbage) else {
                    break;
                };
                prop_assert!(garbage.len() < before);
            }
        }
    }
}
