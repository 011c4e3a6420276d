//! Where threads run: consumers on one half of the cores, producers on the other.
//!
//! With two cores every producer shares one and every consumer the other, for all implementations alike, so that a
//! measurement is always of a crossing between cores.
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
