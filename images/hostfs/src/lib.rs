//! The host's files as a container sees them: how they are replaced, what was done to them, which CNI config
//! is the primary network's, and when any of that changes.
//!
//! [`replace`] is the one way to change a file, [`Ledger`] the one place where that is written down (before it
//! happens), [`HostDir`] the one notion of what a host's path is here, [`Watch`] the one way to wait.
//! Nothing here knows Kubernetes; `install` and `config` are thin binaries over it.

pub mod atomic;
pub mod ledger;
pub mod paths;
pub mod primary;
pub mod watch;

pub use atomic::{Change, Staged, replace, sweep};
pub use ledger::{Before, Entry, Ledger, Replaced};
pub use paths::{HostDir, Place};
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
    /// The ledger was written by a newer version.
    #[error("{} is not a ledger this version reads ({reason}): install the version that wrote it", path.display())]
    Ledger {
        /// The ledger file.
        path: PathBuf,
        /// Why it was refused.
        reason: String,
    },
    /// Another process has the ledger open and does not end.
    #[error("another process on this node holds {} and does not end: look for a second DaemonSet", path.display())]
    Busy {
        /// The lock file.
        path: PathBuf,
    },
    /// A path that was configured points outside of the folder it belongs to.
    #[error("{given:?} is not inside of {}: give a name, or a path relative to that folder", dir.display())]
    Outside {
        /// What was configured.
        given: String,
        /// The folder, as the host sees it.
        dir: PathBuf,
    },
    /// A link leads out of what is mounted, or in a circle.
    #[error("{} leads out of {}, which is all of the host that is mounted here: mount more of it", path.display(), mounted.display())]
    Leaves {
        /// The path that was looked up, as the host names it.
        path: PathBuf,
        /// What is mounted.
        mounted: PathBuf,
    },
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Puts a path and a verb on an I/O error.
pub(crate) fn at(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}
