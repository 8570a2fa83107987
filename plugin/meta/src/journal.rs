//! What was done for a sandbox, written before it is done, so that DEL needs nobody.
//!
//! One file per sandbox: `journal/ID.json` for pods with networks (synced to disk before the first delegate),
//! `plain/ID.json` under the run folder for the others (best effort). A checksum over the exact text of the
//! record tells a torn file from a whole one.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use cni::{chain, config::NetworkConfig, raw, result::CniResult};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use cni::error::one_line;

use crate::{cluster::PodRef, resolve::Delegate};

/// Layout of the record; an older build refuses a newer one instead of guessing.
const FORMAT_VERSION: u32 = 1;

/// How far an attachment got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Not started; needs no DEL while the boot that planned it lasts.
    Planned,
    /// ADD has been called; what came of it is unknown.
    Attaching,
    /// ADD succeeded.
    Attached,
    /// DEL succeeded.
    Detached,
}

/// One delegate's part of a sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// `NAMESPACE/NAME`, or the primary's network name.
    pub network: String,
    /// Interface in the pod.
    pub ifname: String,
    /// The config of the ADD, whole.
    config: Box<RawValue>,
    /// The runtimeConfig of the ADD.
    pub capability_args: raw::Object,
    /// How far it got.
    pub phase: Phase,
    /// What the delegate answered.
    result: Option<Box<RawValue>>,
    /// The pod's default network.
    pub primary: bool,
}

impl Attachment {
    /// An attachment that has not been started.
    ///
    /// # Errors
    /// When the config cannot be written as JSON.
    pub fn planned(delegate: &Delegate) -> Result<Self, JournalError> {
        let config = RawValue::from_string(delegate.config.to_json())
            .map_err(|e| JournalError::invalid("the config of a delegate", e))?;
        Ok(Self {
            network: delegate.network.clone(),
            ifname: delegate.ifname.clone(),
            config,
            capability_args: delegate.capability_args.clone(),
            phase: Phase::Planned,
            result: None,
            primary: delegate.primary,
        })
    }

    /// The config of the ADD.
    ///
    /// # Errors
    /// When the journal holds no valid config.
    pub fn config(&self) -> Result<NetworkConfig, cni::error::Error> {
        NetworkConfig::parse(self.config.get(), Some(&self.network))
    }

    /// What the delegate answered to ADD, if that is known.
    ///
    /// # Errors
    /// When the journal holds no valid result.
    pub fn result(&self, config_version: &str) -> Result<Option<CniResult>, cni::error::Error> {
        self.result.as_ref().map(|raw| CniResult::parse(raw.get().as_bytes(), config_version)).transpose()
    }

    /// ADD succeeded with this result.
    ///
    /// # Errors
    /// When the result is not JSON, which a parsed one always is.
    pub fn attached(&mut self, result: &CniResult) -> Result<(), JournalError> {
        self.result = Some(
            RawValue::from_string(result.raw().to_owned())
                .map_err(|e| JournalError::invalid("a delegate's result", e))?,
        );
        self.phase = Phase::Attached;
        Ok(())
    }
}

/// All that is known of one sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// `CNI_CONTAINERID`.
    pub sandbox: String,
    /// The pod, where Kubernetes is behind the call.
    pub pod: Option<PodRef>,
    /// `CNI_NETNS` of the ADD.
    pub netns: String,
    /// `CNI_ARGS` of the ADD, as they came.
    pub args: String,
    /// Boot in which it was written.
    pub boot_id: String,
    /// Seconds since 1970 of the first DEL that failed.
    pub failing_since: Option<u64>,
    /// In the order of their ADD; the primary first.
    pub attachments: Vec<Attachment>,
}

impl Record {
    /// Whether this boot wrote the record; if not, its phases may be behind what really happened.
    pub fn of_this_boot(&self) -> bool {
        boot_id().is_ok_and(|id| id == self.boot_id)
    }

    /// One of its attachments as a delegate is called for it: the same for ADD, CHECK and DEL.
    pub fn call<'a>(&'a self, attachment: &'a Attachment) -> chain::Attachment<'a> {
        chain::Attachment {
            container_id: &self.sandbox,
            netns: Some(self.netns.as_str()).filter(|path| !path.is_empty()),
            ifname: &attachment.ifname,
            args: &self.args,
            capability_args: &attachment.capability_args,
        }
    }
}

