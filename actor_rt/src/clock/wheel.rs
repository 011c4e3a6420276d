//! A timer wheel: what is to come, in order of time.
//!
//! Owns: the entries, in one growing slab, and the slots that link them.
//! Does not know: clocks; a time is a number of nanoseconds, and it moves when [`Wheel::pop_due`] says so.
//! Invariants:
//! 1. No entry is due before `now`.
//! 2. An entry stands at the level of the highest of its digits (of 6 bits) that differs from that of `now`, in the
//!    slot that this digit names; one that is due at `now` stands at level 0. So whatever stands at a lower level is due
//!    before all that stands above it, and within a level the slots are in order.
//! 3. Entries of one slot are linked in the order they came; a slot is taken apart only when `now` enters it, in this
//!    order. So entries of the same time come out in the order they came.
//!
//! The hierarchy of Varghese and Lauck (1987), with a tick of one nanosecond: an entry is moved at most once per level
//! between where it starts and level 0, four times for ten milliseconds. One that is alone in its slot is not moved.
#![forbid(unsafe_code)]

/// Bits of a digit.
const DIGIT: u32 = 6;
const SLOTS: usize = 1 << DIGIT;
/// Enough for 64 bits.
const LEVELS: usize = 11;
/// No entry.
const NONE: u32 = u32::MAX;

struct Entry<T> {
    at: u64,
    /// The next of its slot, or of the free ones.
    next: u32,
    /// The one before it in its slot.
    before: u32,
    /// Counts how often the entry was used, so that a key of an earlier use means nothing.
    generation: u32,
    /// `None` while it is free.
    value: Option<T>,
}

/// Names an entry, until it has come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

/// The entries of a slot.
#[derive(Clone, Copy)]
struct Slot {
    first: u32,
    last: u32,
}

const EMPTY: Slot = Slot {
    first: NONE,
    last: NONE,
};

pub(super) struct Wheel<T> {
    now: u64,
    entries: Vec<Entry<T>>,
    /// How many of them are in use.
    count: usize,
    free: u32,
    /// A bit for each level that is not empty.
    levels: u16,
    /// A bit for each slot that is not empty.
    occupied: [u64; LEVELS],
    slots: Box<[[Slot; SLOTS]; LEVELS]>,
}

impl<T> Wheel<T> {
    pub(super) fn new() -> Self {
        Self {
            now: 0,
            entries: Vec::new(),
            count: 0,
            free: NONE,
            levels: 0,
            occupied: [0; LEVELS],
            slots: Box::new([[EMPTY; SLOTS]; LEVELS]),
        }
    }

    /// Puts a value in; a time that has passed means now.
    pub(super) fn insert(&mut self, at: u64, value: T) -> Key {
        let at = at.max(self.now);
        if self.free == NONE {
            let index = u32::try_from(self.entries.len()).unwrap_or(NONE);
            assert!(index != NONE, "four thousand million timers at once");
            self.free = index;
            self.entries.push(Entry {
                at,
                next: NONE,
                before: NONE,
                generation: 0,
                value: None,
            });
        }
        let index = self.free;
        let entry = &mut self.entries[index as usize];
        self.free = entry.next;
        entry.at = at;
        entry.value = Some(value);
        let generation = entry.generation;
        self.count += 1;
        self.link(index);
        Key { index, generation }
    }

