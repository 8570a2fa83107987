//! `multus-daemon probe`: one request over the socket, exit code 0 for an answer of 200.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context, bail};

const DEADLINE: Duration = Duration::from_secs(3);
const LONGEST_ANSWER: u64 = 64 * 1024;

/// Which question a probe asks.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum What {
    /// Is the process at work.
    Livez,
    /// Can it answer requests.
    Readyz,
}

/// Asks, and fails with the daemon's own line.
pub(crate) fn run(socket: &Path, what: What) -> anyhow::Result<()> {
    let path = match what {
        What::Livez => "/livez",
        What::Readyz => "/readyz",
    };
    let mut stream =
        UnixStream::connect(socket).with_context(|| format!("cannot connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let mut answer = Vec::new();
    let asked = write!(stream, "GET {path} HTTP/1.1\r\nHost: multus\r\nConnection: close\r\n\r\n")
        .and_then(|()| (&stream).take(LONGEST_ANSWER).read_to_end(&mut answer));
    asked.with_context(|| format!("no answer from {} within {} s", socket.display(), DEADLINE.as_secs()))?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split_whitespace().nth(1) == Some("200") {
        return Ok(());
    }
    let first_line = head.lines().next().unwrap_or_default();
    bail!("{path}: {first_line}: {}", body.trim());
}
