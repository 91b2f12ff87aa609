//! The commands, one file each.

mod administration;
mod approvals;
mod attacks;
mod audit;
mod authorizations;
mod catalog;
mod check;
mod decisions;
mod demo;
mod gate;
mod gateway;
mod grants;
mod init;
mod inspect;
mod machine;
mod pins;
mod replay;
mod scan;
mod shell;
mod status;
mod suggest;
mod test;

use crate::arguments::{Command, Policy, StateArgument};
use crate::failure::Failure;
use crate::terminal::visible;
use std::future::Future;
use store::{Clock, Reader, StateUrl};

/// Does what was asked and gives the exit code.
pub fn dispatch(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Run(arguments) => gate::run(arguments),
        Command::Serve(arguments) => gate::serve(*arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Explain(arguments) => decisions::explain(&arguments),
        Command::Simulate(arguments) => decisions::simulate(&arguments),
        Command::Test(arguments) => test::test(&arguments),
        Command::Replay(arguments) => replay::replay(&arguments),
        Command::Policy(Policy::Suggest(arguments)) => suggest::suggest(&arguments),
        Command::Scan(arguments) => scan::scan(arguments),
        Command::Pin(arguments) => pins::pin(&arguments),
        Command::Diff(arguments) => pins::diff(&arguments),
        Command::Inspect(arguments) => inspect::inspect(&arguments),
        Command::Catalog(arguments) => catalog::catalog(&arguments),
        Command::Attacks(arguments) => attacks::attacks(&arguments),
        Command::Audit(arguments) => audit::audit(arguments),
        Command::Approvals(arguments) => approvals::approvals(arguments),
        Command::Grants(arguments) => grants::grants(arguments),
        Command::Authorizations(arguments) => authorizations::authorizations(arguments),
        Command::Status(arguments) => status::status(&arguments),
        Command::Init(arguments) => init::init(&arguments),
        Command::Demo(_) => demo::demo(),
        Command::Completions(arguments) => shell::completions(&arguments),
        Command::Man(arguments) => shell::man(&arguments),
        Command::Openapi => administration::print_openapi(),
        Command::DemoServer { state } => demo::server::serve(&state),
        Command::AttackServer { attack, case, log, http } => attacks::server::serve(&attack, case, &log, http),
    }
}

/// Runs a future to its end. What still waits then (a read of stdin cannot be cancelled) is left behind.
///
/// On this thread alone: one conversation is one task, and a message that crosses threads waits for each of them to wake.
fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    run_on(tokio::runtime::Builder::new_current_thread(), future)
}

/// The same for many clients at once: on all cores, where there is more than one.
fn block_on_all_cores<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match std::thread::available_parallelism() {
        Ok(cores) if cores.get() > 1 => run_on(tokio::runtime::Builder::new_multi_thread(), future),
        _ => block_on(future),
    }
}

fn run_on<T>(mut builder: tokio::runtime::Builder, future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = builder.enable_all().build().map_err(|error| Failure::because("cannot start", &error))?;
    let result = runtime.block_on(future);
    runtime.shutdown_background();
    result
}

impl StateArgument {
    /// Where state is kept: as given, or in the user's data directory.
    fn url(&self) -> Result<StateUrl, Failure> {
        let Some(text) = &self.state else { return Ok(StateUrl::default_place()?) };
        let url = match text.strip_prefix("env:") {
            None => text.clone(),
            // Whoever may list processes sees their words, but not their environment.
            Some(name) => std::env::var(name)
                .map_err(|_| Failure::usage(format!("`--state` names the variable `{}`, which is not set", visible(name))))?,
        };
        url.parse().map_err(|error| Failure::usage(format!("`--state` cannot be used: {error}")))
    }

    fn reader(&self) -> Result<Reader, Failure> {
        Ok(Reader::open(&self.url()?, Clock::System)?)
    }
}
