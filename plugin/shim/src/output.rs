//! The only place that writes to stdout.

use std::{io::Write, process::ExitCode};

use cni::error::Error;

/// Prints an answer whole, in one go; nothing for an empty one.
pub(crate) fn line(answer: &str) -> ExitCode {
    if answer.is_empty() {
        return ExitCode::SUCCESS;
    }
    match write(answer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("the runtime does not read our answer: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints an error object (CNI spec, "Error").
pub(crate) fn failure(error: &Error, version: &str) -> ExitCode {
    log::error!("{error}");
    if let Err(unread) = write(&error.to_json(version)) {
        log::error!("the runtime does not read our error: {unread}");
    }
    ExitCode::FAILURE
}

fn write(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.write_all(b"\n")?;
    stdout.flush()
}
