//! A live-stream drop: member tiers, early access, a waiting list, a restock, and a merchant who is delisted.

mod live_drop;
mod shared {
    pub(crate) mod folder;
    pub(crate) mod random;
    pub(crate) mod text;
}

fn main() -> std::process::ExitCode {
    live_drop::main()
}
