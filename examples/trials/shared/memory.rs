//! How much memory this process has.

use super::machine::proc_figure;

/// Memory of this process that is in RAM.
pub(crate) fn rss_bytes() -> u64 {
    proc_figure("/proc/self/status", "VmRSS:").unwrap_or(0) * 1024
}
