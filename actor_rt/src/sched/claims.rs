//! Which cores have pinned workers, over all systems of the process.
//!
//! Owns: the account of them, and which cores a new system takes by it.
//! Does not know: what a core shares with others (see `topology`), how a thread is pinned.
//! Invariant: a core counts once for each [`Claim`] to it that lives. A worker's thread keeps its claim until it ends, so a
//! system that has been shut down holds none, and one that was left behind counts for as long as its threads run.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Workers by the number of their core; those without any are not in it.
type Account = BTreeMap<usize, usize>;

static ACCOUNT: Mutex<Account> = Mutex::new(Account::new());

fn account() -> MutexGuard<'static, Account> {
    ACCOUNT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A worker's place on a core, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) core: usize,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut account = account();
        if let Some(workers) = account.get_mut(&self.core) {
            *workers -= 1;
            if *workers == 0 {
                account.remove(&self.core);
            }
        }
    }
}

/// Takes so many of the `available` cores (at most all of them) for the workers of one system, in the order in which they are
/// available; the least used ones, if others have workers already. `siblings` says which cores are threads of the same one, and
/// is asked only then.
pub(super) fn take(
    available: &[usize],
    workers: usize,
    siblings: impl FnOnce() -> BTreeMap<usize, Vec<usize>>,
) -> Vec<Claim> {
    let mut account = account();
    let is_free = |core: &usize| !account.contains_key(core);
    let cores = if workers >= available.len() || available.iter().all(is_free) {
        available[..workers].to_vec()
    } else {
        choose(available, workers, &account, &siblings())
    };
    let shared = cores.iter().filter(|core| !is_free(core)).count();
    for core in &cores {
        *account.entry(*core).or_default() += 1;
    }
    drop(account);
    if shared > 0 {
        tracing::info!(
            workers,
            shared,
            "other systems of this process have workers on the same cores"
        );
    }
    cores.into_iter().map(|core| Claim { core }).collect()
}

/// The cores with the fewest workers; among them those whose siblings have the fewest, and then the first.
fn choose(
    available: &[usize],
    workers: usize,
    account: &Account,
    siblings: &BTreeMap<usize, Vec<usize>>,
) -> Vec<usize> {
    let used = |core: &usize| account.get(core).copied().unwrap_or(0);
    let beside = |core: &usize| siblings.get(core).into_iter().flatten().map(used).sum();
    let mut places: Vec<_> = (0..available.len()).collect();
    places.sort_by_key(|&place| {
        let core = &available[place];
        let beside: usize = beside(core);
        (used(core), beside)
    });
    places.truncate(workers);
    places.sort_unstable();
    places.into_iter().map(|place| available[place]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two threads a core, as Linux often numbers them: the second ones after all the first ones.
    fn pairs(cores: usize) -> BTreeMap<usize, Vec<usize>> {
        (0..2 * cores)
            .map(|thread| (thread, vec![(thread + cores) % (2 * cores)]))
            .collect()
    }

    fn used(cores: &[usize]) -> Account {
        let mut account = Account::new();
        for core in cores {
            *account.entry(*core).or_default() += 1;
        }
        account
    }

    #[test]
    fn the_least_used_cores_come_first_in_their_order() {
        let none = BTreeMap::new();
        let free = [0, 1, 2, 3];
        assert_eq!(choose(&free, 3, &used(&[]), &none), [0, 1, 2]);
        assert_eq!(choose(&free, 2, &used(&[0, 1]), &none), [2, 3]);
        assert_eq!(choose(&free, 3, &used(&[0, 1]), &none), [0, 2, 3]);
        assert_eq!(choose(&free, 2, &used(&[0, 0, 1, 2, 3]), &none), [1, 2]);
        // Only what may be used, in whatever order it is said.
        assert_eq!(choose(&[6, 4, 2], 2, &used(&[0, 4]), &none), [6, 2]);
    }

    #[test]
    fn a_core_whose_other_thread_is_free_comes_before_one_whose_is_not() {
        // Four cores: 0 to 3 and their second threads, 4 to 7.
        let all: Vec<_> = (0..8).collect();
        let by = |workers, taken: &[usize]| choose(&all, workers, &used(taken), &pairs(4));
        assert_eq!(by(2, &[0, 1]), [2, 3]);
        // Not 4, which is free but shares its core with 0.
        assert_eq!(by(4, &[0, 1]), [2, 3, 6, 7]);
        assert_eq!(by(6, &[0, 1]), [2, 3, 4, 5, 6, 7]);
        // All have one worker now but for 5: it comes first whatever its sibling has.
        assert_eq!(by(2, &[0, 1, 1, 2, 3, 4, 6, 7]), [0, 5]);
        // Nobody else: the first ones, siblings or not.
        assert_eq!(by(5, &[]), [0, 1, 2, 3, 4]);
    }

    /// Numbers that no machine has, so that systems of other tests are not in the way.
    #[test]
    fn claims_count_while_they_live() {
        let available = [5000, 5001, 5002, 5003];
        let cores_of = |claims: &[Claim]| -> Vec<_> { claims.iter().map(|c| c.core).collect() };
        let take = |workers| take(&available, workers, BTreeMap::new);
        let first = take(2);
        let second = take(2);
        assert_eq!(cores_of(&first), [5000, 5001]);
        assert_eq!(cores_of(&second), [5002, 5003]);
        let third = take(3);
        assert_eq!(cores_of(&third), [5000, 5001, 5002]);
        drop(first);
        // The third has all of them but the last, and the second the last two.
        assert_eq!(cores_of(&take(3)), [5000, 5001, 5003]);
        drop(second);
        assert_eq!(cores_of(&take(1)), [5003]);
        drop(third);
        let is_ours = |core: &&usize| available.contains(core);
        assert_eq!(account().keys().filter(is_ours).count(), 0);
    }

    #[test]
    fn the_topology_is_read_only_where_there_is_a_choice() {
        let available = [6000, 6001];
        let unread = || -> BTreeMap<usize, Vec<usize>> { panic!("nobody needs it") };
        let alone = take(&available, 1, unread);
        let all = take(&available, 2, unread);
        assert_eq!((alone.len(), all.len()), (1, 2));
    }
}
