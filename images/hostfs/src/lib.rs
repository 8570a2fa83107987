//! The host's files as a container sees them: how they are replaced, what was done to them, which CNI config
//! is the primary network's, and when any of that changes.
//!
//! Nothing here knows Kubernetes; `install` and `config` are thin binaries over it.

pub mod atomic;
pub mod ledger;
pub mod paths;
pub mod primary;
pub mod watch;

pub use atomic::{Change, replace, sweep};
pub use ledger::{Before, Entry, Ledger, Replaced};
pub use paths::HostDir;
pub use primary::{Primary, Unusable, Wanted};
pub use watch::{Stop, Wake, Watch};

use std::path::{Path, PathBuf};

/// Something on the host's file system could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which path, as this container sees it.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The ledger exists and cannot be understood.
    #[error("{} is not a ledger this version reads ({reason}): move it away to start a new one", path.display())]
    Ledger {
        /// The ledger file.
        path: PathBuf,
        /// Why it was refused.
        reason: String,
    },
    /// A path that was configured points outside of the folder it belongs to.
    #[error("{given:?} is not a file inside of {}: give its name, or a path relative to that folder", dir.display())]
    Outside {
        /// What was configured.
        given: String,
        /// The folder, as the host sees it.
        dir: PathBuf,
    },
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Puts a path and a verb on an I/O error.
pub(crate) fn at(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}
