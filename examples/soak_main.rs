//! The soak of `doorbuster`: orders at a steady rate for as long as one likes, in bounded memory and disk.

mod shared {
    pub(crate) mod chart;
    pub(crate) mod findings;
    pub(crate) mod folder;
    pub(crate) mod html;
    pub(crate) mod machine;
    pub(crate) mod pace;
    pub(crate) mod patience;
    pub(crate) mod progress;
    pub(crate) mod random;
    pub(crate) mod recovery_bar;
    pub(crate) mod text;
    pub(crate) mod timer;
}
mod soak;

fn main() -> std::process::ExitCode {
    soak::main()
}
