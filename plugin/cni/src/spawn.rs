//! Starts a plugin binary as the leader of its own process group, also one that is just being installed.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{prctl, signal::Signal},
    unistd::{getpid, getppid},
};

use crate::error::{Error, code};

/// How long a binary is waited for that somebody is just writing.
const BUSY_FOR: Duration = Duration::from_secs(5);
/// Pause between tries; nothing tells when a file stops being written.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// Starts `binary` with `env` on top of our own environment, and pipes for its three streams. It dies with the
/// thread that calls this.
pub(crate) fn spawn(binary: &Path, env: &[(&str, String)], deadline: Instant) -> Result<Child, Error> {
    let mut command = command(binary, env);
    let give_up = (Instant::now() + BUSY_FOR).min(deadline);
    loop {
        if Instant::now() >= deadline {
            return Err(Error::new(code::TRY_AGAIN_LATER, "no time was left to start it"));
        }
        match format(binary) {
            Format::Foreign => {
                return Err(broken(binary, "it is neither an ELF binary nor a script with #!"));
            }
            Format::Cut => {}
            Format::Runnable => match command.spawn() {
                Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy => {}
                other => return other.map_err(|e| broken(binary, &why(&e))),
            },
        }
        if Instant::now() >= give_up {
            let msg = format!("{} is still being written: is its installer stuck?", binary.display());
            return Err(Error::new(code::TRY_AGAIN_LATER, msg));
        }
        thread::sleep(BUSY_PAUSE);
    }
}

fn command(binary: &Path, env: &[(&str, String)]) -> Command {
    let mut command = Command::new(binary);
    command.envs(env.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let parent = getpid();
    let die_with_parent = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before the line above.
        if getppid() == parent { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    };
    #[expect(
        unsafe_code,
        reason = "PR_SET_PDEATHSIG must be set between fork and exec; two system calls, no allocation"
    )]
    // SAFETY: the closure makes only async-signal-safe system calls and does not allocate.
    unsafe {
        command.pre_exec(die_with_parent);
    }
    command
}

/// What the first bytes of a file say.
enum Format {
    Runnable,
    /// Too short to tell: an installer has just begun to write it.
    Cut,
    /// The kernel would refuse it, and a C library would then give it to a shell.
    Foreign,
}

fn format(binary: &Path) -> Format {
    // The kernel has a better word for these: may not be run, and may be run but not read.
    if binary.metadata().is_ok_and(|m| m.permissions().mode() & 0o111 == 0) {
        return Format::Runnable;
    }
    let mut start = Vec::new();
    let Ok(Ok(_)) = File::open(binary).map(|file| file.take(4).read_to_end(&mut start)) else {
        return Format::Runnable;
    };
    match start.as_slice() {
        [b'#', b'!', ..] | [0x7f, b'E', b'L', b'F'] => Format::Runnable,
        [] | [b'#'] | [0x7f, ..] if start.len() < 4 => Format::Cut,
        _ => Format::Foreign,
    }
}

fn why(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::NotFound => "its interpreter is missing".to_owned(),
        io::ErrorKind::PermissionDenied => "it is not executable".to_owned(),
        _ => e.to_string(),
    }
}

fn broken(binary: &Path, why: &str) -> Error {
    Error::new(code::IO, format!("{} does not start: {why}", binary.display()))
}
