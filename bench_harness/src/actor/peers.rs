//! Other actor libraries behind the common face, each used as its own documentation recommends.
#![forbid(unsafe_code)]

pub mod actix_kit;
pub mod kameo_kit;
pub mod kompact_kit;
pub mod ractor_kit;
pub mod tokio_kit;
pub mod xtra_kit;

/// A tokio runtime with a worker on each of these cores, as ours has.
pub(crate) fn runtime(cores: &[usize]) -> tokio::runtime::Runtime {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let (workers, cores) = (cores.len(), cores.to_vec());
    let next = AtomicUsize::new(0);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_time()
        .on_thread_start(move || {
            let worker = next.fetch_add(1, Ordering::Relaxed);
            if let Some(core) = cores.get(worker) {
                crate::pin::to(*core);
            }
        })
        .build()
        .expect("a runtime")
}
