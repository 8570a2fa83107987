//! One folder, two names: where a container has it mounted, and where the host has it.
//!
//! A link on the host means what the host takes it for, so links are followed here by their text and not by the
//! container's kernel, to which an absolute one would point into the image. Folders that move (k3s' data folder,
//! a snap's current revision) are resolved anew at each look.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::{Error, Result, at};

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

/// A folder of the host, and the mount through which this container sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostDir {
    /// Where the mount is in this container.
    mount: PathBuf,
    /// What is mounted there, as the host names it.
    mounted: PathBuf,
    /// The folder, as the host's programs are configured with it: at or below `mounted`.
    dir: PathBuf,
}

/// Where a path leads now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The path that this process opens; no link is in it but perhaps one that leads nowhere.
    pub here: PathBuf,
    /// The same on the host.
    pub host: PathBuf,
    /// Each folder that was passed on the way, as this process opens it. A change in any may change the way.
    pub passed: Vec<PathBuf>,
}

impl HostDir {
    /// The folder `dir` of the host, where `mounted` of the host, `dir` itself or a folder above it, is mounted at
    /// `mount`.
    pub fn new(
        mount: impl Into<PathBuf>,
        mounted: impl Into<PathBuf>,
        dir: impl Into<PathBuf>,
    ) -> Result<HostDir> {
        let folder = HostDir { mount: mount.into(), mounted: mounted.into(), dir: dir.into() };
        if folder.dir.starts_with(&folder.mounted) {
            return Ok(folder);
        }
        Err(Error::Outside { given: folder.dir.display().to_string(), dir: folder.mounted })
    }

    /// A file of this folder, as the host's programs name it.
    pub fn host(&self, relative: &Path) -> PathBuf {
        self.dir.join(relative)
    }

    /// Where the folder is now. What does not exist yet is named as it would be.
    pub fn place(&self) -> Result<Place> {
        self.walk(&self.dir)
    }

    /// Where a file of this folder is now, links followed.
    pub fn file(&self, relative: &Path) -> Result<Place> {
        self.walk(&self.dir.join(relative))
    }

    /// Turns what a person configured (a name, a relative path, or the absolute path on the host) into a path
    /// relative to this folder.
    pub fn relative(&self, given: &str) -> Result<PathBuf> {
        let path = Path::new(given);
        let inside = if path.is_absolute() { path.strip_prefix(&self.dir).ok() } else { Some(path) };
        match inside {
            Some(p)
                if p.file_name().is_some() && p.components().all(|c| matches!(c, Component::Normal(_))) =>
            {
                Ok(p.to_owned())
            }
            _ => Err(Error::Outside { given: given.to_owned(), dir: self.dir.clone() }),
        }
    }

    fn walk(&self, host: &Path) -> Result<Place> {
        let mut rest: VecDeque<OsString> = VecDeque::new();
        let mut done = PathBuf::new();
        let mut passed = vec![self.mount.clone()];
        self.push(&mut rest, &mut done, host, host)?;
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                if !done.pop() {
                    return Err(self.leaves(host));
                }
                continue;
            }
            let next = done.join(&name);
            let here = self.mount.join(&next);
            match fs::symlink_metadata(&here) {
                Ok(meta) if meta.is_symlink() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(self.leaves(host));
                    }
                    let target = fs::read_link(&here).map_err(at("read the link", &here))?;
                    self.push(&mut rest, &mut done, &target, host)?;
                }
                // What is missing has no links; what comes after it neither.
                _ => {
                    if here.is_dir() {
                        passed.push(here);
                    }
                    done = next;
                }
            }
        }
        passed.dedup();
        // `join` of an empty path would end in a slash.
        let end = |base: &Path| if done.as_os_str().is_empty() { base.to_owned() } else { base.join(&done) };
        Ok(Place { here: end(&self.mount), host: end(&self.mounted), passed })
    }

    /// Puts the parts of `path` in front of what is left to go.
    fn push(
        &self,
        rest: &mut VecDeque<OsString>,
        done: &mut PathBuf,
        path: &Path,
        asked: &Path,
    ) -> Result<()> {
        let inside = if path.is_absolute() {
            done.clear();
            path.strip_prefix(&self.mounted).map_err(|_| self.leaves(asked))?
        } else {
            path
        };
        for component in inside.components().rev() {
            match component {
                Component::CurDir => {}
                other => rest.push_front(other.as_os_str().to_owned()),
            }
        }
        Ok(())
    }

    fn leaves(&self, asked: &Path) -> Error {
        Error::Leaves { path: asked.to_owned(), mounted: self.mounted.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn relative_accepts_the_three_spellings_and_nothing_outside() {
        let dir = HostDir::new("/host/etc/cni/net.d", "/etc/cni/net.d", "/etc/cni/net.d").unwrap();
        for given in ["10-a.conf", "/etc/cni/net.d/10-a.conf"] {
            assert_eq!(dir.relative(given).unwrap(), Path::new("10-a.conf"));
        }
        assert_eq!(dir.relative("cilium/05.conflist").unwrap(), Path::new("cilium/05.conflist"));
        for given in ["", "/", "../x.conf", "a/../../x.conf", "/etc/passwd", "/etc/cni/net.d", "./.."] {
            assert!(dir.relative(given).is_err(), "{given:?} was accepted");
        }
    }

    // Holds: FA9
    #[test]
    fn links_are_followed_as_the_host_would_whether_absolute_or_relative() {
        let root = tempfile::tempdir().unwrap();
        for dir in ["1111/bin", "2222/bin"] {
            fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        let current = root.path().join("current");
        let dir = HostDir::new(root.path(), "/var/lib/k3s/data", "/var/lib/k3s/data/current/bin").unwrap();
        for (target, revision) in [("/var/lib/k3s/data/1111", "1111"), ("./2222/../2222", "2222")] {
            symlink(target, &current).unwrap();
            let place = dir.file(Path::new("plugin")).unwrap();
            assert_eq!(place.here, root.path().join(revision).join("bin/plugin"));
            assert_eq!(place.host, Path::new("/var/lib/k3s/data").join(revision).join("bin/plugin"));
            assert!(place.passed.contains(&root.path().to_owned()), "{:?}", place.passed);
            fs::remove_file(&current).unwrap();
        }
        assert_eq!(
            dir.place().unwrap().here,
            root.path().join("current/bin"),
            "missing is named as it would be"
        );
        for outside in ["/etc", "../../..", "current"] {
            symlink(outside, &current).unwrap();
            assert!(dir.place().is_err(), "{outside} was followed");
            fs::remove_file(&current).unwrap();
        }
    }
}
