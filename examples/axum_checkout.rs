//! A checkout service in axum: place an order with an idempotency key, read it, confirm its payment.
//!
//! ```sh
//! cargo run --example axum_checkout
//! ```
//!
//! The program serves on a free port of the loopback address, asks itself a few questions, and ends. A real service
//! keeps the routes and drops the questions.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use doorbuster::{
    Adjust, Engine, Options, Order, OrderError, OrderId, PlaceError, Placed, RequestKey, SkuId,
    Transition,
};
use serde_json::json;

const VINYL: SkuId = SkuId::new(1);

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(serde::Deserialize)]
struct Checkout {
    buyer: u64,
    sku: u64,
    quantity: u32,
}

/// Places an order. The answer is sent when it is durable.
async fn place(
    State(engine): State<Engine>,
    headers: HeaderMap,
    Json(checkout): Json<Checkout>,
) -> Response {
    let Some(key) = headers.get("idempotency-key").and_then(|key| key.to_str().ok()) else {
        return (StatusCode::BAD_REQUEST, "the header Idempotency-Key is missing").into_response();
    };
    let order = Order::new(checkout.buyer, RequestKey::from_text(key))
        .line(checkout.sku, checkout.quantity);
    let commit = match engine.place_async(order).await {
        Ok(commit) => commit,
        // The engine cannot answer now. Nothing changed.
        Err(error @ (PlaceError::Unavailable(_) | PlaceError::Contended { .. })) => {
            return (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response();
        }
        // The request breaks a bound. Nothing changed.
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let status = match commit.await {
        Ok(Placed::Held(held)) => {
            let status = if held.replayed { StatusCode::OK } else { StatusCode::CREATED };
            let order = held.order.to_string();
            return (status, Json(json!({ "order": order }))).into_response();
        }
        Ok(Placed::KeyReused(_)) => StatusCode::UNPROCESSABLE_ENTITY,
        Ok(_) => StatusCode::CONFLICT,
        // The disk failed before the order was durable. The client may ask again with the same key.
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    status.into_response()
}

async fn read(State(engine): State<Engine>, Path(id): Path<String>) -> Response {
    let Ok(order) = id.parse::<OrderId>() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match engine.order(order) {
        Ok(viewed) => {
            Json(json!({ "state": format!("{:?}", viewed.view().state) })).into_response()
        }
        Err(error) => failed(&error),
    }
}

/// Answers a call about an order that the engine did not answer.
fn failed(error: &OrderError) -> Response {
    let status = match error {
        OrderError::UnknownOrder { .. } => StatusCode::NOT_FOUND,
        OrderError::Retired { .. } => StatusCode::GONE,
        // The engine cannot answer now. The client may ask again.
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, error.to_string()).into_response()
}

/// The payment provider calls this, perhaps more than once.
async fn confirm(State(engine): State<Engine>, Path(id): Path<String>) -> Response {
    let Ok(order) = id.parse::<OrderId>() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let commit = match engine.confirm(order) {
        Ok(commit) => commit,
        Err(error) => return failed(&error),
    };
    match commit.await {
        Ok(Transition::Done { .. } | Transition::AlreadyDone { .. }) => StatusCode::OK,
        Ok(Transition::Halted { .. }) => StatusCode::SERVICE_UNAVAILABLE, // later, once the halt is lifted
        Ok(_) => StatusCode::CONFLICT, // expired or cancelled: the host refunds the payment
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
    .into_response()
}

fn routes(engine: Engine) -> Router {
    Router::new()
        .route("/orders", post(place))
        .route("/orders/{id}", get(read))
        .route("/orders/{id}/confirm", post(confirm))
        .with_state(engine)
}

fn main() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    // Opening and closing wait for the disk, so they stay outside of the runtime.
    let engine = Engine::open(Options::new(folder.path()).segment_bytes(1 << 20))?;
    engine.stock(VINYL, Adjust::add(1).key(RequestKey::from_text("delivery 1")))?.wait()?;

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    let server = axum::serve(listener, routes(engine.clone()));
    runtime.spawn(async move { server.await });

    let asked = ask_questions(address);
    drop(runtime);
    engine.close()?;
    asked
}

fn ask_questions(address: SocketAddr) -> Result<(), Failure> {
    let ask = |method, path: &str, key, body: &str| ask(address, method, path, key, body);
    let first = ask("POST", "/orders", "tap 1", r#"{"buyer":7,"sku":1,"quantity":1}"#)?;
    assert_eq!(first.0, 201, "{}", first.1);
    let id = first.1.split('"').nth(3).ok_or("the answer names the order")?;

    // A retry with the same key receives the same order. Another buyer is refused: the only unit is held.
    let retry = ask("POST", "/orders", "tap 1", r#"{"buyer":7,"sku":1,"quantity":1}"#)?;
    assert_eq!((retry.0, &retry.1), (200, &first.1));
    assert_eq!(ask("POST", "/orders", "tap 1", r#"{"buyer":8,"sku":1,"quantity":1}"#)?.0, 409);
    assert_eq!(ask("POST", "/orders", "tap 2", r#"{"buyer":8,"sku":1,"quantity":0}"#)?.0, 400);

    // The payment arrives twice.
    for _ in 0..2 {
        assert_eq!(ask("POST", &format!("/orders/{id}/confirm"), "", "")?.0, 200);
    }
    println!("{}", ask("GET", &format!("/orders/{id}"), "", "")?.1);
    Ok(())
}

/// Sends one request on a connection of its own. Returns the status and the body of the answer.
fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    key: &str,
    body: &str,
) -> Result<(u16, String), Failure> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nIdempotency-Key: {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).ok_or("a status line")?.parse()?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    println!("{method} {path} {body:?}: {status}", body = body.as_deref().unwrap_or_default());
    Ok((status, body.unwrap_or_default()))
}
