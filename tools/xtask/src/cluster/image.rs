//! The two images that every node has: the sandbox's and the tests' pod. Both are busybox and nothing else.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::layout::Layout;
use crate::command::run;

/// Static, so that it is an image by itself.
pub(super) const BUSYBOX: &str = "/bin/busybox";

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The docker-archive of both images; made once, and again when this machine's busybox changes.
pub(super) fn base_archive(layout: &Layout) -> Result<PathBuf> {
    let busybox = fs::read(BUSYBOX).with_context(|| format!("cannot read {BUSYBOX}"))?;
    let folder = layout.cache().join("images");
    let archive = folder.join(format!("base-{}.tar", digest(&busybox).get(..16).unwrap_or_default()));
    if archive.exists() {
        return Ok(archive);
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let work = tempfile::tempdir_in(&folder).context("cannot make a folder for the image")?;
    let root = work.path().join("root");
    for name in ["bin", "tmp", "etc", "run", "www"] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::copy(BUSYBOX, root.join("bin/busybox"))?;
    for applet in run(Command::new(BUSYBOX).arg("--list"))?.lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\n")?;

    let out = work.path().join("out");
    fs::create_dir_all(&out)?;
    pack(&root, &out.join("layer.tar"))?;
    let layer = digest(&fs::read(out.join("layer.tar"))?);
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let mut manifest = Vec::new();
    for (name, command) in
        [("multus-rs-pause", ["/bin/sleep", "infinity"]), ("multus-rs-test", ["/bin/sleep", "infinity"])]
    {
        let config = json!({
            "architecture": architecture, "os": "linux",
            "config": { "Env": ["PATH=/bin"], "Cmd": command, "Labels": { "image": name } },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
        });
        let config = serde_json::to_vec(&config)?;
        let file = format!("{}.json", digest(&config));
        fs::write(out.join(&file), config)?;
        let tag = format!("localhost/{name}:dev");
        manifest.push(json!({ "Config": file, "RepoTags": [tag], "Layers": ["layer.tar"] }));
    }
    fs::write(out.join("manifest.json"), serde_json::to_vec(&manifest)?)?;
    let packed = work.path().join("archive.tar");
    pack(&out, &packed)?;
    fs::rename(&packed, &archive).with_context(|| format!("cannot write {}", archive.display()))?;
    Ok(archive)
}

fn pack(folder: &Path, archive: &Path) -> Result<()> {
    let mut command = Command::new("tar");
    command.args(["--create", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", "--sort=name"]);
    run(command.arg("--file").arg(archive).arg("--directory").arg(folder).arg(".")).map(drop)
}