/// Why a record could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A file operation failed.
    #[error("{doing} {path}: {source}", path = path.display())]
    Io {
        /// `writing`, `reading`, `removing`.
        doing: &'static str,
        /// The record's file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file's text is not a record: torn by a power cut, or of a newer version.
    #[error("{path} is no whole record: {why}", path = path.display())]
    Corrupt {
        /// The record's file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Something to be recorded is no JSON.
    #[error("{what} is no JSON: {why}")]
    Invalid {
        /// What was to be recorded.
        what: &'static str,
        /// The parser's words.
        why: String,
    },
}

impl JournalError {
    fn invalid(what: &'static str, error: serde_json::Error) -> Self {
        Self::Invalid { what, why: one_line(&error.to_string(), 100) }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sealed {
    format_version: u32,
    checksum: String,
    record: Box<RawValue>,
}

/// A folder of records.
#[derive(Debug, Clone)]
pub struct Journal {
    dir: PathBuf,
    durable: bool,
}

impl Journal {
    /// Records that survive a power cut.
    pub fn durable(state_dir: &Path) -> Self {
        Self { dir: state_dir.join("journal"), durable: true }
    }

    /// Records of plain pods: no sync, gone with a reboot.
    pub fn plain(run_dir: &Path) -> Self {
        Self { dir: run_dir.join("plain"), durable: false }
    }

    /// Writes a record whole; on return of a durable one it is on the disk.
    ///
    /// # Errors
    /// When the folder or file cannot be written; nothing half-written is left under the record's name.
    pub fn write(&self, record: &Record) -> Result<(), JournalError> {
        self.write_as(record, self.durable)
    }

    /// Like [`Journal::write`], for progress that a power cut may lose: a reboot treats every phase as possible.
    ///
    /// # Errors
    /// As [`Journal::write`].
    pub fn note(&self, record: &Record) -> Result<(), JournalError> {
        self.write_as(record, false)
    }

    fn write_as(&self, record: &Record, sync: bool) -> Result<(), JournalError> {
        let path = self.path(&record.sandbox);
        let record =
            serde_json::value::to_raw_value(record).map_err(|e| JournalError::invalid("the record", e))?;
        let sealed = Sealed { format_version: FORMAT_VERSION, checksum: checksum(record.get()), record };
        let text = serde_json::to_string(&sealed).map_err(|e| JournalError::invalid("the record", e))?;
        let failed = |source| JournalError::Io { doing: "writing", path: path.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(failed)?;
        let mut file = tempfile::Builder::new().prefix(".").tempfile_in(&self.dir).map_err(failed)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o600)).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        if sync {
            file.as_file().sync_all().map_err(failed)?;
        }
        file.persist(&path).map_err(|e| failed(e.error))?;
        if sync {
            fs::File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
        }
        Ok(())
    }

    /// Reads a sandbox's record, if there is one.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] when the file is not what was written.
    pub fn read(&self, sandbox: &str) -> Result<Option<Record>, JournalError> {
        let path = self.path(sandbox);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(source) => return Err(JournalError::Io { doing: "reading", path, source }),
        };
        let corrupt = |why: String| JournalError::Corrupt { path: path.clone(), why };
        let sealed: Sealed =
            serde_json::from_slice(&text).map_err(|e| corrupt(one_line(&e.to_string(), 100)))?;
        if sealed.format_version > FORMAT_VERSION {
            return Err(corrupt(format!("format {} is newer than this build", sealed.format_version)));
        }
        if sealed.checksum != checksum(sealed.record.get()) {
            return Err(corrupt("its checksum does not match".to_owned()));
        }
        let record: Record =
            serde_json::from_str(sealed.record.get()).map_err(|e| corrupt(one_line(&e.to_string(), 100)))?;
        Ok(Some(record))
    }

    /// Whether there is a file for the sandbox.
    pub fn knows(&self, sandbox: &str) -> bool {
        self.path(sandbox).exists()
    }

    /// Removes a sandbox's record; none is fine.
    ///
    /// # Errors
    /// When the file is there and stays.
    pub fn remove(&self, sandbox: &str) -> Result<(), JournalError> {
        let path = self.path(sandbox);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(JournalError::Io { doing: "removing", path, source: error })
            }
            _ => Ok(()),
        }
    }

    /// Moves a record that no DEL can serve into `given-up/` next to the journal, where it can be looked at.
    ///
    /// # Errors
    /// When the file cannot be moved.
    pub fn give_up(&self, sandbox: &str) -> Result<(), JournalError> {
        let path = self.path(sandbox);
        let folder = self.dir.with_file_name("given-up");
        let failed = |source| JournalError::Io { doing: "setting aside", path: path.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
        fs::rename(&path, folder.join(format!("{sandbox}.json"))).map_err(failed)
    }

    fn path(&self, sandbox: &str) -> PathBuf {
        self.dir.join(format!("{sandbox}.json"))
    }
}

/// No file, or no folder that could hold one.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// FNV-1a: tells a torn or altered file; it is no protection against whoever may write the folder, who is root.
fn checksum(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("fnv1a:{hash:016x}")
}

/// This boot's id, as the kernel says it.
///
/// # Errors
/// When `/proc` is not readable.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
