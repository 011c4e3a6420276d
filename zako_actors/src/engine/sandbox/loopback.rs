//! The loopback device of a network namespace, which is down in a new one: `localhost` of a command that has no other network.
//!
//! Owns the one message of rtnetlink(7) that brings it up. Does not know whose namespace it is, nor who leads a way out of it.

use std::io;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

/// `RTM_NEWLINK`: what is said of a device that is there changes it.
const NEW_LINK: u16 = 16;
/// `NLM_F_REQUEST | NLM_F_ACK`.
const ANSWERED: u16 = 1 | 4;
/// `LOOPBACK_IFINDEX`: it is the first device of every namespace.
const LOOPBACK: u32 = 1;
/// `IFF_UP`.
const UP: u32 = 1;

/// A `struct nlmsghdr` and a `struct ifinfomsg`, 16 bytes each.
const MESSAGE_BYTES: u32 = 32;
/// Where in the answer the `struct nlmsgerr` has its error, as a negative number; 0 when all went well.
const ERROR_AT: usize = 16;

/// Brings the device of the namespace that this thread is in up; the kernel gives it 127.0.0.1 and, where it has that, ::1.
///
/// # Errors
/// When the kernel refuses.
pub fn bring_up() -> io::Result<()> {
    // No protocol is that of routes and devices.
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    send(&socket, &message(), SendFlags::empty())?;
    let mut answer = [0; 256];
    let (length, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    let error = answer[..length]
        .get(ERROR_AT..)
        .and_then(<[u8]>::first_chunk);
    match error.map(|bytes| i32::from_ne_bytes(*bytes)) {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(error.saturating_neg())),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn message() -> Vec<u8> {
    let header = [
        &MESSAGE_BYTES.to_ne_bytes()[..],
        &NEW_LINK.to_ne_bytes(),
        &ANSWERED.to_ne_bytes(),
        &[0; 8],
    ];
    // No family and no kind; then what is to be, and which bits of that are meant.
    let device = [
        &[0; 4][..],
        &LOOPBACK.to_ne_bytes(),
        &UP.to_ne_bytes(),
        &UP.to_ne_bytes(),
    ];
    [header, device].concat().concat()
}
