//! `cargo xtask images`: the static binaries, the image that holds them, and whether both are as small as promised.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::command::{cargo, run as output, succeed};
use crate::{cluster, debian};

/// The images' names on this machine and in the demo's cluster.
const TAG: &str = "localhost/multus-rs:dev";
const PLUGINS_TAG: &str = "localhost/multus-rs-cni-plugins:dev";
/// What runs once per pod as root on the host.
const SHIM_LIMIT: u64 = 1_000_000;
/// Everything that a node unpacks.
const IMAGE_LIMIT: u64 = 15_000_000;
/// What the image holds, and the profile that each is built with.
const BINARIES: [(&str, &str); 5] = [
    ("multus-shim", "plugin"),
    ("passthru", "plugin"),
    ("multus-daemon", "release"),
    ("install", "release"),
    ("config", "release"),
];

/// What the image of the reference plugins holds besides those.
const PLUGINS_INSTALLER: (&str, &str) = ("install", "release");

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

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Arch {
    Amd64,
    Arm64,
}

impl Arch {
    fn here() -> Result<Arch> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Arch::Amd64),
            "aarch64" => Ok(Arch::Arm64),
            other => {
                bail!("this machine is {other}; images are built for amd64 and arm64: choose with --arch")
            }
        }
    }

    fn name(self) -> &'static str {
        match self {
            Arch::Amd64 => "amd64",
            Arch::Arm64 => "arm64",
        }
    }

    fn target(self) -> &'static str {
        match self {
            Arch::Amd64 => "x86_64-unknown-linux-musl",
            Arch::Arm64 => "aarch64-unknown-linux-musl",
        }
    }
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
    prepare_target(arch)?;
    // A folder of its own as the context, so that what is not copied cannot matter.
    let context = tempfile::tempdir().context("cannot make a folder for the image's files")?;
    if args.cni_plugins {
        fill_with_plugins(&repository, &cache, arch, context.path())?;
    } else {
        fill(&repository, &cache, arch, context.path())?;
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
fn fill(repository: &Path, cache: &Path, arch: Arch, context: &Path) -> Result<()> {
    build(repository, cache, arch, &BINARIES)?;
    let mut total = 0;
    for binary in BINARIES {
        let size = copy(repository, arch, binary, context)?;
        let name = binary.0;
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
fn fill_with_plugins(repository: &Path, cache: &Path, arch: Arch, context: &Path) -> Result<()> {
    build(repository, cache, arch, &[PLUGINS_INSTALLER])?;
    copy(repository, arch, PLUGINS_INSTALLER, context)?;
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
fn copy(repository: &Path, arch: Arch, (name, profile): (&str, &str), context: &Path) -> Result<u64> {
    let built = target_dir(repository)?.join(arch.target()).join(profile).join(name);
    let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    check_static(&bytes).with_context(|| format!("{name} is not static"))?;
    let size = bytes.len() as u64;
    fs::write(context.join(name), bytes).with_context(|| format!("cannot copy {name}"))?;
    Ok(size)
}

/// What compiling for the other architecture needs.
fn prepare_target(arch: Arch) -> Result<()> {
    let target = arch.target();
    let libraries = output(Command::new("rustc").args(["--print", "target-libdir", "--target", target]))?;
    if !Path::new(libraries.trim()).exists() {
        succeed(Command::new("rustup").args(["target", "add", target])).with_context(|| {
            format!("the Rust target {target} is missing: rustup (https://rustup.rs) installs it")
        })?;
    }
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    if !Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/std").exists() {
        succeed(Command::new("rustup").args(["component", "add", "rust-src"])).context(
            "the source of Rust's standard library is missing: rustup (https://rustup.rs) installs it",
        )?;
    }
    // The crypto library has parts in C.
    debian::ensure(match arch {
        Arch::Amd64 => &[("x86_64-linux-gnu-gcc", "gcc-x86-64-linux-gnu")],
        Arch::Arm64 => &[("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")],
    })
}

/// The standard library built for size, without the code that prints backtraces: a third of a plugin would be that,
/// and a plugin that aborts has nobody to read one. Cargo calls this unstable, hence the variable; the toolchain is
/// pinned, and the tests run against the result.
fn without_backtraces(build: &mut Command) {
    build.args(["-Zbuild-std=std,panic_abort", "-Zbuild-std-features=optimize_for_size"]);
    build.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Cforce-unwind-tables=no");
}

/// Builds the binaries, each with its profile. What they depend on is compiled in the cache, where the next clone finds
/// it; the binaries are in the target folder of this one.
fn build(repository: &Path, cache: &Path, arch: Arch, binaries: &[(&str, &str)]) -> Result<()> {
    for profile in ["plugin", "release"] {
        let names: Vec<&str> =
            binaries.iter().filter(|(_, p)| *p == profile).map(|(name, _)| *name).collect();
        if names.is_empty() {
            continue;
        }
        let mut build = cargo(["build", "--locked", "--profile", profile, "--target", arch.target()]);
        build.current_dir(repository).env("CARGO_BUILD_BUILD_DIR", cache.join("build"));
        if profile == "plugin" {
            without_backtraces(&mut build);
        }
        build.args(names.iter().flat_map(|name| ["--bin", *name]));
        succeed(&mut build)?;
    }
    Ok(())
}

fn target_dir(repository: &Path) -> Result<PathBuf> {
    let metadata = cargo_metadata::MetadataCommand::new()
        .current_dir(repository)
        .no_deps()
        .exec()
        .context("cannot read the workspace")?;
    Ok(metadata.target_directory.into_std_path_buf())
}

/// Refuses a program that needs a loader: an ELF file whose program headers name an interpreter.
fn check_static(elf: &[u8]) -> Result<()> {
    const INTERPRETER: u32 = 3;
    let word = |at: usize, size: usize| -> Result<u64> {
        let bytes = elf.get(at..at + size).context("the file ends too early")?;
        Ok(bytes.iter().rev().fold(0, |sum, b| sum << 8 | u64::from(*b)))
    };
    ensure!(elf.starts_with(b"\x7fELF\x02\x01"), "it is not a 64-bit little-endian ELF file");
    let (headers, size, count) = (word(0x20, 8)?, word(0x36, 2)?, word(0x38, 2)?);
    for i in 0..count {
        let at = usize::try_from(headers + i * size).context("its header is beyond its end")?;
        ensure!(word(at, 4)? != u64::from(INTERPRETER), "it asks for a dynamic loader");
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_is_told_from_garbage_and_both_are_refused() {
        let shell = fs::read("/bin/sh").unwrap();
        assert!(check_static(&shell).unwrap_err().to_string().contains("loader"));
        assert!(check_static(b"#!/bin/sh\n").is_err());
        assert!(check_static(&shell[..100]).is_err());
    }
}
