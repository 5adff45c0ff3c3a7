//! The replay of the example `flash_sale` against a naive one with plain maps, invoice by invoice.
//!
//! The naive replay reads, parses and judges the file by itself. It shares nothing with the example
//! but the file and the order in which SKUs are numbered (first appearance), by which the engine
//! names the first line that falls short.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use doorbuster::{Durability, Engine, Options, Refusal};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::books::{self, Closing, Totals};
use crate::data::History;
use crate::replay::{self, Outcome, Pass};

const MONTH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/2010-12.csv.gz");

/// Small, since every engine of these tests writes its segments anew.
const SEGMENT_BYTES: u64 = 1 << 20;

/// How many files the random test makes up when no seed is given.
const RANDOM_FILES: u64 = 24;

// What the engine documents, written down again.
const LINE_UNITS_MAX: i128 = 1_000_000;
const LINES_MAX: usize = 4096;
const STOCK_UNITS_MAX: i128 = 4_294_967_295;

#[test]
fn the_month_is_answered_as_a_naive_replay_answers_it() {
    let month = Path::new(MONTH);
    let (short, full) = assert_equal(month, "the month");

    assert_eq!(short.totals.orders, 1_629);
    assert_eq!(short.totals.held, 1_099);
    assert_eq!(short.totals.sold_out, 530);
    assert_eq!(short.totals.written_off_units, 1_714);
    assert_eq!(short.totals.given_back_units, 16_042);
    assert_eq!(short.totals.errors, Vec::<String>::new());

    assert_eq!(full.totals.held, 1_629);
    assert_eq!(full.closing.remaining_units, 0);
    let history = History::read(month).expect("the month can be read");
    assert_eq!(history.senseless.total(), 0);
    let longest = history.invoices.iter().map(|invoice| invoice.rows.len()).max();
    assert_eq!(longest, Some(675), "the order of 675 rows is among those held");
}

#[test]
fn threads_share_the_month_and_the_full_demand_is_still_held() {
    let history = History::read(Path::new(MONTH)).expect("the month can be read");
    let full = play(&history, Pass::Full, 4);
    assert_eq!(full.totals.held, 1_629);
    assert_eq!(full.closing.remaining_units, 0);
    // Which orders are refused depends on the threads; the units that return do not.
    let short = play(&history, Pass::Short, 4);
    assert_eq!(short.totals.orders, 1_629);
    assert_eq!(short.totals.given_back_units, 16_042);
    assert_eq!(short.closing.oversold_units, 0);
}

#[test]
fn rows_of_an_invoice_that_stand_apart_are_one_order() {
    let seen = both_say(&["1,a,3", "2,a,1", "1,b,2", "C9,a,-1", "1,a,2"]);
    // Demand of a: 6, at the start 4. Invoice 1 comes first and wants five of it.
    assert_eq!(
        seen,
        [
            ("1", Seen::SoldOut { code: "a".into(), available: 4 }),
            ("2", Seen::Held),
            ("C9", Seen::GivenBack { units: 1, errors: 0 }),
        ]
        .map(|(number, seen)| (number.to_owned(), seen))
    );
}

#[test]
fn codes_are_compared_as_written() {
    let seen = both_say(&["1,a,5", "2,A,5", "3, a,5", "-4,a,-9"]);
    // Each has a start of 4 of its own.
    assert_eq!(
        seen,
        [
            ("1", Seen::SoldOut { code: "a".into(), available: 4 }),
            ("2", Seen::SoldOut { code: "A".into(), available: 4 }),
            ("3", Seen::SoldOut { code: " a".into(), available: 4 }),
            ("-4", Seen::WrittenOff { units: 4, shortfall: 5 }),
        ]
        .map(|(number, seen)| (number.to_owned(), seen))
    );
}

#[test]
fn senseless_rows_are_counted_by_kind_and_skipped() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = write_file(
        folder.path(),
        &csv(&[
            "A1,a,1", "c1,a,0", "1,a,0", "1,a,2.5", "1,a,", "2,a,1", "2,a,-1", "2,a,x", "C3,a,4",
            "C3,a,0", "C4,a,-1", "C4,a,1", "5,a,-0", "5,a,10",
        ]),
    );
    let history = History::read(&path).expect("a file that can be read");
    let kinds = history.senseless.by_kind().map(|(_, rows)| rows);
    // Another letter (A and a small c), no integer, zero, mixed signs (2 and C4), C above zero.
    assert_eq!(kinds, [2, 3, 3, 4, 1]);
    assert_eq!(naive_rows(&path).1.senseless, kinds);
    assert_equal(&path, "senseless rows");
    assert_eq!(history.demand, [10], "what is skipped is no demand");
}

