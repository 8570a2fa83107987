//! Cgroups of the nodes, in every hierarchy that the machine has mounted: v1, v2, or both.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use walkdir::WalkDir;

use super::layout::CGROUP;
use super::probe;

/// Processes of the node live below it: in v2 a group with groups below has no processes of its own.
const SERVICES: &str = "services";

struct Hierarchy {
    mount: PathBuf,
    v2: bool,
}

fn hierarchies() -> Result<Vec<Hierarchy>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    let mut found = Vec::new();
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(mount), Some(kind)) = (fields.next(), fields.next()) else { continue };
        if kind == "cgroup" || kind == "cgroup2" {
            found.push(Hierarchy { mount: mount.into(), v2: kind == "cgroup2" });
        }
    }
    Ok(found)
}

/// Which versions the machine has, in words.
pub(super) fn versions() -> Result<String> {
    let found = hierarchies()?;
    let v1 = found.iter().any(|hierarchy| !hierarchy.v2);
    let v2 = found.iter().any(|hierarchy| hierarchy.v2);
    Ok(match (v1, v2) {
        (true, true) => "v1 and v2",
        (true, false) => "v1",
        (false, true) => "v2",
        (false, false) => "none",
    }
    .into())
}

/// The kubelet's `cgroupRoot` for a node.
pub(super) fn root_of(group: &str) -> String {
    format!("/{CGROUP}/{group}")
}

/// Creates the groups of a node or of the control plane.
pub(super) fn create(group: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let mut folder = hierarchy.mount.clone();
        for name in [CGROUP, group, SERVICES] {
            if hierarchy.v2 {
                delegate_controllers(&folder)?;
            }
            let below = folder.join(name);
            fs::create_dir_all(&below)
                .with_context(|| format!("cannot make the cgroup {}", below.display()))?;
            for file in ["cpuset.cpus", "cpuset.mems"] {
                // Only in the v1 hierarchy of cpuset; empty there, and then nothing may enter.
                if !hierarchy.v2 && below.join(file).exists() {
                    let value = fs::read_to_string(folder.join(file))?;
                    fs::write(below.join(file), value)
                        .with_context(|| format!("cannot fill {}", below.join(file).display()))?;
                }
            }
            folder = below;
        }
    }
    Ok(())
}

fn delegate_controllers(folder: &Path) -> Result<()> {
    let path = folder.join("cgroup.controllers");
    let names = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    for name in names.split_whitespace() {
        // One by one: a controller that this machine keeps to itself must not cost the others.
        let control = folder.join("cgroup.subtree_control");
        if let Err(error) = fs::write(&control, format!("+{name}")) {
            eprintln!(
                "warning: cgroup controller {name} is not available to nodes: {}: {error}",
                control.display()
            );
        }
    }
    Ok(())
}

/// Folders that a process of the group enters.
pub(super) fn service_groups(group: &str) -> Result<Vec<String>> {
    let path = |h: &Hierarchy| h.mount.join(CGROUP).join(group).join(SERVICES).display().to_string();
    Ok(hierarchies()?.iter().map(path).collect())
}

/// All processes of the group and of the groups below it, pods included.
pub(super) fn members(group: &str) -> Result<BTreeSet<i32>> {
    let mut pids = BTreeSet::new();
    for hierarchy in hierarchies()? {
        for folder in folders(&hierarchy.mount.join(CGROUP).join(group)) {
            match fs::read_to_string(folder.join("cgroup.procs")) {
                Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error).with_context(|| format!("cannot read {}", folder.display())),
            }
        }
    }
    Ok(pids)
}

/// Below first, so that they can be removed in this order.
fn folders(root: &Path) -> Vec<PathBuf> {
    let walk = WalkDir::new(root).contents_first(true).into_iter();
    walk.filter_map(|entry| entry.ok().filter(|e| e.file_type().is_dir()).map(|e| e.into_path())).collect()
}

/// A group that the kubelet or runc removed while it was read.
fn is_gone(error: &io::Error) -> bool {
    // ENODEV: the group went away after its file was opened.
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ENODEV)
}

/// Removes the groups of one node, or of everything; the processes have ended before.
pub(super) fn remove(group: Option<&str>) -> Result<()> {
    for hierarchy in hierarchies()? {
        let mut root = hierarchy.mount.join(CGROUP);
        root.extend(group);
        probe::until(&format!("the cgroup {} to be empty", root.display()), Duration::from_secs(10), || {
            for folder in folders(&root) {
                match fs::remove_dir(&folder) {
                    Ok(()) => {}
                    Err(error) if is_gone(&error) || error.kind() == io::ErrorKind::ResourceBusy => {}
                    Err(error) => {
                        return Err(error).with_context(|| format!("cannot remove {}", folder.display()));
                    }
                }
            }
            Ok(!root.exists())
        })?;
    }
    Ok(())
}

/// Groups of nodes that exist, whatever the state folder says.
pub(super) fn groups() -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for hierarchy in hierarchies()? {
        let walk = WalkDir::new(hierarchy.mount.join(CGROUP)).min_depth(1).max_depth(1).into_iter();
        let groups = walk.filter_map(|entry| entry.ok().filter(|e| e.file_type().is_dir()));
        names.extend(groups.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    }
    Ok(names)
}
