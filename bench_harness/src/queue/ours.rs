//! The rings of `actor_rt`, with each wait strategy.
#![forbid(unsafe_code)]

use std::any::TypeId;
use std::marker::PhantomData;

use actor_rt::ring::{BusySpin, Wait, mpmc, mpsc, spsc};

use super::{Load, Queue, Rx, Tx};
use crate::measure::OURS;
use crate::payload::Payload;

/// `actor_rt::ring::spsc`.
pub struct Spsc<W>(PhantomData<W>);
/// `actor_rt::ring::mpsc`.
pub struct Mpsc<W>(PhantomData<W>);
/// `actor_rt::ring::mpmc`.
pub struct Mpmc<W>(PhantomData<W>);

/// Whether threads that wait by this strategy never give way, but for an emergency.
pub fn spins<W: Wait>() -> bool {
    TypeId::of::<W>() == TypeId::of::<BusySpin>()
}

/// The three rings have the same face; only the claims differ inside.
macro_rules! ring {
    ($Queue:ident, $module:ident, $Writer:ident, $Reader:ident, $open:expr) => {
        impl<P: Payload, W: Wait> Tx<P> for $module::$Writer<P, W> {
            #[inline]
            fn send(&mut self, item: P) {
                assert!(
                    $module::$Writer::send(self, item).is_ok(),
                    "the reader left early"
                );
            }

            #[inline]
            fn send_batch(&mut self, mut from: u64, mut count: usize) {
                while count > 0 {
                    let mut chunk = self.claim_up_to(count).expect("the reader left early");
                    let size = chunk.remaining();
                    chunk.fill((from..from + size as u64).map(P::new));
                    from += size as u64;
                    count -= size;
                }
            }
        }

        impl<P: Payload, W: Wait> Rx<P> for $module::$Reader<P, W> {
            #[inline]
            fn recv(&mut self) -> Option<P> {
                $module::$Reader::recv(self).ok()
            }

            #[inline]
            fn recv_batch(&mut self, max: usize, each: &mut impl FnMut(&P)) -> bool {
                let Ok(mut chunk) = self.read_wait(max) else {
                    return false;
                };
                chunk.drain(|item| each(&item));
                true
            }
        }

        impl<W: Wait> Queue for $Queue<W> {
            const NAME: &'static str = OURS;
            type Tx<P: Payload> = $module::$Writer<P, W>;
            type Rx<P: Payload> = $module::$Reader<P, W>;

            fn spins() -> (bool, bool) {
                (spins::<W>(), spins::<W>())
            }

            fn open<P: Payload>(load: &Load) -> (Vec<Self::Tx<P>>, Vec<Self::Rx<P>>) {
                let (writer, reader) = $module::channel_with::<P, W>(load.capacity);
                #[allow(clippy::redundant_closure_call)]
                $open(writer, reader, load)
            }
        }
    };
}

ring!(
    Spsc,
    spsc,
    Producer,
    Consumer,
    |writer, reader, _: &Load| (vec![writer], vec![reader])
);
ring!(
    Mpsc,
    mpsc,
    Sender,
    Receiver,
    |writer, reader, load: &Load| (vec![writer; load.producers], vec![reader])
);
ring!(
    Mpmc,
    mpmc,
    Sender,
    Receiver,
    |writer, reader, load: &Load| { (vec![writer; load.producers], vec![reader; load.consumers]) }
);
