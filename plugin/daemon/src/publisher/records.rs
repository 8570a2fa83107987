//! Which sandboxes are attached, by the plugin's own records. Only read.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use meta::{
    cluster::PublishRequest,
    journal::Journal,
    network_status,
    record::{Phase, Record},
};

/// A sandbox that is wholly attached.
#[derive(Debug)]
pub(crate) struct Found {
    /// What its pod should be annotated with.
    pub(crate) request: PublishRequest,
    /// The record of a pod without networks, whose plugin publishes nothing.
    pub(crate) plain: bool,
    /// When the record was last written.
    pub(crate) written: SystemTime,
}

impl Found {
    /// How long ago the record was written.
    pub(crate) fn age(&self) -> Duration {
        SystemTime::now().duration_since(self.written).unwrap_or_default()
    }
}

/// The records of both folders, each read once a change.
pub(crate) struct Records {
    folders: [Folder; 2],
    read: HashMap<PathBuf, (Stamp, Option<Arc<Found>>)>,
}

struct Folder {
    path: PathBuf,
    journal: Journal,
    plain: bool,
    complained: bool,
}

/// Tells one state of a file from the next: records are replaced by rename, and grow.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    written: SystemTime,
}

impl Records {
    /// The folders are those that the plugin names itself, below its state and its run folder.
    pub(crate) fn new(journal: &Path, plain: &Path) -> anyhow::Result<Self> {
        let folder = |path: &Path, named: &str, journal: fn(&Path) -> Journal, plain| {
            let above = path.parent().filter(|_| path.ends_with(named));
            let Some(above) = above else { bail!("{} is not called {named}", path.display()) };
            Ok(Folder { path: path.to_owned(), journal: journal(above), plain, complained: false })
        };
        let journal =
            folder(journal, "journal", Journal::durable, false).context("the plugin's journal folder")?;
        let plain =
            folder(plain, "plain", Journal::plain, true).context("the plugin's folder of plain records")?;
        Ok(Self { folders: [journal, plain], read: HashMap::new() })
    }

    /// Every sandbox that is wholly attached now.
    pub(crate) fn look(&mut self) -> Vec<Arc<Found>> {
        let mut before = std::mem::take(&mut self.read);
        for folder in &mut self.folders {
            for sandbox in folder.sandboxes() {
                let path = folder.path.join(format!("{sandbox}.json"));
                // Gone since: its DEL was faster.
                let Some(stamp) = stamp(&path) else { continue };
                let read = match before.remove(&path) {
                    Some((known, found)) if known == stamp => found,
                    _ => folder.read(&sandbox, &stamp).map(Arc::new),
                };
                self.read.insert(path, (stamp, read));
            }
        }
        self.read.values().filter_map(|(_, found)| found.clone()).collect()
    }
}

impl Folder {
    fn sandboxes(&mut self) -> Vec<String> {
        match self.journal.sandboxes() {
            Ok(sandboxes) => {
                self.complained = false;
                sandboxes
            }
            Err(error) => {
                if !std::mem::replace(&mut self.complained, true) {
                    log::warn!("the statuses of its pods are not published: {error}");
                }
                Vec::new()
            }
        }
    }

    fn read(&self, sandbox: &str, stamp: &Stamp) -> Option<Found> {
        let record = match self.journal.read(sandbox) {
            Ok(record) => record?,
            Err(error) => {
                log::warn!("the status of sandbox {sandbox} is not published: {error}");
                return None;
            }
        };
        if !attached(&record) {
            return None;
        }
        // Without a uid, the status could reach a namesake.
        let pod = record.pod.clone().filter(|pod| !pod.uid.is_empty())?;
        match network_status::of(&record) {
            Ok(status) => {
                let request =
                    PublishRequest { pod, sandbox: sandbox.to_owned(), status, summary: String::new() };
                Some(Found { request, plain: self.plain, written: stamp.written })
            }
            Err(error) => {
                log::warn!("the status of sandbox {sandbox} is not published: {error}");
                None
            }
        }
    }
}

/// Neither on its way in nor out, nor left by a boot that is over.
fn attached(record: &Record) -> bool {
    record.of_this_boot()
        && record.failing_since.is_none()
        && !record.attachments.is_empty()
        && record.attachments.iter().all(|attachment| attachment.phase == Phase::Attached)
}

fn stamp(path: &Path) -> Option<Stamp> {
    let file = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some(Stamp { inode: file.ino(), length: file.len(), written: file.modified().ok()? })
}
