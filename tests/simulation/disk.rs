//! Faults in calls: decides for each call of the engine to its storage what becomes of it, and keeps a
//! record of the blocks that were written.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use doorbuster::Durability;
use doorbuster::testing::{Fault, MemoryStorage, Operation, StorageCall};

use crate::draw::Draw;
use crate::plan::{Faults, Plan};
use crate::tally::Tally;

/// What the engine is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No faults.
    Quiet,
    Open,
    Run,
    /// A block's write may be lost or go astray here, since the simulation can tell which block it was.
    Write,
    /// The log is read, and what is written is elsewhere.
    Backup,
}

/// A call that wrote, or was to write, a block.
#[derive(Clone, Debug)]
pub(crate) struct BlockWrite {
    pub(crate) path: String,
    pub(crate) offset: u64,
    pub(crate) len: usize,
    /// The disk said yes and did something else.
    pub(crate) lied: bool,
    /// The disk said no, or the machine stopped.
    pub(crate) failed: bool,
}

/// What a checkpoint on its way asked of the disk.
#[derive(Clone, Debug)]
pub(crate) enum CheckpointCall {
    Begun,
    /// To be written over, or read back.
    Opened,
    /// A part, or the head, which is in front and written last.
    Written {
        start: usize,
        end: usize,
    },
    /// It got this name.
    Named(String),
}

const UNFINISHED_CHECKPOINT: &str = "checkpoints/prepare";

#[derive(Clone, Debug)]
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    draw: Draw,
    faults: Faults,
    /// Of the shortest.
    segment_bytes: u64,
    synced: bool,
    phase: Phase,
    stopped: bool,
    tally: Tally,
    /// Calls that failed since the last open began.
    errors: Vec<String>,
    writes: Vec<BlockWrite>,
    checkpoint_calls: Vec<CheckpointCall>,
    /// Segments that were recycled: what they are called now, by the name by which they were opened.
    renamed: BTreeMap<String, String>,
    /// Their old names, since they were last asked for.
    recycled: Vec<String>,
    /// A segment is renamed, but its folder not synced.
    is_recycling: bool,
    calls: u64,
}

