//! Where threads run: consumers on one half of the cores, producers on the other.
//!
//! With two cores every producer shares one and every consumer the other, for all implementations alike, so that a
//! measurement is always of a crossing between cores. Threads that nobody pins, among them those that a library starts for
//! itself, inherit the cores of the thread that starts them: see [`among`].
#![forbid(unsafe_code)]

/// Pins the calling thread to the core with this number; without permission it runs anywhere.
pub fn to(core: usize) {
    core_affinity::set_for_current(core_affinity::CoreId { id: core });
}

/// The cores this process may use.
pub fn available() -> Vec<usize> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let cores: Vec<_> = cores.into_iter().map(|core| core.id).collect();
    if cores.is_empty() { vec![0] } else { cores }
}

/// Runs `body` on this thread, which meanwhile may use these cores only, as may every thread and process that it starts,
/// for good. Without permission they run anywhere.
pub fn among<T>(cores: &[usize], body: impl FnOnce() -> T) -> T {
    let _before = Allowed::only(cores);
    body()
}

/// The cores that a thread had before; it has them again when this is dropped.
struct Allowed {
    #[cfg(target_os = "linux")]
    before: Option<rustix::thread::CpuSet>,
}

impl Allowed {
    #[cfg(target_os = "linux")]
    fn only(cores: &[usize]) -> Self {
        use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
        let mut set = CpuSet::new();
        cores.iter().for_each(|core| set.set(*core));
        let before = sched_getaffinity(None).ok();
        let done = sched_setaffinity(None, &set).is_ok();
        Self {
            before: before.filter(|_| done),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn only(_cores: &[usize]) -> Self {
        Self {}
    }
}

impl Drop for Allowed {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        if let Some(before) = &self.before {
            // What was allowed before is allowed still.
            let _ = rustix::thread::sched_setaffinity(None, before);
        }
    }
}

/// The core of the consumer number `index`.
pub fn consumer(cores: &[usize], index: usize) -> usize {
    let half = cores.len().div_ceil(2);
    cores[index % half]
}

/// The core of the producer number `index`.
pub fn producer(cores: &[usize], index: usize) -> usize {
    let half = cores.len() / 2;
    if half == 0 {
        cores[0]
    } else {
        cores[cores.len() - half + index % half]
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn threads_started_meanwhile_inherit_the_cores() {
        let all = available();
        let last = all[all.len() - 1];
        let (inside, started) = among(&[last], || {
            let started = std::thread::spawn(available).join().unwrap();
            (available(), started)
        });
        assert_eq!((inside, started), (vec![last], vec![last]));
        assert_eq!(available(), all);
    }
}
