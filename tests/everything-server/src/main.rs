//! An MCP server that does everything the conformance suite asks for.
//!
//! A test fixture: what the suite finds when it asks this server directly is what it must find through Callgate. It serves
//! `http://127.0.0.1:$PORT/mcp`, or with `--stdio` its standard streams. `ERAS` is `legacy`, `modern` or `both`, which is
//! what it is without.

#![expect(deprecated, reason = "the legacy suite asks for logs and samples, which rmcp marks as on their way out")]

mod asking;
mod catalogue;
mod jobs;
mod listener;
mod server;
mod shared;
mod stdio;
mod tools;

use std::process::ExitCode;

use server::Everything;
use shared::Eras;

#[tokio::main]
async fn main() -> ExitCode {
    let eras = match std::env::var("ERAS").as_deref() {
        Err(_) | Ok("" | "both") => Eras::Both,
        Ok("legacy") => Eras::Legacy,
        Ok("modern") => Eras::Modern,
        Ok(other) => return fail(&format!("ERAS is `{other}`, and may be `legacy`, `modern` or `both`")),
    };
    let server = Everything::new(eras);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ended = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => listener::serve(server, eras).await,
        ["--stdio"] => stdio::serve(server, eras).await,
        _ => Err("the only argument there is is `--stdio`".to_owned()),
    };
    ended.map_or_else(|problem| fail(&problem), |()| ExitCode::SUCCESS)
}

fn fail(problem: &str) -> ExitCode {
    eprintln!("everything-server: {problem}");
    ExitCode::FAILURE
}
