//! Archives of strangers, read: tar (plain, gzip, zstd) and zip.
//!
//! Owns which format it is, and the loops over entries. What an entry may do is decided in `tree`.
//! Invariants: nothing of an archive is held in memory that is larger than a name, nor the directory of a zip; the sizes that an archive claims are not believed; no more comes out of a
//! decompressor than what is allowed to be unpacked, whether it is unpacked or not.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use tar::EntryType;
// The stable reader takes the whole directory into memory, however many entries it has.
use zip::unstable::read::ZipIterable;

use super::tree::{Tree, TreeError};
use crate::lang::package_limits::PackageLimits;

/// Names that an archive may give in the long way, in bytes.
const LONGEST_NAME: u64 = 8 * 1024;
/// What stands around a long name.
const LONGEST_EXTENSION: u64 = 64 * 1024;

/// Unpacks the archive `file` into `tree`.
///
/// # Errors
/// When it is none that is known, is damaged, or wants what it may not.
pub fn unpack(file: &Path, tree: &mut Tree<'_>) -> Result<(), TreeError> {
    let mut archive = File::open(file).map_err(TreeError::Archive)?;
    let mut begin = Vec::new();
    Read::by_ref(&mut archive)
        .take(512)
        .read_to_end(&mut begin)
        .map_err(TreeError::Archive)?;
    archive.rewind().map_err(TreeError::Archive)?;
    let archive = BufReader::new(archive);
    match begin.as_slice() {
        [0x1f, 0x8b, ..] => {
            let decoder = MultiGzDecoder::new(archive);
            unpack_tar(Bounded::new(decoder, tree.limits), tree)
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder = zstd::Decoder::new(archive).map_err(TreeError::Archive)?;
            unpack_tar(Bounded::new(decoder, tree.limits), tree)
        }
        [b'P', b'K', 3..=6, ..] => {
            let again = File::open(file).map_err(TreeError::Archive)?;
            unpack_zip(archive, BufReader::new(again), tree)
        }
        begin if begin.get(257..262) == Some(b"ustar") => unpack_tar(archive, tree),
        begin => Err(TreeError::Format(describe(begin))),
    }
}

/// What stands around a file, at most: its head, what fills its last block, and a long name.
const AROUND_A_FILE: u64 = 4096;

/// What comes out of a decompressor, also what is skipped.
struct Bounded<R> {
    inner: R,
    left_bytes: u64,
}

impl<R> Bounded<R> {
    fn new(inner: R, limits: &PackageLimits) -> Self {
        let around = limits.max_files.saturating_mul(AROUND_A_FILE);
        Self {
            inner,
            left_bytes: limits.max_size.saturating_add(around),
        }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(piece)?;
        let left = self.left_bytes.checked_sub(read as u64);
        self.left_bytes = left.ok_or_else(|| {
            io::Error::other("there is more in it than `max-size` and `max-files` in [settings.packages] of zako.toml allow")
        })?;
        Ok(read)
    }
}

/// What a file is that is no archive.
fn describe(begin: &[u8]) -> &'static str {
    match begin {
        [] => "is empty",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "is compressed by xz",
        [b'B', b'Z', b'h', ..] => "is compressed by bzip2",
        [b'7', b'z', 0xbc, 0xaf, ..] => "is a 7z archive",
        _ if begin.trim_ascii_start().starts_with(b"<") => "is a page of HTML or XML",
        _ => "is of no known format",
    }
}

