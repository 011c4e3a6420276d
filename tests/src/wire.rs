//! Clients of a node that say exactly what a test wants, with nothing of the workspace in them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

/// The SHA-256 of some bytes, in hex.
pub fn sha256(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The status and the body of the answer to a request over HTTP/1.1; `None` when the node goes away.
pub fn http(address: &str, method: &str, path: &str, body: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(address).ok()?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    read_answer(stream)
}

/// Reads the answer of a connection that is closed after it.
pub fn read_answer(mut stream: TcpStream) -> Option<(u16, Vec<u8>)> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let at = answer.windows(4).position(|end| end == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..at]).into_owned();
    let body = answer.split_off(at + 4);
    let mut lengths = head.lines().filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        value.parse::<usize>().ok().filter(|_| is_length)
    });
    // A node that dies may leave a part of an answer.
    let is_whole = lengths.next().is_none_or(|length| length == body.len());
    let status = head.split(' ').nth(1)?.parse().ok()?;
    is_whole.then_some((status, body))
}

/// curl with a bound on its time, quiet but for errors.
pub fn curl() -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "60"]);
    command
}

/// The message of the answer to a unary call over gRPC, made by curl; `None` when there is none.
pub fn call(curl: &mut Command, url: &str, message: &[u8]) -> Option<Vec<u8>> {
    call_with(curl, url, &[message])
}

/// The same of a call with a stream of messages.
pub fn call_with(curl: &mut Command, url: &str, messages: &[impl AsRef<[u8]>]) -> Option<Vec<u8>> {
    let mut child = curl
        .args(["--header", "content-type: application/grpc"])
        .args(["--header", "te: trailers", "--data-binary", "@-", url])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("curl starts");
    let frames = messages.iter().map(AsRef::as_ref).flat_map(|message| {
        let length = u32::try_from(message.len()).expect("a small message");
        [&[0][..], &length.to_be_bytes(), message].concat()
    });
    // A node that is killed takes no more.
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(&frames.collect::<Vec<u8>>());
    }
    let output = child.wait_with_output().ok()?;
    let answer = output.stdout;
    (answer.len() >= 5).then(|| answer[5..].to_vec())
}

/// Bytes as a field of a message of protocol buffers.
pub fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    let length = u64::try_from(bytes.len()).expect("a length");
    [varint(number << 3 | 2), varint(length), bytes.to_vec()].concat()
}

/// A number as a field of a message of protocol buffers.
pub fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// The `Digest` of some bytes in the Remote Execution API.
pub fn digest(bytes: &[u8]) -> Vec<u8> {
    let hash = sha256(bytes);
    [field(1, hash.as_bytes()), number(2, bytes.len() as u64)].concat()
}

/// Stores a blob through ByteStream; whether the node has said that it has all of it.
pub fn write(curl: &mut Command, origin: &str, content: &[u8]) -> bool {
    let url = format!("{origin}/google.bytestream.ByteStream/Write");
    call(curl, &url, &whole(content)) == Some(number(1, content.len() as u64))
}

/// The same; all that curl says, which with `--include` is the status as well.
pub fn write_said(curl: &mut Command, origin: &str, content: &[u8]) -> String {
    let url = format!("{origin}/google.bytestream.ByteStream/Write");
    let said = call(curl, &url, &whole(content)).unwrap_or_default();
    String::from_utf8_lossy(&said).into_owned()
}

/// The message that holds a whole upload.
fn whole(content: &[u8]) -> Vec<u8> {
    let (hash, size) = (sha256(content), content.len());
    [
        field(1, format!("uploads/{hash}/blobs/{hash}/{size}").as_bytes()),
        number(3, 1),
        field(10, content),
    ]
    .concat()
}
