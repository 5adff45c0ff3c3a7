//! What is seen from outside while orders are sent: memory, disk, checkpoints, latencies, by window of time.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::error::Error;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use doorbuster::Engine;
use hdrhistogram::Histogram;

use crate::args::Args;
use crate::load::Ledger;
use crate::shared::memory::rss_bytes;
use crate::shared::progress::Progress;
use crate::shared::timer::histogram;
use crate::windows::{Part, Windows};

type Failure = Box<dyn Error + Send + Sync>;

const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The unit of a disk's room, as `stat` counts.
const DISK_UNIT_BYTES: u64 = 512;
/// A checkpoint that is being made, or what the next one is written over.
const PREPARE: &str = "prepare";
/// A file that is not older is being written: longer than the engine rests between two pieces.
const WRITTEN_WITHIN: Duration = Duration::from_millis(50);

/// One window.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Row {
    /// When it ended.
    pub(crate) end_s: f64,
    /// Orders fulfilled by then.
    pub(crate) orders: u64,
    pub(crate) rss_bytes: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) orders_in_memory: u64,
    pub(crate) has_checkpoint: bool,
    /// Of commits seen durable in it: their number, and how long they took.
    pub(crate) commits: u64,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) p999_ns: u64,
    pub(crate) max_ns: u64,
}

/// What came out.
pub(crate) struct Watched {
    pub(crate) ledger: Ledger,
    pub(crate) seconds: f64,
    pub(crate) rows: Vec<Row>,
    /// Latencies of commits beside checkpoints, and of the others.
    pub(crate) with_checkpoint_ns: Histogram<u64>,
    pub(crate) without_ns: Histogram<u64>,
}

