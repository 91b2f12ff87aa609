//! The binary `callgate`: arguments, wiring, exit codes, terminal rendering.
//!
//! A command reads its arguments, asks the crates below, and prints what they say. Data goes to stdout, everything else to
//! stderr; in `run`, stdout *is* the protocol. What is decided is decided elsewhere.

mod arguments;
mod commands;
mod configurations;
mod failure;
mod headers;
mod logs;
mod policies;
mod records;
mod server_name;
mod signals;
mod terminal;

use arguments::Arguments;
use clap::Parser;
use mimalloc::MiMalloc;
use std::process::ExitCode;

/// A call makes some hundred small allocations; this one makes them in a third of the system's instructions.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let code = commands::dispatch(arguments.command).unwrap_or_else(|failure| failure.report());
    ExitCode::from(code)
}
