//! What a run used of the machine, and what others used of it meanwhile: the evidence for "the machine was busy".
//!
//! Owns: the counters of `/proc` and their differences. Where there is no `/proc` every figure is zero.
#![forbid(unsafe_code)]

use std::fs;
use std::time::Instant;

use serde::Serialize;

use crate::machine::resident_bytes;
use crate::pin;

/// Ticks of `/proc` per second: a hundredth of a second on every platform that Rust's Linux targets support.
const TICKS_PER_SECOND: f64 = 100.0;
const MIB: f64 = 1024.0 * 1024.0;

/// What a stretch of time cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Share of the time of all cores that this process may use which it and those that it started used, in percent.
    pub cpu_percent: f64,
    /// Share of it that everything else on the machine used, in percent.
    pub others_percent: f64,
    /// Share of it that cores were idle because somebody waited for a disk, in percent.
    pub io_wait_percent: f64,
    /// Highest resident memory of this process meanwhile, in MiB.
    pub peak_mib: f64,
    /// False where the system keeps only the highest since the process began, which then is what [`peak_mib`](Self::peak_mib) says.
    pub peak_is_own: bool,
    /// Read from and written to storage by this process, in MiB.
    pub storage_mib: (f64, f64),
}

impl Usage {
    /// What held the work back, where that is clear.
    pub fn bottleneck(&self) -> Option<&'static str> {
        let taken = self.cpu_percent + self.others_percent;
        if self.others_percent > 25.0 {
            Some("others on this machine, which took a part of the processors")
        } else if self.io_wait_percent > 20.0 {
            Some("storage: cores were idle because somebody waited for it")
        } else if self.cpu_percent > 85.0 {
            Some("the processors: all cores were at work")
        } else if taken + self.io_wait_percent < 40.0 {
            Some("waiting: for one another, for a timer or for the network; cores were idle")
        } else {
            None
        }
    }
}

/// A moment to measure from.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    at: Instant,
    cores: usize,
    own_seconds: f64,
    busy_seconds: f64,
    io_wait_seconds: f64,
    storage_bytes: (u64, u64),
    peak_is_own: bool,
}

impl Mark {
    /// Now, from which on the highest resident memory is counted anew.
    pub fn begin() -> Self {
        // The file is there for this, and only on Linux.
        let peak_is_own = fs::write("/proc/self/clear_refs", "5").is_ok();
        Self {
            peak_is_own,
            ..Self::now()
        }
    }

    fn now() -> Self {
        let cores = pin::available();
        let (busy_seconds, io_wait_seconds) = machine_seconds(&read("/proc/stat"), &cores);
        Self {
            at: Instant::now(),
            cores: cores.len(),
            own_seconds: family_seconds("self"),
            busy_seconds,
            io_wait_seconds,
            storage_bytes: storage_bytes(&read("/proc/self/io")),
            peak_is_own: false,
        }
    }

    /// What was used since then.
    pub fn until_now(self) -> Usage {
        let now = Self::now();
        let offered = (now.at - self.at).as_secs_f64().max(1e-9) * self.cores as f64;
        let percent = |seconds: f64| (100.0 * seconds / offered).clamp(0.0, 100.0);
        let own = now.own_seconds - self.own_seconds;
        let since = |now: u64, then: u64| now.saturating_sub(then) as f64 / MIB;
        Usage {
            cpu_percent: percent(own),
            others_percent: percent(now.busy_seconds - self.busy_seconds - own),
            io_wait_percent: percent(now.io_wait_seconds - self.io_wait_seconds),
            peak_mib: resident_bytes().1 as f64 / MIB,
            peak_is_own: self.peak_is_own,
            storage_mib: (
                since(now.storage_bytes.0, self.storage_bytes.0),
                since(now.storage_bytes.1, self.storage_bytes.1),
            ),
        }
    }
}

