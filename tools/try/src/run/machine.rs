//! `--host`: a run on the machine itself, and the removal of what a killed one left.
//!
//! Such a run writes down what it is about to do in a folder of its own below `/run`. A folder whose process is gone is
//! swept: every pod gets its DEL, then its namespace ends, then links that only the run made go.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use meta::verbs;
use serde::{Deserialize, Serialize};

use super::{
    host::BASE,
    ip::{self, ip},
    leaks::{self, Snapshot},
    pods::{Places, RuntimeCall, remove_netns},
    sandbox,
    task::Task,
};

/// Who makes a run, and what the machine had before it.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Owner {
    run_id: String,
    pid: i32,
    start_time: u64,
    /// Links before the run; none until they are known.
    links: Option<BTreeSet<String>>,
    /// Files of plugins before the run.
    files: BTreeSet<PathBuf>,
    /// Folders outside of the usual ones in which they keep files.
    data_dirs: Vec<PathBuf>,
    /// Bridges that plugins of the run may make.
    bridges: Vec<String>,
    /// Folders of plugins.
    plugin_dirs: Vec<PathBuf>,
}

impl Owner {
    /// Whether the process still runs; one that only waits to be reaped does not.
    fn lives(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
        !matches!(state, Some('Z' | 'X')) && cni::process::start_time(self.pid) == Some(self.start_time)
    }
}

fn owner_file(base: &Path) -> PathBuf {
    base.join("owner")
}

/// The folder of this run on the machine.
///
/// # Errors
/// When it cannot be made.
pub fn places(task: &Task) -> Result<Places> {
    let run_id = task.base.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // A folder with a plain name always says whose it is, or another run would take it for a dead one's.
    let fresh = task.base.with_file_name(format!(".{run_id}"));
    fs::create_dir_all(&fresh).with_context(|| format!("cannot create {}", fresh.display()))?;
    note(&Places { base: fresh.clone(), run_id: run_id.clone() }, task, None)?;
    fs::rename(&fresh, &task.base).with_context(|| format!("cannot create {}", task.base.display()))?;
    Ok(Places { base: task.base.clone(), run_id })
}

/// Notes who makes the run, and what the machine had before, so that what is new can be told from it.
///
/// # Errors
/// When the note cannot be written.
pub fn note(places: &Places, task: &Task, before: Option<&Snapshot>) -> Result<()> {
    let pid = std::process::id().cast_signed();
    let start_time = cni::process::start_time(pid).context("cannot read /proc: is it mounted?")?;
    let owner = Owner {
        run_id: places.run_id.clone(),
        pid,
        start_time,
        links: before.map(|before| before.links().clone()),
        files: before.map(|before| before.files().clone()).unwrap_or_default(),
        data_dirs: task.data_dirs.clone(),
        bridges: task.bridges.clone(),
        plugin_dirs: task.plugin_dirs.clone(),
    };
    // In place of an earlier note, whole: a kill may come at any moment.
    let fresh = places.base.join("owner.new");
    fs::write(&fresh, serde_json::to_string(&owner)?).context("cannot note who makes this run")?;
    fs::rename(&fresh, owner_file(&places.base)).context("cannot note who makes this run")
}

/// Ends a run: what the plugins leave by design goes if the run made it, and the folder goes.
///
/// # Errors
/// When something stays.
pub fn finish(places: &Places) -> Result<()> {
    let text = fs::read_to_string(owner_file(&places.base)).context("cannot read who makes this run")?;
    let owner: Owner = serde_json::from_str(&text).context("cannot read who makes this run")?;
    remove(&places.base, &owner)
}

