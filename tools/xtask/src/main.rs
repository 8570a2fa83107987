//! `cargo xtask`: everything that builds, runs and checks this project, as one program.

mod bench;
mod binaries;
mod built;
mod cluster;
mod command;
mod compare;
mod debian;
mod demo;
mod gate;
mod generate;
#[cfg(test)]
mod hot_path;
mod images;
mod soak;
mod tally;
mod test;
mod tidy;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Builds, runs and checks this project.")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

/// One line per task, here and in `run`.
#[derive(Debug, Subcommand)]
enum Task {
    /// From nothing to two pods that talk over a second network: cluster, image, chart, examples.
    Demo,
    /// The gate: every check and every test, with a count at the end.
    Test,
    /// What is too long for the gate: pods come and go while the cluster breaks (E2E_ROUNDS, E2E_SEED).
    Soak,
    /// Measure how fast pods get their networks, also beside Go Multus.
    Bench(bench::Bench),
    /// Hold the rules of the repository: crate edges, file sizes, versions in one place.
    Tidy,
    /// Write docs/conformance.md: every clause and the tests that hold it.
    Gen,
    /// Run the corpus through Go Multus's binaries and list what differs, with the reason.
    Compare(compare::Compare),
    /// Build the image, check its size, write it to a file, push it or load it into the cluster.
    Images(images::Images),
    /// Run a real Kubernetes on this machine.
    Cluster {
        /// What to do with it.
        #[command(subcommand)]
        action: cluster::Action,
    },
}

fn run() -> Result<ExitCode> {
    match Arguments::parse().task {
        Task::Demo => demo::run().map(|()| ExitCode::SUCCESS),
        Task::Test => test::run(),
        Task::Soak => soak::run(),
        Task::Gen => generate::run().map(|()| ExitCode::SUCCESS),
        Task::Compare(args) => compare::run(&args).map(|()| ExitCode::SUCCESS),
        Task::Bench(args) => bench::run(&args).map(|()| ExitCode::SUCCESS),
        Task::Tidy => tidy::run().map(|()| ExitCode::SUCCESS),
        Task::Images(args) => images::run(&args).map(|()| ExitCode::SUCCESS),
        Task::Cluster { action } => cluster::main(action),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
