//! Pods that Go Multus attached before us: the cache of its libcni says all that their DEL needs.

use std::{collections::BTreeMap, fs, io, path::PathBuf, time::Instant};

use cni::{
    cache::{Cache, Entry},
    chain::Runner,
    error::Error,
};

use crate::{
    cluster::PodRef,
    detach,
    error::{Fault, Result},
    gc::Pair,
    journal::{Journal, JournalError, boot_id},
    lock::SandboxLock,
    netconf::NetConf,
    pod,
    record::{Attachment, Record},
};

/// What a GC finds of Go Multus.
pub(crate) struct Found {
    /// Sandboxes that live.
    pub(crate) living: Vec<Record>,
    /// What could not be released.
    pub(crate) failures: Vec<Fault>,
    /// Whether all that live are among them.
    pub(crate) all_known: bool,
}

/// Releases the sandboxes of Go Multus that the runtime no longer has, and says which live.
///
/// # Errors
/// `JOURNAL_FAILED` when Go's files cannot be read; then nothing was released.
pub(crate) fn collect(conf: &NetConf, runner: &Runner<'_>, valid: &[Pair]) -> Result<Found> {
    let mut sandboxes: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for entry in cache(conf).list().map_err(unreadable)? {
        sandboxes.entry(entry.container_id.clone()).or_default().push(entry);
    }
    let known = |id: &str| sandboxes.contains_key(id) || !delegates_file(conf, id).exists();
    let all_known = valid.iter().all(|(id, _)| known(id));
    let mut found = Found { living: Vec::new(), failures: Vec::new(), all_known };
    for (sandbox, entries) in sandboxes {
        match valid.iter().find(|(id, _)| *id == sandbox) {
            Some((_, primary)) => match record(&sandbox, primary, entries) {
                Ok(record) => found.living.push(record),
                Err(error) => {
                    found.all_known = false;
                    found.failures.push(error.into());
                }
            },
            None => found.failures.extend(release(conf, runner, &sandbox).err()),
        }
    }
    Ok(found)
}

fn release(conf: &NetConf, runner: &Runner<'_>, sandbox: &str) -> Result<()> {
    let lock = SandboxLock::acquire(&conf.run_dir, sandbox, Instant::now())?;
    let journal = Journal::durable(&conf.state_dir);
    // The runtime names no interface of a sandbox that it no longer has; everybody's first is this one.
    let Some(mut record) = adopt(conf, sandbox, "eth0", &journal)? else { return Ok(()) };
    detach::detach(&Runner { watcher: &lock, ..*runner }, &journal, &mut record)
}

/// Makes a sandbox of Go Multus one of ours: from now on our journal knows it, and Go's files are gone.
///
/// # Errors
/// `JOURNAL_FAILED`; then nothing has changed.
pub(crate) fn adopt(
    conf: &NetConf,
    sandbox: &str,
    primary: &str,
    journal: &Journal,
) -> Result<Option<Record>> {
    let entries = cache(conf).of_container(sandbox).map_err(unreadable)?;
    if entries.is_empty() {
        return Ok(None);
    }
    let record = record(sandbox, primary, entries.clone())?;
    journal.write(&record)?;
    log::info!("sandbox {sandbox}, which Go Multus attached, is taken over");
    for entry in &entries {
        if let Err(error) = cache(conf).remove(entry.key()) {
            log::warn!("Go Multus's record of sandbox {sandbox} stays: {}", error.msg);
        }
    }
    let file = delegates_file(conf, sandbox);
    match fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            log::warn!("{} stays: {error}", file.display())
        }
        _ => {}
    }
    Ok(Some(record))
}

/// The list of delegates that Go Multus wrote before it attached them.
fn delegates_file(conf: &NetConf, sandbox: &str) -> PathBuf {
    conf.go_cache_dir.join(sandbox)
}

/// What is remembered of one sandbox, as our own record of it.
///
/// # Errors
/// When a config that is remembered is no JSON.
fn record(
    sandbox: &str,
    primary: &str,
    mut entries: Vec<Entry>,
) -> std::result::Result<Record, JournalError> {
    // The primary was first; the names of the others tell their order.
    entries.sort_by(|a, b| (a.ifname != primary, &a.ifname).cmp(&(b.ifname != primary, &b.ifname)));
    let first = entries.first().cloned().unwrap_or_default();
    let arg = |key: &str| {
        first.args.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let pod = PodRef { namespace: arg(pod::ARG_NAMESPACE), name: arg(pod::ARG_NAME), uid: arg(pod::ARG_UID) };
    let attachments: std::result::Result<Vec<Attachment>, JournalError> =
        entries.iter().map(|entry| Attachment::remembered(entry, entry.ifname == primary)).collect();
    Ok(Record {
        sandbox: sandbox.to_owned(),
        pod: Some(pod).filter(|pod| !pod.name.is_empty()),
        netns: first.netns,
        args: String::new(),
        boot_id: boot_id().unwrap_or_default(),
        failing_since: None,
        attachments: attachments?,
    })
}

fn cache(conf: &NetConf) -> Cache {
    Cache::new(&conf.go_cache_dir)
}

fn unreadable(error: Error) -> Fault {
    Fault::io("JOURNAL_FAILED", error.msg)
}
