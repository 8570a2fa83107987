//! What this program sees, for its own probe and for the daemon, which speaks for it in metrics and events.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// The layout that this version writes.
const FORMAT: u32 = 1;

/// One look's outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    format_version: u32,
    /// Our config is in place, valid and first, and the primary network is there.
    pub(crate) ready: bool,
    /// One line: what is awaited or wrong; empty when all is well.
    pub(crate) message: String,
    /// The network that was chosen, as of this look.
    pub(crate) primary: Option<Chosen>,
    /// How often this process put our config back after somebody removed or changed it.
    pub(crate) restored: u64,
}

/// The primary network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chosen {
    pub(crate) network: String,
    /// As the host names it.
    pub(crate) file: PathBuf,
}

impl State {
    pub(crate) fn new(ready: bool, message: String, primary: Option<Chosen>, restored: u64) -> State {
        State { format_version: FORMAT, ready, message, primary, restored }
    }

    /// Writes it, if it changed.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_vec(self).context("cannot write the state as JSON")?;
        text.push(b'\n');
        hostfs::replace(path, &text, 0o644)?;
        Ok(())
    }

    /// Fails with the reason unless the process that wrote it had done its work.
    pub(crate) fn check(path: &Path) -> Result<()> {
        let text =
            fs::read(path).with_context(|| format!("not started yet: cannot read {}", path.display()))?;
        let state: State =
            serde_json::from_slice(&text).with_context(|| format!("{} is not a state", path.display()))?;
        ensure!(state.format_version == FORMAT, "{} is of another version", path.display());
        if !state.ready {
            bail!("{}", state.message);
        }
        Ok(())
    }
}
