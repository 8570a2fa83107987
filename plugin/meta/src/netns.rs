//! Looking into a pod's network namespace, from a thread that enters it and ends.

use std::{fs::File, io, path::Path, thread};

use nix::{net::if_::if_nametoindex, sched::CloneFlags};

/// Whether an interface of that name exists in the namespace.
///
/// # Errors
/// When the namespace cannot be entered.
pub fn has_interface(netns: &Path, ifname: &str) -> io::Result<bool> {
    let file = File::open(netns)?;
    let ifname = ifname.to_owned();
    let look = move || -> io::Result<bool> {
        nix::sched::setns(file, CloneFlags::CLONE_NEWNET)?;
        Ok(if_nametoindex(ifname.as_str()).is_ok())
    };
    thread::spawn(look)
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread that looked into the namespace ended")))
}
