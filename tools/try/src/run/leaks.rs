//! What is there after DEL and was not before ADD.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{ip, pods::Places, report::Leak, veil::Veil};

/// The state of a host, as far as networks change it.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    links: BTreeSet<String>,
    files: BTreeSet<PathBuf>,
}

/// Folders in which plugins keep files.
const FOLDERS: [&str; 2] = ["/var/lib/cni", "/run/cni"];

/// Files that stay by design: host-local remembers its last address and keeps its lock; iptables keeps its lock.
pub fn stays(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    name == "lock" || name.starts_with("last_reserved_ip.") || name == "xtables.lock"
}

/// Files in the folders of plugins.
///
/// # Errors
/// When a folder cannot be listed.
pub fn of_plugins(data_dirs: &[PathBuf]) -> Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    for folder in FOLDERS.iter().map(Path::new).chain(data_dirs.iter().map(PathBuf::as_path)) {
        walk(folder, &mut |file| {
            files.insert(file.to_owned());
        })?;
    }
    Ok(files)
}

impl Snapshot {
    /// Looks at the host: its links, and the files that were written anywhere, else those in the folders of plugins.
    ///
    /// # Errors
    /// When links or folders cannot be listed.
    pub fn take(places: &Places, veil: Option<&Veil>, data_dirs: &[PathBuf]) -> Result<Self> {
        let mut files = BTreeSet::new();
        match veil.filter(|veil| !veil.written.is_empty()) {
            Some(veil) => {
                for (seen, over) in &veil.written {
                    walk(seen, &mut |file| {
                        let inner = file.strip_prefix(seen).unwrap_or(file);
                        files.insert(over.join(inner));
                    })?;
                }
            }
            None => files = of_plugins(data_dirs)?,
        }
        files.retain(|file| !file.starts_with(&places.base));
        Ok(Self { links: ip::links()?.into_iter().collect(), files })
    }

    /// What is in `after` and not here: leaks, and what stays by design. `own` is the run's own bridge.
    pub fn compare(&self, after: &Self, bridges: &[String], own: &str) -> (Vec<Leak>, Vec<String>) {
        let (mut leaks, mut staying) = (Vec::new(), Vec::new());
        for link in after.links.difference(&self.links).filter(|link| *link != own) {
            if bridges.contains(link) {
                staying.push(format!("bridge {link}"));
            } else {
                leaks.push(Leak { kind: "link".to_owned(), what: link.clone() });
            }
        }
        for file in after.files.difference(&self.files) {
            if stays(file) {
                staying.push(format!("file {}", file.display()));
            } else {
                leaks.push(Leak { kind: "file".to_owned(), what: file.display().to_string() });
            }
        }
        (leaks, staying)
    }

    /// Files that were here.
    pub fn files(&self) -> &BTreeSet<PathBuf> {
        &self.files
    }

    /// Links that were here.
    pub fn links(&self) -> &BTreeSet<String> {
        &self.links
    }
}

/// An interface that DEL left in a pod.
pub fn in_pod(pod: &str, link: String) -> Leak {
    Leak { kind: "link".to_owned(), what: format!("{link} in {pod}") }
}

/// What the plugin itself still knows of pods that are gone.
///
/// # Errors
/// When a folder cannot be listed.
pub fn of_plugin(places: &Places) -> Result<Vec<Leak>> {
    let mut leaks = Vec::new();
    for folder in [places.state(), places.run()] {
        walk(&folder, &mut |file| {
            // The lock that keeps GC and ADD apart belongs to no pod.
            let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if name.contains("multus-try-") {
                leaks.push(Leak { kind: "journal".to_owned(), what: file.display().to_string() });
            }
        })?;
    }
    Ok(leaks)
}

/// Every file below a folder; none where there is no folder.
fn walk(folder: &Path, visit: &mut dyn FnMut(&Path)) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.with_context(|| format!("listing {}", folder.display()))?,
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("listing {}", folder.display()))?;
        let kind = entry.file_type().with_context(|| format!("listing {}", folder.display()))?;
        if kind.is_dir() {
            walk(&entry.path(), visit)?;
        } else {
            visit(&entry.path());
        }
    }
    Ok(())
}
