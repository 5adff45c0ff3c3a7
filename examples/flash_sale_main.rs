//! The main job of `doorbuster`: a real month of orders, and a flash sale that is killed halfway.

mod flash_sale;
mod shared {
    pub(crate) mod findings;
    pub(crate) mod folder;
    pub(crate) mod patience;
    pub(crate) mod progress;
    pub(crate) mod random;
    pub(crate) mod recovery_bar;
    pub(crate) mod text;
}

fn main() -> std::process::ExitCode {
    flash_sale::main()
}
