//! Which sandboxes the plugin has written down. The daemon only looks, it never writes there.

use std::{fs, io::ErrorKind, path::PathBuf};

use kubernetes::failure;
use meta::cluster::ClusterError;

const INVALID: u32 = 7;
const RETRY: u32 = 11;
const UNKNOWN: &str = "UNKNOWN_SANDBOX";

/// The plugin's journal folder.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
}

impl Journal {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Succeeds for a sandbox with a journal file: what is published was attached by the plugin on this node.
    pub(crate) fn knows(&self, sandbox: &str) -> Result<(), ClusterError> {
        if !container_id(sandbox) {
            let shown = kubernetes::one_line(sandbox, 60);
            let message = format!("sandbox {shown:?} is not a container id: nothing was published");
            return Err(failure(INVALID, UNKNOWN, &message));
        }
        let file = self.folder.join(format!("{sandbox}.json"));
        // At once and not in another thread: a name in a folder of the node takes microseconds.
        match fs::symlink_metadata(&file) {
            Ok(found) if found.is_file() => Ok(()),
            Ok(_) => Err(failure(INVALID, UNKNOWN, &format!("{} is not a file: remove it", file.display()))),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(self.missing(sandbox)),
            Err(error) => {
                let message =
                    format!("cannot read {}: {error}; check the mount of the daemon", file.display());
                Err(failure(RETRY, "JOURNAL_UNREADABLE", &message))
            }
        }
    }

    fn missing(&self, sandbox: &str) -> ClusterError {
        let folder = self.folder.display();
        let message = match fs::metadata(&self.folder) {
            Ok(_) => format!(
                "sandbox {} has no journal file in {folder}: the plugin of this node did not attach it, so nothing \
                 was published",
                kubernetes::one_line(sandbox, 72)
            ),
            Err(error) => format!(
                "the plugin's journal folder {folder} is not mounted in the multus daemon ({error}): mount it \
                 read-only; nothing was published"
            ),
        };
        failure(INVALID, UNKNOWN, &message)
    }
}

/// The rule of the CNI specification, with a bound that file names need.
fn container_id(id: &str) -> bool {
    let rest = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    id.len() <= 200 && id.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()) && id.bytes().all(rest)
}

#[cfg(test)]
mod tests {
    #[test]
    fn container_ids_cannot_leave_the_folder() {
        for bad in ["", ".", "..", "../x", "a/b", ".hidden", "a b", "a\0", &"a".repeat(201)] {
            assert!(!super::container_id(bad), "{bad:?}");
        }
        for good in ["a", "4f2e", "a_b.c-d"] {
            assert!(super::container_id(good), "{good:?}");
        }
    }
}
