//! Puts CNI plugins on the host and proves that they run there. An init container: no token, no capability. With
//! `--watch` it stays and puts back what somebody took away.

mod plugin;
mod self_test;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use hostfs::{HostDir, Stop, Wake, Watch};
use plugin::{Done, Host, Origin};

/// Installs plugins into the host's CNI plugin folder and checks that the installed files run.
#[derive(Parser)]
struct Args {
    /// A plugin to install, by its file name; give it as often as needed.
    #[arg(long = "plugin", required = true)]
    plugins: Vec<String>,
    /// Folder of the plugins in this image.
    #[arg(long, default_value = "/")]
    source_dir: PathBuf,
    /// The plugins are not this project's own: one of that name that is on the host stays.
    #[arg(long)]
    reference: bool,
    /// Replace a file of the same name that somebody else put there; a copy is kept for the way back.
    #[arg(long)]
    overwrite: bool,
    /// The mount through which the host's CNI plugin folder is seen here.
    #[arg(long, default_value = "/host/opt/cni/bin")]
    bin_dir: PathBuf,
    /// The host's CNI plugin folder, as the container runtime is configured with it.
    #[arg(long, default_value = "/opt/cni/bin")]
    host_bin_dir: PathBuf,
    /// What of the host is mounted, if it is a folder above that: one whose links may move.
    #[arg(long)]
    host_bin_mount: Option<PathBuf>,
    /// The host's state folder, as mounted here: the ledger, and what was replaced.
    #[arg(long, default_value = "/host/var/lib/cni/multus-rs")]
    state_dir: PathBuf,
    /// Stay, and put back what was taken away, at most once a minute.
    #[arg(long)]
    watch: bool,
    /// Seconds between two looks when the kernel reports no change.
    #[arg(long, default_value_t = 30, hide = true, value_parser = clap::value_parser!(u64).range(1..))]
    rescan_seconds: u64,
    /// Seconds between two times of putting something back.
    #[arg(long, default_value_t = 60, hide = true)]
    restore_seconds: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let done =
        host(&args).and_then(|host| if args.watch { watch(&args, &host) } else { install(&args, &host) });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            log::error!("{e:#}");
            ExitCode::FAILURE
        }
    }
}

fn host(args: &Args) -> Result<Host> {
    let mounted = args.host_bin_mount.as_ref().unwrap_or(&args.host_bin_dir);
    Ok(Host {
        source_dir: args.source_dir.clone(),
        bin: HostDir::new(&args.bin_dir, mounted, &args.host_bin_dir).context("the CNI plugin folder")?,
        state_dir: args.state_dir.clone(),
        origin: if args.reference { Origin::Reference } else { Origin::Own },
        overwrite: args.overwrite,
    })
}

fn install(args: &Args, host: &Host) -> Result<()> {
    for name in &args.plugins {
        let shown = host.bin.host(name.as_ref());
        let shown = shown.display();
        match host.install(name)? {
            Done::Current => log::info!("{shown} is up to date"),
            Done::Installed { bytes } => log::info!("installed {shown} ({bytes} bytes)"),
            Done::Kept { why } => log::warn!("{shown} stays as it is: {why}"),
        }
        if let Err(e) = host.self_test(name) {
            match args.reference {
                // Of our own, the runtime would call it for every pod.
                false => return Err(e),
                true => log::warn!("{e:#}"),
            }
        }
    }
    Ok(())
}

fn watch(args: &Args, host: &Host) -> Result<()> {
    let stop = Stop::hold().context("cannot hold signals back")?;
    let mut watch = Watch::new(stop).context("cannot watch for changes")?;
    let between = Duration::from_secs(args.restore_seconds);
    let mut put_back: Option<Instant> = None;
    let mut said = Vec::new();
    loop {
        // Watch, then look: what changes after the look is a notice, so nothing falls in between.
        if let Ok(place) = host.bin.place() {
            watch.set(&place.passed);
        }
        let resting = put_back.and_then(|at| between.checked_sub(at.elapsed())).filter(|d| !d.is_zero());
        let mut now = Vec::new();
        if resting.is_none() {
            for name in &args.plugins {
                let shown = host.bin.host(name.as_ref());
                match host.install(name) {
                    Ok(Done::Installed { .. }) => {
                        put_back = Some(Instant::now());
                        log::warn!("{} was taken away or replaced: put back", shown.display());
                    }
                    Ok(Done::Current) => {}
                    Ok(Done::Kept { why }) => now.push(format!("{} stays as it is: {why}", shown.display())),
                    Err(e) => now.push(format!("{e:#}")),
                }
            }
            now.iter().filter(|line| !said.contains(*line)).for_each(|line| log::warn!("{line}"));
            said = now;
        }
        let rescan = Duration::from_secs(args.rescan_seconds);
        if watch.wait(resting.map_or(rescan, |d| d.min(rescan))) == Wake::Stop {
            return Ok(());
        }
    }
}

/// The plugins of a folder, for a message.
pub(crate) fn known(dir: &std::path::Path) -> Result<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let entry = entry.with_context(|| format!("cannot list {}", dir.display()))?;
        if entry.file_type().is_ok_and(|t| t.is_file()) {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    if names.is_empty() {
        bail!("{} has no plugins", dir.display());
    }
    Ok(names.join(", "))
}
