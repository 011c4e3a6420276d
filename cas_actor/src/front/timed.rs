//! A stream that gives up on a peer who does not move.
//!
//! Owns: the idle and head limits of one connection, and that on an answer that is not taken.
//! Does not know: HTTP, but for the words that begin HTTP/2; the service tells it through a [`Pulse`] when
//! requests begin and end.
//! Invariants: between requests the limit counts from the last byte; inside a head it counts from
//! the head's first byte, so a byte now and then does not help; inside a request the peer has to take what
//! is written, and the whole request has a limit. What the node works at meanwhile has no other, and the
//! body of a request one of its own (`stall`). Over HTTP/2 bytes may be pings: a connection without a
//! request ends in spite of them, and each stream has limits of its own (`stall`). One timer per
//! connection, moved only when it fires; the clock is read only when something has to be waited for, which
//! is once per request.
#![forbid(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::connection::HTTP2_WORDS;
use super::pulse::Pulse;

/// How long a peer may take to close its side after we have closed ours.
const LINGER: Duration = Duration::from_secs(1);
/// A peer that goes on sending is cut off after this many bytes.
const LINGER_BYTES: usize = 1024 * 1024;

/// How long a peer may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) idle: Duration,
    pub(crate) head: Duration,
    pub(crate) stall: Duration,
    pub(crate) request: Duration,
}

/// A stream with limits on time.
#[derive(Debug)]
pub(crate) struct Timed<S> {
    inner: S,
    pulse: Arc<Pulse>,
    patience: Patience,
    tick: Pin<Box<Sleep>>,
    /// Whom the timer will wake.
    waker: Option<Waker>,
    /// Since when nothing has moved; `None` as long as nobody had to wait for that.
    still: Option<Instant>,
    /// The peer does not take what is written: a part of an answer is still on its way.
    writing: bool,
    /// Bytes thrown away since we said goodbye.
    linger: Option<usize>,
    /// How much has come of the words that begin HTTP/2; `None` once it is known whether they do.
    preface: Option<usize>,
    head: Option<Head>,
    stage: Option<Stage>,
}

/// A request that runs, or the rest after it.
#[derive(Debug)]
struct Stage {
    /// How many requests had begun, and whether one ran.
    which: (u64, bool),
    /// When something had to be waited for first.
    since: Instant,
}

/// A head that is coming in.
#[derive(Debug)]
struct Head {
    /// When its first byte had come; `None` as long as nobody had to wait for more.
    since: Option<Instant>,
    /// How many requests had begun by then.
    begun: u64,
}

impl<S> Timed<S> {
    pub(crate) fn new(inner: S, pulse: Arc<Pulse>, patience: Patience) -> Self {
        Self {
            inner,
            pulse,
            patience,
            tick: Box::pin(sleep(Duration::ZERO)),
            waker: None,
            still: None,
            writing: false,
            preface: Some(0),
            head: None,
            stage: None,
            linger: None,
        }
    }

    fn bytes_came(&mut self, bytes: &[u8]) {
        self.still = None;
        if let Some(seen) = self.preface {
            self.read_preface(seen, bytes);
        }
        if self.pulse.is_busy() || self.pulse.is_multiplexed() {
            self.head = None;
            return;
        }
        let begun = self.pulse.begun();
        if self.head.as_ref().is_none_or(|head| head.begun != begun) {
            self.head = Some(Head { since: None, begun });
        }
    }

    fn read_preface(&mut self, seen: usize, bytes: &[u8]) {
        let words = &HTTP2_WORDS[seen..];
        let count = words.len().min(bytes.len());
        self.preface = (bytes[..count] == words[..count]).then_some(seen + count);
        if self.preface == Some(HTTP2_WORDS.len()) {
            self.preface = None;
            self.pulse.multiplex();
        }
    }

