//! The protocol of Redis (RESP 2), spoken by hand: the client crates take longer to build than all of this.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::TcpStream;

/// KEYS: stock, orders by (buyer, key), last order. ARGV: buyer and key. Returns the order; 0: sold out.
pub(crate) const PLACE: &str = "\
local held = redis.call('HGET', KEYS[2], ARGV[1])
if held then return tonumber(held) end
if tonumber(redis.call('GET', KEYS[1])) < 1 then return 0 end
redis.call('DECR', KEYS[1])
local order = redis.call('INCR', KEYS[3])
redis.call('HSET', KEYS[2], ARGV[1], order)
return order";

/// Where a server is, from `redis://[[user]:password@]host[:port][/database]`.
pub(crate) struct Address {
    host: String,
    password: Option<String>,
    database: Option<String>,
}

impl Address {
    pub(crate) fn parse(url: &str) -> Self {
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

    pub(crate) fn connect(&self) -> Connection {
        self.try_connect().expect("DOORBUSTER_REDIS_URL: a server")
    }

    /// An error when no server answers.
    pub(crate) fn try_connect(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect(&self.host)?;
        stream.set_nodelay(true).expect("a TCP connection");
        let input = BufReader::new(stream.try_clone().expect("a second handle"));
        let mut connection = Connection { input, output: BufWriter::new(stream) };
        if let Some(password) = &self.password {
            connection.must(&["AUTH", password]);
        }
        if let Some(database) = &self.database {
            connection.must(&["SELECT", database]);
        }
        Ok(connection)
    }
}

pub(crate) struct Connection {
    input: BufReader<TcpStream>,
    pub(crate) output: BufWriter<TcpStream>,
}

#[derive(Debug)]
pub(crate) enum Reply {
    Text(String),
    Number(i64),
    Many(Vec<Reply>),
    Nothing,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            other => panic!("a text was expected, not {other:?}"),
        }
    }

    pub(crate) fn number(&self) -> i64 {
        match self {
            Self::Number(number) => *number,
            other => panic!("a number was expected, not {other:?}"),
        }
    }
}

impl Connection {
    pub(crate) fn send(&mut self, words: &[&str]) -> io::Result<()> {
        write!(self.output, "*{}\r\n", words.len())?;
        words.iter().try_for_each(|word| write!(self.output, "${}\r\n{word}\r\n", word.len()))
    }

    /// What the server answers, or the error that it names.
    pub(crate) fn receive(&mut self) -> io::Result<Reply> {
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

    pub(crate) fn ask(&mut self, words: &[&str]) -> io::Result<Reply> {
        self.send(words)?;
        self.output.flush()?;
        self.receive()
    }

    pub(crate) fn must(&mut self, words: &[&str]) -> Reply {
        self.ask(words).unwrap_or_else(|error| panic!("Redis, {}: {error}", words[0]))
    }
}