/// Removes what runs left whose process is gone, and says what: one line a run.
///
/// # Errors
/// When something stays.
pub fn sweep(base: &Path) -> Result<Vec<String>> {
    let mut swept = Vec::new();
    let entries = match fs::read_dir(base) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(swept),
        other => other.with_context(|| format!("cannot list {}", base.display()))?,
    };
    for entry in entries {
        let folder = entry.with_context(|| format!("cannot list {}", base.display()))?.path();
        let text = fs::read_to_string(owner_file(&folder)).unwrap_or_default();
        let owner = serde_json::from_str::<Owner>(&text).ok();
        // Without a note it has made nothing but the folder, and may be about to note itself.
        let named = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let starting = owner.is_none() && Path::new("/proc").join(named.trim_start_matches('.')).exists();
        if starting || owner.as_ref().is_some_and(Owner::lives) {
            continue;
        }
        let owner = owner.unwrap_or_default();
        let pods = undo_pods(&folder, &owner)?;
        remove(&folder, &owner)?;
        swept.push(format!("{}: {pods} pods detached, folder and links removed", folder.display()));
    }
    Ok(swept)
}

/// DEL for every pod that is written down, by the plugins themselves: who noted their calls is gone.
fn undo_pods(folder: &Path, owner: &Owner) -> Result<usize> {
    let mut pods = 0;
    let own = folder.join("sweep");
    let path: Vec<PathBuf> = owner.plugin_dirs.iter().chain([&own]).cloned().collect();
    let entries = match fs::read_dir(folder.join("undo")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        other => other.with_context(|| format!("cannot list {}", folder.display()))?,
    };
    fs::create_dir_all(&own).with_context(|| format!("cannot create {}", own.display()))?;
    let sandbox = own.join(sandbox::TYPE);
    drop(fs::remove_file(&sandbox));
    symlink(format!("/proc/{}/exe", std::process::id()), &sandbox)
        .with_context(|| format!("cannot create {}", sandbox.display()))?;
    for entry in entries {
        let file = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        // Half of a note: the kill came before the ADD.
        if let Ok(call) = serde_json::from_str::<RuntimeCall>(&text) {
            let (mut request, conf) =
                call.request("DEL").with_context(|| format!("in {}", file.display()))?;
            request.path.clone_from(&path);
            verbs::del(&request, &conf).with_context(|| format!("DEL of {}", request.container_id))?;
            pods += 1;
        }
        fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    }
    Ok(pods)
}

/// Namespaces, links and files of a run.
fn remove(folder: &Path, owner: &Owner) -> Result<()> {
    if let Ok(entries) = fs::read_dir(folder.join("netns")) {
        for entry in entries {
            remove_netns(&entry.with_context(|| format!("cannot list {}", folder.display()))?.path())?;
        }
    }
    let now = ip::links()?;
    let bridge = sandbox::bridge(&owner.run_id);
    let made = |link: &&String| match &owner.links {
        // Without bridges that others hang their pods on: one that has ports stays.
        Some(before) => owner.bridges.contains(link) && !before.contains(*link) && is_empty_bridge(link),
        None => false,
    };
    let of_run = |link: &&String| !owner.run_id.is_empty() && **link == bridge;
    for link in now.iter().filter(made).chain(now.iter().filter(of_run)) {
        ip(&format!("link delete {link}"))?;
    }
    if owner.links.is_some() {
        remove_memory(owner)?;
    }
    fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    // The last one out; another run may be in it.
    drop(fs::remove_dir(BASE));
    Ok(())
}

/// What IPAM plugins keep by design, where the run made them begin: their folder goes once nothing else is in it.
fn remove_memory(owner: &Owner) -> Result<()> {
    let now = leaks::of_plugins(&owner.data_dirs)?;
    for file in now.difference(&owner.files).filter(|file| leaks::stays(file)) {
        let Some(folder) = file.parent() else { continue };
        let others = now.iter().any(|other| other.parent() == Some(folder) && !leaks::stays(other));
        let older = owner.files.iter().any(|known| known.parent() == Some(folder));
        if !others && !older {
            fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))?;
            // The last file takes its folder with it.
            drop(fs::remove_dir(folder));
        }
    }
    Ok(())
}

fn is_empty_bridge(link: &str) -> bool {
    ip(&format!("-oneline link show master {link}")).is_ok_and(|ports| ports.trim().is_empty())
}
