//! Redis: one Lua script places an order. Its protocol (RESP 2) is spoken by hand: the client crates take
//! longer to build than all of this.
//!
//! Durable means an append-only file that is synced before an answer is sent (`appendfsync always`): Redis does
//! so once for all that it read from its connections at a time. Settings that are changed for that are restored,
//! and the keys removed, when [`Server`] is dropped.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::work::{Answer, Work, buyer, key};

/// KEYS: stock, orders by (buyer, key), last order. ARGV: buyer and key. Gives the order; 0: sold out.
const PLACE: &str = "\
local held = redis.call('HGET', KEYS[2], ARGV[1])
if held then return tonumber(held) end
if tonumber(redis.call('GET', KEYS[1])) < 1 then return 0 end
redis.call('DECR', KEYS[1])
local order = redis.call('INCR', KEYS[3])
redis.call('HSET', KEYS[2], ARGV[1], order)
return order";

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
        connection.await_rewrite();
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

    /// Sells; gives how long the selling took.
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
        connection.await_rewrite();
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

/// Where a server is, from `redis://[[user]:password@]host[:port][/database]`.
struct Address {
    host: String,
    password: Option<String>,
    database: Option<String>,
}

impl Address {
    fn parse(url: &str) -> Self {
        let rest = url.strip_prefix("redis://").expect("DOORBUSTER_REDIS_URL: redis://host:port");
        let (rest, database) = match rest.split_once('/') {
            Some((rest, database)) if !database.is_empty() => (rest, Some(database.to_owned())),
            Some((rest, _)) => (rest, None),
            None => (rest, None),
        };
        let (login, host) = rest.rsplit_once('@').unwrap_or(("", rest));
        let password = login.split_once(':').map(|(_, password)| password.to_owned());
        let host = if host.contains(':') { host.to_owned() } else { format!("{host}:6379") };
        Self { host, password, database }
    }

    fn connect(&self) -> Connection {
        let stream = TcpStream::connect(&self.host).expect("DOORBUSTER_REDIS_URL: a server");
        stream.set_nodelay(true).expect("a TCP connection");
        let input = BufReader::new(stream.try_clone().expect("a second handle"));
        let mut connection = Connection { input, output: BufWriter::new(stream) };
        if let Some(password) = &self.password {
            connection.must(&["AUTH", password]);
        }
        if let Some(database) = &self.database {
            connection.must(&["SELECT", database]);
        }
        connection
    }
}

struct Connection {
    input: BufReader<TcpStream>,
    output: BufWriter<TcpStream>,
}

#[derive(Debug)]
enum Reply {
    Text(String),
    Number(i64),
    Many(Vec<Reply>),
    Nothing,
}

impl Reply {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            other => panic!("a text was expected, not {other:?}"),
        }
    }

    fn number(&self) -> i64 {
        match self {
            Self::Number(number) => *number,
            other => panic!("a number was expected, not {other:?}"),
        }
    }
}

impl Connection {
    fn send(&mut self, words: &[&str]) -> io::Result<()> {
        write!(self.output, "*{}\r\n", words.len())?;
        words.iter().try_for_each(|word| write!(self.output, "${}\r\n{word}\r\n", word.len()))
    }

    /// What the server answers, or the error that it names.
    fn receive(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        if self.input.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (kind, rest) = line.trim_end().split_at(1);
        let number = || rest.parse::<i64>().map_err(io::Error::other);
        match kind {
            "+" => Ok(Reply::Text(rest.to_owned())),
            "-" => Err(io::Error::other(rest.to_owned())),
            ":" => Ok(Reply::Number(number()?)),
            "$" | "*" if number()? < 0 => Ok(Reply::Nothing),
            "$" => {
                let mut bytes = vec![0; number()? as usize + 2];
                self.input.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Ok(Reply::Text(String::from_utf8(bytes).map_err(io::Error::other)?))
            }
            "*" => {
                (0..number()?).map(|_| self.receive()).collect::<Result<_, _>>().map(Reply::Many)
            }
            _ => Err(io::Error::other(format!("not RESP: {line}"))),
        }
    }

    fn ask(&mut self, words: &[&str]) -> io::Result<Reply> {
        self.send(words)?;
        self.output.flush()?;
        self.receive()
    }

    fn must(&mut self, words: &[&str]) -> Reply {
        self.ask(words).unwrap_or_else(|error| panic!("Redis, {}: {error}", words[0]))
    }

    /// Waits until the server has written its data anew, as it does after `appendonly yes`.
    fn await_rewrite(&mut self) {
        let until = Instant::now() + REWRITE_WAIT_MAX;
        loop {
            let state = self.must(&["INFO", "persistence"]).text();
            let rests = |name: &str| !state.contains(&format!("{name}:1"));
            if rests("aof_rewrite_in_progress") && rests("aof_rewrite_scheduled") {
                return;
            }
            assert!(Instant::now() < until, "the server goes on writing its data anew");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
