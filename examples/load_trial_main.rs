//! The load trial of `doorbuster`: an engine under a load of one's choice, with every answer checked.

mod load_trial;
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
    pub(crate) mod text;
    pub(crate) mod timer;
}

fn main() -> std::process::ExitCode {
    load_trial::main()
}
