//! `compare --peer DIR [WORDS]`: the corpus through Go Multus's binaries in DIR, and why what differs does.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use clap::Parser;
use conformance::{api, compare, corpus};

/// Runs the corpus through Go Multus and lists what differs.
#[derive(Debug, Parser)]
struct Arguments {
    /// Folder with multus, multus-shim and multus-daemon of Go Multus.
    #[arg(long)]
    peer: PathBuf,
    /// Only cases whose name has these words.
    words: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<String> {
    if !nix::unistd::geteuid().is_root() {
        bail!("network namespaces need root");
    }
    if let Some(missing) = api::missing() {
        bail!("{missing}");
    }
    let mut instances = corpus::load()?;
    instances.retain(|instance| arguments.words.iter().all(|word| instance.name.contains(word)));
    compare::compare(&arguments.peer, &instances)
}
