//! ADD of a list of delegates, in order, each noted before it runs; on failure everything attempted is undone.

use std::{
    cell::OnceCell,
    io,
    path::{Path, PathBuf},
};

use cni::{chain::Runner, error::one_line, result::CniResult};

use crate::{
    detach,
    error::{Fault, Result},
    journal::{Journal, JournalError},
    netns::Window,
    record::{self, Phase, Record},
    resolve::Delegate,
    routes::{self, Cidr},
};

/// Attaches the delegates, moves default routes as they ask, and notes their results in the record, which is then to be
/// synced.
///
/// # Errors
/// The delegate's own CNI code with a line that names network, interface and plugin; what was attempted
/// has been detached, and what could not be is left in the journal for the DEL that follows.
pub fn attach(
    runner: &Runner<'_>,
    journal: &Journal,
    record: &mut Record,
    delegates: &[Delegate],
    cluster_cidrs: &[Cidr],
) -> Result<()> {
    delegates.iter().try_for_each(|delegate| refuse_missing(runner, delegate))?;
    record.attachments = delegates
        .iter()
        .map(|delegate| record::Attachment::planned(delegate, &record.args))
        .collect::<std::result::Result<_, _>>()
        .map_err(unrecorded)?;
    // The notes of a plain pod may fail later, so all of it counts as begun.
    let begun = if journal.is_durable() { 1 } else { usize::MAX };
    record.attachments.iter_mut().take(begun).for_each(|attachment| attachment.phase = Phase::Attaching);
    // A pod with networks is on disk before its first delegate runs.
    kept(journal, journal.begin(record))?;
    let mut results = Vec::with_capacity(delegates.len());
    let pod = Pod { netns: PathBuf::from(&record.netns), window: OnceCell::new() };
    let outcome = delegates.iter().enumerate().try_for_each(|(position, delegate)| {
        results.push(one(runner, journal, record, &pod, position, delegate)?);
        Ok(())
    });
    let outcome = outcome.and_then(|()| move_default_routes(journal, record, &results, cluster_cidrs));
    outcome.inspect_err(|_| undo(runner, journal, record))
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

/// A plain pod's record may fail, and costs no sync.
fn kept(journal: &Journal, written: std::result::Result<(), JournalError>) -> Result<()> {
    match written {
        Err(error) if !journal.is_durable() => {
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
    pod: &Pod,
    position: usize,
    delegate: &Delegate,
) -> Result<CniResult> {
    let taken =
        if delegate.primary || delegate.shares_interface { Ok(()) } else { pod.refuse_taken(delegate) };
    let Some(attachment) = record.attachments.get_mut(position) else {
        return Err(Fault::io("JOURNAL_FAILED", "the record has lost an attachment"));
    };
    if let Err(fault) = taken {
        // Its DEL would take the interface from whoever has it.
        attachment.phase = Phase::Planned;
        return Err(fault);
    }
    if let Some(files) = &attachment.device_info {
        files.hand_over().map_err(|error| {
            let file = files.of_attachment.display();
            Fault::io(
                "DEVICE_INFO_FAILED",
                format!(
                    "network {}: its device file {file}: {error}; remove what is in its place",
                    delegate.network
                ),
            )
        })?;
    }
    let Some(attachment) = record.attachments.get(position) else {
        return Err(Fault::io("JOURNAL_FAILED", "the record has lost an attachment"));
    };
    let result = runner.add(&delegate.config, &record.call(attachment)).map_err(|error| {
        let advice = advice(delegate);
        let cause = one_line(&error.to_string(), 200);
        Fault::new(
            error.code,
            "DELEGATE_FAILED",
            format!("network {} ({}): {cause}{advice}", delegate.network, delegate.ifname),
        )
    })?;
    if let Some(attachment) = record.attachments.get_mut(position) {
        attachment.attached(&result).map_err(unrecorded)?;
        attachment.device = attachment.device_info.as_ref().and_then(|files| {
            files
                .known()
                .inspect_err(|error| log::warn!("{}: {error}", files.of_attachment.display()))
                .ok()?
        });
    }
    if let Some(next) = record.attachments.get_mut(position + 1) {
        next.phase = Phase::Attaching;
    }
    kept(journal, journal.note(record))?;
    Ok(result)
}

/// Where a network asks for the default route, the others lose theirs: in the pod and in what is noted of them, so
/// that a CHECK compares with what is.
fn move_default_routes(
    journal: &Journal,
    record: &mut Record,
    results: &[CniResult],
    cluster_cidrs: &[Cidr],
) -> Result<()> {
    if record.attachments.iter().all(|attachment| attachment.default_route.is_none()) {
        return Ok(());
    }
    let attached: Vec<routes::Attached<'_>> = record
        .attachments
        .iter()
        .zip(results)
        .map(|(attachment, result)| routes::Attached {
            ifname: &attachment.ifname,
            request: attachment.default_route.as_deref(),
            primary: attachment.primary,
            result,
        })
        .collect();
    let settled = routes::settle(Path::new(&record.netns), &attached, cluster_cidrs)?;
    for (attachment, result) in record.attachments.iter_mut().zip(&settled) {
        attachment.attached(result).map_err(unrecorded)?;
    }
    kept(journal, journal.note(record))
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

/// The pod's network namespace, which a plain pod's ADD does not look into.
struct Pod {
    netns: PathBuf,
    window: OnceCell<Window>,
}

impl Pod {
    /// An interface that is already there belongs to somebody: refuse before anything could undo it.
    fn refuse_taken(&self, delegate: &Delegate) -> Result<()> {
        let taken = self.has_interface(&delegate.ifname).map_err(|error| {
            Fault::retry(
                "NETNS_UNREADABLE",
                format!(
                    "network {}: entering {}: {error}; the runtime makes a new sandbox",
                    delegate.network,
                    self.netns.display()
                ),
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

    fn has_interface(&self, ifname: &str) -> io::Result<bool> {
        match self.window.get() {
            Some(window) => window.has_interface(ifname),
            None => {
                let window = Window::open(&self.netns)?;
                self.window.get_or_init(|| window).has_interface(ifname)
            }
        }
    }
}

fn advice(delegate: &Delegate) -> String {
    match delegate.network.split_once('/').filter(|_| !delegate.primary) {
        Some((namespace, name)) => format!("; see: kubectl -n {namespace} get nad {name} -o yaml"),
        None => String::new(),
    }
}

pub(crate) fn unrecorded(error: JournalError) -> Fault {
    Fault::io(
        "JOURNAL_FAILED",
        format!(
            "nothing is attached that could not be detached later: {error}; is the disk full or read-only?"
        ),
    )
}
