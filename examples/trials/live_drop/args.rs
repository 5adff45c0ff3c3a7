//! The command line.

use clap::Parser;

use crate::shared::run_args::RunArgs;

const BUYERS_MAX: i64 = 5_000_000;
const SEED_DEFAULT: u64 = 20_261_122;

const EXAMPLES: &str = "\
Examples:
  live_drop                                   a drop of 3,000 units, two minutes in a few seconds
  live_drop --buyers 200000 --stock 10000     a larger one
  live_drop --real-time                       second by second, on the real clock
  live_drop --dir ./runs --json               its folder kept with its whole log, figures for a program

Keys of the last line with --json: seed, buyers, stock, placed, held, waited, promoted, early_access,
refused, refused_not_open, refused_sold_out, refused_others_waiting, refused_list_full, refused_limit,
refused_by_merchant, paid, abandoned, left, lost_patience, joined_by_log, promoted_by_log, passed_by_log,
served_out_of_turn, oversold, units_sold, units_left.

Exit status: 0 when all is proved, 1 when a proof failed or the run broke off, 2 for wrong options.";

/// Holds a live-stream drop. Gold and silver members come early, everyone else at the opening. Late buyers wait in
/// line, and a buyer who does not pay in time loses the hold to the next one. There is a restock in the middle, and a
/// merchant is delisted. At the end the log alone proves that no order was served out of turn.
#[derive(Debug, Parser)]
#[command(name = "live_drop", after_help = EXAMPLES, after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// The number of buyers
    #[arg(
        long,
        value_name = "N",
        default_value_t = 20_000,
        value_parser = clap::value_parser!(u32).range(1..=BUYERS_MAX)
    )]
    pub(crate) buyers: u32,

    /// Units of the drop; a fifth as many come in the restock
    #[arg(
        long,
        value_name = "UNITS",
        default_value_t = 3_000,
        value_parser = clap::value_parser!(u32).range(1..=BUYERS_MAX)
    )]
    pub(crate) stock: u32,

    /// All chance comes from this number: when each buyer comes, who pays, who walks away
    #[arg(long, value_name = "NUMBER", default_value_t = SEED_DEFAULT)]
    pub(crate) seed: u64,

    /// On the real clock, in two minutes and a half, with the engine's own threads. Without it: on a
    /// simulated clock, in one thread, always the same for a seed
    #[arg(long)]
    pub(crate) real_time: bool,

    #[command(flatten)]
    pub(crate) run: RunArgs,
}
