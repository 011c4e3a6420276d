//! What a confined command sees of the file system: the places that it may read or write, where they lie
//! outside, and a few directories of its own.
//!
//! Owns the mounts. Does not know processes, nor who leaves which namespace when.
//! Invariants: a place is taken before anything is covered; what is not meant for writing is read-only with
//! all that is mounted below it, the view's own directories included; of the machine's devices only those
//! are there that are named.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount,
    mount_change, mount_remount, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, pivot_root};

use super::Confine;

/// Empty at first and gone with the command; what others have there is not seen.
const OWN: [&str; 2] = ["/tmp", "/dev/shm"];
/// Terminals of the command's own, and how they are opened.
const TERMINALS: [&str; 2] = ["/dev/pts", "/dev/ptmx"];
/// What programs expect beside devices.
const LINKS: [(&str, &str); 5] = [
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// Has this process, which owns its mounts, see what `confine` allows and nothing else. In a process
/// namespace of its own `/proc` shows that one. What comes back is the `/proc` of before, to be written to.
pub fn enter(confine: &Confine, own_processes: bool) -> io::Result<OwnedFd> {
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    let proc = tree(Path::new("/proc"))?;
    let places = places(confine, own_processes)?;
    // Any directory will do: the places are taken already, and nothing of this is seen outside.
    let root = Path::new("/tmp");
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", root, "tmpfs", flags, c"mode=0755")?;
    for place in &places {
        place
            .show(root)
            .map_err(|error| named(error, &place.path))?;
    }
    for (link, to) in LINKS {
        symlink(to, inside(root, Path::new(link))?)?;
    }
    chdir(root)?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    protect(&places, &proc)?;
    Ok(proc)
}

/// All that is to be shown; what lies deeper comes later, so that it is not covered.
fn places(confine: &Confine, own_processes: bool) -> io::Result<Vec<Place>> {
    let mut places = Vec::new();
    let read = confine.read.iter().map(|path| (path, false));
    let write = confine.write.iter().map(|path| (path, true));
    for (path, writable) in read.chain(write) {
        let is_own = |own: &&str| path == Path::new(own);
        let own_proc = own_processes && path == Path::new("/proc");
        if !own_proc && !OWN.iter().chain(&TERMINALS).any(is_own) {
            places.extend(Place::take(path, writable)?);
        }
    }
    for path in &confine.hide {
        let nothing = new_mount("tmpfs", &[("mode", "0755")], MountAttrFlags::empty())?;
        let mut place = Place::of(path.clone(), nothing);
        (place.writable, place.covers) = (false, true);
        places.push(place);
    }
    // A command that writes beside what is shown there is to be told, not to lose what it wrote.
    let sealed = places.iter().filter_map(|place| below_own(&place.path));
    let mut sealed: BTreeSet<PathBuf> = sealed.collect();
    sealed.retain(|path| places.iter().all(|place| place.path != *path));
    let own = OWN.map(|path| Place::own(path.into(), true));
    let sealed = sealed.into_iter().map(|path| Place::own(path, false));
    places.extend(own.into_iter().chain(sealed));
    if own_processes {
        let fixed = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV;
        let proc = new_mount("proc", &[], fixed)?;
        places.push(Place::of("/proc", proc));
    }
    let open = [("ptmxmode", "0666"), ("mode", "0620")];
    // A kernel without them has none to lend.
    if let Ok(terminals) = new_mount("devpts", &open, MountAttrFlags::empty()) {
        places.push(Place::of(TERMINALS[0], terminals));
    }
    places.sort_by_key(|place| place.path.components().count());
    Ok(places)
}

/// The first directory on the way from one of our own ones to `path`, which lies below it.
fn below_own(path: &Path) -> Option<PathBuf> {
    let own = OWN.iter().find(|own| path.starts_with(own))?;
    let rest = path.strip_prefix(own).ok()?;
    Some(Path::new(own).join(rest.components().next()?))
}

/// What lies at `path` with everything mounted below it, to be mounted elsewhere.
fn tree(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path, flags).map_err(|error| named(error.into(), path))
}

/// A file system of the kernel's that nobody else sees.
fn new_mount(kind: &str, options: &[(&str, &str)], flags: MountAttrFlags) -> io::Result<OwnedFd> {
    let made = || {
        let opened = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (name, value) in options {
            fsconfig_set_string(&opened, *name, *value)?;
        }
        fsconfig_create(&opened)?;
        let flags = flags | MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        fsmount(&opened, FsMountFlags::FSMOUNT_CLOEXEC, flags)
    };
    made().map_err(|error: Errno| named(error.into(), Path::new(kind)))
}

