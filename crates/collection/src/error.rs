//! Why a catalog cannot be read or written.

use std::path::PathBuf;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum CollectionError {
    /// There is no file, or it cannot be opened.
    #[error("cannot open the catalog `{}`", .0.display())]
    Open(PathBuf, #[source] rusqlite::Error),
    /// A file of another kind.
    #[error("`{}` is not a catalog", .0.display())]
    Foreign(PathBuf),
    /// Written by a version that keeps other things.
    #[error("the catalog `{}` was written by another version of callgate; build it anew", .0.display())]
    Version(PathBuf),
    /// The database says no.
    #[error("the catalog cannot be used")]
    Database(#[from] rusqlite::Error),
    /// What is stored cannot be read back.
    #[error("the catalog is damaged: {0}")]
    Damaged(&'static str),
}
