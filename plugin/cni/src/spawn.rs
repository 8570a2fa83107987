//! Starts a plugin binary as the leader of its own process group, also one that is just being installed.

use std::{
    collections::BTreeMap,
    env,
    ffi::{CString, OsStr, OsString},
    fs::File,
    io::{self, PipeReader, PipeWriter, Read},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::ffi::OsStringExt,
    },
    path::Path,
    ptr,
    sync::atomic::{AtomicI32, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc,
    sched::{CloneFlags, clone},
    sys::{
        prctl,
        signal::{SigHandler, SigSet, SigmaskHow, Signal, signal},
        wait::waitpid,
    },
    unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, getpid, getppid, setpgid},
};

use crate::error::{Error, code};

/// How long a binary is waited for that somebody is just writing.
const BUSY_FOR: Duration = Duration::from_secs(5);
/// Pause between tries; nothing tells when a file stops being written.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// What the child between its start and its plugin needs of the stack.
const STACK: usize = 8 * 1024;

/// A started plugin and our ends of its streams. It is its caller's to reap.
pub(crate) struct Plugin {
    pub(crate) pid: Pid,
    pub(crate) stdin: PipeWriter,
    pub(crate) stdout: PipeReader,
    pub(crate) stderr: PipeReader,
}

/// Starts `binary` with `env` on top of our own environment, and pipes for its three streams. It dies with the
/// thread that calls this. This process must handle no signal that others send: until its exec, the child would run the
/// handler in our memory.
pub(crate) fn spawn(binary: &Path, env: &[(&str, String)], deadline: Instant) -> Result<Plugin, Error> {
    let give_up = (Instant::now() + BUSY_FOR).min(deadline);
    let mut refused = false;
    loop {
        if Instant::now() >= deadline {
            return Err(Error::new(code::TRY_AGAIN_LATER, "no time was left to start it"));
        }
        match start(binary, env) {
            Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy => {}
            // It may have been completed since: only the second time counts.
            Err(e) if nothing_to_run(&e) && (just_begun(binary) || !refused) => refused = true,
            other => return other.map_err(|e| broken(binary, &why(binary, &e))),
        }
        if Instant::now() >= give_up {
            let msg = format!("{} is still being written: is its installer stuck?", binary.display());
            return Err(Error::new(code::TRY_AGAIN_LATER, msg));
        }
        thread::sleep(BUSY_PAUSE);
    }
}

fn start(binary: &Path, env: &[(&str, String)]) -> io::Result<Plugin> {
    let image = Image::new(binary, env)?;
    let (input, stdin) = io::pipe()?;
    let (stdout, output) = io::pipe()?;
    let (stderr, errors) = io::pipe()?;
    let pid = image.start([input.as_fd(), output.as_fd(), errors.as_fd()])?;
    Ok(Plugin { pid, stdin, stdout, stderr })
}

/// What a process becomes, laid out as the kernel takes it: between start and exec nothing may be allocated.
struct Image {
    program: CString,
    environment: Vec<CString>,
}

impl Image {
    fn new(binary: &Path, env: &[(&str, String)]) -> io::Result<Self> {
        let mut variables: BTreeMap<OsString, OsString> = env::vars_os().collect();
        variables.extend(env.iter().map(|(name, value)| ((*name).into(), value.into())));
        let line = |(mut name, value): (OsString, OsString)| {
            name.push("=");
            name.push(value);
            CString::new(name.into_vec())
        };
        let program = CString::new(OsStr::as_encoded_bytes(binary.as_os_str()))?;
        Ok(Self { program, environment: variables.into_iter().map(line).collect::<Result<_, _>>()? })
    }

    /// Starts it as `posix_spawn` does, in our memory until it is another program: a fork would copy our page tables, for
    /// each plugin again.
    fn start(&self, streams: [BorrowedFd<'_>; 3]) -> io::Result<Pid> {
        let arguments = [self.program.as_ptr(), ptr::null()];
        let lines = self.environment.iter().map(|line| line.as_ptr());
        let environment: Vec<*const libc::c_char> = lines.chain([ptr::null()]).collect();
        let parent = getpid();
        let failed = AtomicI32::new(0);
        let child = || {
            let outcome = become_plugin(streams, parent, &arguments, &environment);
            failed.store(outcome, Ordering::Relaxed);
            127
        };
        let mut stack = [0; STACK];
        // No handler of ours may run in the child: it would write to our memory.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        #[expect(
            unsafe_code,
            reason = "what is set between start and exec, the standard library sets only after a fork"
        )]
        // SAFETY: this thread waits until the child has called exec or ended, so the child is alone on the stack that it
        // gets and what it borrows outlives it; it makes system calls, allocates nothing and takes no lock.
        let cloned = unsafe {
            let flags = CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK;
            clone(Box::new(child), &mut stack, flags, Some(libc::SIGCHLD))
        };
        before.thread_set_mask()?;
        let pid = cloned?;
        match failed.load(Ordering::Relaxed) {
            0 => Ok(pid),
            errno => {
                waitpid(pid, None)?;
                Err(io::Error::from_raw_os_error(errno))
            }
        }
    }
}

/// In the child: does not return but with the error number that says why it is no plugin.
fn become_plugin(
    streams: [BorrowedFd<'_>; 3],
    parent: Pid,
    arguments: &[*const libc::c_char],
    environment: &[*const libc::c_char],
) -> i32 {
    let prepare = || {
        let [input, output, errors] = streams;
        dup2_stdin(input)?;
        dup2_stdout(output)?;
        dup2_stderr(errors)?;
        setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before the line above.
        if getppid() == parent { Ok(()) } else { Err(Errno::EPIPE) }
    };
    if let Err(error) = prepare() {
        return error as i32;
    }
    #[expect(
        unsafe_code,
        reason = "an ignored SIGPIPE would stay ignored in the plugin, and nix's exec allocates"
    )]
    // SAFETY: the default is no handler of ours; program, arguments and environment are strings that end with NUL, in
    // lists that end with NULL.
    unsafe {
        if let Err(error) =
            signal(Signal::SIGPIPE, SigHandler::SigDfl).and_then(|_| SigSet::empty().thread_set_mask())
        {
            return error as i32;
        }
        libc::execve(arguments[0], arguments.as_ptr(), environment.as_ptr());
    }
    Errno::last_raw()
}

fn nothing_to_run(e: &io::Error) -> bool {
    e.raw_os_error() == Some(libc::ENOEXEC)
}

/// Whether an installer has just begun to write it.
fn just_begun(binary: &Path) -> bool {
    matches!(beginning(binary).as_slice(), [] | [b'#'] | [0x7f] | [0x7f, _] | [0x7f, _, _])
}

/// Its first four bytes, or as many as can be read.
fn beginning(binary: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Only for a better word: the kernel has refused it already.
    let _ = File::open(binary).and_then(|file| file.take(4).read_to_end(&mut bytes));
    bytes
}

fn why(binary: &Path, e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::NotFound => "its interpreter is missing".to_owned(),
        io::ErrorKind::PermissionDenied => "it is not executable".to_owned(),
        _ if !nothing_to_run(e) => e.to_string(),
        _ => match beginning(binary).as_slice() {
            b"\x7fELF" => "it is cut off, or built for other machines".to_owned(),
            [b'#', b'!', ..] => "its first line names no interpreter".to_owned(),
            _ => "it is neither an ELF binary nor a script with #!".to_owned(),
        },
    }
}

fn broken(binary: &Path, why: &str) -> Error {
    Error::new(code::IO, format!("{} does not start: {why}", binary.display()))
}
