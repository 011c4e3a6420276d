//! What is promised of every ring alike, see [`super`].

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::test_items::{Aligned, panics};
use super::write::{Claim, Writer};
use super::{SendError, TrySendError, Yield, broadcast, mpmc, mpsc, spsc};

/// Runs a check with each ring of four slots whose cursors are about to wrap: with its writing end, and a function
/// that reads all there is, looks at each item, and counts them.
macro_rules! with_every_ring {
    ($check:ident::<$item:ty>, $look:expr) => {{
        let look: fn(&$item) = $look;
        let (writer, mut reader) = spsc::channel_from::<$item, Yield>(4, u64::MAX - 1);
        $check(writer, move || reader.drain(9, |item| look(&item)));
        let (writer, mut reader) = mpsc::channel_from::<$item, Yield>(4, u64::MAX - 1);
        $check(writer, move || reader.drain(9, |item| look(&item)));
        let (writer, mut reader) = mpmc::channel_from::<$item, Yield>(4, u64::MAX - 1);
        $check(writer, move || reader.drain(9, |item| look(&item)));
        let mut builder = broadcast::Builder::starting_at(4, u64::MAX - 1);
        builder.consumer(&[]);
        let (writer, mut readers) = builder.build_with::<$item, Yield>();
        $check(writer, move || readers[0].for_each(9, look));
    }};
}

#[test]
fn a_claim_that_stalls_shows_nothing_and_then_all() {
    fn check<C: Claim<Item = u8>>(mut writer: Writer<C>, mut read: impl FnMut() -> usize) {
        for _ in 0..5 {
            let mut chunk = writer.claim(3).unwrap();
            chunk.push(1).unwrap();
            chunk.fill([2, 3, 4]);
            assert_eq!((chunk.remaining(), read()), (0, 0), "not published yet");
            assert_eq!(chunk.push(5), Err(5));
            drop(chunk);
            assert_eq!(read(), 3);
        }
    }
    with_every_ring!(check::<u8>, |item| assert!(*item < 4));
}

#[test]
fn a_claim_that_can_never_be_is_a_mistake_and_breaks_nothing() {
    fn check<C: Claim<Item = u8>>(mut writer: Writer<C>, mut read: impl FnMut() -> usize) {
        panics(|| drop(writer.claim(0)));
        panics(|| drop(writer.claim_up_to(0)));
        panics(|| drop(writer.claim(5)));
        assert_eq!(writer.claim_up_to(usize::MAX).unwrap().remaining(), 4);
        // Where others may have claimed behind it, what was given up is passed over first.
        assert_eq!(read(), 0);
        writer.claim(4).unwrap().fill(0..4);
        assert!(writer.claim(1).is_err());
        assert_eq!(read(), 4);
    }
    with_every_ring!(check::<u8>, |_| ());
}

#[test]
fn a_capacity_is_above_zero_and_within_the_limit() {
    for capacity in [0, (1 << 30) + 1, usize::MAX] {
        let refused = |make: fn(usize)| {
            assert!(catch_unwind(AssertUnwindSafe(|| make(capacity))).is_err());
        };
        refused(|capacity| drop(spsc::channel::<u8>(capacity)));
        refused(|capacity| drop(mpsc::channel::<u8>(capacity)));
        refused(|capacity| drop(mpmc::channel::<u8>(capacity)));
        refused(|capacity| {
            let mut builder = broadcast::Builder::new(capacity);
            builder.consumer(&[]);
            drop(builder.build::<u8>());
        });
    }
}

thread_local! {
    static DROPPED: Cell<u32> = const { Cell::new(0) };
}

/// Takes no memory, but counts its drop.
struct Nothing;

impl Drop for Nothing {
    fn drop(&mut self) {
        DROPPED.set(DROPPED.get() + 1);
    }
}

#[test]
fn zero_sized_items_are_dropped_exactly_once() {
    fn check<C: Claim<Item = Nothing>>(mut writer: Writer<C>, mut read: impl FnMut() -> usize) {
        DROPPED.set(0);
        for _ in 0..3 {
            assert!(writer.try_send(Nothing).is_ok());
            writer.claim(3).unwrap().fill([Nothing, Nothing, Nothing]);
            assert!(writer.try_send(Nothing).is_err());
            assert_eq!(read(), 4);
        }
        writer.claim(3).unwrap().fill([Nothing, Nothing]);
        drop((writer, read));
        // Read, refused, left behind.
        assert_eq!(DROPPED.get(), 12 + 3 + 2);
    }
    with_every_ring!(check::<Nothing>, |_| ());
}

#[test]
fn over_aligned_items_lie_where_they_must() {
    fn check<C: Claim<Item = Aligned>>(mut writer: Writer<C>, mut read: impl FnMut() -> usize) {
        for _ in 0..4 {
            let mut chunk = writer.claim(3).unwrap();
            let (front, back) = chunk.uninit();
            for cell in front.iter().chain(back.iter()) {
                assert_eq!(cell.as_ptr().addr() % align_of::<Aligned>(), 0);
            }
            chunk.fill([Aligned(1), Aligned(2), Aligned(3)]);
            drop(chunk);
            assert_eq!(read(), 3);
        }
    }
    with_every_ring!(check::<Aligned>, |item| {
        item.check();
    });
}

#[test]
fn both_ends_tell_what_they_are() {
    let (writer, reader) = mpmc::channel::<u8>(3);
    assert_eq!(format!("{writer:?}"), "mpmc::Sender { capacity: 4, .. }");
    assert_eq!(format!("{reader:?}"), "mpmc::Receiver { capacity: 4, .. }");
    let (writer, reader) = spsc::channel::<u8>(3);
    assert_eq!(format!("{writer:?}"), "spsc::Producer { capacity: 4, .. }");
    assert_eq!(format!("{reader:?}"), "spsc::Consumer { capacity: 4, .. }");
}

#[test]
fn errors_hand_the_item_back_and_ask_nothing_of_it() {
    /// Neither `Debug` nor `Display`.
    struct Opaque(u8);
    let full = TrySendError::Full(Opaque(1));
    assert_eq!(format!("{full:?}: {full}"), "Full(..): the ring is full");
    let gone = TrySendError::Disconnected(Opaque(2));
    let text = format!("{gone:?}: {gone}");
    assert_eq!(text, "Disconnected(..): the ring has no reader any more");
    assert_eq!(full.into_inner().0 + gone.into_inner().0, 3);
    assert_eq!(format!("{:?}", SendError(Opaque(3))), "SendError(..)");
}