    /// Takes an entry out before its time, if it is still there.
    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.entries.get(key.index as usize)?;
        if entry.generation != key.generation || entry.value.is_none() {
            return None;
        }
        self.unlink(key.index);
        self.release(key.index)
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Moves what is not to be kept into `out`. Looks at everything.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&T) -> bool, out: &mut Vec<T>) {
        for index in 0..self.entries.len() {
            let value = &self.entries[index].value;
            if value.as_ref().is_some_and(|value| !is_kept(value)) {
                // It fits: there are no more than four thousand million.
                let index = index as u32;
                self.unlink(index);
                out.extend(self.release(index));
            }
        }
    }

    /// Where an entry due at this time stands: level and digit.
    fn place_of(&self, at: u64) -> (usize, usize) {
        let differs = at ^ self.now;
        let level = (63 - (differs | 1).leading_zeros()) / DIGIT;
        (level as usize, (at >> (level * DIGIT)) as usize % SLOTS)
    }

    /// Appends an entry to the slot where it belongs.
    fn link(&mut self, index: u32) {
        let (level, digit) = self.place_of(self.entries[index as usize].at);
        let slot = &mut self.slots[level][digit];
        let before = std::mem::replace(&mut slot.last, index);
        if before == NONE {
            slot.first = index;
            self.occupied[level] |= 1 << digit;
            self.levels |= 1 << level;
        } else {
            self.entries[before as usize].next = index;
        }
        let entry = &mut self.entries[index as usize];
        (entry.before, entry.next) = (before, NONE);
    }

    fn unlink(&mut self, index: u32) {
        let entry = &self.entries[index as usize];
        let (before, next) = (entry.before, entry.next);
        // It still stands there (invariant 2).
        let (level, digit) = self.place_of(entry.at);
        match self.entries.get_mut(before as usize) {
            Some(before) => before.next = next,
            None => self.slots[level][digit].first = next,
        }
        match self.entries.get_mut(next as usize) {
            Some(next) => next.before = before,
            None => self.slots[level][digit].last = before,
        }
        if self.slots[level][digit].first == NONE {
            self.vacate(level, digit);
        }
    }

    /// The slot that comes first: its level and digit.
    fn first_slot(&self) -> Option<(usize, usize)> {
        let level = self.levels.trailing_zeros() as usize;
        let occupied = self.occupied.get(level)?;
        Some((level, occupied.trailing_zeros() as usize))
    }

    /// When `now` enters a slot.
    fn start_of(&self, (level, digit): (usize, usize)) -> u64 {
        let low = level as u32 * DIGIT;
        // The digits above are those of `now`; those below are zero.
        let above = self.now.checked_shr(low + DIGIT).unwrap_or(0);
        above.checked_shl(low + DIGIT).unwrap_or(0) | (digit as u64) << low
    }

    /// A time at which it is worth looking again: not after the first entry is due, and after `now`.
    pub(super) fn look_at(&self) -> Option<u64> {
        self.first_slot().map(|first| self.start_of(first))
    }

    /// When the first entry is due. Looks at every entry of its slot.
    pub(super) fn first_at(&self) -> Option<u64> {
        let (level, digit) = self.first_slot()?;
        let mut index = self.slots[level][digit].first;
        let mut first = u64::MAX;
        while index != NONE {
            let entry = &self.entries[index as usize];
            first = first.min(entry.at);
            index = entry.next;
        }
        Some(first)
    }

    /// Takes the first entry, if it is due at `now`.
    pub(super) fn pop_due(&mut self, now: u64) -> Option<T> {
        while let Some((level, digit)) = self.first_slot() {
            let start = self.start_of((level, digit));
            if start > now {
                break;
            }
            let slot = self.slots[level][digit];
            let first = &self.entries[slot.first as usize];
            // Whatever is alone in the first slot is the first entry.
            let alone = slot.first == slot.last && first.at <= now;
            if alone || level == 0 {
                let at = first.at;
                self.unlink(slot.first);
                self.now = at;
                return self.release(slot.first);
            }
            self.now = start;
            self.vacate(level, digit);
            let mut index = slot.first;
            while index != NONE {
                let next = self.entries[index as usize].next;
                self.link(index);
                index = next;
            }
        }
        // Nothing stands between here and there (invariant 2), so later entries start as low as they can.
        self.now = self.now.max(now);
        None
    }

    fn vacate(&mut self, level: usize, digit: usize) {
        self.slots[level][digit] = EMPTY;
        self.occupied[level] &= !(1 << digit);
        if self.occupied[level] == 0 {
            self.levels &= !(1 << level);
        }
    }

    fn release(&mut self, index: u32) -> Option<T> {
        let entry = &mut self.entries[index as usize];
        entry.next = self.free;
        entry.generation = entry.generation.wrapping_add(1);
        self.free = index;
        self.count -= 1;
        entry.value.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all_due<T>(wheel: &mut Wheel<T>, now: u64) -> Vec<T> {
        std::iter::from_fn(|| wheel.pop_due(now)).collect()
    }

    #[test]
    fn entries_come_in_order_of_time_and_then_of_arrival() {
        let mut wheel = Wheel::new();
        for (number, at) in [500, 7, 1 << 40, 7, u64::MAX, 500, 0]
            .into_iter()
            .enumerate()
        {
            wheel.insert(at, number);
        }
        assert_eq!(wheel.first_at(), Some(0));
        assert_eq!(all_due(&mut wheel, 6), [6]);
        assert_eq!(wheel.first_at(), Some(7));
        assert_eq!(all_due(&mut wheel, 500), [1, 3, 0, 5]);
        assert_eq!(all_due(&mut wheel, u64::MAX - 1), [2]);
        assert_eq!(all_due(&mut wheel, u64::MAX), [4]);
        assert_eq!((wheel.first_at(), wheel.look_at()), (None, None));
    }

    #[test]
    fn what_comes_too_late_is_due_at_once() {
        let mut wheel = Wheel::new();
        assert_eq!(wheel.pop_due(1000), None::<u32>);
        wheel.insert(3, 1);
        assert_eq!(wheel.pop_due(1000), Some(1));
    }

    #[test]
    fn an_entry_is_removed_once_and_by_its_own_key() {
        let mut wheel = Wheel::new();
        let keys: Vec<_> = [5, 5, 5, 900].map(|at| wheel.insert(at, at)).into();
        assert_eq!(wheel.remove(keys[1]), Some(5));
        assert_eq!(wheel.remove(keys[1]), None);
        assert_eq!(wheel.remove(keys[3]), Some(900));
        let again = wheel.insert(6, 6);
        assert_eq!(wheel.remove(keys[3]), None, "its entry is somebody else's");
        assert_eq!(all_due(&mut wheel, 5), [5, 5]);
        assert_eq!(wheel.remove(again), Some(6));
        assert_eq!(wheel.first_at(), None);
    }

    #[test]
    fn what_is_not_kept_leaves_and_the_others_stay_in_order() {
        let mut wheel = Wheel::new();
        for at in [900, 5, 70, 5000, 5, 71] {
            wheel.insert(at, at);
        }
        let mut out = Vec::new();
        wheel.retain(|at| *at != 5 && *at != 71, &mut out);
        out.sort_unstable();
        assert_eq!((out, wheel.len()), (vec![5, 5, 71], 3));
        assert_eq!(all_due(&mut wheel, u64::MAX), [70, 900, 5000]);
        assert_eq!(wheel.len(), 0);
    }

    #[test]
    fn entries_are_used_again() {
        let mut wheel = Wheel::new();
        for round in 0..100 {
            (0..10).for_each(|n| {
                wheel.insert(round * 1000 + n * 77, n);
            });
            assert_eq!(all_due(&mut wheel, round * 1000 + 999).len(), 10);
        }
        assert_eq!(wheel.entries.len(), 10);
    }

    /// Operations of one case. Under Miri each takes a tenth of a second.
    const STEPS: usize = if cfg!(miri) { 30 } else { 300 };

    /// Under Miri there is no file system to remember a failure in.
    fn config() -> ProptestConfig {
        if cfg!(miri) {
            ProptestConfig {
                cases: 4,
                failure_persistence: None,
                ..ProptestConfig::default()
            }
        } else {
            ProptestConfig::default()
        }
    }

    proptest! {
        #![proptest_config(config())]
        /// Against a list that is sorted by time, stably.
        #[test]
        fn it_behaves_like_a_sorted_list(
            steps in proptest::collection::vec((0..4_u8, 0..40_u32, 0..64_u64), 0..STEPS)
        ) {
            let mut wheel = Wheel::new();
            let mut list: Vec<(u64, usize)> = Vec::new();
            let mut keys = Vec::new();
            let mut now = 0_u64;
            for (number, (kind, shift, low)) in steps.into_iter().enumerate() {
                let away = low << shift;
                if kind < 2 {
                    let at = now + away;
                    keys.push((number, wheel.insert(at, number)));
                    let place = list.partition_point(|&(other, _)| other <= at);
                    list.insert(place, (at, number));
                } else if kind == 2 && !keys.is_empty() {
                    let (number, key) = keys.swap_remove(low as usize % keys.len());
                    let place = list.iter().position(|&(_, other)| other == number);
                    let expected = place.map(|place| list.remove(place).1);
                    prop_assert_eq!(wheel.remove(key), expected);
                } else {
                    now += away;
                    let due = list.partition_point(|&(at, _)| at <= now);
                    let expected: Vec<_> = list.drain(..due).map(|(_, number)| number).collect();
                    prop_assert_eq!(all_due(&mut wheel, now), expected);
                }
                let first = list.first().map(|&(at, _)| at);
                prop_assert_eq!(wheel.first_at(), first);
                if let (Some(look), Some(first)) = (wheel.look_at(), first) {
                    prop_assert!(look <= first && (look > now || first <= now));
                }
            }
        }
    }
}
