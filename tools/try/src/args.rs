//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Shows what network definitions do: attaches them to throw-away pods on this machine, or looks for mistakes.
#[derive(Debug, Parser)]
#[command(
    name = "multus-try",
    version,
    args_conflicts_with_subcommands = true,
    arg_required_else_help = true
)]
#[command(
    after_help = "Exit codes: 0 works, 1 fails or leaks or has a mistake, 2 wrong usage, 3 this machine lacks something. See docs/try.md."
)]
pub(crate) struct Args {
    /// Anything but trying a network.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Manifests with NetworkAttachmentDefinitions, and pods if you like; folders and `-` work too.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Look for mistakes only: run nothing, need no root.
    #[arg(long)]
    pub(crate) lint: bool,
    /// Do not report this rule; may be given several times.
    #[arg(long, value_name = "RULE")]
    pub(crate) allow: Vec<String>,
    /// The node's interfaces, by which `master` is checked, with commas between; with --host, this machine's.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) interfaces: Option<Vec<String>>,
    /// Try one pod with this networks annotation, instead of those in the files or one for each network.
    #[arg(long, value_name = "TEXT", conflicts_with = "lint")]
    pub(crate) annotation: Option<String>,
    /// So many of each pod; from 2 on, whether they reach each other is tried too.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=50))]
    pub(crate) pods: u16,
    /// Folder of CNI plugins; may be given several times. Default: /opt/cni/bin, then the cache, then /usr/lib/cni.
    #[arg(long, value_name = "DIR")]
    pub(crate) plugin_dir: Vec<PathBuf>,
    /// Build the reference plugins that are missing into the cache, with Go.
    #[arg(long)]
    pub(crate) install_plugins: bool,
    /// Use this machine's real interfaces and folders instead of a throw-away host.
    #[arg(long)]
    pub(crate) host: bool,
    /// Show what each plugin received and answered.
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// For people or for programs.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// Anything but trying a network.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Remove what a killed run with --host left.
    Clean,
}

/// Who reads the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// People.
    Text,
    /// Programs.
    Json,
}
