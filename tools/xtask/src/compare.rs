//! `cargo xtask compare --peer DIR`: the corpus through Go Multus's binaries, and why what differs does.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::command::{cargo, succeed};

/// Where Go Multus is, and which cases to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Compare {
    /// Folder with multus, multus-shim and multus-daemon of Go Multus.
    #[arg(long)]
    peer: PathBuf,
    /// Only cases whose name has these words.
    words: Vec<String>,
}

/// Runs it.
pub(crate) fn run(arguments: &Compare) -> Result<()> {
    let peer =
        arguments.peer.canonicalize().with_context(|| format!("no folder {}", arguments.peer.display()))?;
    let mut compare =
        cargo(["run", "--quiet", "--package", "conformance", "--bin", "compare", "--", "--peer"]);
    succeed(compare.arg(peer).args(&arguments.words))
}
