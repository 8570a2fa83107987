//! Puts the plugin on the host and proves that it runs there. An init container: no token, no capability.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use hostfs::{Before, Change, HostDir, Ledger, atomic};

/// How long the installed plugin may take to say which CNI versions it knows. It needs a millisecond.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Installs the Multus plugin into the host's CNI plugin folder and checks that the installed file runs.
#[derive(Parser)]
struct Args {
    /// The plugin to install; it keeps its file name.
    #[arg(long, default_value = "/multus-shim")]
    source: PathBuf,
    /// The host's CNI plugin folder, as mounted here.
    #[arg(long, default_value = "/host/opt/cni/bin")]
    bin_dir: PathBuf,
    /// The same folder as the host names it.
    #[arg(long, default_value = "/opt/cni/bin")]
    host_bin_dir: PathBuf,
    /// The host's state folder, as mounted here: the ledger, and what was replaced.
    #[arg(long, default_value = "/host/var/lib/cni/multus-rs")]
    state_dir: PathBuf,
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    match install(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            log::error!("{e:#}");
            ExitCode::FAILURE
        }
    }
}

fn install(args: &Args) -> Result<()> {
    let name = Path::new(args.source.file_name().context("--source names no file")?);
    let bin = HostDir::new(&args.bin_dir, &args.host_bin_dir);
    let (here, host) = (bin.here(name), bin.host(name));
    let bytes = fs::read(&args.source).with_context(|| format!("cannot read {}", args.source.display()))?;

    // A node that was set up read-only by an image that carries the same file needs nothing of what follows.
    if atomic::is_same(&here, &bytes, 0o755) {
        log::info!("{} is up to date", host.display());
    } else {
        atomic::make_dir(&bin.here, 0o755)?;
        match hostfs::sweep(&bin.here) {
            Ok(0) => {}
            Ok(n) => log::info!("removed {n} temporary files of an interrupted run"),
            Err(e) => log::warn!("{e}"),
        }
        // Written down before it is done, so that what happened can be undone whenever this run ends.
        Ledger::open(&args.state_dir, "install")?.record(&here, &host, &bytes, Before::Judge)?;
        if hostfs::replace(&here, &bytes, 0o755)? == Change::Written {
            log::info!("installed {} ({} bytes)", host.display(), bytes.len());
        }
    }
    self_test(&here).with_context(|| {
        format!("{} does not run on this node (image of another architecture? noexec mount?)", host.display())
    })
}

/// Runs the installed file, through the mount, with the one CNI command that changes nothing.
fn self_test(plugin: &Path) -> Result<()> {
    let mut child = Command::new(plugin)
        .env_clear()
        .env("CNI_COMMAND", "VERSION")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start it")?;
    let mut stdin = child.stdin.take().context("it has no stdin")?;
    let mut stdout = child.stdout.take().context("it has no stdout")?;
    // Read aside, so that neither a full pipe nor silence holds this process up.
    let reader = std::thread::spawn(move || {
        let mut answer = Vec::new();
        stdout.by_ref().take(64 << 10).read_to_end(&mut answer).map(|_| answer)
    });
    // It may answer without reading, which closes the pipe.
    if let Err(e) = stdin.write_all(br#"{"cniVersion":"1.1.0","name":"self-test","type":"multus-shim"}"#) {
        log::debug!("the plugin did not read its stdin: {e}");
    }
    drop(stdin);
    let status = wait(&mut child)?;
    ensure!(status.success(), "CNI_COMMAND=VERSION ended with {status}");
    let answer = match reader.join() {
        Ok(answer) => answer.context("cannot read its answer")?,
        Err(_) => bail!("reading its answer failed"),
    };
    let answer: serde_json::Value =
        serde_json::from_slice(&answer).context("its answer to CNI_COMMAND=VERSION is not JSON")?;
    let versions = answer.get("supportedVersions").and_then(|v| v.as_array());
    match versions {
        Some(versions) if !versions.is_empty() => Ok(()),
        _ => bail!("its answer to CNI_COMMAND=VERSION names no supportedVersions"),
    }
}

fn wait(child: &mut Child) -> Result<std::process::ExitStatus> {
    let end = Instant::now() + ANSWER_WITHIN;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for it")? {
            return Ok(status);
        }
        if Instant::now() >= end {
            child.kill().context("cannot end it")?;
            child.wait().context("cannot wait for it")?;
            bail!("no answer to CNI_COMMAND=VERSION within {} s", ANSWER_WITHIN.as_secs());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
