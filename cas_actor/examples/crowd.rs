//! Many connections, few of them busy: how fast the busy ones are answered, whether anything fails,
//! and what the server's memory does from round to round.
//!
//! `cargo run --release --example crowd -- 127.0.0.1:7471 /cas/HASH 5000 64 5 3 PID` opens 5,000
//! connections, asks over 64 of them for 5 seconds, asks once more over each of the others, closes
//! them all, and does that 3 times; with the server's process id it prints its memory as well.
//! Beside `serve`, the same with `bare` shows what the machine and hyper alone do.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// One connection that asks for one thing again and again.
struct Client {
    stream: TcpStream,
    request: Box<[u8]>,
    answer: Vec<u8>,
}

impl Client {
    async fn connect(address: SocketAddr, path: &str) -> Result<Self, AnyError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
        Ok(Self {
            stream,
            request: request.into_bytes().into(),
            answer: Vec::with_capacity(8192),
        })
    }

    /// Asks once; the answer has to be a 200 of a known length.
    async fn ask(&mut self) -> Result<(), AnyError> {
        self.stream.write_all(&self.request).await?;
        self.answer.clear();
        let mut whole = None;
        while whole.is_none_or(|whole| self.answer.len() < whole) {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err("the server hung up".into());
            }
            if whole.is_none() {
                whole = length(&self.answer)?;
            }
        }
        Ok(())
    }
}

/// The length of an answer, once its head is there.
fn length(answer: &[u8]) -> Result<Option<usize>, AnyError> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&answer[..end])?;
    if !head.starts_with("HTTP/1.1 200") {
        return Err(head.lines().next().unwrap_or_default().into());
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    Ok(Some(end + 4 + length.ok_or("no length")?.parse::<usize>()?))
}

/// Asks until `end`; latencies in nanoseconds.
async fn busy(mut client: Client, end: Instant) -> Result<Histogram<u64>, AnyError> {
    let mut latency_ns = Histogram::new(3)?;
    while Instant::now() < end {
        let begin = Instant::now();
        client.ask().await?;
        latency_ns.record(begin.elapsed().as_nanos() as u64)?;
    }
    Ok(latency_ns)
}

fn resident_kib(process: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

async fn round(
    address: SocketAddr,
    path: &str,
    idle: usize,
    busy_number: usize,
    time: Duration,
) -> Result<(Histogram<u64>, u64), AnyError> {
    let mut idlers = Vec::with_capacity(idle);
    for _ in 0..idle {
        idlers.push(Client::connect(address, path).await?);
    }
    let mut running = JoinSet::new();
    let mut failed = 0;
    for _ in 0..busy_number {
        let client = Client::connect(address, path).await?;
        running.spawn(busy(client, Instant::now() + time));
    }
    let mut latency_ns = Histogram::new(3)?;
    while let Some(done) = running.join_next().await {
        match done? {
            Ok(one) => latency_ns.add(one)?,
            Err(error) => {
                eprintln!("{error}");
                failed += 1;
            }
        }
    }
    for idler in &mut idlers {
        failed += u64::from(idler.ask().await.is_err());
    }
    Ok((latency_ns, failed))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [
        address,
        path,
        connections,
        busy,
        seconds,
        rounds,
        process @ ..,
    ] = &arguments[..]
    else {
        return Err("ADDRESS PATH CONNECTIONS BUSY SECONDS ROUNDS [PID]".into());
    };
    let (address, busy) = (address.parse()?, busy.parse::<usize>()?);
    let idle = connections.parse::<usize>()?.saturating_sub(busy);
    let time = Duration::from_secs_f64(seconds.parse()?);
    for number in 1..=rounds.parse::<u32>()? {
        let (latency_ns, failed) = round(address, path, idle, busy, time).await?;
        let us = |quantile| latency_ns.value_at_quantile(quantile) as f64 / 1000.0;
        let memory = process.first().and_then(|process| resident_kib(process));
        let memory = memory.map_or_else(String::new, |kib| format!(", server {kib} KiB"));
        println!(
            "round {number}: {idle} idle, {busy} busy: {:.0}/s, failed {failed}, p50 {:.0} us, \
             p99 {:.0} us, p99.9 {:.0} us, max {:.0} us{memory}",
            latency_ns.len() as f64 / time.as_secs_f64(),
            us(0.5),
            us(0.99),
            us(0.999),
            latency_ns.max() as f64 / 1000.0,
        );
    }
    Ok(())
}
