//! DEL of everything a record lists, last first; one failure does not stop the rest.

use std::time::{Duration, Instant};

use cni::chain::Runner;

use cni::error::one_line;

use crate::{
    error::{Fault, Result, without_success_words},
    journal::{self, Journal},
    record::{self, Phase, Record},
};

/// A DEL that fails for so long is given up, so that the node can be drained.
const GIVE_UP_AFTER: Duration = Duration::from_secs(600);

/// By when the undoing of a failed ADD has to end.
pub fn undo_deadline() -> Instant {
    Instant::now() + Duration::from_secs(15)
}

/// Detaches what the record says was attempted, and removes the record when nothing is left.
///
/// # Errors
/// All delegates' errors in one line, with the code of the first; the record stays and says what is left.
pub fn detach(runner: &Runner<'_>, journal: &Journal, record: &mut Record) -> Result<()> {
    // After a reboot the noted phases may be older than what happened.
    let all = !record.of_this_boot();
    let mut failures: Vec<(u32, String)> = Vec::new();
    for position in (0..record.attachments.len()).rev() {
        let attachment = &record.attachments[position];
        let attempted = match attachment.phase {
            Phase::Attaching | Phase::Attached => true,
            Phase::Planned => all,
            Phase::Detached => false,
        };
        if !attempted {
            continue;
        }
        match one(runner, record, attachment) {
            Ok(()) => {
                if let Some(files) = &attachment.device_info {
                    files.remove();
                }
                record.attachments[position].phase = Phase::Detached;
            }
            Err(error) => {
                let cause = one_line(&error.to_string(), 160);
                failures.push((
                    error.code,
                    format!("network {} ({}): {cause}", attachment.network, attachment.ifname),
                ));
            }
        }
    }
    let Some((code, _)) = failures.first() else {
        return journal
            .remove(&record.sandbox)
            .map_err(|error| Fault::io("JOURNAL_FAILED", error.to_string()));
    };
    let code = *code;
    let lines: Vec<String> = failures.into_iter().map(|(_, line)| line).collect();
    let line = without_success_words(&lines.join("; "));
    keep_or_give_up(journal, record, &line)?;
    Err(Fault::new(code, "DETACH_FAILED", format!("{line}; it is tried again")))
}

fn one(
    runner: &Runner<'_>,
    record: &Record,
    attachment: &record::Attachment,
) -> std::result::Result<(), cni::error::Error> {
    let config = attachment.config()?;
    let previous = attachment.result(&config.cni_version)?;
    let call = record.call(attachment);
    runner.del(&config, &call, previous.as_ref())
}

/// Notes what is left; after too long a failure the record is set aside and the caller may answer success.
fn keep_or_give_up(journal: &Journal, record: &mut Record, line: &str) -> Result<()> {
    let since = *record.failing_since.get_or_insert_with(journal::now);
    journal.note(record).map_err(|error| Fault::io("JOURNAL_FAILED", error.to_string()))?;
    if journal::now().saturating_sub(since) < GIVE_UP_AFTER.as_secs() {
        return Ok(());
    }
    log::error!(
        "giving up the detach of sandbox {} after {} s: {line}",
        record.sandbox,
        GIVE_UP_AFTER.as_secs()
    );
    journal.give_up(&record.sandbox).map_err(|error| Fault::io("JOURNAL_FAILED", error.to_string()))
}
