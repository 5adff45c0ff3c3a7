//! PostgreSQL: one function places an order, in a schema of its own, which is dropped with [`Server`].

use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, Statement};

use crate::work::{Answer, Work, buyer, key};

const TABLES: &str = "
CREATE TABLE stock (sku bigint PRIMARY KEY, available bigint NOT NULL CHECK (available >= 0));
CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY,
    buyer bigint, key bigint, sku bigint NOT NULL, quantity bigint NOT NULL,
    PRIMARY KEY (buyer, key)
);
CREATE FUNCTION place(b bigint, k bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    held bigint;
BEGIN
    SELECT id INTO held FROM orders WHERE buyer = b AND key = k;
    IF FOUND THEN RETURN held; END IF;
    UPDATE stock SET available = available - 1 WHERE sku = 1 AND available >= 1;
    IF FOUND THEN
        INSERT INTO orders (buyer, key, sku, quantity) VALUES (b, k, 1, 1)
            ON CONFLICT DO NOTHING RETURNING id INTO held;
        IF FOUND THEN RETURN held; END IF;
        -- The same request came at the same time: it has the key, and this one gives its unit back.
        UPDATE stock SET available = available + 1 WHERE sku = 1;
    END IF;
    SELECT id INTO held FROM orders WHERE buyer = b AND key = k;
    RETURN coalesce(held, 0);
END $$;";

/// Each order has an answer of its own, but all of a call share one transaction.
const PLACE: &str = "SELECT place(b, k) FROM unnest($1::bigint[], $2::bigint[]) AS asked (b, k)";

/// A server with the schema.
pub(crate) struct Server {
    url: String,
    schema: String,
    durable: bool,
    runtime: Runtime,
    client: Client,
    settings: [String; 2],
}

impl Server {
    pub(crate) fn set_up(url: &str, durable: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let schema = format!("doorbuster_bench_{}", std::process::id());
        let (client, settings) = runtime.block_on(async {
            let client = connect(url, &schema, durable).await;
            let create = format!("CREATE SCHEMA {schema}; {TABLES}");
            client.batch_execute(&create).await.expect("the right to make a schema");
            let fsync = show(&client, "fsync").await;
            let commit = show(&client, "synchronous_commit").await;
            (client, [fsync, commit])
        });
        Self { url: url.to_owned(), schema, durable, runtime, client, settings }
    }

    pub(crate) fn settings(&self) -> String {
        let [fsync, commit] = &self.settings;
        format!("fsync {fsync}, synchronous_commit {commit}")
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.settings == ["on", "on"]
    }

    /// Sells, several orders a transaction; returns how long the selling took.
    pub(crate) fn sell(&self, work: Work, orders_a_transaction: usize) -> Duration {
        self.runtime.block_on(async {
            let units = work.units;
            let fill =
                format!("TRUNCATE stock, orders; INSERT INTO stock VALUES (1, {units}); ANALYZE");
            self.client.batch_execute(&fill).await.expect("filled");
            let mut callers = Vec::new();
            for caller in 0..work.callers {
                let client = connect(&self.url, &self.schema, self.durable).await;
                let place = client.prepare(PLACE).await.expect("prepared");
                callers.push((work.share(caller).collect::<Vec<u64>>(), client, place));
            }
            let start = Instant::now();
            let callers: Vec<_> = callers
                .into_iter()
                .map(|(requests, client, place)| {
                    tokio::spawn(async move {
                        let mut answers = Vec::with_capacity(requests.len());
                        for sent in requests.chunks(orders_a_transaction) {
                            answers.extend(ask(&client, &place, sent).await);
                        }
                        answers
                    })
                })
                .collect();
            let mut answers = Vec::new();
            for caller in callers {
                answers.extend(caller.await.expect("it goes through"));
            }
            let elapsed = start.elapsed();
            self.check(work, answers).await;
            elapsed
        })
    }

    async fn check(&self, work: Work, answers: Vec<Answer>) {
        let count = "SELECT (SELECT available FROM stock), (SELECT count(*) FROM orders)";
        let row = self.client.query_one(count, &[]).await.expect("counted");
        assert_eq!(row.get::<_, i64>(0), 0, "every unit is sold");
        assert_eq!(row.get::<_, i64>(1), work.units as i64, "every order is there");
        // The check retries one by one, and cannot await: so all are asked before.
        let place = self.client.prepare(PLACE).await.expect("prepared");
        let requests: Vec<u64> = answers.iter().map(|(request, _)| *request).collect();
        let again = ask(&self.client, &place, &requests).await;
        let again: std::collections::HashMap<u64, Option<u64>> = again.into_iter().collect();
        work.check(answers, |request| again[&request]);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let drop = format!("DROP SCHEMA {} CASCADE", self.schema);
        if let Err(error) = self.runtime.block_on(self.client.batch_execute(&drop)) {
            eprintln!("{drop}: {error}");
        }
    }
}

async fn connect(url: &str, schema: &str, durable: bool) -> Client {
    let connected = tokio_postgres::connect(url, NoTls).await;
    let (client, connection) = connected.expect("DOORBUSTER_PG_URL: a server");
    tokio::spawn(connection);
    let commit = if durable { "on" } else { "off" };
    let session = format!(
        "SET search_path = {schema}; SET synchronous_commit = {commit}; SET client_min_messages = warning"
    );
    client.batch_execute(&session).await.expect("a session");
    client
}

async fn show(client: &Client, setting: &str) -> String {
    client.query_one(&format!("SHOW {setting}"), &[]).await.expect("a setting").get(0)
}

/// One transaction.
async fn ask(client: &Client, place: &Statement, requests: &[u64]) -> Vec<Answer> {
    let buyers: Vec<i64> = requests.iter().map(|&request| buyer(request) as i64).collect();
    let keys: Vec<i64> = requests.iter().map(|&request| key(request) as i64).collect();
    let rows = client.query(place, &[&buyers, &keys]).await.expect("placed");
    let orders = rows.iter().map(|row| row.get::<_, i64>(0));
    let order = |order: i64| (order > 0).then_some(order as u64);
    requests.iter().copied().zip(orders.map(order)).collect()
}
