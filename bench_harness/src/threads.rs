//! Where the threads of a case run, as far as it decides whether a comparison means anything.
#![forbid(unsafe_code)]

/// The threads that work while a case is measured: the core of each, and whether it polls without ever giving way.
#[derive(Debug, Clone, Default)]
pub struct Threads(Vec<(usize, bool)>);

impl Threads {
    /// Nothing that anybody could say: threads that the system places, or other processes.
    pub fn anywhere() -> Self {
        Self::default()
    }

    /// One on each of these cores, that yields or sleeps when there is nothing to do.
    pub fn yielding(cores: impl IntoIterator<Item = usize>) -> Self {
        Self(cores.into_iter().map(|core| (core, false)).collect())
    }

    /// One on each of these cores, that yields or sleeps unless it `spins`.
    pub fn polling(cores: impl IntoIterator<Item = usize>, spins: bool) -> Self {
        Self(cores.into_iter().map(|core| (core, spins)).collect())
    }

    /// These and others.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Threads that never give way although they share their core: each stands in the way of the others for as long as
    /// the system lets it. With more such threads than cores there is always one.
    pub fn in_the_way(&self) -> usize {
        let on = |core: usize| self.0.iter().filter(|thread| thread.0 == core).count();
        let blocks = |thread: &&(usize, bool)| thread.1 && on(thread.0) > 1;
        self.0.iter().filter(blocks).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_spins_on_a_core_of_its_own_is_in_nobodys_way() {
        let alone = Threads::yielding([0, 0, 0]).and(Threads::polling([1], true));
        assert_eq!((alone.count(), alone.in_the_way()), (4, 0));
        let shared = Threads::yielding([0]).and(Threads::polling([1, 1], true));
        assert_eq!(shared.in_the_way(), 2);
        assert_eq!(Threads::polling([0, 0], false).in_the_way(), 0);
        // One core for both sides.
        let one = Threads::yielding([0]).and(Threads::polling([0], true));
        assert_eq!(one.in_the_way(), 1);
        assert_eq!(Threads::anywhere().in_the_way(), 0);
    }
}
