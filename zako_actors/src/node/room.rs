//! How much a node may take on disk.
//!
//! Owns: the form of `max-bytes`, and the limit of a node that was given none.
//! Does not know: how a limit is kept (`cas_actor`).
//! Invariants: a node without `max-bytes` leaves half of what was free; that limit is chosen once, so that it
//! does not shrink from start to start, and never below what the store holds by then.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

/// Where in the data directory the limit is kept that was chosen.
const FILE: &str = "max-bytes";
/// A part written before the power went is none.
const UNIT: &str = " bytes\n";
/// Small enough for any disk, large enough to work with.
const LEAST_BYTES: u64 = 64 * 1024 * 1024;

/// `max-bytes` of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MaxBytes {
    /// At most so many bytes.
    Limit(u64),
    /// The disk is the limit: 0, or `"unlimited"`.
    Unlimited,
}

impl<'de> Deserialize<'de> for MaxBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;

        impl Visitor<'_> for Form {
            type Value = MaxBytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes, or \"unlimited\"")
            }

            fn visit_i64<E: Error>(self, bytes: i64) -> Result<MaxBytes, E> {
                match u64::try_from(bytes) {
                    Ok(bytes) => self.visit_u64(bytes),
                    Err(_) => Err(E::invalid_value(Unexpected::Signed(bytes), &self)),
                }
            }

            fn visit_u64<E: Error>(self, bytes: u64) -> Result<MaxBytes, E> {
                Ok(match bytes {
                    0 => MaxBytes::Unlimited,
                    bytes => MaxBytes::Limit(bytes),
                })
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<MaxBytes, E> {
                match text {
                    "unlimited" => Ok(MaxBytes::Unlimited),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(Form)
    }
}

/// What the store in `data` may take, in bytes; `None` for whatever the disk has.
///
/// # Errors
/// When the limit that was chosen cannot be read or kept.
pub(super) fn limit_bytes(set: Option<MaxBytes>, data: &Path) -> io::Result<Option<u64>> {
    match set {
        Some(MaxBytes::Unlimited) => Ok(None),
        Some(MaxBytes::Limit(bytes)) => Ok(Some(bytes)),
        None => chosen(data).map(Some),
    }
}

/// The limit that was chosen at an earlier start, or is now.
fn chosen(data: &Path) -> io::Result<u64> {
    let path = data.join(FILE);
    let kept = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        read => read?
            .strip_suffix(UNIT)
            .and_then(|bytes| bytes.parse().ok()),
    };
    if let Some(bytes) = kept {
        return Ok(bytes);
    }
    fs::create_dir_all(data)?;
    let disk = rustix::fs::statvfs(data)?;
    let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
    let bytes = (held_bytes(data)? + free_bytes / 2).max(LEAST_BYTES);
    fs::write(&path, format!("{bytes}{UNIT}"))?;
    Ok(bytes)
}

/// What the files below a directory take.
fn held_bytes(directory: &Path) -> io::Result<u64> {
    let entries = match fs::read_dir(directory) {
        // Gone since it was listed: the node before this one may still be on its way out.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut bytes = 0;
    for entry in entries {
        let entry = entry?;
        bytes += match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => held_bytes(&entry.path())?,
            // In the unit that it is counted in, whatever the file system's.
            Ok(metadata) => metadata.blocks() * 512,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_chosen_once_and_gives_way_to_one_that_is_set() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("not/there/yet");
        let limit = |set| limit_bytes(set, &data).unwrap();
        assert_eq!(limit(Some(MaxBytes::Limit(7))), Some(7));
        assert_eq!(limit(Some(MaxBytes::Unlimited)), None);
        assert!(!data.exists(), "nothing was chosen");
        let disk = rustix::fs::statvfs(directory.path()).unwrap();
        let size_bytes = disk.f_blocks * disk.f_frsize;
        let first = limit(None).unwrap();
        assert!(first == LEAST_BYTES || first <= size_bytes / 2, "{first}");
        // As if less, or more, were free by now.
        let path = data.join(FILE);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!("{first} bytes\n")
        );
        fs::write(&path, "123456789 bytes\n").unwrap();
        assert_eq!(limit(None), Some(123_456_789));
        fs::write(&path, "12345").unwrap();
        assert!(limit(None).unwrap() >= LEAST_BYTES, "that was a part");
    }

    #[test]
    fn what_a_store_holds_is_never_beyond_its_limit() {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store/packs");
        fs::create_dir_all(&store).unwrap();
        fs::write(store.join("large"), vec![1; 3 << 20]).unwrap();
        fs::write(directory.path().join("another"), vec![1; 1 << 20]).unwrap();
        let held_bytes = held_bytes(directory.path()).unwrap();
        assert!((4 << 20..5 << 20).contains(&held_bytes), "{held_bytes}");
        let gone = store.join("gone since it was listed");
        assert_eq!(super::held_bytes(&gone).unwrap(), 0);
    }

    #[test]
    fn every_form_is_read_and_others_are_named() {
        #[derive(Debug, serde::Deserialize)]
        struct File {
            max: MaxBytes,
        }
        let read = |text: &str| toml::from_str::<File>(text).map(|file| file.max);
        assert_eq!(read("max = 5"), Ok(MaxBytes::Limit(5)));
        assert_eq!(read("max = 0"), Ok(MaxBytes::Unlimited));
        assert_eq!(read("max = \"unlimited\""), Ok(MaxBytes::Unlimited));
        for wrong in ["max = -1", "max = \"5 GB\"", "max = true"] {
            let said = read(wrong).unwrap_err().to_string();
            assert!(said.contains("or \"unlimited\""), "{wrong}: {said}");
            assert!(said.contains("line 1"), "{wrong}: {said}");
        }
    }
}
