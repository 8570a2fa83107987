//! What the figures were taken on, in neutral words.

use std::fs;

use serde::Serialize;

/// The machine of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) processor: String,
    /// Major and minor number.
    pub(crate) kernel: String,
    /// Runnable processes, the mean of the minute before the run.
    pub(crate) load: String,
}

impl Machine {
    pub(crate) fn here() -> Self {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let cpus = read("/proc/cpuinfo");
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let kernel = read("/proc/sys/kernel/osrelease");
        Self {
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            processor: model.map_or("unknown processor", |(_, name)| name.trim()).to_owned(),
            kernel: kernel.split('.').take(2).collect::<Vec<_>>().join("."),
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}