/// What this process caused to be written to storage since it began; none where the system does not tell.
pub fn written_bytes() -> Option<u64> {
    let io = fs::read_to_string("/proc/self/io").ok()?;
    Some(storage_bytes(&io).1)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// User and system time of a process and of those that it started, and that they started, alive or not.
fn family_seconds(process: &str) -> f64 {
    let own = process_seconds(&read(&format!("/proc/{process}/stat")));
    let threads = fs::read_dir(format!("/proc/{process}/task"));
    let children = |thread: fs::DirEntry| {
        let path = thread.path().join("children");
        let children = fs::read_to_string(path).unwrap_or_default();
        let seconds = children.split_whitespace().map(family_seconds);
        seconds.sum::<f64>()
    };
    let threads = threads.into_iter().flatten().flatten();
    own + threads.map(children).sum::<f64>()
}

/// User and system time of a process and of its children that ended.
fn process_seconds(stat: &str) -> f64 {
    // Fields 14 to 17 counted from 1; the second, in parentheses, may contain spaces.
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after.split_whitespace().skip(11).take(4);
    ticks
        .filter_map(|field| field.parse::<f64>().ok())
        .sum::<f64>()
        / TICKS_PER_SECOND
}

/// Busy time and time waiting for a disk, of these cores together.
fn machine_seconds(stat: &str, cores: &[usize]) -> (f64, f64) {
    let ticks = |line: &str| -> Option<Vec<f64>> {
        let (core, ticks) = line.strip_prefix("cpu")?.split_once(' ')?;
        // The first line, of all together, has no number.
        let is_one = core.parse().is_ok_and(|core| cores.contains(&core));
        is_one.then(|| ticks.split_whitespace().flat_map(str::parse).collect())
    };
    let (mut busy, mut waiting) = (0.0, 0.0);
    for ticks in stat.lines().filter_map(ticks) {
        let tick = |index: usize| ticks.get(index).copied().unwrap_or(0.0);
        // user, nice, system, idle, iowait, irq, softirq, steal; what a hypervisor gave to others is lost to us as well.
        busy += [0, 1, 2, 5, 6, 7].into_iter().map(tick).sum::<f64>();
        waiting += tick(4);
    }
    (busy / TICKS_PER_SECOND, waiting / TICKS_PER_SECOND)
}

fn storage_bytes(io: &str) -> (u64, u64) {
    let field = |name: &str| {
        io.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
            .unwrap_or(0)
    };
    (field("read_bytes:"), field("write_bytes:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_read() {
        let stat = "7 (a b) c) S 1 1 1 0 -1 4194304 10 0 0 0 150 50 20 30 20 0 1 0";
        assert!((process_seconds(stat) - 2.5).abs() < 1e-9);
        // Of the cores that this process may use, whatever others do on the rest.
        let stat = "cpu  999 0 0 9 9 0 0 0\ncpu0 100 10 40 999 25 1 2 3 0 0\ncpu1 7\ncpu10 50 0 0 0 5\nintr 1 2";
        let (busy, waiting) = machine_seconds(stat, &[0, 10]);
        assert!((busy - 2.06).abs() < 1e-9 && (waiting - 0.3).abs() < 1e-9);
        let io =
            "rchar: 1\nwchar: 2\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 5\n";
        assert_eq!(storage_bytes(io), (4096, 8192));
        assert_eq!(storage_bytes(""), (0, 0));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn work_is_seen_as_ones_own() {
        let mark = Mark::begin();
        let mut sum = 0_u64;
        // Until the clock of the process has ticked a few times.
        while process_seconds(&read("/proc/self/stat")) < mark.own_seconds + 0.05 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let usage = mark.until_now();
        assert!(usage.cpu_percent > 0.0 && usage.peak_mib > 0.0, "{usage:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn work_of_a_child_that_lives_is_ones_own() {
        use std::io::{BufRead as _, BufReader};
        use std::process::{Command, Stdio};
        let work = "i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done; echo done; read -r end";
        let mut child = Command::new("sh")
            .args(["-c", work])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut String::new()).unwrap();
        let of_child = process_seconds(&read(&format!("/proc/{}/stat", child.id())));
        let own = process_seconds(&read("/proc/self/stat"));
        let all = family_seconds("self");
        // Its input ends with this.
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(
            of_child > 0.0 && all >= own + of_child,
            "{all}: {own} and {of_child}"
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_is_that_of_the_stretch() {
        let mut large = vec![0_u8; 256 << 20];
        large.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        let before_mib = resident_bytes().0 as f64 / MIB;
        drop(std::hint::black_box(large));
        let mark = Mark::begin();
        let usage = mark.until_now();
        // Where the file may not be written, the peak says so.
        assert!(
            !usage.peak_is_own || usage.peak_mib < before_mib - 128.0,
            "{usage:?} after {before_mib}"
        );
    }

    #[test]
    fn a_bottleneck_is_named_where_it_is_clear() {
        let bottleneck = |cpu_percent, others_percent, io_wait_percent| {
            let usage = Usage {
                cpu_percent,
                others_percent,
                io_wait_percent,
                ..Usage::default()
            };
            usage
                .bottleneck()
                .map(|text| text.split([' ', ':', ',']).next().unwrap_or_default())
        };
        assert_eq!(bottleneck(97.0, 1.0, 0.0), Some("the"));
        assert_eq!(bottleneck(10.0, 60.0, 0.0), Some("others"));
        assert_eq!(bottleneck(10.0, 2.0, 60.0), Some("storage"));
        assert_eq!(bottleneck(10.0, 2.0, 3.0), Some("waiting"));
        assert_eq!(bottleneck(55.0, 2.0, 3.0), None);
    }
}