/// Names that entries before the one that they are for bring.
#[derive(Default)]
struct Long {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

/// Unpacks a tar archive.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_tar(reader: impl Read, tree: &mut Tree<'_>) -> Result<(), TreeError> {
    let mut archive = tar::Archive::new(reader);
    let entries = archive.entries().map_err(TreeError::Archive)?;
    let mut long = Long::default();
    // The crate would read a long name of any size into memory; so that is done here.
    for entry in entries.raw(true) {
        let mut entry = entry.map_err(TreeError::Archive)?;
        let kind = entry.header().entry_type();
        match kind {
            EntryType::GNULongName => long.path = Some(name(&mut entry)?),
            EntryType::GNULongLink => long.link = Some(name(&mut entry)?),
            EntryType::XHeader => extend(&mut entry, &mut long)?,
            EntryType::XGlobalHeader => {}
            _ => {
                let Long { path, link } = std::mem::take(&mut long);
                let path = path.unwrap_or_else(|| entry.path_bytes().into_owned());
                let link = link.or_else(|| Some(entry.link_name_bytes()?.into_owned()));
                match kind {
                    EntryType::Regular | EntryType::Continuous => {
                        // Archives of before 1988 say so only by the name.
                        if path.ends_with(b"/") {
                            tree.directory(&path)?;
                            continue;
                        }
                        let mode = entry.header().mode().map_err(TreeError::Archive)?;
                        tree.file(&path, mode & 0o100 != 0, &mut entry)?;
                    }
                    EntryType::Directory => tree.directory(&path)?,
                    EntryType::Symlink => tree.link(&path, &link.unwrap_or_default())?,
                    EntryType::Link => tree.same(&path, &link.unwrap_or_default())?,
                    _ => {
                        return Err(TreeError::refused(
                            &path,
                            "is a device, a pipe, or has holes",
                        ));
                    }
                }
            }
        }
    }
    Ok(())
}

