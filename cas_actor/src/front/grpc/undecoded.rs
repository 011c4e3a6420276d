//! Calls whose answers are taken as they come.
//!
//! Owns: a codec that decodes nothing.
//! Does not know: what the bytes say. Few of them may become much in memory (`weight`), so it is for who
//! decodes them to weigh them first.
#![forbid(unsafe_code)]

use std::marker::PhantomData;

use ::bytes::{Buf, Bytes};
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

/// Sends messages, and takes bytes.
pub(super) struct Undecoded<T>(PhantomData<T>);

impl<T> Default for Undecoded<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message + Send + 'static> Codec for Undecoded<T> {
    type Encode = T;
    type Decode = Bytes;
    type Encoder = ProstEncoder<T>;
    type Decoder = AsBytes;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> AsBytes {
        AsBytes
    }
}

/// The bytes of a message.
pub(super) struct AsBytes;

impl Decoder for AsBytes {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}
