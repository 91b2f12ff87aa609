//! An upstream on the Rust SDK (`rmcp`): it reads as that SDK does, and runs whatever tool it is asked for.
//!
//! `--stdio` or `--http PORT` (printed as `listening PORT`), both eras. Every call that it runs is one line of `--log`:
//! `{"t": "ran", "tool", "arguments"}`. `--tools FILE` is the list it shows. Its siblings on the other SDKs are
//! `tests/upstreams/sdk_reader.{py,mjs}`.

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, Implementation, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{RoleServer, ServerHandler, ServiceExt};
use serde_json::{Value, json};
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::Arc;

#[derive(Clone)]
struct Reader {
    tools: Arc<Vec<Tool>>,
    log: Arc<File>,
}

impl ServerHandler for Reader {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("rmcp-reader", env!("CARGO_PKG_VERSION")))
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.tools.to_vec()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let entry = json!({"t": "ran", "tool": request.name, "arguments": request.arguments});
        // In one write, so that lines of several requests do not mix.
        (&*self.log)
            .write_all(format!("{entry}\n").as_bytes())
            .map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        Ok(CallToolResult::success(vec![ContentBlock::text(format!("ran {}", request.name))]).into())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)).ok_or_else(|| format!("`{name}` is missing"))
    };
    let list: Value = serde_json::from_slice(&std::fs::read(option("--tools")?)?)?;
    let tools = serde_json::from_value(list["tools"].clone())?;
    let log = OpenOptions::new().append(true).create(true).open(option("--log")?)?;
    let reader = Reader { tools: Arc::new(tools), log: Arc::new(log) };
    if arguments.iter().any(|argument| argument == "--stdio") {
        reader.serve(rmcp::transport::stdio()).await?.waiting().await?;
        return Ok(());
    }
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", option("--http")?.parse()?)).await?;
    println!("listening {}", listener.local_addr()?.port());
    let service = StreamableHttpService::new(
        move || Ok(reader.clone()),
        LocalSessionManager::default().into(),
        StreamableHttpServerConfig::default(),
    );
    loop {
        let (stream, _) = listener.accept().await?;
        let service = service.clone();
        tokio::spawn(async move {
            let answer = hyper::service::service_fn(move |request| {
                let service = service.clone();
                async move { Ok::<_, std::convert::Infallible>(service.handle(request).await) }
            });
            let stream = hyper_util::rt::TokioIo::new(stream);
            // A connection that breaks is the client's affair.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, answer).await;
        });
    }
}
