//! Device files (Device Information Specification 1.1): what a device plugin knows of a device goes to the delegate
//! and into the network status. They are never read for anything that is decided.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::netconf::NetConf;

/// Largest device file that is read, in bytes.
const MAX_SIZE: u64 = 64 * 1024;

/// The two files of one attachment's device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Files {
    /// What the device plugin wrote, where the device comes from one.
    pub of_device: Option<PathBuf>,
    /// What the delegate reads and may write, named in its `CNIDeviceInfoFile`.
    pub of_attachment: PathBuf,
}

impl Files {
    /// Their names, as the specification has them; user text in them holds no slash.
    pub(crate) fn of(
        conf: &NetConf,
        resource: Option<&str>,
        device: &str,
        network: &str,
        sandbox: &str,
        ifname: &str,
    ) -> Self {
        let flat = |text: &str| text.replace('/', "-");
        Self {
            of_device: resource.map(|resource| {
                conf.device_info_dir.join(format!("dp/{}-{}-device.json", flat(resource), flat(device)))
            }),
            of_attachment: conf.device_info_dir.join(format!(
                "cni/{}-{sandbox}_{}",
                flat(network),
                flat(ifname)
            )),
        }
    }

    /// Copies what the device plugin wrote for the delegate; nothing where it wrote nothing.
    ///
    /// # Errors
    /// When the copy cannot be written, or one is there already.
    pub(crate) fn hand_over(&self) -> io::Result<()> {
        let Some(from) = &self.of_device else { return Ok(()) };
        let text = match read(from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        if let Some(folder) = self.of_attachment.parent() {
            fs::create_dir_all(folder)?;
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        }
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o444).open(&self.of_attachment);
        file?.write_all(text.as_bytes())
    }

    /// What is known of the device after the ADD; nothing where there is no file.
    ///
    /// # Errors
    /// When the file is there and no JSON object.
    pub(crate) fn known(&self) -> io::Result<Option<Box<RawValue>>> {
        let text = match read(&self.of_attachment) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let value: Box<RawValue> = serde_json::from_str(&text)?;
        if value.get().starts_with('{') { Ok(Some(value)) } else { Err(io::Error::other("it is no object")) }
    }

    /// Removes the delegate's file after its DEL.
    pub(crate) fn remove(&self) {
        match fs::remove_file(&self.of_attachment) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("{} stays: {error}", self.of_attachment.display());
            }
            _ => {}
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > MAX_SIZE {
        return Err(io::Error::other("it is larger than 64 KB"));
    }
    fs::read_to_string(path)
}