#[test]
fn what_the_engine_cannot_be_asked_for_is_a_named_error() {
    let mut rows: Vec<String> = vec![
        "1,a,1000000".into(),
        "2,a,1000001".into(),
        "3,a,600000".into(),
        "3,a,600000".into(),
        "4,b,5000000000".into(),
        "5,c,99999999999999999999".into(),
        "C6,a,-5000000000".into(),
        "C6,a,-7".into(),
        "7,a,-9999999999".into(),
    ];
    rows.extend((0..LINES_MAX).map(|_| "8,d,1".to_owned()));
    rows.extend((0..=LINES_MAX).map(|_| "9,d,1".to_owned()));
    let seen = both_say(&rows.iter().map(String::as_str).collect::<Vec<_>>());
    let errors: Vec<_> = seen
        .iter()
        .filter(|(_, seen)| matches!(seen, Seen::Error | Seen::GivenBack { errors: 1, .. }))
        .map(|(number, _)| number.as_str())
        .collect();
    assert_eq!(errors, ["2", "3", "4", "5", "C6", "9"]);
}

#[test]
fn a_file_that_cannot_be_read_is_a_clear_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let refusal = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        let error = History::read(&path).err().expect("the file is refused").to_string();
        assert!(error.contains(name), "{error}");
        error
    };
    let whole = gzip(&csv(&["1,a,1", "2,a,2"]));
    assert!(refusal("plain.csv", csv(&["1,a,1"]).as_bytes()).contains("not a gzipped CSV file"));
    assert!(refusal("empty.csv.gz", b"").contains("not a gzipped CSV file"));
    refusal("cut.csv.gz", &whole[..whole.len() / 2]);
    refusal("trailing.csv.gz", &[&whole[..], b"more"].concat());
    let column = refusal("column.csv.gz", &gzip("InvoiceNo,StockCode,InvoiceDate,CustomerID\n"));
    assert!(column.contains("column Quantity is missing"), "{column}");
    let short = refusal("short.csv.gz", &gzip(&format!("{}1,a\n", csv(&["1,a,1"]))));
    assert!(short.contains("fields"), "{short}");
    assert!(History::read(&folder.path().join("none")).is_err());
}

#[test]
fn random_nasty_files_are_answered_as_a_naive_replay_answers_them() {
    let seeds: Vec<u64> = match std::env::var("REPLAY_SEED") {
        Ok(seed) => vec![seed.parse().expect("REPLAY_SEED is a number")],
        Err(_) => (0..RANDOM_FILES).map(|i| RandomState::new().hash_one(i)).collect(),
    };
    for seed in seeds {
        let folder = tempfile::tempdir().expect("a folder");
        let path = write_file(folder.path(), &nasty_file(seed));
        let story = format!("rerun: REPLAY_SEED={seed} cargo test --test replay random_nasty");
        eprintln!("{story}");
        assert_equal(&path, &story);
    }
}

/// What one pass through the engine gave.
struct Played {
    outcomes: Vec<(usize, Outcome)>,
    totals: Totals,
    closing: Closing,
}

fn play(history: &History, pass: Pass, threads: usize) -> Played {
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options::new(folder.path().join("engine"))
        .durability(Durability::Written)
        .segment_bytes(SEGMENT_BYTES);
    let engine = Engine::open(options).expect("a new engine");
    let replayed = replay::run(&engine, history, pass, threads, &|_| ()).expect("the pass ends");
    let closing = books::audit(&engine, history, pass, &replayed).expect("the books agree");
    engine.close().expect("the engine closes");
    assert_eq!(replayed.outcomes.len(), replay::invoices_in(history, pass));
    let totals = Totals::of(&replayed, history);
    Played { outcomes: replayed.outcomes, totals, closing }
}

