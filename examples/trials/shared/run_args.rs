//! The options that every trial has.

use std::path::PathBuf;

use clap::Args;

/// Where a run goes, and what it prints.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunArgs {
    /// Keep the engine's folder, and every file that the run writes: a new folder run-N is made in DIR, and what is there
    /// is left alone. Without it: a temporary folder, removed at the end
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// Print the figures once more at the end, as one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}
