//! The plugin's log: stderr, which the runtime keeps, and a file when one is set. Keys as Go Multus has them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use cni::raw;
use serde::Deserialize;

use crate::netconf::Entry;

const MEGABYTE: u64 = 1 << 20;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// `logOptions`; the defaults are those of Go Multus.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rotation {
    /// Days that an old file is kept.
    max_age: u64,
    /// Megabytes after which a new file begins.
    max_size: u64,
    /// Old files that are kept.
    max_backups: usize,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { max_age: 5, max_size: 100, max_backups: 5 }
    }
}

/// Starts the log as the config on stdin says. A wrong value costs log lines and no pod.
pub(crate) fn start(config: &raw::Object) {
    let entry = Entry::of(config);
    let level = std::env::var("MULTUS_LOG").ok().or_else(|| entry.get::<String>("logLevel").ok().flatten());
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(filter(level.as_deref().unwrap_or_default()));
    let to_stderr = entry.get("logToStderr").ok().flatten().unwrap_or(true);
    let rotation = entry.get("logOptions").ok().flatten().unwrap_or_default();
    let file = match entry.path("logFile") {
        Ok(Some(path)) => open(&path, rotation).map_err(|error| format!("{}: {error}", path.display())),
        Ok(None) => Err(String::new()),
        Err(fault) => Err(fault.message),
    };
    let complaint = match file {
        Ok(file) => {
            builder.target(env_logger::Target::Pipe(Box::new(Both { file, to_stderr })));
            String::new()
        }
        Err(why) => {
            if !to_stderr && why.is_empty() {
                builder.filter_level(log::LevelFilter::Off);
            }
            why
        }
    };
    // A second start in one process keeps the first log.
    if builder.try_init().is_ok() && !complaint.is_empty() {
        log::warn!("the log file cannot be used, so the log goes to stderr: {complaint}");
    }
}

/// Keys that are accepted and change nothing, said where somebody looks for more than warnings.
pub(crate) fn say_idle_keys(known: &raw::Object) {
    if known.get("logOptions").is_some_and(|options| options.get().contains("\"compress\"")) {
        log::info!("logOptions.compress changes nothing: old log files stay readable");
    }
}

/// The words of Go Multus, in any case; others are taken for filters of this log's own.
fn filter(level: &str) -> &str {
    let words = [("debug", "debug"), ("verbose", "info"), ("error", "error"), ("panic", "error")];
    match words.iter().find(|(word, _)| level.eq_ignore_ascii_case(word)) {
        Some((_, filter)) => filter,
        None if level.is_empty() => "warn",
        None => level,
    }
}

struct Both {
    file: File,
    to_stderr: bool,
}

impl Write for Both {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.to_stderr {
            io::stderr().write_all(line)?;
        }
        self.file.write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn open(path: &Path, rotation: Rotation) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    if fs::metadata(path).is_ok_and(|file| file.len() >= rotation.max_size.saturating_mul(MEGABYTE)) {
        rotate(path, rotation)?;
    }
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Sets the full file aside under a name with its time, and removes old ones. Processes that do so at once each
/// move what they find; no line is lost, since a moved file keeps its writers.
fn rotate(path: &Path, rotation: Rotation) -> io::Result<()> {
    let now = SystemTime::now();
    let stamp = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    match fs::rename(path, sibling(path, &format!("-{stamp:015}"))) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut old = backups(path)?;
    old.sort();
    old.reverse();
    for (position, file) in old.iter().enumerate() {
        let age = fs::metadata(file).and_then(|file| file.modified()).ok();
        let age = age.and_then(|modified| now.duration_since(modified).ok()).unwrap_or_default();
        let too_many = rotation.max_backups > 0 && position >= rotation.max_backups;
        let too_old = rotation.max_age > 0 && age.as_secs() / DAY.as_secs() >= rotation.max_age;
        if too_many || too_old {
            fs::remove_file(file)?;
        }
    }
    Ok(())
}

/// `multus.log` and `-000…` give `multus-000….log`.
fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(suffix);
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

fn backups(path: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let is_backup = |name: &str| {
        let stamp = name.strip_prefix(&stem).and_then(|rest| rest.strip_prefix('-'));
        stamp.is_some_and(|rest| rest.len() >= 15 && rest.bytes().take(15).all(|b| b.is_ascii_digit()))
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if is_backup(&entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}
