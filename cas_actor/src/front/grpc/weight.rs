//! What a message becomes in memory, told by its bytes before it is decoded.
//!
//! Owns: the kinds of messages of which few bytes become much, and following one while it comes in.
//! Does not know: what a message means, or what there is room for.
//! Invariants: nothing of a message is kept; whatever decoding makes of bytes was weighed before, also where
//! they turn out to be no message.
//!
//! An entry of a list may be two bytes on the wire, and is a whole structure in memory.
#![forbid(unsafe_code)]

use super::api::re;
use super::api::zako;

/// What memory rounds the texts of an entry up by.
const ROUNDED_BYTES: u64 = 32;
/// What a number weighs; a list grows to twice its length.
const NUMBER_BYTES: u64 = 2 * size_of::<i32>() as u64;

/// A kind of message: those of its fields that may become more than their bytes.
#[derive(Debug)]
pub(super) struct Kind(pub(super) &'static [(u32, Field)]);

/// A field.
#[derive(Debug)]
pub(super) enum Field {
    /// There is one of it; a message.
    One(&'static Kind),
    /// A list: what an entry weighs, and its kind.
    Many(u64, &'static Kind),
    /// A list of numbers, one by one or together.
    Numbers,
}

/// What an entry of a list weighs, besides its bytes: a list grows to twice its length.
pub(super) const fn entry<T>() -> u64 {
    2 * size_of::<T>() as u64 + ROUNDED_BYTES
}

/// Nothing of it becomes more than its bytes.
pub(super) static PLAIN: Kind = Kind(&[]);

static PROPERTIES: Kind = Kind(&[(1, Field::Many(entry::<re::NodeProperty>(), &PLAIN))]);
static FILE_NODE: Kind = Kind(&[(6, Field::One(&PROPERTIES))]);
static SYMLINK: Kind = Kind(&[(4, Field::One(&PROPERTIES))]);

/// [`re::Directory`].
pub(super) static DIRECTORY: Kind = Kind(&[
    (1, Field::Many(entry::<re::FileNode>(), &FILE_NODE)),
    (2, Field::Many(entry::<re::DirectoryNode>(), &PLAIN)),
    (3, Field::Many(entry::<re::SymlinkNode>(), &SYMLINK)),
    (5, Field::One(&PROPERTIES)),
]);

static OUTPUT_FILE: Kind = Kind(&[(7, Field::One(&PROPERTIES))]);
static METADATA: Kind = Kind(&[(11, Field::Many(entry::<prost_types::Any>(), &PLAIN))]);

/// [`re::ActionResult`].
pub(super) static RESULT: Kind = Kind(&[
    (2, Field::Many(entry::<re::OutputFile>(), &OUTPUT_FILE)),
    (3, Field::Many(entry::<re::OutputDirectory>(), &PLAIN)),
    (9, Field::One(&METADATA)),
    (10, Field::Many(entry::<re::OutputSymlink>(), &SYMLINK)),
    (11, Field::Many(entry::<re::OutputSymlink>(), &SYMLINK)),
    (12, Field::Many(entry::<re::OutputSymlink>(), &SYMLINK)),
]);

const DIGEST: Field = Field::Many(entry::<re::Digest>(), &PLAIN);

pub(super) static GET_RESULT: Kind = Kind(&[(5, Field::Many(entry::<String>(), &PLAIN))]);
pub(super) static UPDATE_RESULT: Kind = Kind(&[(3, Field::One(&RESULT))]);
pub(super) static FIND_MISSING: Kind = Kind(&[(2, DIGEST)]);
/// With its answer, which has a status for each blob.
pub(super) static BATCH_READ: Kind = Kind(&[
    (
        2,
        Field::Many(
            entry::<re::Digest>() + entry::<re::batch_read_blobs_response::Response>(),
            &PLAIN,
        ),
    ),
    (3, Field::Numbers),
]);
pub(super) static SPLICE: Kind = Kind(&[(3, DIGEST)]);
/// With its answer as well.
pub(super) static BATCH_UPDATE: Kind = Kind(&[(
    2,
    Field::Many(
        entry::<re::batch_update_blobs_request::Request>()
            + entry::<re::batch_update_blobs_response::Response>(),
        &PLAIN,
    ),
)]);
pub(super) static NEGOTIATE: Kind = Kind(&[(1, Field::Many(entry::<zako::Digest>(), &PLAIN))]);
pub(super) static DETAILS: Kind = Kind(&[(1, Field::Numbers)]);

/// What a message that is here becomes, besides its bytes.
pub(super) fn weight(kind: &'static Kind, message: &[u8]) -> u64 {
    let mut scale = Scale::new(kind, message.len() as u64);
    scale.take(message);
    scale.weight
}

/// Follows one message.
#[derive(Debug)]
pub(super) struct Scale {
    /// What the entries that have begun weigh.
    pub(super) weight: u64,
    length: u64,
    /// Bytes that have come.
    at: u64,
    /// The messages around the next byte, the innermost last, and where each ends.
    around: Vec<(&'static Kind, u64)>,
    /// Groups around it: nobody uses them any more, and what is in them is passed over.
    groups: u32,
    /// Bytes that are not looked at.
    passed: u64,
    next: Next,
    /// A number as far as it has come.
    number: u64,
    shift: u32,
}

/// What the next number is.
#[derive(Debug, Clone, Copy)]
enum Next {
    Tag,
    Value,
    /// The length of this field.
    Length(u64),
    /// This is no message: prost gives up here.
    Broken,
}

impl Scale {
    /// For a message of `length` bytes.
    pub(super) fn new(kind: &'static Kind, length: u64) -> Self {
        let mut scale = Self {
            weight: 0,
            length,
            at: 0,
            around: Vec::new(),
            groups: 0,
            passed: 0,
            next: Next::Tag,
            number: 0,
            shift: 0,
        };
        scale.go_into(kind, length);
        scale
    }

    /// A message of this kind and length begins here.
    fn go_into(&mut self, kind: &'static Kind, length: u64) {
        match kind.0 {
            [] => self.passed = length,
            _ => self.around.push((kind, self.at + length)),
        }
    }

    /// Takes the next bytes of the message.
    pub(super) fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count = self.passed.min(bytes.len() as u64);
            if count > 0 {
                self.passed -= count;
                self.at += count;
                bytes = &bytes[count as usize..];
                continue;
            }
            if matches!(self.next, Next::Tag) && self.shift == 0 {
                self.leave();
            }
            if matches!(self.next, Next::Broken) {
                return;
            }
            self.at += 1;
            self.take_one(bytes[0]);
            bytes = &bytes[1..];
        }
    }

    /// Leaves the messages that end here.
    fn leave(&mut self) {
        while self.groups == 0
            && let Some((_, end)) = self.around.last()
            && *end <= self.at
        {
            if *end < self.at {
                self.next = Next::Broken;
            }
            self.around.pop();
        }
    }

    /// Takes a byte of a number.
    fn take_one(&mut self, byte: u8) {
        if self.shift >= u64::BITS {
            self.next = Next::Broken;
            return;
        }
        self.number |= u64::from(byte & 0x7f) << self.shift;
        self.shift += 7;
        if byte >= 0x80 {
            return;
        }
        let number = std::mem::take(&mut self.number);
        self.shift = 0;
        match std::mem::replace(&mut self.next, Next::Tag) {
            Next::Tag => self.begin(number),
            Next::Length(field) => self.enter(field, number),
            Next::Value | Next::Broken => {}
        }
    }

    /// A field begins with this tag.
    fn begin(&mut self, tag: u64) {
        let number = tag >> 3;
        match tag & 7 {
            0 => {
                if let Some(Field::Numbers) = self.field(number) {
                    self.weight += NUMBER_BYTES;
                }
                self.next = Next::Value;
            }
            1 => self.passed = 8,
            2 => self.next = Next::Length(number),
            3 => self.groups += 1,
            4 if self.groups > 0 => self.groups -= 1,
            5 => self.passed = 4,
            _ => self.next = Next::Broken,
        }
    }

    /// A field of this length begins.
    fn enter(&mut self, number: u64, length: u64) {
        if length > self.length - self.at {
            self.next = Next::Broken;
            return;
        }
        let kind = match self.field(number) {
            Some(Field::Many(weight, kind)) => {
                self.weight += weight;
                kind
            }
            Some(Field::One(kind)) => kind,
            Some(Field::Numbers) => {
                self.weight += length * NUMBER_BYTES;
                &PLAIN
            }
            None => &PLAIN,
        };
        self.go_into(kind, length);
    }

    fn field(&self, number: u64) -> Option<&'static Field> {
        let (kind, _) = self.around.last().filter(|_| self.groups == 0)?;
        let mut fields = kind.0.iter();
        let found = fields.find(|(known, _)| u64::from(*known) == number);
        found.map(|(_, field)| field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message;

    fn digest() -> impl Strategy<Value = Option<re::Digest>> {
        let digest = ("[a-f0-9]{0,64}", any::<i64>());
        let digest = digest.prop_map(|(hash, size_bytes)| re::Digest { hash, size_bytes });
        proptest::option::of(digest)
    }

    fn properties() -> impl Strategy<Value = Option<re::NodeProperties>> {
        let properties = proptest::collection::vec(Just(re::NodeProperty::default()), 0..4);
        let properties = properties.prop_map(|properties| re::NodeProperties {
            properties,
            ..Default::default()
        });
        proptest::option::of(properties)
    }

    fn result() -> impl Strategy<Value = re::ActionResult> {
        let file = (".{0,9}", digest(), properties(), any::<[u8; 7]>());
        let file = file.prop_map(|(path, digest, node_properties, contents)| re::OutputFile {
            path,
            digest,
            node_properties,
            contents: contents.to_vec().into(),
            ..Default::default()
        });
        let link = properties().prop_map(|node_properties| re::OutputSymlink {
            node_properties,
            ..Default::default()
        });
        let (files, links) = (
            proptest::collection::vec(file, 0..4),
            proptest::collection::vec(link, 0..4),
        );
        let others = (0..4_usize, 0..4_usize);
        (files, links, digest(), others).prop_map(|(files, links, text, (directories, notes))| {
            re::ActionResult {
                output_files: files,
                output_symlinks: links,
                output_directories: vec![Default::default(); directories],
                stdout_digest: text,
                exit_code: 7,
                execution_metadata: Some(re::ExecutedActionMetadata {
                    auxiliary_metadata: vec![Default::default(); notes],
                    ..Default::default()
                }),
                ..Default::default()
            }
        })
    }

    fn expected(result: &re::ActionResult) -> u64 {
        let of = |properties: &Option<re::NodeProperties>| {
            let count = properties.as_ref().map_or(0, |it| it.properties.len());
            count as u64 * entry::<re::NodeProperty>()
        };
        let files = result.output_files.iter();
        let files = files.map(|file| entry::<re::OutputFile>() + of(&file.node_properties));
        let links = result.output_symlinks.iter();
        let links = links.map(|link| entry::<re::OutputSymlink>() + of(&link.node_properties));
        let directories = result.output_directories.len() as u64;
        let notes = result.execution_metadata.as_ref();
        let notes = notes.map_or(0, |it| it.auxiliary_metadata.len()) as u64;
        files.chain(links).sum::<u64>()
            + directories * entry::<re::OutputDirectory>()
            + notes * entry::<prost_types::Any>()
    }

    proptest! {
        #[test]
        fn a_message_weighs_what_its_entries_do_however_it_is_cut(
            result in result(), cut in 1..50_usize,
        ) {
            let update = re::UpdateActionResultRequest {
                action_result: Some(result.clone()),
                ..Default::default()
            };
            let message = update.encode_to_vec();
            let mut scale = Scale::new(&UPDATE_RESULT, message.len() as u64);
            message.chunks(cut).for_each(|bytes| scale.take(bytes));
            prop_assert_eq!(scale.weight, expected(&result));
        }

        /// Whatever prost makes of wrong bytes has been weighed.
        #[test]
        fn what_is_decoded_of_any_bytes_was_weighed(
            result in result(), changes in proptest::collection::vec(any::<(u16, u8)>(), 0..4),
            noise in proptest::collection::vec(0..40_u8, 0..40),
        ) {
            let mut message = result.encode_to_vec();
            for (at, byte) in changes {
                if let Some(there) = message.get_mut(usize::from(at)) {
                    *there = byte;
                }
            }
            for bytes in [&message, &noise] {
                let mut decoded = re::ActionResult::default();
                // What was made before an error counts as well.
                let _ = decoded.merge(&bytes[..]);
                prop_assert!(weight(&RESULT, bytes) >= expected(&decoded));
            }
        }
    }

    #[test]
    fn numbers_weigh_together_and_one_by_one_and_groups_nothing() {
        assert_eq!(weight(&DETAILS, b"\x0a\x03\x00\x01\x01"), 3 * NUMBER_BYTES);
        assert_eq!(weight(&DETAILS, b"\x08\x00\x08\x01"), 2 * NUMBER_BYTES);
        assert_eq!(weight(&DETAILS, b"\x13\x08\x00\x14\x08\x01"), NUMBER_BYTES);
        assert_eq!(weight(&DETAILS, &[0xff; 40]), 0);
    }
}
