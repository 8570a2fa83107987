//! The three pipes of a plugin, served by one thread until the plugin ends.

use std::{
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::wait::{Id, WaitPidFlag, WaitStatus, waitid},
    unistd::Pid,
};

use rustix::process::{PidfdFlags, pidfd_open};

use crate::{
    error::{Error, code},
    result::MAX_SIZE,
    spawn::Plugin,
};

/// How much of the end of standard error is kept.
const STDERR_RING: usize = 64 * 1024;

/// How often a process is asked whether it has ended, on kernels that cannot tell.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// What a plugin printed.
pub(crate) struct Caught {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) overflowed: bool,
}

pub(crate) struct Pipes {
    stdin: Option<PipeWriter>,
    stdout: Option<PipeReader>,
    stderr: Option<PipeReader>,
    /// Until the process has ended.
    exit: Option<Exit>,
    input: Vec<u8>,
    written: usize,
    caught: Caught,
}

/// How the end of a process is learnt. It is left to be reaped, so that its number stays its own.
enum Exit {
    /// Readable once it has ended.
    Told(OwnedFd),
    /// Linux before 5.3 has no such descriptor.
    Asked(Pid),
}

impl Exit {
    fn of(pid: Pid) -> Self {
        let same = rustix::process::Pid::from_raw(pid.as_raw());
        let open = same.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        open.map_or(Self::Asked(pid), Self::Told)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Told(fd) => Some(fd.as_fd()),
            Self::Asked(_) => None,
        }
    }
}

impl Pipes {
    pub(crate) fn new(plugin: Plugin, input: Vec<u8>) -> Result<Self, Error> {
        let Plugin { pid, stdin, stdout, stderr } = plugin;
        let exit = Some(Exit::of(pid));
        for fd in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
            fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|e| failed(e.into()))?;
        }
        let (stdin, stdout, stderr) = (Some(stdin), Some(stdout), Some(stderr));
        let caught = Caught { stdout: Vec::new(), stderr: Vec::new(), overflowed: false };
        Ok(Self { stdin, stdout, stderr, exit, input, written: 0, caught })
    }

    pub(crate) fn overflowed(&self) -> bool {
        self.caught.overflowed
    }

    pub(crate) fn into_caught(self) -> Caught {
        self.caught
    }

    /// Serves the pipes; true once the process has ended, false at the deadline or when it prints too much.
    pub(crate) fn serve_until(&mut self, deadline: Instant) -> Result<bool, Error> {
        while self.exit.is_some() {
            if self.caught.overflowed || Instant::now() >= deadline {
                return Ok(false);
            }
            self.step(deadline).map_err(failed)?;
        }
        Ok(true)
    }

    /// Reads what is still in the pipes. Not until their end at any price: a process that left the group may
    /// hold them open for ever.
    pub(crate) fn drain(&mut self, at_most: Duration) {
        let deadline = Instant::now() + at_most;
        self.stdin = None;
        self.exit = None;
        while (self.stdout.is_some() || self.stderr.is_some()) && Instant::now() < deadline {
            if let Err(e) = self.step(deadline) {
                log::warn!("the output of a plugin cannot be read to its end: {e}");
                return;
            }
        }
    }

    /// Waits for the next event and handles it.
    fn step(&mut self, deadline: Instant) -> io::Result<()> {
        let input = PollFlags::POLLIN;
        let wanted = [
            (self.exit.as_ref().and_then(Exit::fd), input),
            (self.stdout.as_ref().map(AsFd::as_fd), input),
            (self.stderr.as_ref().map(AsFd::as_fd), input),
            (self.stdin.as_ref().map(AsFd::as_fd), PollFlags::POLLOUT),
        ];
        let mut fds: Vec<PollFd<'_>> =
            wanted.iter().filter_map(|(fd, flags)| fd.map(|fd| PollFd::new(fd, *flags))).collect();
        // One millisecond more, so that a rest below one does not become a busy loop.
        let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        let asked = match self.exit {
            Some(Exit::Asked(pid)) => Some(pid),
            _ => None,
        };
        let left = if asked.is_some() { left.min(ASK_EVERY) } else { left };
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) if asked.is_none() => return Ok(()),
            Err(Errno::EINTR) => return Ok(()),
            Ok(_) => {}
            Err(e) => return Err(e.into()),
        }
        let mut answers = fds.iter().map(|fd| fd.any().unwrap_or(true));
        let ready = wanted.map(|(fd, _)| fd.is_some() && answers.next().unwrap_or(false));
        let [exit, stdout, stderr, stdin] = ready;
        // Output first: what was printed before the end belongs to the answer.
        if stdout && !read_some(self.stdout.as_mut(), &mut self.caught.stdout)? {
            self.stdout = None;
        }
        if self.caught.stdout.len() > MAX_SIZE {
            self.caught.overflowed = true;
            self.caught.stdout.truncate(MAX_SIZE);
            self.stdout = None;
        }
        if stderr && !read_some(self.stderr.as_mut(), &mut self.caught.stderr)? {
            self.stderr = None;
        }
        let excess = self.caught.stderr.len().saturating_sub(STDERR_RING);
        self.caught.stderr.drain(..excess);
        if stdin {
            self.feed()?;
        }
        if exit || asked.is_some_and(has_ended) {
            self.exit = None;
        }
        Ok(())
    }

    fn feed(&mut self) -> io::Result<()> {
        let Some(pipe) = self.stdin.as_mut() else { return Ok(()) };
        match pipe.write(self.input.get(self.written..).unwrap_or_default()) {
            Ok(count) => self.written += count,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            // A plugin need not read its configuration; its exit code tells.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => self.written = self.input.len(),
            Err(e) => return Err(e),
        }
        if self.written >= self.input.len() {
            self.stdin = None;
        }
        Ok(())
    }
}

/// Reads once; false at the end of the pipe.
fn read_some(pipe: Option<&mut impl Read>, into: &mut Vec<u8>) -> io::Result<bool> {
    let Some(pipe) = pipe else { return Ok(false) };
    let mut buffer = [0; 4 * 1024];
    match pipe.read(&mut buffer) {
        Ok(0) => Ok(false),
        Ok(count) => {
            into.extend_from_slice(buffer.get(..count).unwrap_or_default());
            Ok(true)
        }
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(true),
        Err(e) => Err(e),
    }
}

fn has_ended(pid: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
    waitid(Id::Pid(pid), flags) != Ok(WaitStatus::StillAlive)
}

fn failed(e: io::Error) -> Error {
    Error::new(code::INTERNAL, format!("its pipes cannot be served: {e}"))
}