    /// When patience ends, if nothing moves after `still`; `None` while only streams have limits.
    fn deadline(&self, still: Instant) -> Option<Instant> {
        let since = self.stage.as_ref().map_or(still, |stage| stage.since);
        let is_multiplexed = self.pulse.is_multiplexed();
        if self.pulse.is_busy() || self.writing {
            let stalled = self.writing.then_some(still + self.patience.stall);
            let whole = (!is_multiplexed).then_some(since + self.patience.request);
            return stalled.into_iter().chain(whole).min();
        }
        if is_multiplexed {
            return Some(since + self.patience.idle);
        }
        Some(match &self.head {
            Some(head) if head.begun == self.pulse.begun() => {
                head.since.unwrap_or(still) + self.patience.head
            }
            _ => still + self.patience.idle,
        })
    }

    /// Called when nothing moves: registers the timer, and fails once the limit has passed.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let still = *self.still.get_or_insert_with(Instant::now);
        if let Some(head) = &mut self.head {
            head.since.get_or_insert(still);
        }
        let which = (self.pulse.begun(), self.pulse.is_busy());
        if self.stage.as_ref().is_none_or(|stage| stage.which != which) {
            // Nothing may have moved for long before it: that does not count.
            self.stage = Some(Stage {
                which,
                since: Instant::now(),
            });
        }
        let is_known = self.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker()));
        if is_known && !self.tick.is_elapsed() {
            return Ok(());
        }
        self.waker = Some(cx.waker().clone());
        while self.tick.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let deadline = self.deadline(still);
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            // What is waited for may change to something shorter before that.
            let patience = &self.patience;
            let shortest = patience.head.min(patience.stall).min(patience.request);
            let soon = now + shortest.max(Duration::from_millis(1));
            let next = deadline.map_or(soon, |deadline| deadline.min(soon));
            self.tick.as_mut().reset(next);
        }
        Ok(())
    }

    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        match self.check(cx) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn wrote(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        self.writing = polled.is_pending();
        if self.writing {
            return self.wait(cx);
        }
        self.still = None;
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.inner).poll_read(cx, buffer) {
            Poll::Ready(done) => {
                self.bytes_came(&buffer.filled()[before..]);
                Poll::Ready(done)
            }
            Poll::Pending => self.wait(cx),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.wrote(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.wrote(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TLS has taken what the peer has not.
        let polled = Pin::new(&mut self.inner).poll_flush(cx);
        self.writing = polled.is_pending();
        match self.writing {
            true => self.wait(cx),
            false => polled,
        }
    }

    /// Says goodbye, then waits a little for the peer to do the same: closing while something
    /// unread is on its way would destroy our last answer before the peer has seen it.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let linger = match &mut self.linger {
            Some(linger) => linger,
            None => {
                std::task::ready!(Pin::new(&mut self.inner).poll_shutdown(cx))?;
                self.tick.as_mut().reset(Instant::now() + LINGER);
                self.linger.insert(0)
            }
        };
        let mut discarded = *linger;
        let mut bytes = [MaybeUninit::uninit(); 4096];
        while discarded < LINGER_BYTES {
            let mut buffer = ReadBuf::uninit(&mut bytes);
            match Pin::new(&mut self.inner).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    discarded += buffer.filled().len();
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    self.linger = Some(discarded);
                    return self.tick.as_mut().poll(cx).map(Ok);
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const PATIENCE: Patience = Patience {
        idle: Duration::from_secs(300),
        head: Duration::from_secs(10),
        stall: Duration::from_secs(60),
        request: Duration::from_secs(3600),
    };

    type Pair = (
        Timed<tokio::io::DuplexStream>,
        tokio::io::DuplexStream,
        Arc<Pulse>,
    );

    fn pair() -> Pair {
        let (ours, theirs) = tokio::io::duplex(8);
        let pulse = Arc::new(Pulse::default());
        (
            Timed::new(ours, Arc::clone(&pulse), PATIENCE),
            theirs,
            pulse,
        )
    }

    /// Reads until the limit; says how many seconds of paused time that took.
    async fn read_until_timeout(timed: &mut Timed<tokio::io::DuplexStream>) -> u64 {
        let begin = Instant::now();
        let error = loop {
            match timed.read_u8().await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        begin.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_late_and_a_slow_head_soon() {
        let (mut timed, _theirs, _) = pair();
        assert_eq!(read_until_timeout(&mut timed).await, 300);

        let (mut timed, mut theirs, _) = pair();
        let drip = tokio::spawn(async move {
            while theirs.write_all(b"x").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        assert_eq!(read_until_timeout(&mut timed).await, 10);
        drop(timed);
        drip.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_node_works_at_has_the_time_of_a_request() {
        let (mut timed, _theirs, pulse) = pair();
        let _busy = pulse.begin();
        assert_eq!(read_until_timeout(&mut timed).await, 3600);

        // Of HTTP/2 it is the streams that have it.
        let (mut timed, _theirs, pulse) = pair();
        pulse.multiplex();
        let _busy = pulse.begin();
        let read = tokio::time::timeout(Duration::from_secs(10_000), timed.read_u8());
        assert!(read.await.is_err(), "the connection goes on");
    }

    #[tokio::test(start_paused = true)]
    async fn every_piece_that_is_taken_counts() {
        let (mut timed, mut theirs, pulse) = pair();
        let _busy = pulse.begin();
        let reader = tokio::spawn(async move {
            for _ in 0..4 {
                sleep(Duration::from_secs(50)).await;
                theirs.read_exact(&mut [0; 8]).await.unwrap();
            }
            std::future::pending::<()>().await;
        });
        let begin = Instant::now();
        let error = timed.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begin.elapsed().as_secs(), 4 * 50 + 60);
        reader.abort();
    }

    /// A stream that takes what is written, and cannot get rid of it.
    struct Swallowing;

    impl AsyncRead for Swallowing {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Swallowing {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_tls_cannot_get_rid_of_is_not_taken() {
        let pulse = Arc::new(Pulse::default());
        let _busy = pulse.begin();
        let mut timed = Timed::new(Swallowing, Arc::clone(&pulse), PATIENCE);
        let begin = Instant::now();
        timed.write_all(b"an answer").await.unwrap();
        let error = timed.flush().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begin.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn http2_before_its_first_request_is_idle() {
        let (mut timed, mut theirs, _) = pair();
        let preface = tokio::spawn(async move {
            for bytes in [&b"PR"[..], b"I * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
                theirs.write_all(bytes).await.unwrap();
                tokio::task::yield_now().await;
            }
            theirs
        });
        assert_eq!(read_until_timeout(&mut timed).await, 300);
        drop(preface.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_drips_ends_at_its_limit() {
        let (mut timed, mut theirs, pulse) = pair();
        let _busy = pulse.begin();
        let drip = tokio::spawn(async move {
            while theirs.write_all(b"x").await.is_ok() {
                sleep(Duration::from_secs(7)).await;
            }
        });
        assert_eq!(read_until_timeout(&mut timed).await, 3600);
        drop(timed);
        drip.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn pings_do_not_keep_a_connection_without_requests() {
        let (mut timed, mut theirs, pulse) = pair();
        pulse.multiplex();
        drop(pulse.begin());
        let ping = tokio::spawn(async move {
            while theirs.write_all(b"ping").await.is_ok() {
                sleep(Duration::from_secs(60)).await;
            }
        });
        assert_eq!(read_until_timeout(&mut timed).await, 300);
        drop(timed);
        ping.await.unwrap();
    }

    /// The rest after a request counted from before it, where no byte had moved in between.
    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_only_after_its_request() {
        let (mut timed, _theirs, pulse) = pair();
        pulse.multiplex();
        let busy = pulse.begin();
        let work = tokio::spawn(async move {
            sleep(Duration::from_secs(200)).await;
            drop(busy);
        });
        let all = read_until_timeout(&mut timed).await;
        assert!((500..=510).contains(&all), "{all} s");
        work.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_who_stops_reading_is_given_up() {
        let (mut timed, _theirs, pulse) = pair();
        let _busy = pulse.begin();
        let begin = Instant::now();
        let error = timed.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begin.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_head_has_its_own_time() {
        let (mut timed, mut theirs, pulse) = pair();
        theirs.write_all(b"a").await.unwrap();
        timed.read_u8().await.unwrap();
        drop(pulse.begin());
        sleep(Duration::from_secs(100)).await;
        theirs.write_all(b"b").await.unwrap();
        assert_eq!(read_until_timeout(&mut timed).await, 10);
    }
}
