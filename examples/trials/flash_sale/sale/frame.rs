//! The frames in which the child tells its acknowledgements through the pipe.
//!
//! A frame is five little-endian words of eight bytes: request and kind; order; deadline in
//! milliseconds; commit latency in nanoseconds; when it was told, in nanoseconds since the child's
//! first request. What a kill cuts off is a last frame in part, which the reader drops: an
//! acknowledgement that was not told in full was not told.

use std::io::{self, Read, Write};
use std::time::Duration;

use doorbuster::{Held, OrderId, OrderState};

const FRAME_BYTES: usize = 40;

/// POSIX: a pipe takes a write of at most this many bytes whole, never mixed with another's.
const PIPE_WRITE_BYTES_MAX: usize = 4096;

/// How many frames a thread gathers before it writes them.
const FRAMES_PER_WRITE: usize = PIPE_WRITE_BYTES_MAX / FRAME_BYTES;

const KIND_REFUSED: u32 = 0;
const KIND_NEW: u32 = 1;
const KIND_REPLAYED: u32 = 2;

/// One request was answered, durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) request: u32,
    /// The hold, or `None` for sold out.
    pub(crate) held: Option<Held>,
    /// From the call to the moment at which the child saw the answer durable.
    pub(crate) latency: Duration,
    /// That moment, by the child's clock.
    pub(crate) since_start: Duration,
}

impl Frame {
    fn encode(&self) -> [u8; FRAME_BYTES] {
        let kind = match self.held {
            None => KIND_REFUSED,
            Some(Held { replayed: false, .. }) => KIND_NEW,
            Some(Held { replayed: true, .. }) => KIND_REPLAYED,
        };
        let words = [
            u64::from(self.request) | u64::from(kind) << 32,
            self.held.map_or(0, |held| held.order.get()),
            self.held.map_or(0, |held| held.deadline_ms),
            self.latency.as_nanos() as u64,
            self.since_start.as_nanos() as u64,
        ];
        let mut bytes = [0; FRAME_BYTES];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8; FRAME_BYTES]) -> io::Result<Self> {
        let mut words = [0; FRAME_BYTES / 8];
        for (word, place) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = place.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        }
        let [request_and_kind, order, deadline_ms, latency_ns, since_start_ns] = words;
        let (order, state) = (OrderId::from_u64(order), OrderState::Held);
        let held = |replayed| Held { order, deadline_ms, replayed, state };
        let held = match (request_and_kind >> 32) as u32 {
            KIND_REFUSED => None,
            KIND_NEW => Some(held(false)),
            KIND_REPLAYED => Some(held(true)),
            kind => {
                let words = format!("the child told an answer of kind {kind}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, words));
            }
        };
        Ok(Self {
            request: request_and_kind as u32,
            held,
            latency: Duration::from_nanos(latency_ns),
            since_start: Duration::from_nanos(since_start_ns),
        })
    }
}

/// One thread's end of the pipe.
pub(crate) struct FrameWriter<W> {
    pipe: W,
    gathered: Vec<u8>,
}

impl<W: Write> FrameWriter<W> {
    pub(crate) fn new(pipe: W) -> Self {
        Self { pipe, gathered: Vec::with_capacity(PIPE_WRITE_BYTES_MAX) }
    }

    pub(crate) fn tell(&mut self, frame: &Frame) -> io::Result<()> {
        self.gathered.extend_from_slice(&frame.encode());
        if self.gathered.len() < FRAMES_PER_WRITE * FRAME_BYTES {
            return Ok(());
        }
        self.flush()
    }

    /// Writes what is gathered.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.pipe.write_all(&self.gathered)?;
        self.gathered.clear();
        Ok(())
    }
}

/// Reads frames until the pipe ends. Returns the bytes of a last frame that was cut off.
pub(crate) fn read_frames(
    mut pipe: impl Read,
    mut on_frame: impl FnMut(Frame),
) -> io::Result<usize> {
    let mut buffer = vec![0; 16 * PIPE_WRITE_BYTES_MAX];
    let mut filled = 0;
    loop {
        match pipe.read(&mut buffer[filled..]) {
            Ok(0) => return Ok(filled),
            Ok(more) => filled += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        }
        let (frames, _) = buffer[..filled].as_chunks::<FRAME_BYTES>();
        let whole = frames.len() * FRAME_BYTES;
        for frame in frames {
            on_frame(Frame::decode(frame)?);
        }
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
}
