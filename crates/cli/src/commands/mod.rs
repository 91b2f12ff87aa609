//! The commands, one file each.

mod approvals;
mod audit;
mod check;
mod decisions;
mod demo;
mod gate;
mod scan;
mod shell;
mod status;
mod test;

use crate::arguments::{Command, StateArgument};
use crate::failure::Failure;
use std::future::Future;
use store::{Clock, Reader, StateUrl};

/// Does what was asked and gives the exit code.
pub fn dispatch(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Run(arguments) => gate::run(arguments),
        Command::Serve(arguments) => gate::serve(arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Explain(arguments) => decisions::explain(&arguments),
        Command::Simulate(arguments) => decisions::simulate(&arguments),
        Command::Test(arguments) => test::test(&arguments),
        Command::Scan(arguments) => scan::scan(arguments),
        Command::Audit(arguments) => audit::audit(arguments),
        Command::Approvals(arguments) => approvals::approvals(arguments),
        Command::Status(arguments) => status::status(&arguments),
        Command::Demo(_) => demo::demo(),
        Command::Completions(arguments) => shell::completions(&arguments),
        Command::Man(arguments) => shell::man(&arguments),
        Command::DemoServer { state } => demo::server::serve(&state),
    }
}

/// Runs a future to its end. What still waits then (a read of stdin cannot be cancelled) is left behind.
fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::because("cannot start", &error))?;
    let result = runtime.block_on(future);
    runtime.shutdown_background();
    result
}

impl StateArgument {
    /// Where state is kept: as given, or in the user's data directory.
    fn url(&self) -> Result<StateUrl, Failure> {
        match &self.state {
            Some(url) => url.parse().map_err(|error| Failure::usage(format!("`--state` cannot be used: {error}"))),
            None => Ok(StateUrl::default_place()?),
        }
    }

    fn reader(&self) -> Result<Reader, Failure> {
        Ok(Reader::open(&self.url()?, Clock::System)?)
    }
}
