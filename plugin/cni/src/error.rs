//! The error object of the CNI specification.

use serde::Serialize;

/// Error codes that the specification reserves, and the one for everything else.
pub mod code {
    /// The configuration's version is not supported.
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    /// A field of the configuration is not supported.
    pub const UNSUPPORTED_FIELD: u32 = 2;
    /// The container is not known or does not exist.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// An environment variable is missing or wrong.
    pub const BAD_ENVIRONMENT: u32 = 4;
    /// Reading or writing failed.
    pub const IO: u32 = 5;
    /// Something could not be decoded.
    pub const DECODE: u32 = 6;
    /// The network configuration is invalid.
    pub const INVALID_CONFIG: u32 = 7;
    /// The network namespace is not usable: in practice, it is the plugin's own.
    pub const INVALID_NETNS: u32 = 8;
    /// A condition that passes: the runtime should try again.
    pub const TRY_AGAIN_LATER: u32 = 11;
    /// STATUS: the plugin cannot serve ADD.
    pub const NOT_AVAILABLE: u32 = 50;
    /// STATUS: the plugin cannot serve ADD, and existing containers may have limited connectivity.
    pub const LIMITED: u32 = 51;
    /// Everything that has no code of its own.
    pub const INTERNAL: u32 = 999;
}

/// Longest line that [`Error`] prints; kubelet events and logs stay readable.
const LINE_LIMIT: usize = 299;

/// A failure as the specification words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.line())]
pub struct Error {
    /// One of [`code`], or the code of a delegate.
    pub code: u32,
    /// What went wrong, in one line.
    pub msg: String,
    /// More about it; may be empty.
    pub details: String,
}

#[derive(Serialize)]
struct Wire<'a> {
    #[serde(rename = "cniVersion")]
    cni_version: &'a str,
    code: u32,
    msg: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    details: &'a str,
}

impl Error {
    /// An error without details.
    pub fn new(code: u32, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    /// The same error with details.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// All of `errors` as one, with the code of the first; `Ok` when there is none.
    pub fn join(errors: Vec<Self>) -> Result<(), Self> {
        let Some(code) = errors.first().map(|first| first.code) else { return Ok(()) };
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Err(Self::new(code, lines.join("; ")))
    }

    /// The error object that a plugin prints to standard output.
    pub fn to_json(&self, cni_version: &str) -> String {
        let wire = Wire { cni_version, code: self.code, msg: &self.msg, details: &self.details };
        // Strings and a number always serialize; the fallback keeps the code even so.
        serde_json::to_string(&wire).unwrap_or_else(|_| format!("{{\"code\":{}}}", self.code))
    }

    fn line(&self) -> String {
        if self.details.is_empty() {
            return one_line(&self.msg, LINE_LIMIT);
        }
        one_line(&format!("{}: {}", self.msg, self.details), LINE_LIMIT)
    }
}

/// What an I/O error says, but for a missing file: runtimes take a DEL error with the system's words for success.
pub(crate) fn io_words(e: &std::io::Error) -> String {
    if e.kind() == std::io::ErrorKind::NotFound { "it is missing".to_owned() } else { e.to_string() }
}

/// `text` without control characters, cut to at most `limit` characters: what others wrote (a delegate, a
/// user) must not break log lines or fill events.
pub fn one_line(text: &str, limit: usize) -> String {
    let mut out = String::with_capacity(text.len().min(limit + 4));
    for (count, c) in text.trim().chars().enumerate() {
        if count >= limit {
            out.pop();
            out.push('…');
            break;
        }
        out.push(if c.is_control() { ' ' } else { c });
    }
    out
}
