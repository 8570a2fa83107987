//! What the host tells the process that shows it: one JSON object a line.

use std::{
    io::{self, Write},
    sync::Mutex,
};

use serde::{Deserialize, Serialize};

use super::report::Report;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
pub enum Event {
    /// What is being done now.
    Progress(String),
    /// The end: what came of it.
    Done(Box<Report>),
    /// The end: the host itself failed.
    Failed(String),
}

/// Sends one line.
///
/// # Errors
/// When nobody listens any more.
pub fn send(event: &Event) -> io::Result<()> {
    let mut line = serde_json::to_string(event)?;
    line.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.flush()
}

/// Log lines of the plugin since they were last taken.
static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Keep;

impl log::Log for Keep {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata())
            && let Ok(mut lines) = LOG.lock()
        {
            lines.push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// From now on the plugin's warnings and errors are kept.
pub fn keep_log() {
    static KEEP: Keep = Keep;
    // A second call, as tests make it, changes nothing.
    drop(log::set_logger(&KEEP).map(|()| log::set_max_level(log::LevelFilter::Warn)));
}

/// The lines kept so far.
pub fn take_log() -> Vec<String> {
    LOG.lock().map(|mut lines| std::mem::take(&mut *lines)).unwrap_or_default()
}
