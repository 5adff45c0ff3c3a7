//! What was stored once is read by every later version: folders of engines, and the JSON of a host.

mod folders;
#[cfg(feature = "serde")]
mod serialised;
