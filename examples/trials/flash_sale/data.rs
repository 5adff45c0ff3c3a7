//! A history of invoices: reads the CSV file and tells orders, give-backs and write-offs from rows
//! that make no sense.
//!
//! Codes, invoice numbers and customers are compared as they are written. What the file does not
//! say in a way that can be read (no gzip, a missing column, a short row) is an error with its
//! place; what it says clearly but makes no sense is counted by kind and skipped.

use std::collections::HashMap;
use std::error::Error;
use std::fs::File;
use std::num::IntErrorKind;
use std::path::Path;

use csv::ByteRecord;
use doorbuster::{BuyerId, RequestKey};
use flate2::read::MultiGzDecoder;

type Failure = Box<dyn Error + Send + Sync>;

/// Everything that one file says.
pub(crate) struct History {
    /// What makes sense, in the file order of first rows.
    pub(crate) invoices: Vec<Invoice>,
    /// Stock codes; a SKU's number is its place here, in order of first appearance.
    pub(crate) codes: Vec<String>,
    /// By SKU: units that all order invoices ask for.
    pub(crate) demand: Vec<u64>,
    /// What makes no sense.
    pub(crate) senseless: Senseless,
    /// Rows of the file, its header apart.
    pub(crate) rows: u64,
}

/// The rows of one invoice number that are left once senseless ones are dropped; never empty.
pub(crate) struct Invoice {
    pub(crate) number: String,
    pub(crate) buyer: BuyerId,
    /// As the first row writes it.
    pub(crate) time: String,
    pub(crate) kind: InvoiceKind,
    pub(crate) rows: Vec<Row>,
}

/// What an invoice does to the stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvoiceKind {
    /// No C, all rows above zero.
    Order,
    /// C, all rows below zero: goods come back.
    GiveBack,
    /// No C, all rows below zero: damage and loss.
    WriteOff,
}

/// One row of an invoice.
pub(crate) struct Row {
    /// Where it stands in the file, the header being row 1.
    pub(crate) place: u64,
    /// Index into [`History::codes`].
    pub(crate) sku: usize,
    /// The quantity without its sign. [`u64::MAX`] stands for whatever is larger.
    pub(crate) units: u64,
}

/// Rows that were skipped, by what is wrong with them. A row counts once, under the first that fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Senseless {
    /// The invoice number begins with a letter other than C.
    pub(crate) other_letter: u64,
    /// The quantity is no integer.
    pub(crate) no_integer: u64,
    /// The quantity is zero.
    pub(crate) zero: u64,
    /// The invoice has rows above and rows below zero; all its rows count.
    pub(crate) mixed_signs: u64,
    /// A C-invoice whose rows are above zero.
    pub(crate) cancelled_above_zero: u64,
}

impl Senseless {
    /// All of them.
    pub(crate) fn total(&self) -> u64 {
        self.by_kind().iter().map(|(_, rows)| rows).sum()
    }

    /// What is wrong, and with how many rows.
    pub(crate) fn by_kind(&self) -> [(&'static str, u64); 5] {
        [
            ("invoice number begins with another letter", self.other_letter),
            ("quantity is no integer", self.no_integer),
            ("quantity is zero", self.zero),
            ("invoice of mixed signs", self.mixed_signs),
            ("C-row above zero", self.cancelled_above_zero),
        ]
    }
}

impl Invoice {
    /// The number, as an idempotency key.
    pub(crate) fn key(&self) -> RequestKey {
        RequestKey::from_text(&self.number)
    }
}

impl History {
    /// Reads a gzipped CSV file whole.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let reader = csv::Reader::from_reader(MultiGzDecoder::new(file));
        Self::parse(reader).map_err(|e| format!("{}: {e}", path.display()).into())
    }

    fn parse(mut reader: csv::Reader<MultiGzDecoder<File>>) -> Result<Self, Failure> {
        let header = reader.byte_headers().map_err(|e| format!("not a gzipped CSV file: {e}"))?;
        let columns = Columns::find(header)?;
        let mut gathering = Gathering::default();
        let mut record = ByteRecord::new();
        while reader.read_byte_record(&mut record)? {
            gathering.rows += 1;
            gathering.row(&columns, &record)?;
        }
        Ok(gathering.finish())
    }
}

/// Where the columns that matter stand.
struct Columns {
    invoice: usize,
    code: usize,
    quantity: usize,
    time: usize,
    customer: usize,
}

impl Columns {
    fn find(header: &ByteRecord) -> Result<Self, Failure> {
        let find = |name: &str| {
            header
                .iter()
                .position(|field| field.trim_ascii() == name.as_bytes())
                .ok_or_else(|| format!("column {name} is missing"))
        };
        Ok(Self {
            invoice: find("InvoiceNo")?,
            code: find("StockCode")?,
            quantity: find("Quantity")?,
            time: find("InvoiceDate")?,
            customer: find("CustomerID")?,
        })
    }
}

