//! One folder, two names: where a container has it mounted, and where the host has it.

use std::path::{Component, Path, PathBuf};

use crate::{Error, Result};

/// A folder of the host that is mounted into this container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostDir {
    /// The path that this process opens.
    pub here: PathBuf,
    /// The path that goes into files which the host's programs read.
    pub host: PathBuf,
}

impl HostDir {
    /// Names the two views of one folder.
    pub fn new(here: impl Into<PathBuf>, host: impl Into<PathBuf>) -> HostDir {
        HostDir { here: here.into(), host: host.into() }
    }

    /// A file of this folder as this process opens it.
    pub fn here(&self, relative: &Path) -> PathBuf {
        self.here.join(relative)
    }

    /// The same file as the host names it.
    pub fn host(&self, relative: &Path) -> PathBuf {
        self.host.join(relative)
    }

    /// Turns what a person configured (a name, a relative path, or the absolute path on the host) into a path
    /// relative to this folder.
    pub fn relative(&self, given: &str) -> Result<PathBuf> {
        let path = Path::new(given);
        let inside = if path.is_absolute() { path.strip_prefix(&self.host).ok() } else { Some(path) };
        match inside {
            Some(p)
                if p.file_name().is_some() && p.components().all(|c| matches!(c, Component::Normal(_))) =>
            {
                Ok(p.to_owned())
            }
            _ => Err(Error::Outside { given: given.to_owned(), dir: self.host.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_accepts_the_three_spellings_and_nothing_outside() {
        let dir = HostDir::new("/host/etc/cni/net.d", "/etc/cni/net.d");
        for given in ["10-a.conf", "/etc/cni/net.d/10-a.conf"] {
            assert_eq!(dir.relative(given).unwrap(), Path::new("10-a.conf"));
        }
        assert_eq!(dir.relative("cilium/05.conflist").unwrap(), Path::new("cilium/05.conflist"));
        for given in ["", "/", "../x.conf", "a/../../x.conf", "/etc/passwd", "/etc/cni/net.d", "./.."] {
            assert!(dir.relative(given).is_err(), "{given:?} was accepted");
        }
    }
}
