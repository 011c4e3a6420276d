//! A client that says exactly what a test wants, also what is wrong.
#![allow(dead_code, reason = "each test uses a part of it")]

pub mod node;

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// What a client may talk through.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Wire for S {}

/// One connection.
pub struct Client {
    stream: BufReader<Box<dyn Wire>>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    /// A client that talks through `wire`.
    pub fn over(wire: impl Wire + 'static) -> Self {
        Self {
            stream: BufReader::new(Box::new(wire)),
        }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).await.unwrap();
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.request("GET", path, &[], b"").await
    }

    /// The status, unless the other side hangs up.
    pub async fn try_get(&mut self, path: &str) -> Option<u16> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        self.stream
            .get_mut()
            .write_all(request.as_bytes())
            .await
            .ok()?;
        self.try_answer(false).await.map(|answer| answer.status)
    }

    pub async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: test.example:1234\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let has_body = !matches!(method, "GET" | "HEAD");
        if has_body {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        self.send(head.as_bytes()).await;
        if has_body {
            self.send(body).await;
        }
        self.answer(method == "HEAD").await
    }

    pub async fn answer(&mut self, is_head: bool) -> Answer {
        self.try_answer(is_head).await.expect("an answer")
    }

    async fn try_answer(&mut self, is_head: bool) -> Option<Answer> {
        let first = self.line().await?;
        let status = first.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
        };
        let length = answer
            .header("content-length")
            .map(|text| text.parse().unwrap());
        if let (Some(length), false) = (length, is_head || status == 304) {
            answer.body.resize(length, 0);
            self.stream.read_exact(&mut answer.body).await.ok()?;
        }
        while answer.header("transfer-encoding") == Some("chunked") && !is_head {
            let length = usize::from_str_radix(&self.line().await?, 16).unwrap();
            let begin = answer.body.len();
            answer.body.resize(begin + length, 0);
            self.stream
                .read_exact(&mut answer.body[begin..])
                .await
                .ok()?;
            self.line().await?;
            if length == 0 {
                break;
            }
        }
        Some(answer)
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line).await {
            Ok(length) if length > 0 => Some(line.trim_end().to_owned()),
            _ => None,
        }
    }

    /// Waits until the other side hangs up.
    pub async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        // A reset is an end, too.
        self.stream
            .read_to_end(&mut rest)
            .await
            .map_or(true, |_| rest.is_empty())
    }
}
