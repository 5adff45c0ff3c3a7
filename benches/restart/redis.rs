//! Redis as a child of this process, on a free port of this machine.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Measured;
use crate::resp::{Address, Connection, PLACE};
use crate::work::{buyer, key};

const STOCK: &str = "stock";
const ORDERS: &str = "orders";
const LAST: &str = "last";
const PIPELINE: u64 = 512;
/// A server that does not answer after so long is given up.
const START_MAX: Duration = Duration::from_secs(300);

/// `None`: it is not installed.
pub(crate) fn measure(folder: &Path, orders: u64) -> Option<Measured> {
    fs::create_dir(folder).expect("a temporary folder");
    let Some((server, _)) = Server::start(folder, true) else {
        println!("redis-server is not in the path: Redis is left out");
        return None;
    };
    let mut connection = server.connection();
    let before_bytes = resident_bytes(&mut connection);
    fill(&mut connection, orders);
    let resident_bytes = resident_bytes(&mut connection).saturating_sub(before_bytes);
    server.stop(connection);

    let log_bytes = bytes_of(&folder.join("appendonlydir"));
    let (server, from_log) = Server::start(folder, true).expect("as before");
    let mut connection = server.connection();
    check(&mut connection, orders);
    connection.must(&["SAVE"]);
    server.stop(connection);

    let snapshot_bytes = fs::metadata(folder.join("dump.rdb")).expect("it was saved").len();
    let (server, from_snapshot) = Server::start(folder, false).expect("as before");
    let mut connection = server.connection();
    check(&mut connection, orders);
    server.stop(connection);
    let parts = None;
    Some(Measured { resident_bytes, log_bytes, snapshot_bytes, from_log, from_snapshot, parts })
}

fn bytes_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).expect("it is there");
    entries.map(|entry| entry.and_then(|it| it.metadata()).expect("it can be read").len()).sum()
}

/// Puts the orders in, as the bench `peers` does.
fn fill(connection: &mut Connection, orders: u64) {
    let script = connection.must(&["SCRIPT", "LOAD", PLACE]).text();
    connection.must(&["SET", STOCK, &orders.to_string()]);
    for first in (0..orders).step_by(PIPELINE as usize) {
        let end = orders.min(first + PIPELINE);
        for request in first..end {
            let buyer_and_key = format!("{}:{}", buyer(request), key(request));
            let words = ["EVALSHA", &script, "3", STOCK, ORDERS, LAST, &buyer_and_key];
            connection.send(&words).expect("sent");
        }
        connection.output.flush().expect("sent");
        for _ in first..end {
            assert!(connection.receive().expect("an answer").number() > 0, "there is enough");
        }
    }
    check(connection, orders);
}

fn check(connection: &mut Connection, orders: u64) {
    assert_eq!(connection.must(&["HLEN", ORDERS]).number(), orders as i64);
    assert_eq!(connection.must(&["GET", STOCK]).text(), "0");
}

fn resident_bytes(connection: &mut Connection) -> u64 {
    let told = connection.must(&["INFO", "memory"]).text();
    let bytes = told.lines().find_map(|line| line.strip_prefix("used_memory_rss:"));
    bytes.and_then(|bytes| bytes.trim().parse().ok()).expect("a number of bytes")
}

/// A server that ends with this.
struct Server {
    process: Child,
    address: Address,
}

impl Server {
    /// Starts a server on what is in the folder; returns how long it took until it answered. Its log is synced every
    /// second and never rewritten, so that it holds every order's commands.
    fn start(folder: &Path, has_log: bool) -> Option<(Self, Duration)> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        drop(listener);
        let began = Instant::now();
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendfsync", "everysec"])
            .args(["--port", &port.to_string(), "--auto-aof-rewrite-percentage", "0"])
            .args(["--appendonly", if has_log { "yes" } else { "no" }, "--dir"])
            .arg(folder)
            .stdout(Stdio::null())
            .spawn();
        let process = match process {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            process => process.expect("it starts"),
        };
        let address = Address::parse(&format!("redis://127.0.0.1:{port}"));
        let server = Self { process, address };
        while !server.answers() {
            assert!(began.elapsed() < START_MAX, "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(1));
        }
        Some((server, began.elapsed()))
    }

    /// While it loads, it answers with an error.
    fn answers(&self) -> bool {
        self.address.try_connect().is_ok_and(|mut it| it.ask(&["HLEN", ORDERS]).is_ok())
    }

    fn connection(&self) -> Connection {
        self.address.connect()
    }

    /// What it was told is on the disk.
    fn stop(mut self, mut connection: Connection) {
        // It closes the connection instead of an answer.
        let _ = connection.ask(&["SHUTDOWN", "NOSAVE"]);
        let status = self.process.wait().expect("it ends");
        assert!(status.success(), "redis-server: {status}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Only what a panic left running.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
