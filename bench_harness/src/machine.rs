//! What the figures were measured on, and what about it makes them doubtful.
#![forbid(unsafe_code)]

use std::fs;

use serde::Serialize;

/// The commit that this program was compiled from, with `-dirty` where files differed from it; `unknown` without git.
pub const COMMIT: &str = env!("BENCH_HARNESS_COMMIT");

/// The machine, as it goes into every result.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// The processor's own name.
    pub cpu: String,
    /// Cores this process may use.
    pub cores: usize,
    /// NUMA nodes; with one, nothing about NUMA was measured.
    pub numa_nodes: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Kernel release.
    pub kernel: String,
    /// Frequency governor of the first core, if the machine tells.
    pub governor: Option<String>,
    /// Load average of the last minute when the run began, earlier runs of this program included.
    pub load_1m: f64,
    /// [`COMMIT`].
    pub commit: &'static str,
    /// The compiler's target.
    pub target: String,
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path)
        .ok()
        .map(|text| text.trim().to_owned())
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

impl Machine {
    /// Looks at the machine now.
    pub fn look() -> Self {
        let nodes = fs::read_dir("/sys/devices/system/node").map_or(1, |entries| {
            let is_node = |name: &str| {
                name.strip_prefix("node")
                    .is_some_and(|n| n.parse::<u32>().is_ok())
            };
            entries
                .flatten()
                .filter(|entry| is_node(&entry.file_name().to_string_lossy()))
                .count()
                .max(1)
        });
        let memory = field(&read("/proc/meminfo").unwrap_or_default(), "MemTotal");
        let memory_kib = memory
            .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
            .unwrap_or(0);
        Self {
            cpu: field(&read("/proc/cpuinfo").unwrap_or_default(), "model name")
                .unwrap_or_else(|| "unknown".into()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            numa_nodes: nodes,
            memory_mib: memory_kib / 1024,
            kernel: read("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into()),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            load_1m: load_1m(),
            commit: COMMIT,
            target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        }
    }

    /// Reasons to doubt absolute figures, in sentences.
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        if let Some(governor) = &self.governor
            && governor != "performance"
        {
            doubts.push(format!(
                "The frequency governor is `{governor}`, not `performance`."
            ));
        }
        if self.numa_nodes == 1 {
            doubts.push("One NUMA node: nothing about NUMA was measured.".into());
        }
        if cfg!(debug_assertions) {
            doubts.push("This is a debug build: its figures mean nothing.".into());
        }
        doubts
    }
}

fn load_1m() -> f64 {
    read("/proc/loadavg")
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .unwrap_or(0.0)
}

/// Resident memory of this process in bytes, and its peak.
pub fn resident_bytes() -> (u64, u64) {
    let status = read("/proc/self/status").unwrap_or_default();
    let kib = |name| {
        let text: String = field(&status, name)?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    (
        kib("VmRSS").unwrap_or(0) * 1024,
        kib("VmHWM").unwrap_or(0) * 1024,
    )
}
