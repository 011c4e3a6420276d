//! Handing on what was put here, in the background.
//!
//! Owns: the queue, and how many are on their way at once.
//! Does not know: the protocol, or whether the upstream is down (`tier`).
//! Invariants: a put never waits for the upstream, what the queue cannot hold is counted and not
//! handed on; a result follows the blobs that were put before it.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::blob::Blob;
use crate::digest::Digest;
use crate::name::{BlobName, HashFunction};
use crate::sha256::Sha256Digest;

/// Blobs that are on their way at once.
const AT_ONCE: usize = 16;

/// Makes the encoded result of an action out of the blob that it is kept in, for a server that names
/// blobs by this hash. May take long.
pub(crate) type Encode = Box<dyn FnOnce(Blob, HashFunction) -> io::Result<Bytes> + Send>;

/// What is handed on.
pub(crate) enum Handed {
    /// A blob and its second name.
    Blob(Digest, Option<Sha256Digest>),
    /// The result of an action.
    Result {
        action: BlobName,
        /// What it is made from.
        blob: Digest,
        encode: Encode,
    },
}

impl Handed {
    /// The blob that has to be read for it.
    pub(super) fn blob(&self) -> Digest {
        match self {
            Self::Blob(digest, _) | Self::Result { blob: digest, .. } => *digest,
        }
    }
}

impl fmt::Debug for Handed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blob(digest, _) => write!(f, "blob {digest}"),
            Self::Result { action, .. } => write!(f, "result of {action}"),
        }
    }
}

/// Reads blobs for the tier without keeping the store open.
pub(crate) trait AsyncReadBlob: Send + Sync + 'static {
    fn read(&self, digest: Digest) -> impl Future<Output = Option<Blob>> + Send;
}

/// Hands on what comes out of the queue; ends when nobody can put anything into it.
pub(super) async fn hand_on<F>(mut queue: mpsc::Receiver<Handed>, send: impl Fn(Handed) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut on_the_way = JoinSet::new();
    while let Some(next) = queue.recv().await {
        let others = match next {
            Handed::Blob(..) => AT_ONCE - 1,
            Handed::Result { .. } => 0,
        };
        while on_the_way.len() > others {
            on_the_way.join_next().await;
        }
        on_the_way.spawn(send(next));
    }
    while on_the_way.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::sync::{Arc, Mutex};

    #[tokio::test]
    async fn a_result_follows_its_blobs_and_blobs_go_side_by_side() {
        let (queue, waiting) = mpsc::channel(100);
        for number in 0..40u8 {
            let next = match number % 20 {
                19 => Handed::Result {
                    action: Digest::of(&[number]).into(),
                    blob: Digest::of(&[number]),
                    encode: Box::new(|blob, _| blob.read()),
                },
                _ => Handed::Blob(Digest::of(&[number]), None),
            };
            queue.send(next).await.unwrap();
        }
        drop(queue);
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let sent = Arc::new(Mutex::new(Vec::new()));
        let (seen, peak) = (Arc::clone(&sent), Arc::clone(&most));
        hand_on(waiting, move |next| {
            let (now, most, sent) = (Arc::clone(&now), Arc::clone(&peak), Arc::clone(&seen));
            async move {
                most.fetch_max(now.fetch_add(1, Relaxed) + 1, Relaxed);
                tokio::task::yield_now().await;
                sent.lock().unwrap().push(next.blob());
                now.fetch_sub(1, Relaxed);
            }
        })
        .await;
        let sent = sent.lock().unwrap();
        assert_eq!(sent.len(), 40);
        for result in [19, 39] {
            let place = |number: u8| {
                let digest = Digest::of(&[number]);
                sent.iter().position(|sent| *sent == digest).unwrap()
            };
            assert!(
                (0..result).all(|number| place(number) < place(result)),
                "{sent:?}"
            );
        }
        assert!((2..=AT_ONCE).contains(&most.load(Relaxed)));
    }
}
