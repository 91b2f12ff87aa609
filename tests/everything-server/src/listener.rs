//! The server over HTTP: rmcp's service, and before it the little that rmcp would do otherwise than a server of one era.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::server::Everything;
use crate::shared::Eras;

type Body = BoxBody<Bytes, Infallible>;
type Service = StreamableHttpService<Everything, LocalSessionManager>;

/// Serves `/mcp` on `127.0.0.1:$PORT` for ever.
///
/// # Errors
/// When `PORT` is no port, or not to be had.
pub async fn serve(server: Everything, eras: Eras) -> Result<(), String> {
    let port = std::env::var("PORT").map_err(|_| "PORT says where to listen, and is not set".to_owned())?;
    let port: u16 = port.parse().map_err(|_| format!("PORT is `{port}`, which is no port"))?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await.map_err(|error| format!("127.0.0.1:{port}: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    eprintln!("everything-server: http://{address}/mcp");

    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(eras != Eras::Modern)
        .with_sse_retry(Some(Duration::from_millis(500)))
        .with_allowed_origins(["http://localhost:*", "http://127.0.0.1:*", "http://[::1]:*"]);
    let service = Service::new(move || Ok(server.clone()), LocalSessionManager::default().into(), config);
    loop {
        let (stream, _) = listener.accept().await.map_err(|error| error.to_string())?;
        let service = service.clone();
        tokio::spawn(async move {
            let answer = hyper::service::service_fn(move |request| {
                let service = service.clone();
                async move { Ok::<_, Infallible>(answer(&service, eras, request).await) }
            });
            // A connection that breaks is the client's affair.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

async fn answer(service: &Service, eras: Eras, request: Request<Incoming>) -> Response<Body> {
    if request.uri().path() != "/mcp" {
        return refusal(StatusCode::NOT_FOUND, &json!({"error": "there is only /mcp"}));
    }
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
        return refusal(StatusCode::BAD_REQUEST, &json!({"error": "the body broke off"}));
    };
    let modern = head.headers.get("mcp-protocol-version").is_some_and(|version| version.as_bytes() >= b"2026".as_slice());
    if eras == Eras::Legacy && modern && head.method == Method::POST {
        // What the servers of that era say to a version that they do not know. The status and the lack of a modern code
        // are what clients go by.
        let error = json!({"code": -32000, "message": "Bad Request: Unsupported protocol version"});
        return refusal(StatusCode::BAD_REQUEST, &json!({"jsonrpc": "2.0", "id": null, "error": error}));
    }
    let closes = !modern && wants_to_be_cut_off(&body);
    let response = service.handle(Request::from_parts(head, Full::new(body))).await;
    if closes { cut_off(response) } else { response }
}

/// Whether this is the call of the tool whose stream is closed before the answer (SEP-1699).
fn wants_to_be_cut_off(body: &[u8]) -> bool {
    let Ok(message) = serde_json::from_slice::<Value>(body) else { return false };
    message["method"] == "tools/call" && message["params"]["name"] == "test_reconnection"
}

/// Closes the stream after its first event, which has the id to resume from. The session keeps the answer.
fn cut_off(response: Response<Body>) -> Response<Body> {
    response.map(|mut body| {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
        tokio::spawn(async move {
            if let Some(Ok(first)) = body.frame().await {
                let _ = sender.send(Ok(first)).await;
            }
        });
        let frames =
            futures_util::stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|frame| (frame, receiver)) });
        BodyExt::boxed(StreamBody::new(frames))
    })
}

fn refusal(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