/// Plays both passes of a file through the engine, with one thread, and naively.
fn assert_equal(path: &Path, story: &str) -> (Played, Played) {
    let history = History::read(path).unwrap_or_else(|error| panic!("{story}: {error}"));
    let (invoices, judged) = naive_rows(path);
    assert_eq!(history.senseless.by_kind().map(|(_, rows)| rows), judged.senseless, "{story}");

    let [short, full] = [(Pass::Short, 80), (Pass::Full, 100)].map(|(pass, percent)| {
        let played = play(&history, pass, 1);
        let naive = naive_replay(&invoices, &judged, percent);
        let engine: Vec<_> = played
            .outcomes
            .iter()
            .map(|(at, outcome)| (history.invoices[*at].number.clone(), seen(&history, outcome)))
            .collect();
        for (engine, naive) in engine.iter().zip(&naive.invoices) {
            assert_eq!(engine, naive, "{story}, {percent} % of the demand");
        }
        assert_eq!(engine.len(), naive.invoices.len(), "{story}, {percent} %");
        assert_eq!(i128::from(played.closing.remaining_units), naive.remaining, "{story}");
        played
    });
    if full.totals.unanswered == 0 {
        books::prove_full(&full.totals, full.closing).unwrap_or_else(|e| panic!("{story}: {e}"));
    }
    (short, full)
}

/// Both replays of a made-up file agree; what they say of pass A.
fn both_say(rows: &[&str]) -> Vec<(String, Seen)> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = write_file(folder.path(), &csv(rows));
    assert_equal(&path, "a made-up file");
    let (invoices, judged) = naive_rows(&path);
    naive_replay(&invoices, &judged, 80).invoices
}

/// What became of an invoice, in words that both replays know.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Held,
    SoldOut { code: String, available: i128 },
    Error,
    GivenBack { units: i128, errors: usize },
    WrittenOff { units: i128, shortfall: i128 },
}

fn seen(history: &History, outcome: &Outcome) -> Seen {
    match outcome {
        Outcome::Held => Seen::Held,
        Outcome::Refused(Refusal::SoldOut { sku, available, .. }) => Seen::SoldOut {
            code: history.codes[sku.get() as usize].clone(),
            available: i128::from(*available),
        },
        Outcome::Refused(other) => panic!("no limit was set: {other:?}"),
        Outcome::Unanswered(_) => Seen::Error,
        Outcome::GivenBack { units, errors } => {
            Seen::GivenBack { units: i128::from(*units), errors: errors.len() }
        }
        Outcome::WrittenOff { units, shortfall } => {
            Seen::WrittenOff { units: i128::from(*units), shortfall: i128::from(*shortfall) }
        }
    }
}

// The naive replay.

struct NaiveInvoice {
    number: String,
    /// Code and signed quantity, in file order.
    rows: Vec<(String, i128)>,
}

/// What the rows say beside the invoices.
struct Judged {
    /// Another letter, no integer, zero, mixed signs, C above zero.
    senseless: [u64; 5],
    /// By code, its place in order of first appearance.
    places: HashMap<String, usize>,
}

struct NaiveReplay {
    invoices: Vec<(String, Seen)>,
    remaining: i128,
}

/// Reads the file; returns what makes sense, by the file order of first rows.
fn naive_rows(path: &Path) -> (Vec<NaiveInvoice>, Judged) {
    let mut text = String::new();
    let file = File::open(path).expect("the file is there");
    GzDecoder::new(file).read_to_string(&mut text).expect("gzipped UTF-8");
    let mut records = naive_csv(&text).into_iter();
    let header = records.next().expect("a header");
    let column = |name: &str| header.iter().position(|field| field == name).expect("a column");
    let (invoice, code, quantity) = (column("InvoiceNo"), column("StockCode"), column("Quantity"));

    let mut senseless = [0; 5];
    let mut places = HashMap::new();
    let mut order: Vec<String> = Vec::new();
    let mut by_number: HashMap<String, Vec<(String, i128)>> = HashMap::new();
    for record in records {
        let number = &record[invoice];
        match (number.chars().next(), naive_integer(&record[quantity])) {
            (Some(first), _) if first.is_alphabetic() && first != 'C' => senseless[0] += 1,
            (_, None) => senseless[1] += 1,
            (_, Some(0)) => senseless[2] += 1,
            (_, Some(units)) => {
                let next = places.len();
                places.entry(record[code].clone()).or_insert(next);
                if !by_number.contains_key(number) {
                    order.push(number.clone());
                }
                by_number.entry(number.clone()).or_default().push((record[code].clone(), units));
            }
        }
    }
    let mut invoices = Vec::new();
    for number in order {
        let rows = by_number.remove(&number).expect("it was entered");
        let above = rows.iter().any(|(_, units)| *units > 0);
        let below = rows.iter().any(|(_, units)| *units < 0);
        if above && below {
            senseless[3] += rows.len() as u64;
        } else if above && number.starts_with('C') {
            senseless[4] += rows.len() as u64;
        } else {
            invoices.push(NaiveInvoice { number, rows });
        }
    }
    (invoices, Judged { senseless, places })
}

