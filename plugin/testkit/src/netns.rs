//! Throw-away network namespaces. One ends with the last process, interface and file that is in it, so a test
//! that dies leaves nothing behind.

use std::{
    fs::File,
    os::fd::AsRawFd,
    path::PathBuf,
    process::{Command, Output},
    thread,
};

use anyhow::{Context, Result, anyhow, bail};
use nix::{
    errno::Errno,
    sched::{CloneFlags, setns, unshare},
};

/// A network namespace of its own, with `lo` up.
#[derive(Debug)]
pub struct Netns {
    file: File,
}

impl Netns {
    /// A fresh one, or a visible skip where this machine does not let us make one.
    ///
    /// # Errors
    /// When making it fails for another reason.
    pub fn or_skip() -> Result<Option<Self>> {
        if Command::new("ip").arg("-Version").output().is_err() {
            crate::skip("no `ip`: install iproute2");
            return Ok(None);
        }
        match Self::new() {
            Err(error) if error.downcast_ref() == Some(&Errno::EPERM) => {
                crate::skip("network namespaces need CAP_SYS_ADMIN");
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// A fresh one.
    ///
    /// # Errors
    /// The kernel's; `EPERM` without CAP_SYS_ADMIN.
    pub fn new() -> Result<Self> {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net").context("/proc/thread-self/ns/net")
        };
        let netns = Self { file: on_a_thread(make)? };
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// What a runtime would write into `CNI_NETNS`; good while this value lives.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// Runs `work` in the namespace, on a thread of its own. Processes that it starts are in the namespace too.
    ///
    /// # Errors
    /// When the namespace cannot be entered, and the errors of `work`.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_a_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET)?;
            work()
        })
    }

    /// Runs a program in the namespace to its end.
    ///
    /// # Errors
    /// When it does not start.
    pub fn run(&self, command: &mut Command) -> Result<Output> {
        let program = command.get_program().to_owned();
        self.inside(|| command.output().with_context(|| format!("{} does not start", program.display())))
    }

    /// Runs `ip` with these arguments, split at blanks, and returns what it printed.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        let output = self.run(Command::new("ip").args(arguments.split_whitespace()))?;
        if !output.status.success() {
            bail!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Puts one end of a wire here and the other into `other`, both up.
    ///
    /// # Errors
    /// Those of `ip`.
    pub fn wire(&self, name: &str, other: &Self, other_name: &str) -> Result<()> {
        let far = other.path();
        self.ip(&format!("link add {name} type veth peer name {other_name} netns {}", far.display()))?;
        self.ip(&format!("link set {name} up"))?;
        other.ip(&format!("link set {other_name} up"))?;
        Ok(())
    }
}

/// A thread that entered a namespace ends there, so the others never see it.
fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|_| Err(anyhow!("the thread in the namespace panicked")))
}
