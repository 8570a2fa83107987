//! The binaries that go into images: static, and each built for its purpose.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::command::{cargo, run, succeed};
use crate::{built, debian};

/// Each is a package and its program, with the profile that it is built with.
const BINARIES: [(&str, &str); 5] = [
    ("multus-shim", "plugin"),
    ("passthru", "plugin"),
    ("multus-daemon", "release"),
    ("install", "release"),
    ("config", "release"),
];

/// Names of the binaries.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    BINARIES.iter().map(|(name, _)| *name)
}

/// The folder with the binaries of this source, which are built unless the cache has them.
pub(crate) fn of_this_source(repository: &Path, cache: &Path, arch: Arch) -> Result<PathBuf> {
    let target = target_dir(repository)?.join(arch.target());
    let files = BINARIES.map(|(name, profile)| target.join(profile).join(name));
    built::ensure(repository, cache, arch.name(), &files, || {
        prepare_target(arch)?;
        build(repository, cache, arch, &BINARIES.map(|(name, profile)| (name, name, profile)))?;
        files.iter().try_for_each(|file| {
            let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            check_static(&bytes).with_context(|| format!("{} is not static", file.display()))
        })
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arch {
    /// x86-64.
    Amd64,
    /// 64-bit Arm.
    Arm64,
}

impl Arch {
    /// This machine's.
    pub(crate) fn here() -> Result<Arch> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Arch::Amd64),
            "aarch64" => Ok(Arch::Arm64),
            other => {
                bail!("this machine is {other}; images are built for amd64 and arm64: choose with --arch")
            }
        }
    }

    /// As Go and image registries call it.
    pub(crate) fn name(self) -> &'static str {
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

/// What compiling for the other architecture needs.
fn prepare_target(arch: Arch) -> Result<()> {
    let target = arch.target();
    let libraries = run(Command::new("rustc").args(["--print", "target-libdir", "--target", target]))?;
    if !Path::new(libraries.trim()).exists() {
        succeed(Command::new("rustup").args(["target", "add", target])).with_context(|| {
            format!("the Rust target {target} is missing: rustup (https://rustup.rs) installs it")
        })?;
    }
    let sysroot = run(Command::new("rustc").args(["--print", "sysroot"]))?;
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

/// Builds one program of a package for this machine, as the image's programs are built; its file.
pub(crate) fn program(
    repository: &Path,
    cache: &Path,
    (package, name, profile): (&str, &str, &str),
) -> Result<PathBuf> {
    let arch = Arch::here()?;
    prepare_target(arch)?;
    build(repository, cache, arch, &[(package, name, profile)])?;
    Ok(target_dir(repository)?.join(arch.target()).join(profile).join(name))
}

/// Builds programs, each of a package with its profile. What they depend on is compiled in the cache, where the next
/// clone finds it; the binaries are in the target folder of this one.
fn build(repository: &Path, cache: &Path, arch: Arch, programs: &[(&str, &str, &str)]) -> Result<()> {
    for profile in ["plugin", "release"] {
        if !programs.iter().any(|(_, _, of)| *of == profile) {
            continue;
        }
        let mut build = cargo(["build", "--locked", "--profile", profile, "--target", arch.target()]);
        build.current_dir(repository).env("CARGO_BUILD_BUILD_DIR", cache.join("build"));
        if profile == "plugin" {
            without_backtraces(&mut build);
        }
        for (package, name, _) in programs.iter().filter(|(_, _, of)| *of == profile) {
            // By package, or it would get the features that other crates want of what it uses.
            build.args(["--package", package, "--bin", name]);
        }
        succeed(&mut build)?;
    }
    Ok(())
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir(repository: &Path) -> Result<PathBuf> {
    let metadata = cargo_metadata::MetadataCommand::new()
        .current_dir(repository)
        .no_deps()
        .exec()
        .context("cannot read the workspace")?;
    Ok(metadata.target_directory.into_std_path_buf())
}

/// Refuses a program that needs a loader: an ELF file whose program headers name an interpreter.
pub(crate) fn check_static(elf: &[u8]) -> Result<()> {
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