fn name(entry: &mut impl Read) -> Result<Vec<u8>, TreeError> {
    let mut name = bounded(entry, LONGEST_NAME)?;
    while name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

fn extend(entry: &mut impl Read, long: &mut Long) -> Result<(), TreeError> {
    let bytes = bounded(entry, LONGEST_EXTENSION)?;
    for record in tar::PaxExtensions::new(&bytes) {
        let record = record.map_err(TreeError::Archive)?;
        match record.key_bytes() {
            b"path" => long.path = Some(record.value_bytes().to_vec()),
            b"linkpath" => long.link = Some(record.value_bytes().to_vec()),
            // A size of more digits than a header holds: 8 GiB.
            b"size" => {
                return Err(TreeError::refused(
                    record.value_bytes(),
                    "is the size of a file that is too large",
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

fn bounded(reader: &mut impl Read, limit: u64) -> Result<Vec<u8>, TreeError> {
    let mut bytes = Vec::new();
    let read = reader.take(limit + 1).read_to_end(&mut bytes);
    match read.map_err(TreeError::Archive)? as u64 {
        length if length > limit => Err(TreeError::refused(
            &bytes[..40],
            "goes on and on: the name is too long",
        )),
        _ => Ok(bytes),
    }
}

/// Unpacks a zip archive: its `directory` entry by entry, as long as more are allowed, and the `files` that these name.
fn unpack_zip<R: Read + Seek>(
    directory: R,
    files: R,
    tree: &mut Tree<'_>,
) -> Result<(), TreeError> {
    let wrong = |error: zip::result::ZipError| TreeError::Archive(io::Error::other(error));
    let archive = ZipIterable::try_new(directory, zip::read::Config::default());
    let mut archive = archive.map_err(wrong)?;
    let options = zip::read::ZipReadOptions::default();
    let mut entries = archive.files_with_reader(files, options).map_err(wrong)?;
    while let Some(entry) = entries.next() {
        let mut entry = entry.map_err(wrong)?;
        let path = entry.name_raw().to_vec();
        if entry.is_dir() {
            tree.directory(&path)?;
        } else if entry.is_symlink() {
            let target = bounded(&mut entry, LONGEST_NAME)?;
            tree.link(&path, &target)?;
        } else {
            let executable = entry.unix_mode().is_some_and(|mode| mode & 0o100 != 0);
            tree.file(&path, executable, &mut entry)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    /// Seeds: a tar archive with everything that one may hold, the same compressed, and a zip archive.
    fn seeds() -> Vec<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |kind: EntryType, path: &str, link: &str, text: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o755);
            header.set_size(text.len() as u64);
            match link {
                "" => tar.append_data(&mut header, path, text.as_bytes()).unwrap(),
                link => tar.append_link(&mut header, path, link).unwrap(),
            }
        };
        add(EntryType::Directory, "top/", "", "");
        add(EntryType::Regular, "top/a", "", "text");
        add(
            EntryType::Regular,
            &format!("top/{}", "long/".repeat(30)),
            "",
            "",
        );
        add(
            EntryType::Regular,
            &format!("top/{}x", "long/".repeat(30)),
            "",
            "more",
        );
        add(EntryType::Symlink, "top/l", "a", "");
        add(EntryType::Symlink, "top/m", "./l", "");
        add(EntryType::Link, "top/n", "top/a", "");
        let tar = tar.into_inner().unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&tar).unwrap();
        let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default();
        zip.start_file("a/b", options.unix_permissions(0o755))
            .unwrap();
        zip.write_all(b"text").unwrap();
        zip.add_symlink("a/l", "b", options).unwrap();
        let zip = zip.finish().unwrap().into_inner();
        vec![tar, gzip.finish().unwrap(), zip]
    }

    proptest! {
        #[test]
        fn whatever_comes_stays_in_its_place(
            seed in 0..3_usize,
            edits in prop::collection::vec((any::<Index>(), prop::collection::vec(any::<u8>(), 0..6)), 0..6),
            names in prop::collection::vec((any::<Index>(), prop::sample::select(vec!["../", "/", "..", "\0", "\\", "top"])), 0..3),
        ) {
            let mut bytes = seeds().swap_remove(seed);
            let texts = names.into_iter().map(|(at, text)| (at, text.as_bytes().to_vec()));
            for (at, put) in edits.into_iter().chain(texts) {
                let at = at.index(bytes.len());
                let end = (at + put.len()).min(bytes.len());
                let length = end - at;
                bytes[at..end].copy_from_slice(&put[..length]);
            }
            let dir = tempfile::tempdir().unwrap();
            let (file, root) = (dir.path().join("archive"), dir.path().join("in/root"));
            fs::write(&file, &bytes).unwrap();
            fs::create_dir_all(&root).unwrap();
            let limits = PackageLimits { max_size: 10_000, max_files: 50, ..PackageLimits::default() };
            let mut tree = Tree::new(root, &limits);
            if unpack(&file, &mut tree).is_ok() && let Ok(root) = tree.finish(true) {
                let packed = dir.path().join("packed");
                super::super::tree::pack(&root, &packed).unwrap();
            }
            let beside: Vec<_> = fs::read_dir(dir.path().join("in")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            prop_assert_eq!(beside, ["root"]);
            prop_assert!(fs::read_dir(dir.path()).unwrap().count() <= 3);
        }
    }

    #[test]
    fn seeds_are_good_as_they_are() {
        for bytes in seeds() {
            let dir = tempfile::tempdir().unwrap();
            let (file, root) = (dir.path().join("archive"), dir.path().join("root"));
            fs::write(&file, &bytes).unwrap();
            fs::create_dir(&root).unwrap();
            let limits = PackageLimits::default();
            let mut tree = Tree::new(root, &limits);
            unpack(&file, &mut tree).unwrap();
            let root = tree.finish(true).unwrap();
            assert_eq!(fs::read_to_string(root.join("l")).unwrap(), "text");
        }
    }

    #[test]
    fn the_directory_of_a_zip_is_read_only_as_far_as_entries_are_allowed() {
        let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        for name in ["a", "b", "c"] {
            let options = zip::write::SimpleFileOptions::default();
            zip.start_file(name, options).unwrap();
        }
        let mut bytes = zip.finish().unwrap().into_inner();
        // The last entry of the directory is none.
        let last = bytes.windows(4).rposition(|four| four == b"PK\x01\x02");
        bytes[last.unwrap()] = 0;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("zip");
        fs::write(&file, bytes).unwrap();
        let refused = |max_files| {
            let limits = PackageLimits {
                max_files,
                ..PackageLimits::default()
            };
            let root = tempfile::tempdir().unwrap();
            let mut tree = Tree::new(root.path().to_owned(), &limits);
            unpack(&file, &mut tree).unwrap_err().to_string()
        };
        assert!(refused(1).contains("more than 1 files"), "{}", refused(1));
        assert!(!refused(9).contains("files;"), "{}", refused(9));
    }

    /// What is skipped takes time, though no room.
    #[test]
    fn what_hides_in_entries_without_content_is_bounded() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(EntryType::XGlobalHeader);
        header.set_path("hidden").unwrap();
        header.set_size(1 << 20);
        header.set_cksum();
        tar.append(&header, io::repeat(0).take(1 << 20)).unwrap();
        let bomb = zstd::encode_all(&tar.into_inner().unwrap()[..], 1).unwrap();
        let limits = PackageLimits {
            max_size: 1 << 10,
            max_files: 10,
            ..PackageLimits::default()
        };
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bomb");
        fs::write(&file, bomb).unwrap();
        let refused = unpack(&file, &mut Tree::new(dir.path().join("tree"), &limits));
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("`max-size`"), "{refused}");
    }
}
