//! DEL of everything a record lists, last first; one failure does not stop the rest.

use std::time::{Duration, Instant};

use cni::chain::Runner;

use cni::error::one_line;

use crate::{
    error::{Fault, Result},
    journal::{self, Journal, JournalError},
    record::{self, Phase, Record},
};

/// A DEL that fails for so long is given up, so that the node can be drained.
const GIVE_UP_AFTER: Duration = Duration::from_secs(600);

/// What a DEL that hangs leaves to each of those after it, where there is so much.
const KEPT: Duration = Duration::from_secs(5);

/// By when the undoing of a failed ADD has to end.
pub fn undo_deadline() -> Instant {
    Instant::now() + Duration::from_secs(15)
}

/// The record to detach a sandbox by. One that cannot be read serves nobody: it is set aside, and there is none.
///
/// # Errors
/// `JOURNAL_FAILED`.
pub fn record_of(journal: &Journal, sandbox: &str) -> Result<Option<Record>> {
    match journal.read(sandbox) {
        Err(JournalError::Corrupt { path, why }) => {
            log::error!(
                "{} cannot be read ({why}); it is set aside, its networks stay attached",
                path.display()
            );
            journal.give_up(sandbox)?;
            Ok(None)
        }
        Err(error @ JournalError::Empty { .. }) => {
            log::warn!("{error}");
            journal.remove(sandbox)?;
            Ok(None)
        }
        read => Ok(read?),
    }
}

/// Detaches what the record says was attempted, and removes the record when nothing is left.
///
/// # Errors
/// All delegates' errors in one line, with the code of the first; the record stays and says what is left.
pub fn detach(runner: &Runner<'_>, journal: &Journal, record: &mut Record) -> Result<()> {
    // After a reboot the noted phases may be older than what happened.
    let planned = record.attachments.iter().any(|one| one.phase == Phase::Planned);
    let all = planned && !record.of_this_boot();
    let attempted = |attachment: &record::Attachment| match attachment.phase {
        Phase::Attaching | Phase::Attached => true,
        Phase::Planned => all,
        Phase::Detached => false,
    };
    let left: Vec<usize> =
        (0..record.attachments.len()).filter(|position| attempted(&record.attachments[*position])).collect();
    let mut failures: Vec<(u32, String)> = Vec::new();
    for (others, position) in left.into_iter().enumerate().rev() {
        let attachment = &record.attachments[position];
        let runner = Runner { deadline: leaving_time(runner.deadline, others), ..*runner };
        match one(&runner, record, attachment) {
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
        // All is detached. Another DEL by this record would do no harm, a pod that cannot end does.
        if let Err(error) = journal.remove(&record.sandbox) {
            log::error!("sandbox {} is detached, and its record stays: {error}", record.sandbox);
        }
        return Ok(());
    };
    let code = *code;
    let lines: Vec<String> = failures.into_iter().map(|(_, line)| line).collect();
    let line = lines.join("; ");
    if let Err(error) = keep_or_give_up(journal, record, &line) {
        log::error!("sandbox {}: {error}", record.sandbox);
    }
    Err(Fault::new(code, "DETACH_FAILED", format!("{line}; it is tried again")))
}

/// When a DEL has to end that `others` come after.
fn leaving_time(deadline: Instant, others: usize) -> Instant {
    let others = u32::try_from(others).unwrap_or(u32::MAX - 1);
    let time = deadline.saturating_duration_since(Instant::now());
    deadline - KEPT.min(time / (others + 1)) * others
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
fn keep_or_give_up(
    journal: &Journal,
    record: &mut Record,
    line: &str,
) -> std::result::Result<(), JournalError> {
    let since = *record.failing_since.get_or_insert_with(journal::now);
    // In place of all steps: it fails as often as it is tried, and would grow each time.
    journal.write(record)?;
    if journal::now().saturating_sub(since) < GIVE_UP_AFTER.as_secs() {
        return Ok(());
    }
    log::error!(
        "giving up the detach of sandbox {} after {} s: {line}",
        record.sandbox,
        GIVE_UP_AFTER.as_secs()
    );
    journal.give_up(&record.sandbox)
}