impl Disk {
    pub(crate) fn new(draw: Draw, plan: &Plan, tally: &Tally) -> Self {
        let state = State {
            draw,
            faults: plan.faults.clone(),
            segment_bytes: plan.shape.segment_bytes,
            synced: plan.shape.durability == Durability::Synced,
            phase: Phase::Quiet,
            stopped: false,
            tally: tally.clone(),
            errors: Vec::new(),
            writes: Vec::new(),
            checkpoint_calls: Vec::new(),
            renamed: BTreeMap::new(),
            recycled: Vec::new(),
            is_recycling: false,
            calls: 0,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Lets this decide about the storage's calls. An image of a crash starts without.
    pub(crate) fn attach(&self, storage: &MemoryStorage) {
        self.watch(storage);
        let mut state = self.state();
        state.stopped = false;
        state.renamed.clear();
        state.is_recycling = false;
    }

    /// Lets this decide about a second storage's calls too.
    pub(crate) fn watch(&self, storage: &MemoryStorage) {
        let disk = self.clone();
        storage.set_fault_hook(Some(Arc::new(move |call| disk.state().decide(call))));
    }

    /// Segments are made this long from now on.
    pub(crate) fn note_segment_bytes(&self, segment_bytes: u64) {
        let mut state = self.state();
        state.segment_bytes = state.segment_bytes.min(segment_bytes);
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.state().phase = phase;
    }

    /// Whether the machine has stopped in a call.
    pub(crate) fn has_stopped(&self) -> bool {
        self.state().stopped
    }

    pub(crate) fn forget_errors(&self) {
        self.state().errors.clear();
    }

    pub(crate) fn errors(&self) -> Vec<String> {
        self.state().errors.clone()
    }

    /// Forgets all errors but the first `count`.
    pub(crate) fn take_errors_from(&self, first: usize) -> Vec<String> {
        self.state().errors.split_off(first)
    }

    pub(crate) fn take_writes(&self) -> Vec<BlockWrite> {
        std::mem::take(&mut self.state().writes)
    }

    pub(crate) fn take_checkpoint_calls(&self) -> Vec<CheckpointCall> {
        std::mem::take(&mut self.state().checkpoint_calls)
    }

    /// The old names of segments that were recycled.
    pub(crate) fn take_recycled(&self) -> Vec<String> {
        std::mem::take(&mut self.state().recycled)
    }

    /// Forgets errors, and lies, that are none for the log; how many there were.
    pub(crate) fn forget_errors_outside_log(&self) -> usize {
        let mut state = self.state();
        let before = state.errors.len();
        state.errors.retain(|error| error.contains(" of log/"));
        before - state.errors.len()
    }

    pub(crate) fn calls(&self) -> u64 {
        self.state().calls
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn decide(&mut self, call: &StorageCall<'_>) -> Fault {
        self.calls += 1;
        let fault = match self.phase {
            Phase::Quiet => Fault::None,
            _ => self.draw_fault(call),
        };
        if let Some(what) = name_of(fault, call.operation) {
            self.tally.met(what);
        }
        match fault {
            Fault::Crash => self.stopped = true,
            Fault::Error(_) | Fault::Torn { .. } => {
                self.errors
                    .push(format!("{:?} of {} at {}", call.operation, call.path, call.offset));
            }
            Fault::Lost if call.path == UNFINISHED_CHECKPOINT => {
                self.errors.push(format!("lost {:?} of {}", call.operation, call.path));
            }
            Fault::None => self.note_checkpoint(call),
            _ => {}
        }
        self.note_recycling(call, fault);
        if !matches!(self.phase, Phase::Open | Phase::Backup) && self.may_be_block(call) {
            self.writes.push(BlockWrite {
                path: self.segment_path(call.path),
                offset: call.offset,
                len: call.len,
                lied: matches!(fault, Fault::Lost | Fault::Misdirected { .. }),
                failed: matches!(fault, Fault::Crash | Fault::Error(_) | Fault::Torn { .. }),
            });
        }
        fault
    }

    fn note_checkpoint(&mut self, call: &StorageCall<'_>) {
        let is_its = call.path == UNFINISHED_CHECKPOINT;
        let noted = match (call.operation, call.new_path) {
            (Operation::Create, _) if is_its => CheckpointCall::Begun,
            (Operation::Open, _) if is_its => CheckpointCall::Opened,
            (Operation::Write, _) if is_its => {
                let start = call.offset as usize;
                CheckpointCall::Written { start, end: start + call.len }
            }
            (Operation::Rename, Some(path)) if is_its => CheckpointCall::Named(path.to_owned()),
            _ => return,
        };
        self.checkpoint_calls.push(noted);
    }

    /// A segment gets another name, though the thread that opened it knows it by the old one.
    fn note_recycling(&mut self, call: &StorageCall<'_>, fault: Fault) {
        let new_path = call.new_path.filter(|_| is_recycled(call));
        let is_sync = self.is_recycling && call.operation == Operation::SyncFolder;
        if fault == Fault::Crash && (new_path.is_some() || is_sync) {
            self.tally.met("crash in recycling");
        }
        if let Some(new_path) = new_path.filter(|_| fault == Fault::None) {
            self.renamed.insert(call.path.to_owned(), new_path.to_owned());
            self.recycled.push(call.path.to_owned());
            self.is_recycling = true;
        } else if is_sync && fault == Fault::None {
            self.is_recycling = false;
        }
    }

    /// What a file is called. It is known by the name by which it was opened; a segment is renamed when it
    /// is ready, and when it is recycled.
    fn segment_path(&self, path: &str) -> String {
        match path.split_once("/prepare-") {
            Some((folder, ordinal)) => format!("{folder}/{ordinal}.segment"),
            None => self.renamed.get(path).map_or(path, String::as_str).to_owned(),
        }
    }

    /// A write to the log, but for those that fill a segment with zeros: they are as long as it is.
    fn may_be_block(&self, call: &StorageCall<'_>) -> bool {
        let block = match self.synced {
            true => Operation::WriteDurable,
            false => Operation::Write,
        };
        let is_fill = !self.synced && call.len as u64 == self.segment_bytes;
        call.operation == block && call.path.starts_with("log/") && !is_fill
    }

    fn draw_fault(&mut self, call: &StorageCall<'_>) -> Fault {
        let is_recycling = self.is_recycling || is_recycled(call);
        let Self { draw, faults, .. } = self;
        let in_flight = match call.operation.is_change() {
            // Recycling is rare.
            true if is_recycling => 50,
            true => 10,
            false => 1,
        };
        if draw.chance_ppm(faults.crash_ppm * in_flight) {
            return Fault::Crash;
        }
        match call.operation {
            Operation::Write | Operation::WriteDurable => self.draw_write_fault(call),
            Operation::Sync | Operation::SyncFolder if draw.chance_ppm(faults.sync_error_ppm) => {
                Fault::Error(io::ErrorKind::Other)
            }
            Operation::Create | Operation::Rename | Operation::Remove
                if draw.chance_ppm(faults.write_error_ppm / 4) =>
            {
                Fault::Error(io::ErrorKind::Other)
            }
            Operation::Read | Operation::Open | Operation::List | Operation::Len
                if matches!(self.phase, Phase::Open | Phase::Backup)
                    && draw.chance_ppm(faults.read_error_ppm) =>
            {
                Fault::Error(io::ErrorKind::Other)
            }
            _ => Fault::None,
        }
    }

    fn draw_write_fault(&mut self, call: &StorageCall<'_>) -> Fault {
        let is_block = self.phase == Phase::Write && self.may_be_block(call);
        let Self { draw, faults, .. } = self;
        // Where nothing is synced, a failed flush takes all that was written, as a failed sync does.
        let may_fail = self.synced || call.operation == Operation::Write;
        if may_fail && draw.chance_ppm(faults.write_error_ppm) {
            return match draw.below(3) {
                0 => Fault::Error(io::ErrorKind::Other),
                // Short: what a sector boundary cuts, or any byte.
                1 => Fault::Torn { bytes: 512 * draw.below(call.len as u64 / 512 + 1) as usize },
                _ => Fault::Torn { bytes: draw.below(call.len as u64 + 1) as usize },
            };
        }
        let is_checkpoint = self.phase == Phase::Run && call.path == UNFINISHED_CHECKPOINT;
        if (is_block || is_checkpoint) && draw.chance_ppm(faults.lost_ppm) {
            return Fault::Lost;
        }
        if is_block && draw.chance_ppm(faults.misdirected_ppm) {
            let pages = draw.below(8) as i64 - 4;
            let offset = call.offset.saturating_add_signed(pages * 4096);
            // It does not make a file longer.
            if offset != call.offset && offset + call.len as u64 <= self.segment_bytes {
                return Fault::Misdirected { offset };
            }
        }
        Fault::None
    }
}

/// A segment gets another name.
fn is_recycled(call: &StorageCall<'_>) -> bool {
    call.operation == Operation::Rename && call.path.ends_with(".segment")
}

fn name_of(fault: Fault, operation: Operation) -> Option<&'static str> {
    Some(match (fault, operation) {
        (Fault::Error(_), Operation::Sync | Operation::SyncFolder) => "failed sync",
        (Fault::Error(_), Operation::Read) => "read error",
        (Fault::Error(_), Operation::Write | Operation::WriteDurable) => "failed write",
        (Fault::Error(_), _) => "another failed call",
        (Fault::Torn { .. }, _) => "short write",
        (Fault::Lost, _) => "lost write",
        (Fault::Misdirected { .. }, _) => "misdirected write",
        _ => return None,
    })
}