pub(crate) struct Watch<'a> {
    engine: &'a Engine,
    folder: &'a Path,
    windows: &'a Windows,
    progress: Progress,
    rows: Vec<Row>,
    /// So many rows have their gauges.
    gauged: usize,
    looked_ns: u64,
    newest_checkpoint: Option<PathBuf>,
    is_making: bool,
    /// By thread: windows before this one have been handed over.
    handed_over: Vec<u64>,
    /// Windows that not all threads have handed over: commits that were due within, and before.
    open: BTreeMap<u64, (Histogram<u64>, Histogram<u64>)>,
    with_checkpoint_ns: Histogram<u64>,
    without_ns: Histogram<u64>,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(
        args: &Args,
        engine: &'a Engine,
        folder: &'a Path,
        windows: &'a Windows,
    ) -> Result<Self, Failure> {
        Ok(Self {
            engine,
            folder,
            windows,
            progress: Progress::new("soak", "orders", args.orders()),
            rows: vec![Row::default()],
            gauged: 0,
            looked_ns: 0,
            newest_checkpoint: None,
            is_making: false,
            handed_over: vec![0; args.threads() as usize],
            open: BTreeMap::new(),
            with_checkpoint_ns: histogram()?,
            without_ns: histogram()?,
        })
    }

    /// Looks, and pauses until it is time to look again.
    pub(crate) fn look(&mut self, now_ns: u64, orders: u64) -> Result<(), Failure> {
        self.look_for_checkpoint(now_ns)?;
        self.turn_to(now_ns, orders)?;
        self.take_latencies()?;
        self.close_windows(self.windows.of(self.looked_ns))?;
        thread::sleep(LOOK_EVERY);
        Ok(())
    }

    pub(crate) fn finish(mut self, now_ns: u64, ledger: Ledger) -> Result<Watched, Failure> {
        self.look_for_checkpoint(now_ns)?;
        self.turn_to(now_ns, ledger.orders())?;
        self.note_gauges(self.rows.len(), now_ns, ledger.orders())?;
        self.take_latencies()?;
        self.close_windows(u64::MAX)?;
        self.progress.finish();
        Ok(Watched {
            ledger,
            seconds: now_ns as f64 / 1e9,
            rows: self.rows,
            with_checkpoint_ns: self.with_checkpoint_ns,
            without_ns: self.without_ns,
        })
    }

    /// Marks the windows since the last look if a checkpoint was in the making at any time since.
    fn look_for_checkpoint(&mut self, now_ns: u64) -> Result<(), Failure> {
        let (mut prepare, mut newest) = (None, None);
        for path in files(&self.folder.join("checkpoints"))? {
            match path.file_name().is_some_and(|name| name == PREPARE) {
                true => prepare = Some(path),
                false => newest = newest.max(Some(path)),
            }
        }
        // From its first piece until it has its name; at the end it is only read.
        let was_making = self.is_making && prepare.is_some() && newest == self.newest_checkpoint;
        self.is_making = was_making || prepare.is_some_and(|path| is_written(&path));
        let (from, to) = (self.windows.of(self.looked_ns), self.windows.of(now_ns));
        self.rows.resize(to as usize + 1, Row::default());
        if self.is_making || newest != self.newest_checkpoint {
            let since = &mut self.rows[from as usize..];
            since.iter_mut().for_each(|row| row.has_checkpoint = true);
        }
        (self.newest_checkpoint, self.looked_ns) = (newest, now_ns);
        Ok(())
    }

    /// Reads the gauges if a window has ended.
    fn turn_to(&mut self, now_ns: u64, orders: u64) -> Result<(), Failure> {
        let current = self.windows.of(now_ns);
        match self.gauged < current as usize {
            true => self.note_gauges(current as usize, current * self.windows.window_ns(), orders),
            false => Ok(()),
        }
    }

    /// The gauges of the windows before this one, the last of which ended then; of several they are the same.
    fn note_gauges(&mut self, before: usize, end_ns: u64, orders: u64) -> Result<(), Failure> {
        let told = self.gauged.checked_sub(1).map_or(0, |last| self.rows[last].orders);
        self.progress.add(orders - told);
        let seen = Row {
            orders,
            rss_bytes: rss_bytes(),
            disk_bytes: disk_bytes(self.folder)?,
            orders_in_memory: self.engine.stats().orders,
            ..Row::default()
        };
        for (nth, row) in (0..before).zip(&mut self.rows).skip(self.gauged) {
            let window_end_ns = (nth as u64 + 1) * self.windows.window_ns();
            let end_s = window_end_ns.min(end_ns) as f64 / 1e9;
            *row = Row { end_s, has_checkpoint: row.has_checkpoint, ..seen };
        }
        self.gauged = before;
        Ok(())
    }

    fn take_latencies(&mut self) -> Result<(), Failure> {
        for part in self.windows.take_past() {
            let Part { thread, window, is_last, within, across } = &part;
            let (all_within, all_across) = match self.open.entry(*window) {
                Entry::Occupied(open) => open.into_mut(),
                Entry::Vacant(new) => new.insert((histogram()?, histogram()?)),
            };
            all_within.add(within)?;
            all_across.add(across)?;
            self.handed_over[*thread] = if *is_last { u64::MAX } else { window + 1 };
            self.windows.give_back(part);
        }
        Ok(())
    }

    /// Closes windows that all threads have handed over, of those before this one: it is known which of
    /// them hold a checkpoint.
    fn close_windows(&mut self, before: u64) -> Result<(), Failure> {
        let end = self.handed_over.iter().copied().min().unwrap_or(0).min(before);
        while let Some(open) = self.open.first_entry().filter(|open| *open.key() < end) {
            let (window, (within, across)) = open.remove_entry();
            let window = window as usize;
            let holds = |window: usize| self.rows.get(window).is_some_and(|row| row.has_checkpoint);
            let is_with = holds(window);
            let is_across_with = is_with || holds(window.saturating_sub(1));
            for (is_with, histogram) in [(is_with, &within), (is_across_with, &across)] {
                match is_with {
                    true => self.with_checkpoint_ns.add(histogram)?,
                    false => self.without_ns.add(histogram)?,
                }
            }
            let mut all = within;
            all.add(&across)?;
            if let Some(row) = self.rows.get_mut(window).filter(|_| !all.is_empty()) {
                let at = |percentile| all.value_at_percentile(percentile);
                (row.commits, row.max_ns) = (all.len(), all.max());
                (row.p50_ns, row.p99_ns, row.p999_ns) = (at(50.0), at(99.0), at(99.9));
            }
        }
        Ok(())
    }
}

/// Whether a file has just been written.
fn is_written(path: &Path) -> bool {
    let modified = fs::metadata(path).and_then(|found| found.modified());
    modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < WRITTEN_WITHIN))
}

/// What is in a folder; nothing if it is not there.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.path())).collect(),
    }
}

/// Room that all files of a folder take. Files may come and go meanwhile.
fn disk_bytes(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for path in files(folder)? {
        bytes += match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => disk_bytes(&path)?,
            Ok(found) => found.blocks() * DISK_UNIT_BYTES,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
    }
    Ok(bytes)
}
