//! Keeps `00-multus.conflist` in place on the host: names the primary network's config, follows its changes, and
//! leaves everything as it is when it ends.

mod conflist;
mod keeper;
mod probe;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use hostfs::{HostDir, Stop, Wake, Wanted, Watch};

/// Writes the CNI config that makes the container runtime call Multus, and follows the primary network's config.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Option<Sub>,
    #[command(flatten)]
    dirs: Dirs,
    /// The host's state folder, as mounted here: snapshot of the primary's config, and the ledger.
    #[arg(long, default_value = "/host/var/lib/cni/multus-rs")]
    state_dir: PathBuf,
    /// The state folder as the host names it.
    #[arg(long, default_value = "/var/lib/cni/multus-rs")]
    host_state_dir: PathBuf,
    /// Folder of the plugin's locks and the daemon's socket, as the host names it.
    #[arg(long, default_value = "/run/multus-rs")]
    host_run_dir: PathBuf,
    /// The primary network's file: its name, a path relative to the CNI config folder, or its absolute path on the
    /// host. Empty: the first by name.
    #[arg(long, default_value = "", hide_default_value = true)]
    primary: String,
    /// CNI version of our config. Empty: the primary's.
    #[arg(long, default_value = "", hide_default_value = true)]
    cni_version: String,
    /// A JSON object of plugin options (namespaceIsolation and so on); none if there is no such file.
    #[arg(long, default_value = "/etc/multus/options.json")]
    options: PathBuf,
}

/// What the probe needs as well.
#[derive(clap::Args)]
struct Dirs {
    /// The host's CNI config folder, as mounted here.
    #[arg(long, default_value = "/host/etc/cni/net.d", global = true)]
    cni_conf_dir: PathBuf,
    /// The same folder as the host names it.
    #[arg(long, default_value = "/etc/cni/net.d", global = true)]
    host_cni_conf_dir: PathBuf,
    /// Where the running process says whether its work is done, for the probe.
    #[arg(long, default_value = "/run/multus-config/readiness", global = true)]
    readiness_file: PathBuf,
}

#[derive(Subcommand)]
enum Sub {
    /// Exit 0 while our config is in place, valid and first in the CNI config folder; else say why not and exit 1.
    Probe,
}

fn main() -> ExitCode {
    let args = Args::parse();
    // Before the first thread, since threads inherit it.
    let stop = match Stop::hold() {
        Ok(stop) => stop,
        Err(e) => {
            eprintln!("cannot hold signals back: {e}");
            return ExitCode::FAILURE;
        }
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let conf = HostDir::new(&args.dirs.cni_conf_dir, &args.dirs.host_cni_conf_dir);
    let done = match args.command {
        Some(Sub::Probe) => probe::check(&conf, &args.dirs.readiness_file),
        None => run(args, conf, stop),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args, conf: HostDir, stop: Stop) -> Result<()> {
    let wanted = match args.primary.as_str() {
        "" => Wanted::First,
        given => Wanted::Named(conf.relative(given).context("the primary CNI config")?),
    };
    let settings = conflist::Settings {
        cni_version: Some(args.cni_version).filter(|v| !v.is_empty()),
        options: conflist::read_options(&args.options)?,
        state_dir: args.host_state_dir,
        run_dir: args.host_run_dir,
    };
    hostfs::atomic::make_dir(&args.state_dir, 0o755)?;
    let mut folders = vec![conf.here.clone()];
    if let Wanted::Named(file) = &wanted
        && let Some(parent) = conf.here(file).parent()
        && parent != conf.here
    {
        folders.push(parent.to_owned());
    }
    let folders: Vec<_> = folders.iter().map(PathBuf::as_path).collect();
    let mut keeper =
        keeper::Keeper::new(conf.clone(), wanted, settings, args.state_dir, args.dirs.readiness_file)?;
    let mut watch = Watch::new(stop).context("cannot watch for changes")?;
    loop {
        // Watch, then look: what changes after the look is a notice, so nothing falls in between.
        watch.set(&folders);
        keeper.look();
        if watch.wait() == Wake::Stop {
            return Ok(());
        }
    }
}
