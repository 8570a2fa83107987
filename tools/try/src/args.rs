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
    /// Folder of CNI plugins; may be given several times. Default: /opt/cni/bin, then the cache.
    #[arg(long, value_name = "DIR")]
    pub(crate) plugin_dir: Vec<PathBuf>,
    /// Use this machine's real interfaces and folders instead of a throw-away host.
    #[arg(long)]
    pub(crate) host: bool,
    /// For people or for programs.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// Anything but trying a network.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Remove what a killed run left.
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
