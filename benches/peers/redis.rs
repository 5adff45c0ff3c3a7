//! Redis: one Lua script places an order.
//!
//! Durable means an append-only file that is synced before an answer is sent (`appendfsync always`): Redis does
//! so once for all that it read from its connections at a time. Settings that are changed for that are restored,
//! and the keys removed, when [`Server`] is dropped.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::resp::{Address, Connection, PLACE, Reply};
use crate::work::{Answer, Work, buyer, key};

const SETTINGS: [&str; 2] = ["appendonly", "appendfsync"];

/// How long a server may take to write its data into an append-only file.
const REWRITE_WAIT_MAX: Duration = Duration::from_secs(60);

/// A server, set up for the work.
pub(crate) struct Server {
    address: Address,
    script: String,
    prefix: String,
    /// As they were found.
    found: BTreeMap<String, String>,
    /// As they are.
    settings: BTreeMap<String, String>,
}

impl Server {
    /// Has the server sync before it answers, or not sync at all, as far as it lets itself be told.
    pub(crate) fn set_up(url: &str, durable: bool) -> Self {
        let address = Address::parse(url);
        let mut connection = address.connect();
        let found = settings(&mut connection);
        let wanted = match durable {
            true => [("appendfsync", "always"), ("appendonly", "yes")],
            false => [("appendfsync", "everysec"), ("appendonly", "no")],
        };
        for (setting, value) in wanted {
            // A server that refuses is measured as it is.
            let _ = connection.ask(&["CONFIG", "SET", setting, value]);
        }
        await_rewrite(&mut connection);
        let script = connection.must(&["SCRIPT", "LOAD", PLACE]).text();
        let settings = settings(&mut connection);
        let prefix = format!("doorbuster-bench-{}", std::process::id());
        Self { address, script, prefix, found, settings }
    }

    pub(crate) fn settings(&self) -> String {
        format!("{:?}", self.settings)
    }

    pub(crate) fn is_durable(&self) -> bool {
        let is = |setting, value| self.settings.get(setting).is_some_and(|found| found == value);
        is("appendonly", "yes") && is("appendfsync", "always")
    }

    fn keys(&self) -> [String; 3] {
        ["stock", "orders", "last"].map(|name| format!("{{{}}}:{name}", self.prefix))
    }

    /// Sells; returns how long the selling took.
    pub(crate) fn sell(&self, work: Work, pipeline: usize) -> Duration {
        let mut connection = self.address.connect();
        let [stock, orders, last] = self.keys();
        connection.must(&["UNLINK", &stock, &orders, &last]);
        connection.must(&["SET", &stock, &work.units.to_string()]);
        let connect = |_| Mutex::new(self.address.connect());
        let connections: Vec<_> = (0..work.callers).map(connect).collect();

        let (answers, elapsed) = work.call_all(|caller| {
            let mut connection = connections[caller as usize].lock().expect("used once");
            self.call(&mut connection, work, caller, pipeline)
        });

        assert_eq!(connection.must(&["GET", &stock]).text(), "0", "every unit is sold");
        assert_eq!(connection.must(&["HLEN", &orders]).number(), work.units as i64);
        work.check(answers, |request| {
            self.send(&mut connection, request);
            connection.output.flush().expect("sent");
            self.answer(&mut connection)
        });
        elapsed
    }

    fn call(
        &self,
        connection: &mut Connection,
        work: Work,
        caller: u64,
        pipeline: usize,
    ) -> Vec<Answer> {
        let requests: Vec<u64> = work.share(caller).collect();
        let mut answers = Vec::with_capacity(requests.len());
        for sent in requests.chunks(pipeline) {
            for &request in sent {
                self.send(connection, request);
            }
            connection.output.flush().expect("sent");
            answers.extend(sent.iter().map(|&request| (request, self.answer(connection))));
        }
        answers
    }

    fn send(&self, connection: &mut Connection, request: u64) {
        let [stock, orders, last] = self.keys();
        let buyer_and_key = format!("{}:{}", buyer(request), key(request));
        let words = ["EVALSHA", &self.script, "3", &stock, &orders, &last, &buyer_and_key];
        connection.send(&words).expect("sent");
    }

    fn answer(&self, connection: &mut Connection) -> Option<u64> {
        let order = connection.receive().expect("an answer").number();
        (order > 0).then_some(order as u64)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut connection = self.address.connect();
        let keys = self.keys();
        let [stock, orders, last] = keys.each_ref().map(String::as_str);
        let _ = connection.ask(&["UNLINK", stock, orders, last]);
        for (setting, value) in &self.found {
            let _ = connection.ask(&["CONFIG", "SET", setting, value]);
        }
        await_rewrite(&mut connection);
    }
}

fn settings(connection: &mut Connection) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for setting in SETTINGS {
        if let Ok(Reply::Many(pair)) = connection.ask(&["CONFIG", "GET", setting])
            && let [name, value] = &pair[..]
        {
            found.insert(name.text(), value.text());
        }
    }
    found
}

/// Waits until the server has written its data anew, as it does after `appendonly yes`.
fn await_rewrite(connection: &mut Connection) {
    let until = Instant::now() + REWRITE_WAIT_MAX;
    loop {
        let state = connection.must(&["INFO", "persistence"]).text();
        let rests = |name: &str| !state.contains(&format!("{name}:1"));
        if rests("aof_rewrite_in_progress") && rests("aof_rewrite_scheduled") {
            return;
        }
        assert!(Instant::now() < until, "the server goes on writing its data anew");
        std::thread::sleep(Duration::from_millis(20));
    }
}
