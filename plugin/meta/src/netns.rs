//! Looking into a pod's network namespace, from a thread that enters it and ends.

use std::{fs::File, io, os::fd::OwnedFd, path::Path, thread};

use nix::{
    net::if_::if_nameindex,
    sched::{CloneFlags, setns},
};
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, netdevice::name_to_index, socket_with},
};

/// Runs `work` in a network namespace. The thread that entered it ends with the call, so there is nothing to
/// return from; what else the process does stays where it is.
///
/// # Errors
/// When the namespace cannot be entered; then `work` was not run.
pub fn inside<T: Send>(netns: &Path, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let (mut work, mut outcome) = (Some(work), None);
    enter(netns, &mut || outcome = work.take().map(|work| work()))?;
    outcome.ok_or_else(|| io::Error::other("the thread in the namespace did not do its work"))
}

fn enter(netns: &Path, work: &mut (dyn FnMut() + Send)) -> io::Result<()> {
    let file = File::open(netns)?;
    let enter_and_work = move || {
        setns(file, CloneFlags::CLONE_NEWNET)?;
        work();
        Ok(())
    };
    thread::scope(|scope| {
        thread::Builder::new()
            .spawn_scoped(scope, enter_and_work)?
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace ended early")))
    })
}

/// Whether an interface of that name exists in the namespace.
///
/// # Errors
/// When the namespace cannot be entered.
pub fn has_interface(netns: &Path, ifname: &str) -> io::Result<bool> {
    Window::open(netns)?.has_interface(ifname)
}

/// A window into a network namespace: a socket stays in the namespace that it was made in, whoever asks it.
pub struct Window(OwnedFd);

impl Window {
    /// Opens it from a thread inside.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn open(netns: &Path) -> io::Result<Self> {
        let socket = || socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
        Ok(Self(inside(netns, socket)??))
    }

    /// Whether an interface of that name exists now.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn has_interface(&self, ifname: &str) -> io::Result<bool> {
        match name_to_index(&self.0, ifname) {
            Ok(_) => Ok(true),
            Err(Errno::NODEV) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// The names of the interfaces in the namespace, `lo` among them, in the kernel's order.
///
/// # Errors
/// When the namespace cannot be entered or read.
pub fn interfaces(netns: &Path) -> io::Result<Vec<String>> {
    inside(netns, || {
        let list = if_nameindex()?;
        Ok(list.iter().map(|interface| interface.name().to_string_lossy().into_owned()).collect())
    })?
}
