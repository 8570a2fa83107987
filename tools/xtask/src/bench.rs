//! `cargo xtask bench`: builds what a node runs, as the image has it, and measures it with the crate `bench`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::command::{cargo, succeed, xtask};
use crate::{binaries, cluster, debian};

/// The delegate that does nothing, built as plugins are.
const DELEGATE: (&str, &str, &str) = ("noop-delegate", "noop-delegate", "plugin");

/// How fast pods get their networks, beside the delegates alone and beside Go Multus. Needs root. Starts the cluster for
/// a part of it, and ends it.
#[derive(Debug, clap::Args)]
pub(crate) struct Bench {
    /// Folder with the binaries multus, multus-shim and multus-daemon of Go Multus, built elsewhere.
    #[arg(long, value_name = "DIR")]
    peer: Option<PathBuf>,
    /// Fewer rounds, and no large cluster.
    #[arg(long)]
    quick: bool,
    /// Write docs/performance.md and its plots anew.
    #[arg(long)]
    docs: bool,
    /// The figures as JSON [default: bench.json in the target folder].
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Builds and measures.
pub(crate) fn run(args: &Bench) -> Result<()> {
    let repository = cluster::workspace()?;
    debian::ensure(&[("ip", "iproute2"), ("openssl", "openssl"), ("setpriv", "util-linux")])?;
    succeed(&mut xtask(["cluster", "tools"]))?;
    let cache = cluster::cache()?;
    // First, and its cluster has ended before anything else is measured.
    let starts = if args.quick { None } else { Some(pod_starts(&repository)?) };
    let image = binaries::of_this_source(&repository, &cache, binaries::Arch::here()?)?;
    let delegate = binaries::program(&repository, &cache, DELEGATE)?;
    let json = match &args.json {
        Some(file) => std::path::absolute(file).context("--json")?,
        None => binaries::target_dir(&repository)?.join("bench.json"),
    };
    let mut bench = cargo(["run", "--quiet", "--release", "--package", "bench", "--bin", "bench", "--"]);
    bench.current_dir(&repository);
    bench.arg("--shim").arg(image.join("multus-shim")).arg("--daemon").arg(image.join("multus-daemon"));
    bench.arg("--delegate").arg(&delegate).arg("--json").arg(&json);
    bench.arg("--reference").arg(cluster::Layout::new()?.bin.join("cni"));
    if let Some(starts) = &starts {
        bench.arg("--starts").arg(starts);
    }
    for name in binaries::names() {
        bench.arg("--image").arg(image.join(name));
    }
    if let Some(peer) = &args.peer {
        bench.arg("--peer").arg(std::path::absolute(peer).context("--peer")?);
    }
    if args.quick {
        bench.arg("--quick");
    }
    if args.docs {
        bench.arg("--docs").arg(repository.join("docs"));
    }
    succeed(&mut bench)
}

/// Starts pods on a cluster of two nodes. Returns the file with the times.
fn pod_starts(repository: &Path) -> Result<PathBuf> {
    succeed(&mut xtask(["images"]))?;
    succeed(&mut xtask(["cluster", "up", "--nodes", "2"]))?;
    let measured = || -> Result<PathBuf> {
        let mut starts = cargo(["run", "--quiet", "--package", "e2e", "--bin", "pod-start"]);
        let output = starts.current_dir(repository).stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "measuring pod starts failed");
        let file = binaries::target_dir(repository)?.join("pod-starts.json");
        fs::write(&file, output.stdout).with_context(|| file.display().to_string())?;
        Ok(file)
    };
    let measured = measured();
    let down = succeed(&mut xtask(["cluster", "down"]));
    measured.and_then(|file| down.map(|()| file))
}