/// An optional sign and ASCII digits, with blanks around it.
fn naive_integer(text: &str) -> Option<i128> {
    let text = text.trim();
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(sign * digits.bytes().fold(0_i128, |units, digit| units * 10 + i128::from(digit - b'0')))
}

/// Fields parted by commas, rows by line ends; quotes enclose, a doubled quote is one.
fn naive_csv(text: &str) -> Vec<Vec<String>> {
    let mut records = Vec::new();
    let (mut record, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '"' if quoted && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(std::mem::take(&mut field)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                record.push(std::mem::take(&mut field));
                records.push(std::mem::take(&mut record));
            }
            _ => field.push(char),
        }
    }
    assert!(record.is_empty() && field.is_empty(), "the file ends with a line end");
    records
}

fn is_order(invoice: &NaiveInvoice) -> bool {
    !invoice.number.starts_with('C') && invoice.rows[0].1 > 0
}

/// One pass with plain maps. With the full demand, only orders.
fn naive_replay(invoices: &[NaiveInvoice], judged: &Judged, percent: i128) -> NaiveReplay {
    let mut demand: HashMap<&str, i128> = HashMap::new();
    for invoice in invoices {
        for (code, units) in &invoice.rows {
            *demand.entry(code).or_default() += if is_order(invoice) { *units } else { 0 };
        }
    }
    let start = |demand: i128| (demand * percent / 100).min(STOCK_UNITS_MAX);
    let mut stock: HashMap<&str, i128> = demand.iter().map(|(c, d)| (*c, start(*d))).collect();
    let mut stocked = stock.clone();

    let mut answers = Vec::new();
    for invoice in invoices {
        if percent == 100 && !is_order(invoice) {
            continue;
        }
        let seen = if is_order(invoice) {
            naive_order(invoice, &mut stock, &judged.places)
        } else if invoice.number.starts_with('C') {
            naive_give_back(invoice, &mut stock, &mut stocked)
        } else {
            naive_write_off(invoice, &mut stock, &mut stocked)
        };
        answers.push((invoice.number.clone(), seen));
    }
    NaiveReplay { invoices: answers, remaining: stock.values().sum() }
}

fn naive_order<'a>(
    invoice: &'a NaiveInvoice,
    stock: &mut HashMap<&'a str, i128>,
    places: &HashMap<String, usize>,
) -> Seen {
    let mut folded: BTreeMap<usize, (&str, i128)> = BTreeMap::new();
    for (code, units) in &invoice.rows {
        folded.entry(places[code]).or_insert((code, 0)).1 += units;
    }
    if invoice.rows.len() > LINES_MAX || folded.values().any(|(_, units)| *units > LINE_UNITS_MAX) {
        return Seen::Error;
    }
    if let Some((code, _)) = folded.values().find(|(code, units)| stock[code] < *units) {
        return Seen::SoldOut { code: (*code).to_owned(), available: stock[code] };
    }
    for (code, units) in folded.into_values() {
        *stock.get_mut(code).expect("every code has stock") -= units;
    }
    Seen::Held
}

fn naive_give_back<'a>(
    invoice: &'a NaiveInvoice,
    stock: &mut HashMap<&'a str, i128>,
    stocked: &mut HashMap<&'a str, i128>,
) -> Seen {
    let (mut given, mut errors) = (0, 0);
    for (code, units) in &invoice.rows {
        let stocked = stocked.get_mut(code.as_str()).expect("every code has stock");
        if *stocked - units > STOCK_UNITS_MAX {
            errors += 1;
            continue;
        }
        *stocked -= units;
        *stock.get_mut(code.as_str()).expect("every code has stock") -= units;
        given -= units;
    }
    Seen::GivenBack { units: given, errors }
}

