//! Where CNI plugins are on this machine, and how the reference plugins get there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow, bail};

/// The project's pinned versions.
const VERSIONS: &str = include_str!("../../../../ci/cluster/versions.env");
/// Where the reference plugins are built from.
const MODULE: &str = "github.com/containernetworking/plugins";
/// The reference plugins, by their folder in the module.
const REFERENCE: &[&str] = &include!("../../../../ci/cluster/cni-plugins.rs");

/// Where a reference plugin is in its module; none for other plugins.
pub fn reference(name: &str) -> Option<&'static str> {
    REFERENCE.iter().copied().find(|path| path.rsplit('/').next() == Some(name))
}

/// The version that `--install-plugins` builds.
///
/// # Errors
/// When the project pins none.
pub fn version() -> Result<&'static str> {
    let pinned = VERSIONS.lines().find_map(|line| line.strip_prefix("CNI_PLUGINS="));
    pinned.ok_or_else(|| anyhow!("ci/cluster/versions.env has no CNI_PLUGINS"))
}

/// The project's cache: `$MULTUS_CACHE`, else `~/.cache/multus-rs`.
fn cache() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    var("MULTUS_CACHE").or_else(|| Some(var("HOME")?.join(".cache/multus-rs")))
}

/// Where `--install-plugins` puts them.
///
/// # Errors
/// When there is no folder for caches.
pub fn own_folder() -> Result<PathBuf> {
    let cache = cache().ok_or_else(|| anyhow!("no cache folder: set MULTUS_CACHE or HOME"))?;
    Ok(cache.join(format!("plugins-{}", version()?)))
}

/// The folders to look in: those given, else the node's, the test cluster's, our own and the distributions'.
pub fn folders(given: &[PathBuf]) -> Vec<PathBuf> {
    if !given.is_empty() {
        return given.to_vec();
    }
    let mut folders = vec![PathBuf::from("/opt/cni/bin")];
    folders.extend(cache().map(|cache| cache.join("bin/cni")));
    folders.extend(own_folder().ok());
    folders.extend(["/usr/lib/cni", "/usr/libexec/cni"].map(PathBuf::from));
    folders
}

/// Builds reference plugins into our own folder; what is there already stays.
///
/// # Errors
/// When there is no Go, or it cannot build them; with its last words.
pub fn install(names: &[String], say: impl Fn(&str)) -> Result<()> {
    let folder = own_folder()?;
    let paths: Vec<&str> =
        names.iter().filter(|name| !folder.join(name).is_file()).filter_map(|name| reference(name)).collect();
    if paths.is_empty() {
        return Ok(());
    }
    let (version, go) = (version()?, go()?);
    say(&format!(
        "building {} of the reference plugins {version} into {}",
        names.join(", "),
        folder.display()
    ));
    // Beside the final place, so that a build that was broken off leaves no half of a plugin there.
    let fresh = folder.with_extension(format!("{}.new", std::process::id()));
    fs::create_dir_all(&fresh).with_context(|| format!("cannot create {}", fresh.display()))?;
    let built = build(&go, version, &paths, &fresh).and_then(|()| {
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        for entry in fs::read_dir(&fresh).with_context(|| format!("cannot list {}", fresh.display()))? {
            let from = entry.with_context(|| format!("cannot list {}", fresh.display()))?.path();
            let to = folder.join(from.file_name().unwrap_or_default());
            fs::rename(&from, &to).with_context(|| format!("cannot put {}", to.display()))?;
        }
        Ok(())
    });
    fs::remove_dir_all(&fresh).with_context(|| format!("cannot remove {}", fresh.display()))?;
    built
}

fn build(go: &Path, version: &str, paths: &[&str], into: &Path) -> Result<()> {
    let mut command = Command::new(go);
    command.args(["install", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w"]);
    command.args(paths.iter().map(|path| format!("{MODULE}/plugins/{path}@{version}")));
    command.env("CGO_ENABLED", "0").env("GOBIN", into).env("GOTOOLCHAIN", "auto").env_remove("GOFLAGS");
    let output = command.current_dir(into).stdin(Stdio::null()).output().context("go does not start")?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = words.lines().rev().take(5).collect();
    bail!("go could not build the plugins: {}", last.into_iter().rev().collect::<Vec<_>>().join("; "))
}

/// Any Go from 1.21: it fetches the newer one that the module asks for by itself.
fn go() -> Result<PathBuf> {
    let known = [PathBuf::from("go"), PathBuf::from("/usr/local/go/bin/go")];
    let new_enough = |go: &PathBuf| {
        let output = Command::new(go).args(["env", "GOVERSION"]).output();
        let text =
            output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let mut parts =
            text.trim().trim_start_matches("go").split('.').map_while(|part| part.parse::<u32>().ok());
        (parts.next(), parts.next()) >= (Some(1), Some(21))
    };
    known.into_iter().find(new_enough).ok_or_else(|| {
        anyhow!("--install-plugins needs Go 1.21 or newer: see go.dev/dl, or apt-get install golang-go")
    })
}
