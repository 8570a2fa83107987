//! GC: releases the sandboxes that the runtime no longer has, then hands every network in use the list of what lives.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use cni::{chain::Runner, config::NetworkConfig, env::Request, error::one_line, process::TERM_GRACE};

use crate::{
    detach,
    error::{Fault, Result},
    journal::{Journal, JournalError},
    lock::{BUSY, GcLock, SandboxLock},
    netconf::NetConf,
    primary,
    record::Record,
    takeover,
    verbs::{Unwatched, journals, plugin_path},
};

/// A runtime lists a sandbox only after its ADD has ended; a younger one may just not be listed yet.
const SETTLED: Duration = Duration::from_secs(60);

/// What sandboxes that were given up may take of a GC, all together.
const RETRY: Duration = Duration::from_secs(5);

/// Container and interface of an attachment that lives.
pub(crate) type Pair = (String, String);

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
    let mut all_known = true;
    for journal in journals(conf) {
        for sandbox in journal.sandboxes()? {
            if !lists(&valid, &sandbox) && journal.age(&sandbox).is_some_and(|age| age >= SETTLED) {
                match SandboxLock::acquire(&conf.run_dir, &sandbox, Instant::now()) {
                    // Whoever works on it sees to it; until then it lives.
                    Err(fault) if fault.slug == BUSY => {}
                    lock => {
                        failures
                            .extend(lock.and_then(|lock| release(&runner, &lock, &journal, &sandbox)).err());
                        continue;
                    }
                }
            }
            match journal.read(&sandbox) {
                Ok(record) => living.extend(record),
                Err(error) => {
                    all_known = false;
                    failures.push(error.into());
                }
            }
        }
    }
    match takeover::collect(conf, &runner, &valid) {
        Ok(found) => {
            all_known &= found.all_known;
            living.extend(found.living);
            failures.extend(found.failures);
        }
        Err(fault) => {
            all_known = false;
            failures.push(fault);
        }
    }
    all_known &= living.iter().flat_map(|record| &record.attachments).all(|one| one.config().is_ok());
    for (config, valid) in in_use(conf, &living, &valid, all_known) {
        if let Err(error) = runner.gc(&config, &valid) {
            let line = format!("network {}: {}", config.name, one_line(&error.msg, 160));
            failures.push(Fault::new(error.code, "NETWORK_GC", line));
        }
    }
    retry_given_up(conf, &Runner { deadline: Instant::now() + RETRY, ..runner }, &valid);
    let Some(first) = failures.first() else { return Ok(()) };
    let lines: Vec<&str> = failures.iter().map(|fault| fault.message.as_str()).collect();
    Err(Fault::new(first.code, "GC_FAILED", lines.join("; ")))
}

/// What no DEL could detach in time is tried again: nobody else would. It has failed for long, so it fails no GC.
fn retry_given_up(conf: &NetConf, runner: &Runner<'_>, valid: &[Pair]) {
    for journal in journals(conf).map(|journal| journal.given_up()) {
        let sandboxes = journal.sandboxes().unwrap_or_else(|error| {
            log::warn!("{error}");
            Vec::new()
        });
        for sandbox in sandboxes {
            // A torn one was set aside to be looked at, and has been told of.
            let torn = matches!(journal.read(&sandbox), Err(JournalError::Corrupt { .. }));
            if torn || lists(valid, &sandbox) {
                continue;
            }
            let lock = SandboxLock::acquire(&conf.run_dir, &sandbox, Instant::now());
            if let Err(fault) = lock.and_then(|lock| release(runner, &lock, &journal, &sandbox)) {
                log::warn!("sandbox {sandbox}, given up before: {}", fault.line());
            }
        }
    }
}

/// DEL for a sandbox that the runtime no longer has.
fn release(runner: &Runner<'_>, lock: &SandboxLock, journal: &Journal, sandbox: &str) -> Result<()> {
    // Gone meanwhile, or set aside.
    let Some(mut record) = detach::record_of(journal, sandbox)? else { return Ok(()) };
    log::info!("releasing sandbox {sandbox}, which the runtime no longer has");
    detach::detach(&Runner { watcher: lock, ..*runner }, journal, &mut record)
}

/// Every network that may hold something, the primary first, with what lives of it. The runtime lists its own
/// interface alone; our records know the others.
///
/// `pods_too`: the networks of the pods are asked beside the primary. Not where some of their attachments are
/// unknown, because a record is torn: what lives there must not be collected.
fn in_use(
    conf: &NetConf,
    living: &[Record],
    valid: &[Pair],
    pods_too: bool,
) -> Vec<(NetworkConfig, Vec<Pair>)> {
    // Plugins keep what they hold by the network's name, and definitions may differ under one name: each is asked,
    // with all that lives under the name.
    let mut configs: Vec<NetworkConfig> = Vec::new();
    let mut living_under: BTreeMap<String, BTreeSet<Pair>> = BTreeMap::new();
    match primary::load_local(conf) {
        Ok(source) => {
            living_under.insert(source.config.name.clone(), valid.iter().cloned().collect());
            configs.push(source.config);
        }
        Err(fault) => log::warn!("the primary network is not asked to collect: {}", fault.line()),
    }
    for record in living {
        for attachment in &record.attachments {
            let Ok(config) = attachment.config() else { continue };
            let lives = living_under.entry(config.name.clone()).or_default();
            // The runtime may not list a young sandbox yet.
            lives.insert((record.sandbox.clone(), attachment.ifname.clone()));
            if attachment.primary {
                lives.extend(valid.iter().cloned());
            }
            let asked = |one: &NetworkConfig| {
                // A primary that was edited since is asked as it is now.
                let same = attachment.primary || one.to_json() == config.to_json();
                one.name == config.name && same
            };
            if pods_too && !configs.iter().any(asked) {
                configs.push(config);
            }
        }
    }
    let pairs = |name: &str| living_under.get(name).into_iter().flatten().cloned().collect();
    configs.into_iter().map(|config| (config.clone(), pairs(&config.name))).collect()
}

/// Whether the runtime has the sandbox.
fn lists(valid: &[Pair], sandbox: &str) -> bool {
    valid.iter().any(|(container_id, _)| container_id == sandbox)
}

fn valid_attachments(request: &Request) -> Result<Vec<Pair>> {
    let listed = request.valid_attachments().map_err(|error| Fault::invalid("GC_LIST", error.msg))?;
    listed.ok_or_else(|| {
        Fault::invalid("GC_LIST", "the runtime gave no cni.dev/valid-attachments; nothing was removed")
    })
}
