//! Runs the corpus through somebody else's binaries and lists what differs, with our reason for it.

use std::{collections::BTreeMap, fmt::Write, path::Path};

use anyhow::{Context, Result};

use crate::{
    corpus::Instance, diff::Difference, peer, run, session::Session, stage::Stage, subject::Subject,
};

/// Why something differs that does so in most cases; nothing where the difference is the case's own.
fn everywhere(difference: &Difference) -> Option<&'static str> {
    let at = |end: &str| difference.place.ends_with(end);
    if at(": CNI_ARGS") {
        Some(
            "thin passes each pair of the pod twice, thick passes five pairs of its own and drops the rest (D17)",
        )
    } else if at(": CNI_PATH") {
        Some("binDir is put before CNI_PATH, and has a default")
    } else if at("outcome, code") {
        Some("the delegate's code, and one of Multus's own, becomes 999 (B17)")
    } else if at("outcome, cniVersion") {
        Some("errors carry no cniVersion (C3)")
    } else if at("byte for byte") {
        Some("values are decoded and written anew, so that numbers lose digits and keys their order (D1)")
    } else if at("stdin.ipam") && difference.got == "{}" {
        Some("a list that is the primary is rewritten for DEL, CHECK, STATUS and GC, unknown keys lost (B6)")
    } else if at("stdin.capabilities") {
        Some("a single plugin gets its capabilities (D16)")
    } else if at("outcome, words") {
        Some("errors name the config and not the definition or the plugin (C4)")
    } else if at("form") && difference.expected.contains("one line") {
        Some("errors have any length and any number of lines (C3)")
    } else {
        None
    }
}

/// What came of one plugin.
#[derive(Debug, Default)]
struct Report {
    same: usize,
    /// Reason to count.
    everywhere: BTreeMap<&'static str, usize>,
    /// Cases with differences of their own, by reason.
    explained: Vec<(String, String, Vec<Difference>)>,
    unexplained: Vec<(String, Vec<Difference>)>,
    broken: Vec<(String, String)>,
}

/// Compares every instance with both forms of Go Multus in `binaries`; the text of the report.
///
/// # Errors
/// When the binaries are not there or do not start.
pub fn compare(binaries: &Path, instances: &[Instance]) -> Result<String> {
    let session = Session::start()?;
    let thin = peer::thin(&session.api, binaries)?;
    let folder = session.subfolder("thick")?;
    let mut thick = peer::thick(binaries, &folder)?;
    // The daemon sees network namespaces and objects that were there before it.
    let stages: Vec<_> = instances
        .iter()
        .enumerate()
        .map(|(number, instance)| session.stage(&thick, instance, number))
        .collect();
    peer::start_daemon(&mut thick, &session.api, binaries, &folder).context("Go Multus's daemon")?;
    let mut text = String::new();
    let thin_stages = instances.iter().enumerate().map(|(n, instance)| session.stage(&thin, instance, n));
    one(&thin, instances, thin_stages, &mut text)?;
    one(&thick, instances, stages.into_iter(), &mut text)?;
    Ok(text)
}

fn one<'a>(
    subject: &Subject,
    instances: &[Instance],
    stages: impl Iterator<Item = Result<Stage<'a>>>,
    text: &mut String,
) -> Result<()> {
    let mut report = Report::default();
    for (instance, stage) in instances.iter().zip(stages) {
        match stage.and_then(|stage| run::run(subject, &stage)) {
            Ok(found) => report.take(instance, found),
            Err(error) => report.broken.push((instance.name.clone(), format!("{error:#}"))),
        }
    }
    report.write(subject.name, text).context("writing the report")
}

impl Report {
    fn take(&mut self, instance: &Instance, found: Vec<Difference>) {
        if found.is_empty() {
            self.same += 1;
            return;
        }
        let mut own = Vec::new();
        for difference in found {
            match everywhere(&difference) {
                Some(reason) => *self.everywhere.entry(reason).or_default() += 1,
                None => own.push(difference),
            }
        }
        match &instance.case.peer {
            _ if own.is_empty() => self.same += 1,
            Some(reason) => self.explained.push((instance.name.clone(), reason.clone(), own)),
            None => self.unexplained.push((instance.name.clone(), own)),
        }
    }

    fn write(&self, name: &str, text: &mut String) -> std::fmt::Result {
        let Self { same, everywhere, explained, unexplained, broken } = self;
        writeln!(text, "== {name}")?;
        writeln!(
            text,
            "{same} cases as here, {} otherwise for a reason, {} otherwise without one, {} not run",
            explained.len(),
            unexplained.len(),
            broken.len()
        )?;
        writeln!(text, "\nIn most cases, and not counted above:")?;
        for (reason, count) in everywhere {
            writeln!(text, "- {reason} ({count} times)")?;
        }
        writeln!(text, "\nOtherwise for a reason:")?;
        for (case, reason, differences) in explained {
            writeln!(text, "- {case}\n  because {reason}")?;
            list(differences, text)?;
        }
        if !unexplained.is_empty() {
            writeln!(text, "\nOtherwise, and the corpus has no reason for it:")?;
        }
        for (case, differences) in unexplained {
            writeln!(text, "- {case}")?;
            list(differences, text)?;
        }
        for (case, why) in broken {
            writeln!(text, "- not run: {case}: {why}")?;
        }
        writeln!(text)
    }
}

fn list(differences: &[Difference], text: &mut String) -> std::fmt::Result {
    differences.iter().try_for_each(|difference| writeln!(text, "    {difference}"))
}
