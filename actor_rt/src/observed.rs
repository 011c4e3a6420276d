//! Turns that somebody looks at: a meter, or a simulation that injects faults.
//!
//! Owns: what is done at each message of such a turn, out of line, so that all others only ask whether.
//! Does not know: how messages are handled.

use crate::cell::CellPtr;
use crate::mailbox::Drain;
use crate::meter::Sampler;
use crate::sched::Simulated;
use crate::testkit::Fault;

/// A turn that is looked at.
pub(crate) struct Observed<'a> {
    simulated: Option<&'a Simulated>,
    sampler: Option<Sampler<'a>>,
}

impl Observed<'_> {
    /// Whether anybody looks at the turns of `cell`.
    #[inline(always)]
    pub(crate) fn wanted(cell: CellPtr) -> bool {
        cell.observed
    }

    /// At the start of a turn of `cell`.
    #[cold]
    pub(crate) fn new(cell: CellPtr) -> Self {
        Self {
            simulated: cell.simulated(),
            sampler: cell.meter().map(|meter| Sampler::new(meter, cell)),
        }
    }

    /// A handler that may await got a message.
    pub(crate) fn begins(&mut self) {
        if let Some(sampler) = &mut self.sampler {
            sampler.begins();
        }
    }

    /// A handler that may await is done, if one was at work.
    pub(crate) fn ends(&self) {
        if let Some(sampler) = &self.sampler {
            sampler.ends();
        }
    }

    /// Whether the message that waits at the head of `drain` shall be handled. It is still there if so;
    /// panics if a fault wants its handler to.
    #[cold]
    #[inline(never)]
    pub(crate) fn admits<M: Send + 'static>(
        &mut self,
        cell: CellPtr,
        drain: &mut Drain<'_, M>,
    ) -> bool {
        if let Some(simulated) = self.simulated {
            let fault = simulated.fault(cell, drain.peek());
            if fault != Fault::None {
                simulated.inject(fault, cell, drain.take());
                return false;
            }
        }
        if let Some(sampler) = &mut self.sampler {
            sampler.popped();
        }
        true
    }

    /// It was handled. Says whether the turn ends here, if that is not for the clock to say.
    #[cold]
    #[inline(never)]
    pub(crate) fn handled(&mut self) -> Option<bool> {
        if let Some(sampler) = &mut self.sampler {
            sampler.handled();
        }
        let simulated = self.simulated?;
        Some(simulated.random().is_multiple_of(4))
    }
}
