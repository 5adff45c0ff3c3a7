//! Where the figures come from: a figure without its machine says nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

/// One line each of processor, memory, kernel, file system, compiler and commit.
pub(crate) fn describe(folder: &Path) -> Vec<(&'static str, String)> {
    let unknown = || "unknown".to_owned();
    vec![
        ("processor", processor().unwrap_or_else(unknown)),
        ("memory", proc_figure("/proc/meminfo", "MemTotal:").map_or_else(unknown, mib)),
        ("kernel", read("/proc/sys/kernel/osrelease").unwrap_or_else(unknown)),
        ("file system", file_system(folder).unwrap_or_else(unknown)),
        ("compiler", said_by("rustc", &["--version"]).unwrap_or_else(unknown)),
        ("commit", commit().unwrap_or_else(unknown)),
    ]
}

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// Returns the number behind a label in a file of the kernel.
pub(crate) fn proc_figure(path: &str, label: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(label))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn mib(kib: u64) -> String {
    format!("{} MiB", kib / 1024)
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let name = text.lines().find(|line| line.starts_with("model name"));
    let name = name.and_then(|line| line.split(": ").nth(1)).unwrap_or(std::env::consts::ARCH);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Some(format!("{name}, {processors} processors"))
}

/// Of the mount that the folder is in: the one with the longest path.
fn file_system(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (device, at, kind) = (words.next()?, words.next()?, words.next()?);
            folder.starts_with(at).then(|| (at.len(), format!("{kind} on {device}")))
        })
        .max()
        .map(|(_, words)| words)
}

fn commit() -> Option<String> {
    let source = env!("CARGO_MANIFEST_DIR");
    let head = said_by("git", &["-C", source, "rev-parse", "--short=12", "HEAD"])?;
    let changed = said_by("git", &["-C", source, "status", "--porcelain", "-uno"])?;
    Some(if changed.is_empty() { head } else { format!("{head}, with changes") })
}

fn said_by(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let words = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| words.trim().to_owned())
}
