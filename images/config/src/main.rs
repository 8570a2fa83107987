//! Keeps `00-multus.conflist` in place on the host: names the primary network's config, follows its changes, and
//! leaves everything as it is when it ends.

mod conflist;
mod keeper;
mod place;
mod state;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

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
    /// The primary network's name, instead of its file.
    #[arg(long, default_value = "", hide_default_value = true, conflicts_with = "primary")]
    primary_network: String,
    /// A file on the host that has to exist before anything is published. Empty: none.
    #[arg(long, default_value = "", hide_default_value = true)]
    readiness_indicator: String,
    /// Where the indicator's folder is mounted here, if it is not in the CNI config folder.
    #[arg(long, default_value = "/host/readiness-indicator")]
    readiness_indicator_dir: PathBuf,
    /// CNI version of our config. Empty: the primary's.
    #[arg(long, default_value = "", hide_default_value = true)]
    cni_version: String,
    /// A JSON object of plugin options (namespaceIsolation and so on); none if there is no such file.
    #[arg(long, default_value = "/etc/multus/options.json")]
    options: PathBuf,
    /// Do not put our config back when somebody else removed or changed it; say so only.
    #[arg(long)]
    no_restore: bool,
    /// Seconds between two looks when the kernel reports no change.
    #[arg(long, default_value_t = 30, hide = true, value_parser = clap::value_parser!(u64).range(1..))]
    rescan_seconds: u64,
    /// Seconds between two times of putting our config back.
    #[arg(long, default_value_t = 60, hide = true)]
    restore_seconds: u64,
}

/// What the probe needs as well.
#[derive(clap::Args)]
struct Dirs {
    /// The mount through which the host's CNI config folder is seen here.
    #[arg(long, default_value = "/host/etc/cni/net.d", global = true)]
    cni_conf_dir: PathBuf,
    /// The host's CNI config folder, as the container runtime is configured with it.
    #[arg(long, default_value = "/etc/cni/net.d", global = true)]
    host_cni_conf_dir: PathBuf,
    /// What of the host is mounted, if it is a folder above that: one whose links may move.
    #[arg(long, global = true)]
    host_cni_conf_mount: Option<PathBuf>,
    /// Where the running process says what it sees, for the probe and the daemon.
    #[arg(long, default_value = "/run/multus-config/state.json", global = true)]
    state_file: PathBuf,
}

impl Dirs {
    fn conf(&self) -> Result<HostDir> {
        let mounted = self.host_cni_conf_mount.as_ref().unwrap_or(&self.host_cni_conf_dir);
        HostDir::new(&self.cni_conf_dir, mounted, &self.host_cni_conf_dir).context("the CNI config folder")
    }
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
    let done = match args.command {
        Some(Sub::Probe) => probe(&args.dirs),
        None => run(args, stop),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e:#}");
            ExitCode::FAILURE
        }
    }
}

fn probe(dirs: &Dirs) -> Result<()> {
    state::State::check(&dirs.state_file)?;
    place::is_served(&dirs.conf()?)
}

fn run(args: Args, stop: Stop) -> Result<()> {
    let rescan = Duration::from_secs(args.rescan_seconds);
    let mut keeper = keeper::Keeper::new(task(args)?);
    let mut watch = Watch::new(stop).context("cannot watch for changes")?;
    loop {
        // Watch, then look: what changes after the look is a notice, so nothing falls in between.
        watch.set(&keeper.folders());
        let again = keeper.look();
        if watch.wait(again.map_or(rescan, |a| a.min(rescan))) == Wake::Stop {
            return Ok(());
        }
    }
}

fn task(args: Args) -> Result<keeper::Task> {
    let conf = args.dirs.conf()?;
    let wanted = match (args.primary.as_str(), args.primary_network.as_str()) {
        ("", "") => Wanted::First,
        ("", network) => Wanted::Network(network.to_owned()),
        (file, _) => Wanted::File(conf.relative(file).context("the primary CNI config")?),
    };
    let (options, capabilities) = conflist::read_options(&args.options)?;
    let indicator = match args.readiness_indicator.as_str() {
        "" => None,
        given => Some(indicator(&args.dirs, &args.readiness_indicator_dir, Path::new(given))?),
    };
    Ok(keeper::Task {
        conf,
        wanted,
        settings: conflist::Settings {
            cni_version: Some(args.cni_version).filter(|v| !v.is_empty()),
            options,
            capabilities,
            state_dir: args.host_state_dir,
            run_dir: args.host_run_dir,
        },
        state_dir: args.state_dir,
        state_file: args.dirs.state_file,
        indicator,
        restore: !args.no_restore,
        restore_every: Duration::from_secs(args.restore_seconds),
    })
}

/// The indicator, through the mount that has it.
fn indicator(dirs: &Dirs, mount: &Path, given: &Path) -> Result<HostDir> {
    let conf = dirs.host_cni_conf_mount.as_ref().unwrap_or(&dirs.host_cni_conf_dir);
    let place = match given.parent() {
        Some(_) if given.starts_with(conf) => HostDir::new(&dirs.cni_conf_dir, conf, given),
        Some(parent) => HostDir::new(mount, parent, given),
        None => anyhow::bail!("the readiness indicator {} is no file", given.display()),
    };
    place.context("the readiness indicator")
}
