//! Progress of long work: a bar on a terminal, a plain line at every quarter when piped.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressStyle};

use crate::shared::text::{grouped, say};

/// A plain line is printed at each of this many equal parts.
const PLAIN_LINES: u64 = 4;

/// One piece of work of known length. Threads may report to it at the same time.
pub(crate) struct Progress {
    label: &'static str,
    unit: &'static str,
    total: u64,
    /// Work done. A counter only: nothing else is published by it, so its accesses are relaxed.
    done: AtomicU64,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(crate) fn new(label: &'static str, unit: &'static str, total: u64) -> Self {
        let on_terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        let bar = on_terminal.then(|| {
            let template = "{msg:32} {wide_bar} {human_pos}/{human_len} {elapsed}";
            let style = ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(total).with_style(style).with_message(label)
        });
        Self { label, unit, total, done: AtomicU64::new(0), bar }
    }

    pub(crate) fn add(&self, more: u64) {
        let before = self.done.fetch_add(more, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.inc(more);
            return;
        }
        let after = before + more;
        let part = |done: u64| u128::from(done) * u128::from(PLAIN_LINES) / u128::from(self.total);
        if self.total > 0 && after < self.total && part(before) < part(after) {
            self.line(after);
        }
    }

    /// The work is over, whatever its length was thought to be.
    pub(crate) fn finish(self) {
        match &self.bar {
            Some(bar) => bar.finish(),
            None => self.line(self.done.load(Ordering::Relaxed)),
        }
    }

    fn line(&self, done: u64) {
        say(&format!("{}: {} of {} {}", self.label, grouped(done), grouped(self.total), self.unit));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar
            && !bar.is_finished()
        {
            bar.abandon();
        }
    }
}
