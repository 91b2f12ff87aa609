//! `/metrics`, `/healthz` and `/readyz`, on a listener of their own.

use super::{Telemetry, TelemetryError, prometheus};
use crate::downstream::http::{Body, empty, json};
use crate::downstream::listener::Listener;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, ORIGIN};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Serves at `address` until `stop` is cancelled; gives the address that it is.
pub(super) async fn serve(
    address: SocketAddr,
    telemetry: Arc<Telemetry>,
    stop: CancellationToken,
) -> Result<SocketAddr, TelemetryError> {
    let failed = |error| TelemetryError::Listen(address, error);
    let listener = Listener::bind(address, None).await.map_err(failed)?;
    let bound = listener.address().map_err(failed)?;
    tokio::spawn(async move {
        let handle = move |request| {
            let telemetry = telemetry.clone();
            async move { answer(&request, &telemetry) }
        };
        drop(listener.accept(handle, 1, &stop).await);
    });
    Ok(bound)
}

fn answer(request: &Request<Incoming>, telemetry: &Telemetry) -> Response<Body> {
    // Nothing of a browser's reads this: a page that has got itself an address of ours does not either.
    if request.headers().contains_key(ORIGIN) || request.headers().get("sec-fetch-site").is_some_and(|site| site != "none") {
        return empty(StatusCode::FORBIDDEN);
    }
    let mut response = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let text = prometheus::render(telemetry.observatory(), &telemetry.figures());
            let mut response = json(StatusCode::OK, Bytes::from(text));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(prometheus::CONTENT_TYPE));
            response
        }
        (&Method::GET | &Method::HEAD, "/healthz") => json(StatusCode::OK, Bytes::from_static(br#"{"status":"ok"}"#)),
        (&Method::GET | &Method::HEAD, "/readyz") => ready(telemetry),
        (_, "/metrics" | "/healthz" | "/readyz") => empty(StatusCode::METHOD_NOT_ALLOWED),
        _ => empty(StatusCode::NOT_FOUND),
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn ready(telemetry: &Telemetry) -> Response<Body> {
    let figures = telemetry.figures();
    let status = if figures.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = if figures.is_ready() { "ready" } else { "not ready" };
    let store = if figures.store_up { "ok" } else { "cannot be written" };
    let stopping = figures.stopping;
    let body = format!(r#"{{"status":"{word}","store":"{store}","stopping":{stopping}}}"#);
    json(status, Bytes::from(body))
}
