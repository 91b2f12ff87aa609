//! `completions` and `man`: made from the definition of the command line.

use crate::arguments::{Arguments, Completions, Man};
use crate::failure::{Failure, OK};
use clap::CommandFactory;
use std::io::Write;

pub fn completions(arguments: &Completions) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "callgate", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(OK)
}

pub fn man(arguments: &Man) -> Result<u8, Failure> {
    let directory = &arguments.directory;
    let shown = directory.display();
    let failed = |error: std::io::Error| Failure::because(&format!("cannot write the manual pages to `{shown}`"), &error);
    std::fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(Arguments::command(), directory).map_err(failed)?;
    writeln!(std::io::stdout(), "the manual pages are in {shown}; read the first with `man {shown}/callgate.1`")?;
    Ok(OK)
}
