//! How long pods take to start on a real cluster, as `pod-start` of the crate `e2e` measured it before.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::stats::Stats;

/// Pod starts of each case, in turn within one run.
#[derive(Debug, Serialize)]
pub(crate) struct Starts(pub(crate) Vec<Row>);

/// One case.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) case: String,
    pub(crate) time: Stats,
}

#[derive(Deserialize)]
struct Measured {
    case: String,
    microseconds: Vec<f64>,
}

impl Starts {
    /// From the file that holds what was printed.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let measured: Vec<Measured> =
            serde_json::from_str(&text).with_context(|| file.display().to_string())?;
        let row = |one: Measured| {
            let times: Vec<Duration> =
                one.microseconds.iter().map(|time| Duration::from_secs_f64(time / 1e6)).collect();
            Row { case: one.case, time: Stats::of(&times) }
        };
        Ok(Self(measured.into_iter().map(row).collect()))
    }
}
