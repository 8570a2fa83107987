//! Versions of the CNI specification, and how they compare.

use crate::error::{Error, code};

/// Every version that this crate reads and writes, oldest first.
pub const SUPPORTED: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The newest version that this crate reads and writes.
pub const NEWEST: &str = "1.1.0";

/// What a configuration or result without `cniVersion` means.
pub const DEFAULT: &str = "0.1.0";

/// Position of a version in [`SUPPORTED`].
fn rank(version: &str) -> Option<usize> {
    SUPPORTED.iter().position(|v| *v == version)
}

/// True for text of the form of a version, known or not: one to three numbers between dots.
pub fn is_well_formed(version: &str) -> bool {
    version.split('.').count() <= 3 && version.split('.').all(|part| part.parse::<u32>().is_ok())
}

/// True for a version that this crate speaks.
pub fn is_supported(version: &str) -> bool {
    rank(version).is_some()
}

/// True when `version` is known and not older than `minimum`.
pub fn at_least(version: &str, minimum: &str) -> bool {
    matches!((rank(version), rank(minimum)), (Some(v), Some(m)) if v >= m)
}

/// Fails with code 1 for a version that this crate does not speak.
pub fn require(version: &str) -> Result<(), Error> {
    if is_supported(version) {
        return Ok(());
    }
    let shown: String = version.chars().take(40).collect();
    let msg = format!("cniVersion {shown:?} is not supported: use one of {}", SUPPORTED.join(", "));
    Err(Error::new(code::INCOMPATIBLE_VERSION, msg))
}
