//! Digests and resource names as they come over gRPC.
//!
//! Owns: reading them.
//! Does not know: the store.
//! Invariants: a read name has a hash of 32 bytes of a function that we know, and a size that is
//! not negative; which of the two functions is said, never guessed from the hash.
#![forbid(unsafe_code)]

use tonic::Status;

use super::api::re;
use crate::digest::parse_hash;
use crate::{BlobName, Digest, HashFunction};

/// A digest function that this node serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    Sha256,
    Blake3,
}

impl Function {
    /// The function of a request. Older clients say nothing, and mean SHA-256.
    pub(crate) fn read(value: i32) -> Result<Self, Status> {
        match re::digest_function::Value::try_from(value) {
            Ok(re::digest_function::Value::Unknown | re::digest_function::Value::Sha256) => {
                Ok(Self::Sha256)
            }
            Ok(re::digest_function::Value::Blake3) => Ok(Self::Blake3),
            other => {
                let name = other.map_or("an unknown function", |value| value.as_str_name());
                Err(Status::invalid_argument(format!(
                    "digests of {name} are not served here; SHA256 and BLAKE3 are"
                )))
            }
        }
    }
}

/// The name of a blob as a client says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) function: Function,
    pub(crate) hash: [u8; 32],
    pub(crate) size_bytes: u64,
}

impl Name {
    pub(crate) fn read(digest: &re::Digest, function: Function) -> Result<Self, Status> {
        let size = digest.size_bytes;
        let size_bytes = u64::try_from(size)
            .map_err(|_| Status::invalid_argument(format!("{size} is not a size in bytes")))?;
        Self::from_parts(&digest.hash, size_bytes, function)
    }

    /// The digest of a field that must be there.
    pub(crate) fn required(
        digest: Option<&re::Digest>,
        function: Function,
        field: &str,
    ) -> Result<Self, Status> {
        let digest =
            digest.ok_or_else(|| Status::invalid_argument(format!("`{field}` is missing")))?;
        Self::read(digest, function)
    }

    fn from_parts(hash: &str, size_bytes: u64, function: Function) -> Result<Self, Status> {
        let hash = parse_hash(hash)
            .map_err(|error| Status::invalid_argument(format!("`{hash}`: {error}")))?;
        Ok(Self {
            function,
            hash,
            size_bytes,
        })
    }

    /// As the store takes it.
    pub(crate) fn blob(&self) -> BlobName {
        let function = match self.function {
            Function::Sha256 => HashFunction::Sha256,
            Function::Blake3 => HashFunction::Blake3,
        };
        BlobName::new(Some(function), self.hash, Some(self.size_bytes))
    }

    pub(crate) fn hex(&self) -> String {
        Digest::new(self.hash, 0).hex()
    }

    /// As it goes back to the client.
    pub(crate) fn digest(&self) -> re::Digest {
        re::Digest {
            hash: self.hex(),
            size_bytes: i64::try_from(self.size_bytes).unwrap_or(i64::MAX),
        }
    }
}

/// What a ByteStream resource name names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) name: Name,
    /// Whether its bytes go over the wire compressed with zstd.
    pub(crate) is_zstd: bool,
    /// Whether it names an upload.
    pub(crate) is_upload: bool,
}

/// Reads `[INSTANCE/][uploads/UUID/](blobs|compressed-blobs/zstd)/[blake3/]HASH/SIZE[/ANYTHING]`.
pub(crate) fn resource(text: &str) -> Result<Resource, Status> {
    let wrong = |why: &str| {
        Status::invalid_argument(format!(
            "`{}` is not the name of a blob: {why}",
            text.chars().take(200).collect::<String>()
        ))
    };
    let parts: Vec<&str> = text.split('/').collect();
    let is_kind = |part: &&str| matches!(*part, "blobs" | "compressed-blobs");
    let kind = parts
        .iter()
        .position(is_kind)
        .ok_or_else(|| wrong("it has no `blobs` or `compressed-blobs`"))?;
    let is_upload = kind >= 2 && parts[kind - 2] == "uploads";
    let mut rest = &parts[kind + 1..];
    let is_zstd = parts[kind] == "compressed-blobs";
    if is_zstd {
        match rest.split_first() {
            Some((&"zstd", more)) => rest = more,
            _ => return Err(wrong("the only compressor here is `zstd`")),
        }
    }
    let function = match rest.split_first() {
        Some((&"blake3", more)) => {
            rest = more;
            Function::Blake3
        }
        Some((&"sha256", more)) => {
            rest = more;
            Function::Sha256
        }
        _ => Function::Sha256,
    };
    let [hash, size, more @ ..] = rest else {
        return Err(wrong("a hash and a size follow"));
    };
    if !more.is_empty() && !is_upload {
        return Err(wrong("nothing follows the size"));
    }
    let is_number = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit());
    let size_bytes = size.parse().ok().filter(|_| is_number);
    let size_bytes = size_bytes.ok_or_else(|| wrong("the size is not a number of bytes"))?;
    Ok(Resource {
        name: Name::from_parts(hash, size_bytes, function)?,
        is_zstd,
        is_upload,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn read(text: &str) -> Option<(Function, u64, bool, bool)> {
        let found = resource(&text.replace('H', HASH)).ok()?;
        let Resource {
            name,
            is_zstd,
            is_upload,
        } = found;
        Some((name.function, name.size_bytes, is_zstd, is_upload))
    }

    #[test]
    fn every_form_of_a_resource_name() {
        use Function::{Blake3, Sha256};
        assert_eq!(read("blobs/H/12"), Some((Sha256, 12, false, false)));
        assert_eq!(read("main/a/blobs/H/12"), Some((Sha256, 12, false, false)));
        assert_eq!(read("blobs/blake3/H/0"), Some((Blake3, 0, false, false)));
        assert_eq!(
            read("uploads/u/blobs/H/12/file.o"),
            Some((Sha256, 12, false, true))
        );
        let zstd = "i/uploads/u/compressed-blobs/zstd/blake3/H/7";
        assert_eq!(read(zstd), Some((Blake3, 7, true, true)));
        for wrong in [
            "",
            "blobs",
            "blobs/H",
            "blobs/H/x",
            "blobs/H/-1",
            "blobs/H/+1",
            "blobs/H/1/more",
            "blobs/abc/1",
            "compressed-blobs/deflate/H/1",
            "uploads/u/H/1",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn other_functions_are_named() {
        let sha1 = re::digest_function::Value::Sha1 as i32;
        let said = Function::read(sha1).unwrap_err();
        assert!(said.message().contains("SHA1"), "{said}");
        assert!(Function::read(77).is_err());
    }

    proptest! {
        #[test]
        fn any_text_has_an_answer(text in "(.{0,8}|blobs|compressed-blobs|zstd|uploads|blake3|[0-9a-f]{64}|[0-9]{1,25}){0,8}") {
            let _ = resource(&text);
        }

        #[test]
        fn any_parts_have_an_answer(parts in prop::collection::vec("blobs|compressed-blobs|zstd|uploads|u|blake3|[0-9a-f]{64}|[0-9]{1,25}", 0..8)) {
            if let Ok(found) = resource(&parts.join("/")) {
                prop_assert!(parts.contains(&found.name.hex()));
            }
        }
    }
}