fn naive_write_off<'a>(
    invoice: &'a NaiveInvoice,
    stock: &mut HashMap<&'a str, i128>,
    stocked: &mut HashMap<&'a str, i128>,
) -> Seen {
    let (mut taken, mut shortfall) = (0, 0);
    for (code, units) in &invoice.rows {
        let available = stock.get_mut(code.as_str()).expect("every code has stock");
        let takes = (-units).min(*available);
        *available -= takes;
        *stocked.get_mut(code.as_str()).expect("every code has stock") -= takes;
        taken += takes;
        shortfall += -units - takes;
    }
    Seen::WrittenOff { units: taken, shortfall }
}

// Files.

/// A file with the columns of the month, from rows of `invoice,code,quantity`.
fn csv(rows: &[&str]) -> String {
    let mut text =
        "InvoiceNo,StockCode,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n".to_owned();
    for row in rows {
        text.push_str(&format!("{row},2010-12-01 08:26:00,2.55,17850,United Kingdom\n"));
    }
    text
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}

fn write_file(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("history.csv.gz");
    std::fs::write(&path, gzip(text)).expect("a file");
    path
}

/// A file of odd rows: numbers with and without letters, codes that need quotes, quantities of
/// every kind, rows of an invoice apart, columns in any order.
fn nasty_file(seed: u64) -> String {
    const NUMBERS: [&str; 18] = [
        "1",
        "2",
        "3",
        "4",
        "5",
        "6",
        "7",
        "8",
        "C1",
        "C2",
        "C3",
        "C",
        "A1",
        "c2",
        "ß3",
        "-5",
        "",
        "9 \"nine\", apart",
    ];
    const CODES: [&str; 9] =
        ["85123A", "85123a", " 85123A", "POST", "M", "a,b", "q\"q", "", "l\nl"];
    const ODD: [&str; 13] =
        ["0", "-0", "00", "+4", " 5 ", "2.5", "", "six", "6.0", "1e3", "--1", "+", "٣"];
    const LARGE: [&str; 5] = ["1000000", "1000001", "600000", "4294967296", "5000000000"];
    const CUSTOMERS: [&str; 4] = ["", "17850", " ", "guest 1"];

    let mut random = seed;
    let mut below = move |bound: usize| {
        // SplitMix64.
        random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = random;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % bound as u64) as usize
    };
    let mut columns =
        ["InvoiceNo", "StockCode", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"];
    for last in (1..columns.len()).rev() {
        columns.swap(last, below(last + 1));
    }
    let line_end = ["\n", "\r\n"][below(2)];
    let mut text = columns.join(",") + line_end;
    for _ in 0..below(150) {
        let at = below(NUMBERS.len());
        let number = NUMBERS[at];
        // Most invoices keep to one sign, or all of them would be senseless.
        let negative = (number.starts_with('C') || at.is_multiple_of(4)) != (below(40) == 0);
        let sign = if negative { "-" } else { "" };
        let quantity = match below(20) {
            0 => ODD[below(ODD.len())].to_owned(),
            1 if below(3) == 0 => format!("{sign}{}", LARGE[below(LARGE.len())]),
            2 if !negative && below(5) == 0 => "99999999999999999999".to_owned(),
            _ => format!("{sign}{}", 1 + below(12)),
        };
        let code = CODES[below(CODES.len())];
        let customer = CUSTOMERS[below(CUSTOMERS.len())];
        let fields = columns.iter().map(|column| match *column {
            "InvoiceNo" => quoted(number),
            "StockCode" => quoted(code),
            "Quantity" => quoted(&quantity),
            "InvoiceDate" => "2010-12-01 08:26:00".to_owned(),
            "CustomerID" => quoted(customer),
            _ => "2.55".to_owned(),
        });
        text += &(fields.collect::<Vec<_>>().join(",") + line_end);
    }
    text
}

fn quoted(field: &str) -> String {
    match field.contains([',', '"', '\n']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    }
}