/// What has been read so far. Signs are judged at the end: rows of an invoice may stand apart.
#[derive(Default)]
struct Gathering {
    invoices: Vec<Gathered>,
    by_number: HashMap<String, usize>,
    codes: Vec<String>,
    by_code: HashMap<String, usize>,
    senseless: Senseless,
    rows: u64,
}

struct Gathered {
    number: String,
    buyer: BuyerId,
    time: String,
    above_zero: Vec<Row>,
    below_zero: Vec<Row>,
}

impl Gathering {
    fn row(&mut self, columns: &Columns, record: &ByteRecord) -> Result<(), Failure> {
        let place = self.rows + 1;
        let text = |column: usize, name: &str| {
            std::str::from_utf8(&record[column])
                .map_err(|_| format!("row {place}: {name} is not UTF-8"))
        };
        let number = text(columns.invoice, "InvoiceNo")?;
        let code = text(columns.code, "StockCode")?;
        let quantity = text(columns.quantity, "Quantity")?;
        let time = text(columns.time, "InvoiceDate")?;
        let customer = text(columns.customer, "CustomerID")?;

        if number.starts_with(|first: char| first.is_alphabetic() && first != 'C') {
            self.senseless.other_letter += 1;
            return Ok(());
        }
        let quantity = match integer(quantity) {
            None => {
                self.senseless.no_integer += 1;
                return Ok(());
            }
            Some(0) => {
                self.senseless.zero += 1;
                return Ok(());
            }
            Some(quantity) => quantity,
        };
        let units = match quantity {
            i64::MIN | i64::MAX => u64::MAX,
            _ => quantity.unsigned_abs(),
        };
        let row = Row { place, sku: self.sku(code), units };
        let invoice = self.invoice(number, time, customer);
        if quantity > 0 {
            invoice.above_zero.push(row);
        } else {
            invoice.below_zero.push(row);
        }
        Ok(())
    }

    fn sku(&mut self, code: &str) -> usize {
        if let Some(&sku) = self.by_code.get(code) {
            return sku;
        }
        let sku = self.codes.len();
        self.codes.push(code.to_owned());
        self.by_code.insert(code.to_owned(), sku);
        sku
    }

    fn invoice(&mut self, number: &str, time: &str, customer: &str) -> &mut Gathered {
        let at = match self.by_number.get(number) {
            Some(&at) => at,
            None => {
                self.invoices.push(Gathered {
                    number: number.to_owned(),
                    buyer: buyer(number, customer),
                    time: time.to_owned(),
                    above_zero: Vec::new(),
                    below_zero: Vec::new(),
                });
                self.by_number.insert(number.to_owned(), self.invoices.len() - 1);
                self.invoices.len() - 1
            }
        };
        &mut self.invoices[at]
    }

    fn finish(mut self) -> History {
        let mut demand = vec![0_u64; self.codes.len()];
        let mut invoices = Vec::with_capacity(self.invoices.len());
        for gathered in self.invoices {
            let Gathered { number, buyer, time, above_zero, below_zero } = gathered;
            let cancelled = number.starts_with('C');
            let (kind, rows) = match (cancelled, above_zero.len(), below_zero.len()) {
                (_, 1.., 1..) => {
                    self.senseless.mixed_signs += (above_zero.len() + below_zero.len()) as u64;
                    continue;
                }
                (true, 1.., _) => {
                    self.senseless.cancelled_above_zero += above_zero.len() as u64;
                    continue;
                }
                (true, _, _) => (InvoiceKind::GiveBack, below_zero),
                (false, 1.., _) => (InvoiceKind::Order, above_zero),
                (false, _, _) => (InvoiceKind::WriteOff, below_zero),
            };
            if kind == InvoiceKind::Order {
                for row in &rows {
                    demand[row.sku] = demand[row.sku].saturating_add(row.units);
                }
            }
            invoices.push(Invoice { number, buyer, time, kind, rows });
        }
        History { invoices, codes: self.codes, demand, senseless: self.senseless, rows: self.rows }
    }
}

/// A customer is a buyer across all invoices; a guest invoice is a buyer of its own.
fn buyer(number: &str, customer: &str) -> BuyerId {
    match customer.trim() {
        "" => BuyerId::from_text(&format!("guest {number}")),
        _ => BuyerId::from_text(&format!("customer {customer}")),
    }
}

/// An integer too large to be written here is one all the same: the engine refuses it by name.
fn integer(text: &str) -> Option<i64> {
    match text.trim().parse() {
        Ok(integer) => Some(integer),
        Err(e) => match std::num::ParseIntError::kind(&e) {
            IntErrorKind::PosOverflow => Some(i64::MAX),
            IntErrorKind::NegOverflow => Some(i64::MIN),
            _ => None,
        },
    }
}
