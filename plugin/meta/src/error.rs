//! Faults a person can act on: a CNI code for the runtime, a stable slug for machines, one line for people.

use cni::error::{Error, code, one_line};

use crate::{cluster::ClusterError, journal::JournalError};

/// Longest line we hand to the runtime, in characters; kubelet copies it into the pod's event.
pub const MAX_LINE: usize = 290;

/// The sandbox has been attached before; a second ADD needs a DEL first.
pub const ALREADY_ATTACHED: u32 = 101;

/// One refused or failed operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{slug}: {message}")]
pub struct Fault {
    /// CNI error code (spec, "Error"): 7 can never work as it is, 11 may work when tried again.
    pub code: u32,
    /// Stable, upper case, documented.
    pub slug: String,
    /// What, where, why, what to do.
    pub message: String,
}

/// What `meta` returns.
pub type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    /// A fault with any code.
    pub fn new(code: u32, slug: &str, message: impl Into<String>) -> Self {
        Self { code, slug: slug.to_owned(), message: message.into() }
    }

    /// The user's input can never work as it is.
    pub fn invalid(slug: &str, message: impl Into<String>) -> Self {
        Self::new(code::INVALID_CONFIG, slug, message)
    }

    /// Trying again may help.
    pub fn retry(slug: &str, message: impl Into<String>) -> Self {
        Self::new(code::TRY_AGAIN_LATER, slug, message)
    }

    /// A file or socket of this host failed.
    pub fn io(slug: &str, message: impl Into<String>) -> Self {
        Self::new(code::IO, slug, message)
    }

    /// The same without the words that go-cni takes for success on DEL.
    #[must_use]
    pub fn without_success_words(self) -> Self {
        let words = ["not found", "no such file or directory", "no such file"];
        let message = words.iter().fold(self.message, |text, words| text.replace(words, "missing"));
        Self { message, ..self }
    }

    /// The line as people see it in events and logs.
    pub fn line(&self) -> String {
        one_line(&self.to_string(), MAX_LINE)
    }
}

impl From<ClusterError> for Fault {
    fn from(error: ClusterError) -> Self {
        Self { code: error.code, slug: one_line(&error.reason, 40), message: error.message }
    }
}

impl From<JournalError> for Fault {
    fn from(error: JournalError) -> Self {
        Self::io("JOURNAL_FAILED", error.to_string())
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Error::new(fault.code, fault.line())
    }
}
