//! Readiness: whether the container runtime has our config to load.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use hostfs::HostDir;
use hostfs::primary::candidates;
use serde_json::{Map, Value};

use crate::conflist::{FILE, is_ours, plugins};

/// What the running process writes into the readiness file once its work is done.
pub(crate) const READY: &str = "ready";

/// Fails with the reason while the running process awaits something, or our config is not what a runtime would load.
pub(crate) fn check(conf: &HostDir, readiness: &Path) -> Result<()> {
    let said = fs::read_to_string(readiness)
        .with_context(|| format!("not started yet: cannot read {}", readiness.display()))?;
    ensure!(said.trim() == READY, "{}", said.trim());
    in_place(conf)
}

/// Whether our config stands in the CNI config folder, valid and before every other.
pub(crate) fn in_place(conf: &HostDir) -> Result<()> {
    let shown = conf.host(Path::new(FILE));
    let text =
        fs::read(conf.here(Path::new(FILE))).with_context(|| format!("cannot read {}", shown.display()))?;
    let config: Map<String, Value> =
        serde_json::from_slice(&text).with_context(|| format!("{} is not valid", shown.display()))?;
    ensure!(plugins(&config).iter().any(is_ours), "{} does not name our plugin", shown.display());
    let names = candidates(&conf.here).context("cannot list the CNI config folder")?;
    match names.first() {
        Some(first) if first == FILE => Ok(()),
        Some(first) => bail!(
            "{} sorts before {FILE}, so the runtime loads that: remove or rename it",
            conf.host(Path::new(first)).display()
        ),
        None => bail!("{} is gone", shown.display()),
    }
}
