//! Where things are: the workspace as cargo itself describes it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The workspace, from `cargo metadata`.
pub struct Workspace {
    /// The directory of the workspace's `Cargo.toml`.
    pub root: PathBuf,
    /// Where cargo builds: `target`, or what `CARGO_TARGET_DIR` says.
    pub target: PathBuf,
    /// The whole of `cargo metadata --format-version 1`, dependency graph included.
    pub metadata: Value,
}

impl Workspace {
    /// Asks cargo about the workspace that this program was built in.
    ///
    /// # Errors
    /// When cargo cannot read the workspace; its own words are part of the message.
    pub fn find() -> Result<Self, String> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let output = cargo()
            .args(["metadata", "--format-version", "1"])
            .current_dir(here)
            .output()
            .map_err(|error| format!("cargo does not start: {error}"))?;
        if !output.status.success() {
            return Err(format!("cargo metadata failed\n{}", String::from_utf8_lossy(&output.stderr)));
        }
        let metadata: Value =
            serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata is not JSON: {error}"))?;
        let directory = |key: &str| metadata[key].as_str().map(PathBuf::from).ok_or(format!("cargo metadata has no `{key}`"));
        Ok(Self { root: directory("workspace_root")?, target: directory("target_directory")?, metadata })
    }

    /// The packages of the workspace itself.
    pub fn members(&self) -> impl Iterator<Item = &Value> {
        let members = self.metadata["workspace_members"].as_array();
        let is_member = move |id: &Value| members.is_some_and(|members| members.contains(id));
        self.packages().filter(move |package| is_member(&package["id"]))
    }

    /// Every package of the dependency graph.
    pub fn packages(&self) -> impl Iterator<Item = &Value> {
        self.metadata["packages"].as_array().into_iter().flatten()
    }

    /// Where measurements find what other people have written: captured servers, labels, poisoned definitions. It lies beside
    /// the workspace, and whoever measures skips where it is absent.
    pub fn corpora(&self) -> PathBuf {
        self.root.join("../shared/corpora")
    }

    /// The binary as `cargo build -p callgate-cli` leaves it.
    pub fn callgate(&self) -> PathBuf {
        self.target.join("debug").join("callgate")
    }
}

/// The cargo that runs us, so that a toolchain chosen by `cargo +…` stays chosen.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
