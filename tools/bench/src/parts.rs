//! What a call is made of, each part measured alone on the same machine in the same run.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::{serial::REST, stats::Stats};

const ROUNDS: usize = 100;
/// About as long as the record of a pod with two networks.
const RECORD: [u8; 2048] = [b'x'; 2048];

/// Medians and p99, in microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Parts {
    /// Starting the plugin, which only says its version, until it has ended.
    pub(crate) start_plugin: Stats,
    /// The same of the no-op delegate.
    pub(crate) start_delegate: Stats,
    /// A file written aside, renamed, synced, and its folder synced.
    pub(crate) synced_file: Stats,
    /// As much added to a file that is there.
    pub(crate) noted: Stats,
    /// The same, synced.
    pub(crate) noted_synced: Stats,
    /// Such a file removed.
    pub(crate) removed: Stats,
    /// Connecting to the daemon's socket, a question, its answer, and the end of the connection.
    pub(crate) round_trip: Stats,
}

/// Measures the parts; `folder` is on the disk of the plugin's state.
pub(crate) fn measure(shim: &Path, delegate: &Path, socket: &Path, folder: &Path) -> Result<Parts> {
    let (synced_file, removed) = records(folder)?;
    Ok(Parts {
        start_plugin: repeat(|| start(Command::new(shim).arg("--version")))?,
        start_delegate: repeat(|| start(&mut Command::new(delegate)))?,
        synced_file,
        noted: repeat(|| note(folder).map(drop))?,
        noted_synced: repeat(|| Ok(note(folder)?.sync_data()?))?,
        removed,
        round_trip: repeat(|| ask(socket))?,
    })
}

fn repeat(mut part: impl FnMut() -> Result<()>) -> Result<Stats> {
    let times: Vec<Duration> = (0..ROUNDS).map(|_| timed(&mut part)).collect::<Result<_>>()?;
    Ok(Stats::of(&times))
}

/// From rest, as the calls that these are parts of.
fn timed(part: impl FnOnce() -> Result<()>) -> Result<Duration> {
    sleep(REST);
    let begin = Instant::now();
    part()?;
    Ok(begin.elapsed())
}

fn start(command: &mut Command) -> Result<()> {
    let quiet = command.env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    if !quiet.status().context("cannot start a plugin")?.success() {
        bail!("{:?} failed", command.get_program());
    }
    Ok(())
}

fn write(folder: &Path) -> Result<()> {
    let (aside, path) = (folder.join(".aside"), folder.join("record.json"));
    let mut file = File::create(&aside)?;
    file.write_all(&RECORD)?;
    fs::rename(&aside, &path)?;
    file.sync_all()?;
    File::open(folder)?.sync_all().map_err(Into::into)
}

fn note(folder: &Path) -> Result<File> {
    let mut file = File::options().append(true).create(true).open(folder.join("steps.json"))?;
    file.write_all(&RECORD)?;
    Ok(file)
}

/// Times of making a record and of removing it.
fn records(folder: &Path) -> Result<(Stats, Stats)> {
    let (mut made, mut removed) = (Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS));
    for _ in 0..ROUNDS {
        made.push(timed(|| write(folder))?);
        removed.push(timed(|| fs::remove_file(folder.join("record.json")).map_err(Into::into))?);
    }
    Ok((Stats::of(&made), Stats::of(&removed)))
}

fn ask(socket: &Path) -> Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: multus\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if !answer.starts_with("HTTP/1.1 200") {
        bail!("the daemon answers: {answer}");
    }
    Ok(())
}
