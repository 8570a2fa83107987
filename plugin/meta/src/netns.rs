//! Looking into a pod's network namespace, from a thread that enters it and ends.

use std::{fs::File, io, path::Path, thread};

use nix::{
    net::if_::{if_nameindex, if_nametoindex},
    sched::{CloneFlags, setns},
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
    inside(netns, || if_nametoindex(ifname).is_ok())
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
