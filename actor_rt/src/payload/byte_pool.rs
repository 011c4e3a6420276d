//! Bytes for messages: written once, then shared and sliced without copying.
//!
//! Owns: chunks of memory and when they are used again.
//! Does not know: what the bytes mean. Views are `bytes::Bytes`; a chunk lives as long as any view of it.

use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// Makes [`Bytes`] out of chunks that are used again once every view of them is gone.
///
/// A view is 32 bytes, so it lies inline in a message; cloning and slicing it copies nothing, and it keeps
/// its chunk alive wherever it goes. Once warm, making one allocates nothing as long as views are dropped
/// before `chunks` times `chunk_bytes` have been written after them; those that live longer cost a new chunk.
///
/// ```
/// use actor_rt::BytePool;
/// let mut pool = BytePool::new(64 * 1024, 4);
/// let line = pool.copy(b"GET /index.html");
/// let path = line.slice(4..);                  // no copy: a view of a view
/// drop(line);
/// assert_eq!(&path[..], b"/index.html");
/// ```
#[derive(Debug)]
pub struct BytePool {
    current: BytesMut,
    /// Chunks that are full, oldest first.
    full: VecDeque<BytesMut>,
    chunk_bytes: usize,
    chunks: usize,
}

impl BytePool {
    /// A pool that takes memory in chunks of `chunk_bytes` and comes back to at most `chunks` of them.
    /// Nothing is allocated yet.
    ///
    /// # Panics
    /// If either is zero.
    #[must_use]
    pub fn new(chunk_bytes: usize, chunks: usize) -> Self {
        assert!(
            chunk_bytes > 0 && chunks > 0,
            "a pool has chunks, and they have bytes"
        );
        Self {
            current: BytesMut::new(),
            full: VecDeque::with_capacity(chunks),
            chunk_bytes,
            chunks,
        }
    }

    /// A view of a copy of `bytes`.
    pub fn copy(&mut self, bytes: &[u8]) -> Bytes {
        self.room(bytes.len()).extend_from_slice(bytes);
        self.take()
    }

    /// An empty buffer with room for at least `bytes` more: to read from a socket into, say. What is
    /// written to it becomes a view with [`BytePool::take`].
    pub fn room(&mut self, bytes: usize) -> &mut BytesMut {
        if self.current.capacity() - self.current.len() < bytes {
            self.next_chunk(bytes);
        }
        &mut self.current
    }

    /// What was written since the last view, as a view.
    pub fn take(&mut self) -> Bytes {
        self.current.split().freeze()
    }

    fn next_chunk(&mut self, bytes: usize) {
        let wanted = self.current.len() + bytes.max(self.chunk_bytes);
        let free = self
            .full
            .iter_mut()
            .position(|chunk| chunk.try_reclaim(wanted));
        let mut next = match free.and_then(|at| self.full.remove(at)) {
            Some(chunk) => chunk,
            None => BytesMut::with_capacity(wanted),
        };
        // What was written and not taken moves along.
        next.extend_from_slice(&self.current);
        self.current.clear();
        let full = std::mem::replace(&mut self.current, next);
        if self.full.len() == self.chunks {
            self.full.pop_front();
        }
        self.full.push_back(full);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_keep_what_they_show_while_the_pool_goes_on() {
        let mut pool = BytePool::new(64, 2);
        let views: Vec<_> = (0..100_u8).map(|n| pool.copy(&[n; 10])).collect();
        for (n, view) in views.iter().enumerate() {
            assert_eq!(view[..], [n as u8; 10]);
        }
    }

    #[test]
    fn a_chunk_without_views_is_used_again() {
        let mut pool = BytePool::new(64, 2);
        let mut places = std::collections::HashSet::new();
        for _ in 0..1000 {
            places.insert(pool.copy(&[1; 16]).as_ptr().addr());
        }
        assert!(places.len() <= 3 * 4, "{} places", places.len());
    }

    #[test]
    fn what_is_larger_than_a_chunk_gets_one_of_its_own() {
        let mut pool = BytePool::new(8, 1);
        assert_eq!(pool.copy(&[3; 100])[..], [3; 100]);
        assert_eq!(pool.copy(&[4; 4])[..], [4; 4]);
    }

    #[test]
    fn what_was_written_and_not_taken_survives_a_change_of_chunk() {
        let mut pool = BytePool::new(16, 1);
        pool.room(8).extend_from_slice(b"first, ");
        pool.room(64).extend_from_slice(b"second");
        assert_eq!(&pool.take()[..], b"first, second");
    }
}
