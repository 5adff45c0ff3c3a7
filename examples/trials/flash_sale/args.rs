//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::sale::child::Child;
use crate::shared::run_args::RunArgs;

/// Most threads, buyers and requests that may be asked for.
const THREADS_MAX: i64 = 1024;
const BUYERS_MAX: i64 = 250_000_000;
const ORDERS_MAX: i64 = 1_000_000_000;

/// Requests that a buyer sends on average, unless `--orders` is given.
const REQUESTS_PER_BUYER: u32 = 4;

/// Every sale with this seed draws the same requests and is killed at the same unit.
const SEED_DEFAULT: u64 = 20_101_201;

const DATA_DEFAULT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/2010-12.csv.gz");

const EXAMPLES: &str = "\
Examples:
  flash_sale                                  everything, in a temporary folder
  flash_sale --skip-replay --seed 7           another sale
  flash_sale --skip-sale --data HISTORY.csv.gz
                                              a longer history of the same columns
  flash_sale --buyers 1000 --orders 50000 --stock 2000 --dir ./runs --json
                                              a small sale, its folder kept, figures for a program

Exit status: 0 when all is proved, 1 when a proof failed or the run broke off, 2 for wrong options.";

/// Runs the engine's main job: replays a real month of orders, then holds a flash sale that is
/// killed halfway, reopens it, and proves that no acknowledged order is lost, no unit is sold twice
/// and no request key has two orders.
#[derive(Debug, Parser)]
#[command(name = "flash_sale", after_help = EXAMPLES, after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Calling threads. Default: for the sale as many as there are processors, for the replay 1,
    /// which keeps the exact order of the file
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=THREADS_MAX))]
    pub(crate) threads: Option<u32>,

    /// Requests in the sale, retries included: one in five resends an earlier key. Default: four
    /// times --buyers
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=ORDERS_MAX))]
    orders: Option<u32>,

    /// Buyers in the sale
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1_000_000,
        value_parser = clap::value_parser!(u32).range(1..=BUYERS_MAX)
    )]
    pub(crate) buyers: u32,

    /// Units in the sale, all of one SKU; every request wants one
    #[arg(
        long,
        value_name = "UNITS",
        default_value_t = 100_000,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub(crate) stock: u32,

    /// All chance comes from this number: when each buyer asks, what is sent again, when the kill comes
    #[arg(long, value_name = "NUMBER", default_value_t = SEED_DEFAULT)]
    pub(crate) seed: u64,

    /// The history to replay: gzipped CSV with the columns InvoiceNo, StockCode, Quantity,
    /// InvoiceDate and CustomerID, others ignored. Default: December 2010 of the UCI data set
    /// "Online Retail"
    #[arg(long, value_name = "FILE.csv.gz", default_value = DATA_DEFAULT, hide_default_value = true)]
    pub(crate) data: PathBuf,

    /// Leave out the replay
    #[arg(long, conflicts_with = "skip_sale")]
    pub(crate) skip_replay: bool,

    /// Leave out the flash sale
    #[arg(long)]
    pub(crate) skip_sale: bool,

    #[command(flatten)]
    pub(crate) run: RunArgs,

    /// The child process's part: the folder of the sale.
    #[arg(long, hide = true, requires = "child_kill_at")]
    child_folder: Option<PathBuf>,

    /// The child process's part: the unit at which it is killed.
    #[arg(long, hide = true, requires = "child_folder")]
    child_kill_at: Option<u64>,
}

impl Args {
    /// Requests in the sale.
    pub(crate) fn requests(&self) -> u32 {
        self.orders.unwrap_or(self.buyers * REQUESTS_PER_BUYER)
    }

    /// Calling threads of the sale.
    pub(crate) fn sale_threads(&self) -> usize {
        match self.threads {
            Some(threads) => threads as usize,
            None => std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// What to do when this process is the child of a sale.
    pub(crate) fn child(&self) -> Option<Child> {
        Some(Child {
            folder: self.child_folder.clone()?,
            kill_at_unit: self.child_kill_at?,
            seed: self.seed,
            requests: self.requests(),
            buyers: self.buyers,
            stock: self.stock,
            threads: self.sale_threads(),
        })
    }
}
