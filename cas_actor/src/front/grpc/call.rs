//! What is known of a call before its body is read.
//!
//! Owns: the right that each call needs, and what its messages become in memory.
//! Does not know: credentials, or what a call does.
//! Invariant: a call that nobody has thought of here needs the right to write.
#![forbid(unsafe_code)]

use super::weight::{self, Kind};
use crate::front::access::Right;

/// What a byte of a message becomes in memory: digests become texts, names, and a part of the answer.
pub(super) const FACTOR: u64 = 4;
/// The bytes of blobs are handed on where they lie.
const FACTOR_OF_BLOBS: u64 = 1;

/// A call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    /// What its caller needs.
    pub(super) right: Right,
    /// What a byte of its messages becomes in memory.
    pub(super) factor: u64,
    /// Its messages.
    pub(super) kind: &'static Kind,
}

impl Call {
    /// The call with this path.
    pub(super) fn at(path: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or_default();
        let (right, kind) = match name {
            // Of the node, not of what is in it.
            "Check" | "Watch" | "ServerReflectionInfo" => (Right::None, &weight::PLAIN),
            "FindMissingBlobs" => (Right::Read, &weight::FIND_MISSING),
            "BatchReadBlobs" => (Right::Read, &weight::BATCH_READ),
            "GetActionResult" => (Right::Read, &weight::GET_RESULT),
            "NegotiateBlobs" => (Right::Read, &weight::NEGOTIATE),
            "GetTransportDetails" => (Right::Read, &weight::DETAILS),
            "Read" | "QueryWriteStatus" | "GetTree" | "SplitBlob" | "GetCapabilities"
            | "QueryUpload" | "Download" => (Right::Read, &weight::PLAIN),
            "BatchUpdateBlobs" => (Right::Write, &weight::BATCH_UPDATE),
            "UpdateActionResult" => (Right::Write, &weight::UPDATE_RESULT),
            "SpliceBlob" => (Right::Write, &weight::SPLICE),
            _ => (Right::Write, &weight::PLAIN),
        };
        let factor = match name {
            "Write" | "Upload" | "BatchUpdateBlobs" => FACTOR_OF_BLOBS,
            _ => FACTOR,
        };
        Self {
            right,
            factor,
            kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prost::Message;
    use prost_types::field_descriptor_proto::{Label, Type};
    use prost_types::{DescriptorProto, FileDescriptorSet};

    use super::super::api;
    use super::super::weight::{DIRECTORY, Field, Kind, RESULT};
    use super::*;

    /// Checks that a kind knows every list of a message, also inside of others.
    fn check(known: &BTreeMap<String, &DescriptorProto>, name: &str, kind: &Kind) {
        let message = known
            .get(name)
            .unwrap_or_else(|| panic!("no message {name}"));
        for field in &message.field {
            let number = u32::try_from(field.number()).unwrap();
            let entry = kind.0.iter().find(|(known, _)| *known == number);
            let entry = entry.map(|(_, field)| field);
            let said = format!("{name}.{}", field.name());
            let is_list = field.label() == Label::Repeated;
            let inner = match (entry, field.r#type()) {
                (Some(Field::Many(_, inner)), Type::Message) if is_list => inner,
                (Some(Field::Many(_, inner)), Type::String) if is_list => {
                    assert!(inner.0.is_empty(), "{said}");
                    continue;
                }
                (Some(Field::Numbers), Type::Enum) if is_list => continue,
                (Some(Field::One(inner)), Type::Message) if !is_list => inner,
                (None, Type::Message) if !is_list => &weight::PLAIN,
                (None, _) if !is_list => continue,
                _ => panic!("{said} is weighed as {entry:?}"),
            };
            check(known, field.type_name(), inner);
        }
    }

    #[test]
    fn every_list_of_every_message_is_weighed() {
        let files = FileDescriptorSet::decode(api::DESCRIPTORS).unwrap();
        let mut known = BTreeMap::new();
        for file in &files.file {
            let mut waiting: Vec<_> = file.message_type.iter().collect::<Vec<_>>();
            let mut names: Vec<String> = waiting
                .iter()
                .map(|message| format!(".{}.{}", file.package(), message.name()))
                .collect();
            while let (Some(message), Some(name)) = (waiting.pop(), names.pop()) {
                for nested in &message.nested_type {
                    waiting.push(nested);
                    names.push(format!("{name}.{}", nested.name()));
                }
                known.insert(name, message);
            }
        }
        let services = files.file.iter().flat_map(|file| &file.service);
        for method in services
            .filter(|service| !["Execution", "Operations"].contains(&service.name()))
            .flat_map(|service| &service.method)
        {
            check(&known, method.input_type(), Call::at(method.name()).kind);
        }
        let re = ".build.bazel.remote.execution.v2";
        check(&known, &format!("{re}.Directory"), &DIRECTORY);
        check(&known, &format!("{re}.ActionResult"), &RESULT);
    }
}
