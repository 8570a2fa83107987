//! GC: releases the sandboxes that the runtime no longer has, then hands every network in use the list of what lives.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use cni::{chain::Runner, config::NetworkConfig, env::Request, error::one_line, process::TERM_GRACE};
use serde::Deserialize;

use crate::{
    detach,
    error::{Fault, Result},
    journal::Journal,
    lock::{GcLock, SandboxLock},
    netconf::NetConf,
    primary,
    record::Record,
    verbs::{Unwatched, journals, plugin_path},
};

/// A runtime lists a sandbox only after its ADD has ended; a younger one may just not be listed yet.
const SETTLED: Duration = Duration::from_secs(60);

/// One attachment that lives, as the runtime and we know it (CNI 1.1.0, "GC").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Valid {
    #[serde(rename = "containerID")]
    container_id: String,
    ifname: String,
}

/// GC. Goes on after a failure, and reports all.
///
/// # Errors
/// `GC_LIST` when the runtime gave no list: then nothing is removed. `GC_FAILED` joins what failed.
pub fn gc(request: &Request, conf: &NetConf) -> Result<()> {
    let valid = valid_attachments(request)?;
    let deadline = Instant::now() + conf.del_deadline;
    let path = plugin_path(request, conf);
    let runner = Runner { path: &path, deadline, grace: TERM_GRACE, watcher: &Unwatched };
    let _no_add = GcLock::exclusive(&conf.run_dir, deadline)?;
    let mut failures: Vec<Fault> = Vec::new();
    let mut living: Vec<Record> = Vec::new();
    for journal in journals(conf) {
        let sandboxes =
            journal.sandboxes().map_err(|error| Fault::io("JOURNAL_FAILED", error.to_string()))?;
        for sandbox in sandboxes {
            let listed = valid.iter().any(|one| one.container_id == sandbox);
            if !listed && journal.age(&sandbox).is_some_and(|age| age >= SETTLED) {
                failures.extend(release(conf, &runner, &journal, &sandbox).err());
                continue;
            }
            match journal.read(&sandbox) {
                Ok(record) => living.extend(record),
                Err(error) => failures.push(Fault::io("JOURNAL_FAILED", error.to_string())),
            }
        }
    }
    for (config, valid) in in_use(conf, &living, &valid) {
        if let Err(error) = runner.gc(&config, &valid) {
            let line = format!("network {}: {}", config.name, one_line(&error.msg, 160));
            failures.push(Fault::new(error.code, "NETWORK_GC", line));
        }
    }
    let Some(first) = failures.first() else { return Ok(()) };
    let lines: Vec<&str> = failures.iter().map(|fault| fault.message.as_str()).collect();
    Err(Fault::new(first.code, "GC_FAILED", lines.join("; ")))
}

/// DEL for a sandbox that the runtime no longer has; one that is being worked on is left to whoever does so.
fn release(conf: &NetConf, runner: &Runner<'_>, journal: &Journal, sandbox: &str) -> Result<()> {
    let lock = SandboxLock::acquire(&conf.run_dir, sandbox, Instant::now())?;
    let runner = Runner { watcher: &lock, ..*runner };
    let record = journal.read(sandbox).map_err(|error| Fault::io("JOURNAL_FAILED", error.to_string()))?;
    // Gone meanwhile.
    let Some(mut record) = record else { return Ok(()) };
    log::info!("releasing sandbox {sandbox}, which the runtime no longer has");
    detach::detach(&runner, journal, &mut record)
}

/// Container and interface, as GC wants them.
type Pairs = Vec<(String, String)>;

/// Every network that may hold something, with what lives of it. The runtime lists its own interface alone; our
/// records know the others. A network of the pods is asked only where all its attachments are known: Go Multus kept
/// its own list, and what is on it must not be collected.
fn in_use(conf: &NetConf, living: &[Record], valid: &[Valid]) -> Vec<(NetworkConfig, Pairs)> {
    // Plugins keep what they hold by the network's name, and definitions may differ under one name: each is asked,
    // with all that lives under the name. The primary is first.
    let mut configs: Vec<NetworkConfig> = Vec::new();
    let mut living_under: BTreeMap<String, Pairs> = BTreeMap::new();
    match primary::load_local(conf) {
        Ok(source) => {
            let pairs = valid.iter().map(|one| (one.container_id.clone(), one.ifname.clone())).collect();
            living_under.insert(source.config.name.clone(), pairs);
            configs.push(source.config);
        }
        Err(fault) => log::warn!("the primary network is not asked to collect: {}", fault.line()),
    }
    let known = if leftovers_of_go(conf) { &[] } else { living };
    for record in known {
        for attachment in record.attachments.iter().filter(|attachment| !attachment.primary) {
            let Ok(config) = attachment.config() else { continue };
            let pair = (record.sandbox.clone(), attachment.ifname.clone());
            living_under.entry(config.name.clone()).or_default().push(pair);
            if !configs.iter().any(|one| one.to_json() == config.to_json()) {
                configs.push(config);
            }
        }
    }
    let pairs = |config: &NetworkConfig| living_under.get(&config.name).cloned().unwrap_or_default();
    configs.iter().map(|config| (config.clone(), pairs(config))).collect()
}

fn leftovers_of_go(conf: &NetConf) -> bool {
    let entries = std::fs::read_dir(&conf.go_cache_dir);
    entries.is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|entry| entry.path().is_file())))
}

fn valid_attachments(request: &Request) -> Result<Vec<Valid>> {
    let key = "cni.dev/valid-attachments";
    let listed = request
        .config
        .get_as::<Vec<Valid>>(key)
        .map_err(|error| Fault::invalid("GC_LIST", format!("{key}: {}", error.msg)))?;
    listed.ok_or_else(|| Fault::invalid("GC_LIST", format!("the runtime gave no {key}; nothing was removed")))
}
