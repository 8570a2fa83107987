//! What stands in the CNI config folder besides the primary: our config, a Go Multus's, and what sorts before us.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use cni::config::{NetworkConfig, plugin_type};
use cni::raw::Object;
use hostfs::{HostDir, Ledger, atomic, primary};

use crate::conflist::{FILE, is_ours, plugins};

/// The config that a Go Multus writes; runtimes read it before ours.
const GO_FILE: &str = "00-multus.conf";

/// Whether our config stands in the CNI config folder, valid and before every other.
pub(crate) fn is_served(conf: &HostDir) -> Result<()> {
    let shown = conf.host(Path::new(FILE));
    let place = conf.place()?;
    let text = fs::read_to_string(place.here.join(FILE))
        .with_context(|| format!("cannot read {}", shown.display()))?;
    if let Err(e) = NetworkConfig::parse(&text, None) {
        bail!("{} is not valid: {}", shown.display(), e.msg);
    }
    let ours = Object::parse(&text).is_ok_and(|o| plugins(&o).iter().any(is_ours));
    ensure!(ours, "{} does not name our plugin", shown.display());
    let names = primary::candidates(&place.here).context("cannot list the CNI config folder")?;
    match names.first() {
        Some(first) if first == FILE => Ok(()),
        Some(first) => bail!(
            "{} sorts before {FILE}, so the runtime loads that: remove or rename it",
            conf.host(Path::new(first)).display()
        ),
        None => bail!("{} is gone", shown.display()),
    }
}

/// The config that is in place, with its text, if it is a regular file and a JSON object.
pub(crate) fn existing(path: &Path) -> Option<(Object, String)> {
    if !fs::symlink_metadata(path).is_ok_and(|m| m.is_file()) {
        return None;
    }
    let text = fs::read_to_string(path).ok()?;
    Object::parse(&text).ok().map(|object| (object, text))
}

/// Whether a Go Multus's config stands in the folder.
pub(crate) fn has_go_multus(conf: &HostDir) -> bool {
    let object = conf.place().ok().and_then(|place| existing(&place.here.join(GO_FILE)));
    object.is_some_and(|(object, _)| plugin_type(&object).is_ok_and(|t| t.starts_with("multus")))
}

/// Removes it; a copy stays in the ledger, for the way back. Only once ours is in place.
pub(crate) fn set_go_multus_aside(conf: &HostDir, ledger: &mut Ledger) -> Result<()> {
    let place = conf.place()?;
    let here = place.here.join(GO_FILE);
    ledger.record_removal(&here, &place.host.join(GO_FILE))?;
    atomic::remove(&here)?;
    log::warn!(
        "{} of a Go Multus is set aside, since runtimes read it before ours; remove its DaemonSet",
        conf.host(Path::new(GO_FILE)).display()
    );
    Ok(())
}

/// Whether Cilium set our config aside.
pub(crate) fn cilium_took_ours(here: &Path) -> bool {
    here.with_file_name(primary::cilium_bak(here)).exists()
}
