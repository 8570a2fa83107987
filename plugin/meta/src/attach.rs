//! ADD of a list of delegates, in order, each noted before it runs; on failure everything attempted is undone.

use std::path::Path;

use cni::{chain::Runner, result::CniResult};

use cni::error::one_line;

use crate::{
    detach,
    error::{Fault, Result},
    journal::{self, Journal, JournalError, Phase, Record},
    netns,
    resolve::Delegate,
};

/// Attaches the delegates and returns their results in the same order; the journal then says so.
///
/// # Errors
/// The delegate's own CNI code with a line that names network, interface and plugin; what was attempted
/// has been detached, and what could not be is left in the journal for the DEL that follows.
pub fn attach(
    runner: &Runner<'_>,
    journal: &Journal,
    record: &mut Record,
    delegates: &[Delegate],
) -> Result<Vec<CniResult>> {
    delegates.iter().try_for_each(|delegate| refuse_missing(runner, delegate))?;
    let mut results = Vec::with_capacity(delegates.len());
    record.attachments = delegates
        .iter()
        .map(journal::Attachment::planned)
        .collect::<std::result::Result<_, _>>()
        .map_err(unrecorded)?;
    if let Some(first) = record.attachments.first_mut() {
        first.phase = Phase::Attaching;
    }
    begin(journal, record, delegates)?;
    for (position, delegate) in delegates.iter().enumerate() {
        match one(runner, journal, record, position, delegate) {
            Ok(result) => results.push(result),
            Err(fault) => {
                undo(runner, journal, record);
                return Err(fault);
            }
        }
    }
    Ok(results)
}

/// Detaches what a failed ADD attempted; failures stay in the journal and in the log.
pub fn undo(runner: &Runner<'_>, journal: &Journal, record: &mut Record) {
    // A delegate that used up the time of the ADD must not leave its undoing without any.
    let runner = Runner { deadline: detach::undo_deadline(), ..*runner };
    if let Err(fault) = detach::detach(&runner, journal, record) {
        log::error!(
            "undoing a failed ADD of sandbox {}: {}; the DEL that follows tries again",
            record.sandbox,
            fault.line()
        );
    }
}

/// A pod with networks is on disk before its first delegate runs; a plain pod's record may fail, and costs no sync.
fn begin(journal: &Journal, record: &Record, delegates: &[Delegate]) -> Result<()> {
    match journal.write(record) {
        Err(error) if delegates.iter().all(|delegate| delegate.primary) => {
            log::warn!("plain pod: {error}");
            Ok(())
        }
        other => other.map_err(unrecorded),
    }
}

fn one(
    runner: &Runner<'_>,
    journal: &Journal,
    record: &mut Record,
    position: usize,
    delegate: &Delegate,
) -> Result<CniResult> {
    if !delegate.primary {
        refuse_taken(&record.netns, delegate)?;
    }
    let attachment = record.call(&record.attachments[position]);
    let result = runner.add(&delegate.config, &attachment).map_err(|error| {
        let advice = advice(delegate);
        let cause = one_line(&error.to_string(), 200);
        Fault::new(
            error.code,
            "DELEGATE_FAILED",
            format!("network {} ({}): {cause}{advice}", delegate.network, delegate.ifname),
        )
    })?;
    record.attachments[position].attached(&result).map_err(unrecorded)?;
    if let Some(next) = record.attachments.get_mut(position + 1) {
        next.phase = Phase::Attaching;
    }
    match journal.note(record) {
        Err(error) if record.attachments.len() == 1 => log::warn!("plain pod: {error}"),
        other => other.map_err(unrecorded)?,
    }
    Ok(result)
}

/// A plugin that is not there could not be detached either: refuse before anything is attached.
fn refuse_missing(runner: &Runner<'_>, delegate: &Delegate) -> Result<()> {
    for plugin in &delegate.config.plugins {
        cni::config::plugin_type(plugin).and_then(|kind| cni::exec::find(&kind, runner.path)).map_err(
            |error| {
                Fault::new(
                    error.code,
                    "PLUGIN_MISSING",
                    format!("network {} ({}): {}", delegate.network, delegate.ifname, error.msg),
                )
            },
        )?;
    }
    Ok(())
}

/// An interface that is already there belongs to somebody: refuse before anything could undo it.
fn refuse_taken(sandbox_netns: &str, delegate: &Delegate) -> Result<()> {
    let taken = netns::has_interface(Path::new(sandbox_netns), &delegate.ifname).map_err(|error| {
        Fault::retry(
            "NETNS_UNREADABLE",
            format!("network {}: entering {sandbox_netns}: {error}", delegate.network),
        )
    })?;
    if taken {
        return Err(Fault::invalid(
            "INTERFACE_TAKEN",
            format!(
                "network {}: the pod already has an interface {}; ask for another with {0}@NAME",
                delegate.network, delegate.ifname
            ),
        ));
    }
    Ok(())
}

fn advice(delegate: &Delegate) -> String {
    match delegate.network.split_once('/').filter(|_| !delegate.primary) {
        Some((namespace, name)) => format!("; see: kubectl -n {namespace} get nad {name} -o yaml"),
        None => String::new(),
    }
}

fn unrecorded(error: JournalError) -> Fault {
    Fault::io("JOURNAL_FAILED", format!("nothing is attached that could not be detached later: {error}"))
}
