//! `cargo xtask images`: the static binaries, the image that holds them, and whether both are as small as promised.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::binaries::{self, Arch, check_static};
use crate::{cluster, debian};

/// The images' names on this machine and in the demo's cluster.
const TAG: &str = "localhost/multus-rs:dev";
const PLUGINS_TAG: &str = "localhost/multus-rs-cni-plugins:dev";
/// What runs once per pod as root on the host.
const SHIM_LIMIT: u64 = 1_000_000;
/// Everything that a node unpacks.
const IMAGE_LIMIT: u64 = 15_000_000;
/// Builds the image, checks its size, and writes it to a file, to a registry, or into the cluster of this machine.
#[derive(Debug, clap::Args)]
pub(crate) struct Images {
    /// Push the image to this repository as well, as REGISTRY/NAME:TAG.
    #[arg(long, value_name = "REPOSITORY")]
    push: Option<String>,
    /// The archive to write (docker-archive) [default: images/NAME.tar in the cache folder].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Build the image of the reference CNI plugins instead.
    #[arg(long)]
    cni_plugins: bool,
    /// Load the image into every node of `cargo xtask cluster`.
    #[arg(long)]
    load: bool,
    /// Architecture of the image [default: this machine's].
    #[arg(long)]
    arch: Option<Arch>,
}

/// Runs the command.
pub(crate) fn run(args: &Images) -> Result<()> {
    let repository = cluster::workspace()?;
    let cache = cluster::cache()?;
    let arch = args.arch.map_or_else(Arch::here, Ok)?;
    let (tag, file) = match args.cni_plugins {
        true => (PLUGINS_TAG, "multus-rs-cni-plugins.tar"),
        false => (TAG, "multus-rs.tar"),
    };
    let out = match &args.out {
        Some(out) => std::path::absolute(out).context("--out")?,
        None => cache.join("images").join(file),
    };
    let buildah = Buildah::prepare(&cache)?;
    let binaries = binaries::of_this_source(&repository, &cache, arch)?;
    // A folder of its own as the context, so that what is not copied cannot matter.
    let context = tempfile::tempdir().context("cannot make a folder for the image's files")?;
    if args.cni_plugins {
        fill_with_plugins(&binaries, arch, context.path())?;
    } else {
        fill(&binaries, context.path())?;
    }
    let target = if args.cni_plugins { "cni-plugins" } else { "multus" };
    let id = buildah.image(&repository.join("images/Containerfile"), target, context.path(), arch, tag)?;
    buildah.archive(tag, &out)?;
    println!("{tag} ({}) {id}\n{}", arch.name(), out.display());
    if let Some(repository) = &args.push {
        buildah.run(&["push", tag, &format!("docker://{repository}")])?;
        println!("pushed to {repository}");
    }
    if args.load {
        cluster::load(&cluster::Layout::new()?, &out)?;
    }
    Ok(())
}

/// Our own programs, within their limits.
fn fill(binaries: &Path, context: &Path) -> Result<()> {
    let mut total = 0;
    for name in binaries::names() {
        let size = copy(binaries, name, context)?;
        println!("{name:<14} {}", megabytes(size));
        if name == "multus-shim" {
            ensure!(size <= SHIM_LIMIT, "{name} has {size} bytes, more than {SHIM_LIMIT}");
        }
        total += size;
    }
    println!("{:<14} {}", "image unpacked", megabytes(total));
    ensure!(total <= IMAGE_LIMIT, "the image has {total} bytes unpacked, more than {IMAGE_LIMIT}");
    Ok(())
}

/// The reference plugins, built from their pinned module, and what installs them.
fn fill_with_plugins(binaries: &Path, arch: Arch, context: &Path) -> Result<()> {
    copy(binaries, "install", context)?;
    let folder = context.join("cni");
    fs::create_dir(&folder).context("cannot make a folder for the plugins")?;
    let built = cluster::cni_plugins(&cluster::Layout::new()?, arch.name())?;
    let mut total = 0;
    for entry in fs::read_dir(&built).with_context(|| format!("cannot list {}", built.display()))? {
        let (name, path) = entry.map(|e| (e.file_name(), e.path())).context("cannot list the plugins")?;
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        check_static(&bytes).with_context(|| format!("{} is not static", name.display()))?;
        total += bytes.len() as u64;
        fs::write(folder.join(&name), bytes).with_context(|| format!("cannot copy {}", name.display()))?;
    }
    println!("{:<14} {}", "image unpacked", megabytes(total));
    Ok(())
}

/// Puts a program into the context; its size.
fn copy(binaries: &Path, name: &str, context: &Path) -> Result<u64> {
    let size = fs::copy(binaries.join(name), context.join(name));
    size.with_context(|| format!("cannot copy {name} from {}", binaries.display()))
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{:02} MB", bytes / 1_000_000, bytes % 1_000_000 / 10_000)
}

/// Buildah with a store of its own, away from the images of whoever works on this machine.
struct Buildah {
    root: PathBuf,
    runroot: PathBuf,
}

impl Buildah {
    fn prepare(cache: &Path) -> Result<Buildah> {
        debian::ensure(&[("buildah", "buildah")])?;
        let store = cache.join("buildah");
        let buildah = Buildah { root: store.join("root"), runroot: store.join("run") };
        for dir in [&buildah.root, &buildah.runroot] {
            fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        Ok(buildah)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(&self.root).arg("--runroot").arg(&self.runroot);
        command.args(["--storage-driver", "vfs"]).args(args).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Result<String> {
        let done = self.command(args).stderr(Stdio::piped()).output().context("cannot run buildah")?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "buildah {} failed: {}", args.join(" "), said.trim());
        Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
    }

    /// Builds the image and returns its id, which is the same for equal binaries.
    fn image(
        &self,
        containerfile: &Path,
        target: &str,
        context: &Path,
        arch: Arch,
        tag: &str,
    ) -> Result<String> {
        let file = containerfile.to_str().context("the repository's path is not text")?;
        let context = context.to_str().context("the temporary folder's path is not text")?;
        let platform = format!("linux/{}", arch.name());
        self.run(&[
            "bud",
            "--quiet",
            "--isolation",
            "chroot",
            "--layers=false",
            "--timestamp",
            "0",
            "--platform",
            &platform,
            "--target",
            target,
            "--tag",
            tag,
            "--file",
            file,
            context,
        ])?;
        // The build before, which the tag no longer names.
        self.run(&["rmi", "--prune", "--force"])?;
        self.run(&["inspect", "--type", "image", "--format", "{{.FromImageID}}", tag])
    }

    /// Writes the archive aside and renames it, so that a reader never finds half of it.
    fn archive(&self, tag: &str, out: &Path) -> Result<()> {
        let dir = out.parent().context("--out names no file")?;
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        // Buildah refuses to write over a file, so it gets a name in a new folder.
        let aside =
            tempfile::tempdir_in(dir).with_context(|| format!("cannot write to {}", dir.display()))?;
        let file = aside.path().join("image.tar");
        self.run(&["push", "--quiet", tag, &format!("docker-archive:{}:{tag}", file.display())])?;
        fs::rename(&file, out).with_context(|| format!("cannot write {}", out.display()))
    }
}