/// Makes all mounts of this process read-only that no place lets be written to.
fn protect(places: &[Place], proc: impl AsFd) -> io::Result<()> {
    let list = openat(
        proc,
        "self/mountinfo",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut text = Vec::new();
    fs::File::from(list).read_to_end(&mut text)?;
    for line in text.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b' ').skip(4);
        let (Some(path), Some(options)) = (fields.next(), fields.next()) else {
            continue;
        };
        let path = unescaped(path);
        let options: Vec<&[u8]> = options.split(|byte| *byte == b',').collect();
        let deepest = places
            .iter()
            .rev()
            .find(|place| path.starts_with(&place.path));
        if deepest.is_some_and(|place| place.writable) || options.contains(&b"ro".as_slice()) {
            continue;
        }
        // What the mount forbids already has to stay forbidden.
        let kept = KEPT.iter().filter(|(name, _)| options.contains(name));
        let flags = kept.fold(MountFlags::BIND | MountFlags::RDONLY, |all, (_, flag)| {
            all | *flag
        });
        match mount_remount(&path, flags, c"") {
            // Where we do not get the command does not get either: it lies below another mount, or
            // is somebody else's.
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::INVAL) => {}
            Err(error) => return Err(named(error.into(), &path)),
        }
    }
    Ok(())
}

const KEPT: [(&[u8], MountFlags); 4] = [
    (b"nosuid", MountFlags::NOSUID),
    (b"nodev", MountFlags::NODEV),
    (b"noexec", MountFlags::NOEXEC),
    (b"nosymfollow", MountFlags::NOSYMFOLLOW),
];

/// A path as the list of mounts writes it: spaces and the like as `\040`.
fn unescaped(text: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let code = (byte == b'\\').then(|| after.get(..3)).flatten();
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                path.push(byte);
                rest = &after[3..];
            }
            None => {
                path.push(byte);
                rest = after;
            }
        }
    }
    OsString::from_vec(path).into()
}

fn named(error: io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Where `path` lies while `root` is not the root yet.
fn inside(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let below = path.strip_prefix("/").map_err(io::Error::other)?;
    Ok(root.join(below))
}

/// Something that is shown where it lies.
struct Place {
    path: PathBuf,
    writable: bool,
    /// Whether it is shown although something lies there already.
    covers: bool,
    what: What,
}

enum What {
    Link(PathBuf),
    Directory(OwnedFd),
    File(OwnedFd),
    /// A directory of the view's.
    Own,
}

impl Place {
    /// Takes hold of what lies at `path`; nothing when there is nothing.
    fn take(path: &Path, writable: bool) -> io::Result<Option<Self>> {
        let Ok(metadata) = fs::symlink_metadata(path) else {
            return Ok(None);
        };
        let what = if metadata.is_symlink() {
            What::Link(fs::read_link(path)?)
        } else if metadata.is_dir() {
            What::Directory(tree(path)?)
        } else {
            What::File(tree(path)?)
        };
        Ok(Some(Self {
            path: path.to_owned(),
            writable,
            covers: writable,
            what,
        }))
    }

    fn own(path: PathBuf, writable: bool) -> Self {
        let what = What::Own;
        Self {
            path,
            writable,
            covers: writable,
            what,
        }
    }

    /// A file system that nobody else sees; whether it can be written to is said already.
    fn of(path: impl Into<PathBuf>, mounted: OwnedFd) -> Self {
        Self {
            path: path.into(),
            writable: true,
            covers: true,
            what: What::Directory(mounted),
        }
    }

    /// Has it lie in `root` as it does outside.
    fn show(&self, root: &Path) -> io::Result<()> {
        let there = inside(root, &self.path)?;
        let shown = fs::symlink_metadata(&there).is_ok();
        if shown && !self.covers {
            // Something above it is shown already, or it is above something that is.
            return Ok(());
        }
        if let Some(parent) = there.parent() {
            fs::create_dir_all(parent)?;
        }
        let own;
        let tree = match &self.what {
            What::Link(_) if shown => return Ok(()),
            What::Link(to) => return symlink(to, &there),
            What::Directory(tree) => {
                fs::create_dir_all(&there)?;
                tree
            }
            What::File(tree) => {
                if !shown {
                    fs::write(&there, "")?;
                }
                tree
            }
            What::Own => {
                fs::create_dir_all(&there)?;
                // Everybody may write there, and remove only what is theirs.
                let mode = if self.writable { 0o1777 } else { 0o755 };
                fs::set_permissions(&there, Permissions::from_mode(mode))?;
                own = tree(&there)?;
                &own
            }
        };
        move_mount(
            tree,
            "",
            CWD,
            &there,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_mounts_are_read_as_they_are_written() {
        let path = |text: &str| unescaped(text.as_bytes());
        assert_eq!(path(r"/a\040b/c\134d"), Path::new(r"/a b/c\d"));
        assert_eq!(path(r"/x\0"), Path::new(r"/x\0"));
    }

    #[test]
    fn what_lies_below_a_directory_of_our_own_is_known() {
        let below = |path: &str| below_own(Path::new(path));
        assert_eq!(below("/tmp/x/y/z"), Some("/tmp/x".into()));
        assert_eq!(below("/dev/shm/x"), Some("/dev/shm/x".into()));
        assert_eq!(below("/tmp"), None);
        assert_eq!(below("/tmpx/y"), None);
    }
}
