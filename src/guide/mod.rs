//! How the engine works, what it promises, and why it is as it is. Pages to read, no code.

pub mod architecture;
pub mod durability;
pub mod retention;
pub mod rules;
pub mod semantics;
pub mod sizing;
pub mod tokio;
pub mod waiting;
