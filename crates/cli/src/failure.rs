//! Why a command failed, and the exit code that says so.
//!
//! The codes are a contract: 0 ok, 1 failure, 2 usage, 3 policy or configuration invalid, 4 the decision was deny (or a test
//! failed), 5 the audit chain is broken.

use crate::terminal::{Paint, tell};
use std::error::Error;
use std::io;

/// All is well.
pub const OK: u8 = 0;
/// Something went wrong.
pub const GENERAL: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// The policy or the configuration is.
pub const INVALID: u8 = 3;
/// The decision was deny, or a test of a policy failed.
pub const DENIED: u8 = 4;
/// The audit chain is broken.
pub const BROKEN: u8 = 5;

/// A failure that is reported once, at the edge.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    /// One sentence; empty when everything has been said already.
    message: String,
}

impl Failure {
    /// Exit code 1.
    pub fn general(message: impl Into<String>) -> Failure {
        Failure { code: GENERAL, message: message.into() }
    }

    /// Exit code 2.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure { code: USAGE, message: message.into() }
    }

    /// Exit code 3.
    pub fn invalid(message: impl Into<String>) -> Failure {
        Failure { code: INVALID, message: message.into() }
    }

    /// Exit code 1, with what was being done and all that is known of why it failed.
    pub fn because(doing: &str, error: &dyn Error) -> Failure {
        Failure::general(format!("{doing}: {}", chain(error)))
    }

    /// What it says, where somebody else prints it.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Prints the failure to stderr and gives its exit code.
    pub fn report(&self) -> u8 {
        if !self.message.is_empty() {
            tell!("{} {}", Paint::stderr().bad("error:"), self.message);
        }
        self.code
    }
}

/// An error with its causes, each said once.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text} ({said})");
        }
        cause = error.source();
    }
    text
}

impl From<io::Error> for Failure {
    /// Of writing to stdout: a reader that has seen enough (`| head`) is no failure.
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure { code: OK, message: String::new() },
            _ => Failure::because("cannot write to stdout", &error),
        }
    }
}

impl From<gateway::TargetError> for Failure {
    /// An address or header is the command line's; files are configuration.
    fn from(error: gateway::TargetError) -> Failure {
        match error {
            gateway::TargetError::Tls(error) => error.into(),
            error => Failure::usage(error.to_string()),
        }
    }
}

impl From<gateway::TelemetryError> for Failure {
    fn from(error: gateway::TelemetryError) -> Failure {
        Failure::invalid(chain(&error))
    }
}

impl From<gateway::LockError> for Failure {
    fn from(error: gateway::LockError) -> Failure {
        Failure::invalid(chain(&error))
    }
}

impl From<gateway::GatewayError> for Failure {
    /// All that it names stands in the configuration.
    fn from(error: gateway::GatewayError) -> Failure {
        Failure::invalid(chain(&error))
    }
}

impl From<gateway::TlsError> for Failure {
    fn from(error: gateway::TlsError) -> Failure {
        Failure::invalid(chain(&error))
    }
}

impl From<collection::CollectionError> for Failure {
    fn from(error: collection::CollectionError) -> Failure {
        Failure::general(chain(&error))
    }
}

impl From<store::StoreError> for Failure {
    fn from(error: store::StoreError) -> Failure {
        Failure::general(chain(&error))
    }
}
