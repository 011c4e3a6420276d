//! Messages that remember the span they were sent from.
//!
//! Owns: [`Traced`]. Does not know: subscribers, actors.
//! Spans of handlers are roots that *follow from* the sender's span: a chain of messages is a chain of links,
//! not a nesting that grows with every hop.

use std::fmt;
use tracing::Span;
use tracing::level_filters::LevelFilter;

/// A message and the `tracing` span that its sender was in. Without a subscriber it costs one load of a flag
/// and 8 bytes.
///
/// ```
/// use actor_rt::{Actor, Context, System, Traced};
///
/// struct Search;
/// impl Actor for Search {
///     type Msg = Traced<String>;
///     fn handle(&mut self, msg: Self::Msg, _ctx: &mut Context<'_, Self>) {
///         msg.handle(|query| {
///             // Inside a span `handle`, which follows from the span of whoever sent the query.
///             tracing::info!(query, "searching");
///         });
///     }
/// }
///
/// let system = System::new()?;
/// let search = system.spawn(|| Search);
/// let request = tracing::info_span!("request");
/// let _inside = request.enter();
/// search.tell("rings".to_owned().into()).expect("room");
/// # Ok::<(), actor_rt::StartError>(())
/// ```
pub struct Traced<M> {
    message: M,
    /// The sender's span, kept open until the message has been handled.
    from: Option<Box<Span>>,
}

impl<M> Traced<M> {
    /// A message from the span that the caller is in.
    #[inline]
    pub fn new(message: M) -> Self {
        let from = if LevelFilter::current() == LevelFilter::OFF {
            None
        } else {
            Some(Span::current())
                .filter(|span| !span.is_none())
                .map(Box::new)
        };
        Self { message, from }
    }

    /// Handles the message in a span named `handle`, at level `INFO`, that follows from the sender's.
    pub fn handle<R>(self, handler: impl FnOnce(M) -> R) -> R {
        let kind = std::any::type_name::<M>();
        let (message, span) =
            self.open(tracing::info_span!(parent: None, "handle", message = kind));
        span.in_scope(|| handler(message))
    }

    /// Lets `span` follow from the sender's and takes the message out: for a span with fields of its own, or
    /// one that an asynchronous handler is instrumented with. Make it with `parent: None`.
    pub fn open(self, span: Span) -> (M, Span) {
        if let Some(from) = &self.from {
            span.follows_from(from.id());
        }
        (self.message, span)
    }

    /// The message alone.
    pub fn into_inner(self) -> M {
        self.message
    }
}

impl<M> From<M> for Traced<M> {
    fn from(message: M) -> Self {
        Self::new(message)
    }
}

impl<M: fmt::Debug> fmt::Debug for Traced<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message.fmt(f)
    }
}
