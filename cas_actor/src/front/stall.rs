//! How long one request may stand still, whatever else its connection does.
//!
//! Owns: [`Coming`], the body of a request with a limit on its silence, and [`Streams`], which runs the
//! streams of an HTTP/2 connection and ends the connection of a client that does not take an answer.
//! Does not know: connections (`timed`), or what a request means.
//! Invariants: only waiting for the client counts, never our own work; bytes of another stream, and
//! the pings of HTTP/2, move nobody's limit; a timer is made only when something has to be waited for.
//!
//! A stream that is reset keeps the piece that its client has no room for until the client makes some, and
//! some clients take a reset for the end of a whole answer. So the whole connection ends.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::error::Error as _;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::rt::Executor;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep_until};

/// Why the rest of a request's body does not come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ComingError {
    /// The connection broke, or the client gave up.
    #[error(transparent)]
    Broken(hyper::Error),
    /// The connection has ended because a limit of its own has passed.
    #[error("it took longer than the limits of this node allow")]
    Late,
    /// Nothing has come for too long.
    #[error("nothing of the body has come for {} s", .0.as_secs())]
    Stalled(Duration),
}

impl From<hyper::Error> for ComingError {
    fn from(error: hyper::Error) -> Self {
        let cause = error.source().and_then(|cause| cause.downcast_ref());
        match cause.map(io::Error::kind) {
            Some(io::ErrorKind::TimedOut) => Self::Late,
            _ => Self::Broken(error),
        }
    }
}

/// A timer that is made at the first wait, and moved only when it fires.
#[derive(Debug, Default)]
struct Patience {
    since: Option<Instant>,
    tick: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// Something has moved.
    fn begin_anew(&mut self) {
        self.since = None;
    }

    /// Ready once it is `limit` since the first of the waits that nothing has interrupted.
    fn poll_end(&mut self, limit: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = *self.since.get_or_insert_with(Instant::now) + limit;
        let tick = self
            .tick
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        loop {
            ready!(tick.as_mut().poll(cx));
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            tick.as_mut().reset(deadline);
        }
    }
}

/// The body of a request as it comes in.
#[derive(Debug)]
pub(crate) struct Coming {
    body: Incoming,
    limit: Duration,
    patience: Patience,
}

impl Coming {
    /// A body of which something has to come within every `limit`.
    pub(crate) fn new(body: Incoming, limit: Duration) -> Self {
        Self {
            body,
            limit,
            patience: Patience::default(),
        }
    }
}

impl Body for Coming {
    type Data = Bytes;
    type Error = ComingError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ComingError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.patience.begin_anew();
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let limit = self.limit;
        ready!(self.patience.poll_end(limit, cx));
        Poll::Ready(Some(Err(ComingError::Stalled(limit))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// On whom a stream of HTTP/2 waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Turn {
    /// An answer is being made; otherwise what there is of it waits for the client.
    is_ours: bool,
    /// Pieces of the answer that were taken.
    pieces: u64,
}

tokio::task_local! {
    static TURN: Cell<Turn>;
}

fn turn(next: impl FnOnce(Turn) -> Turn) {
    // HTTP/1 has no streams: its connections have limits of their own.
    let _ = TURN.try_with(|turn| turn.set(next(turn.get())));
}

/// What comes next is ours to make.
pub(crate) fn ours() {
    turn(|turn| Turn {
        is_ours: true,
        ..turn
    });
}

/// What comes next waits for the client.
pub(crate) fn theirs() {
    turn(|turn| Turn {
        is_ours: false,
        pieces: turn.pieces + 1,
    });
}

/// Runs the streams of an HTTP/2 connection.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    /// How long a client may take for the next piece of its answer.
    pub(crate) stall: Duration,
    /// How long a stream may take altogether.
    pub(crate) request: Duration,
    /// Told when the client does not take an answer.
    pub(crate) given_up: Arc<Notify>,
}

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
{
    fn execute(&self, stream: F) {
        let begin = Cell::new(Turn {
            is_ours: false,
            pieces: 0,
        });
        tokio::spawn(TURN.scope(begin, self.clone().limited(stream)));
    }
}

impl Streams {
    /// Drives a stream until it ends or breaks a limit.
    async fn limited<F: Future>(self, stream: F) {
        let mut stream = pin!(stream);
        let (mut still, mut whole) = (Patience::default(), Patience::default());
        let mut before = None;
        poll_fn(|cx| {
            if stream.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let turn = TURN.with(Cell::get);
            if before.replace(turn) != Some(turn) {
                still.begin_anew();
            }
            let mut is_over = whole.poll_end(self.request, cx).is_ready();
            if !turn.is_ours {
                is_over |= still.poll_end(self.stall, cx).is_ready();
            }
            match is_over {
                true if !turn.is_ours => self.given_up.notify_one(),
                true => {}
                false => return Poll::Pending,
            }
            Poll::Ready(())
        })
        .await;
    }
}
