//! The socket file: who may reach it, and whether it is still ours.

use std::{
    fs::{self, DirBuilder, Permissions},
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, bail};
use tokio::net::UnixListener;

/// A path, and which file of ours is behind it.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    ours: Mutex<Option<Identity>>,
}

type Identity = (u64, u64);

/// What is found at the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// The socket that this process serves.
    Ours,
    /// Nothing.
    Nothing,
    /// Another file, such as the socket of a daemon that was started later.
    Foreign,
}

impl Socket {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, ours: Mutex::new(None) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the folder, binds under a temporary name in it and renames, so that a client sees either nothing or
    /// a socket with its final mode that somebody listens on.
    pub(crate) fn bind(&self) -> anyhow::Result<UnixListener> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let Some(folder) = folder else {
            bail!("socket {} has no folder: give a full path", self.path.display())
        };
        private_folder(folder)?;
        let temporary = folder.join(format!(".multus.sock.{}", std::process::id()));
        remove(&temporary)?;
        let listener = UnixListener::bind(&temporary)
            .with_context(|| format!("cannot bind the socket {}", temporary.display()))?;
        fs::set_permissions(&temporary, Permissions::from_mode(0o600))
            .with_context(|| format!("cannot set the mode of {}", temporary.display()))?;
        let identity = identity(&temporary)?;
        fs::rename(&temporary, &self.path)
            .with_context(|| format!("cannot rename {} to {}", temporary.display(), self.path.display()))?;
        *self.ours.lock().unwrap_or_else(PoisonError::into_inner) = identity;
        Ok(listener)
    }

    /// Looks at the path now.
    pub(crate) fn look(&self) -> std::io::Result<Found> {
        let ours = *self.ours.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match identity(&self.path)? {
            None => Found::Nothing,
            found if found == ours => Found::Ours,
            Some(_) => Found::Foreign,
        })
    }

    /// Removes the file if it is ours; a newer daemon's socket stays.
    pub(crate) fn remove(&self) -> std::io::Result<()> {
        if self.look()? == Found::Ours { remove(&self.path) } else { Ok(()) }
    }
}

/// Device and inode; nothing if there is no such file.
fn identity(path: &Path) -> std::io::Result<Option<Identity>> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some((found.dev(), found.ino()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn private_folder(folder: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make the socket folder {}", folder.display()))?;
    let found = fs::symlink_metadata(folder)?;
    if !found.is_dir() || found.uid() != nix::unistd::geteuid().as_raw() {
        bail!("socket folder {} is not a folder of this user: remove it, it is made anew", folder.display());
    }
    if found.mode() & 0o7777 != 0o700 {
        fs::set_permissions(folder, Permissions::from_mode(0o700))
            .with_context(|| format!("cannot set the mode of {}", folder.display()))?;
    }
    Ok(())
}
