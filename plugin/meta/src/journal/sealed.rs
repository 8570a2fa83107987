//! One text of a record: the record and a checksum over its exact text, which tells a whole one from a torn one.

use cni::error::one_line;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::JournalError;
use crate::record::Record;

/// Layout of the record; an older build refuses a newer one instead of guessing.
const FORMAT_VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sealed {
    format_version: u32,
    checksum: String,
    record: Box<RawValue>,
}

/// The record, and what tells whether it is whole.
pub(super) fn sealed(record: &Record) -> Result<String, JournalError> {
    let record =
        serde_json::value::to_raw_value(record).map_err(|e| JournalError::invalid("the record", e))?;
    let sealed = Sealed { format_version: FORMAT_VERSION, checksum: checksum(record.get()), record };
    serde_json::to_string(&sealed).map_err(|e| JournalError::invalid("the record", e))
}

/// Why a text is no record.
pub(super) enum Unreadable {
    Torn(String),
    /// Written by a newer build in this format.
    Newer(u32),
}

/// The record, or what is wrong with its text.
pub(super) fn unsealed(text: &[u8]) -> Result<Record, Unreadable> {
    let broken = |error: serde_json::Error| Unreadable::Torn(one_line(&error.to_string(), 100));
    let sealed: Sealed = serde_json::from_slice(text).map_err(broken)?;
    if sealed.format_version > FORMAT_VERSION {
        return Err(Unreadable::Newer(sealed.format_version));
    }
    if sealed.checksum != checksum(sealed.record.get()) {
        return Err(Unreadable::Torn("its checksum does not match".to_owned()));
    }
    serde_json::from_str(sealed.record.get()).map_err(broken)
}

/// FNV-1a: tells a torn or altered file; it is no protection against whoever may write the folder, who is root.
fn checksum(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("fnv1a:{hash:016x}")
}
