//! One call of a plugin: the `CNI_*` environment and the configuration on standard input.

use std::{collections::BTreeMap, path::PathBuf, str::FromStr};

use serde::Deserialize;

use crate::{
    config::valid_network_name,
    error::{Error, code, one_line},
    raw::{self, Keyed},
    result::CniResult,
    version,
};

/// Largest standard input that is read. More than a configuration may have: a runtime adds `prevResult` and
/// all annotations of a pod.
pub const MAX_STDIN: usize = 4 * 1024 * 1024;
/// Longest container id; it becomes part of file names.
const MAX_CONTAINER_ID: usize = 200;
/// The kernel's IFNAMSIZ without its NUL.
const MAX_IFNAME: usize = 15;

/// What `CNI_COMMAND` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// Attach.
    Add,
    /// Detach.
    Del,
    /// Compare an attachment with what it should be.
    Check,
    /// Remove what belongs to no valid attachment.
    Gc,
    /// Tell whether ADD would work.
    Status,
    /// Tell the supported versions.
    Version,
}

impl Command {
    /// The word of the specification.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    fn concerns_attachment(self) -> bool {
        matches!(self, Self::Add | Self::Del | Self::Check)
    }

    /// The variables that the specification requires for it, beside `CNI_COMMAND`.
    fn required(self) -> &'static [&'static str] {
        match self {
            Self::Add | Self::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
            Self::Del => &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"],
            Self::Gc | Self::Status => &["CNI_PATH"],
            Self::Version => &[],
        }
    }
}

impl FromStr for Command {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self, Error> {
        match word {
            "ADD" => Ok(Self::Add),
            "DEL" => Ok(Self::Del),
            "CHECK" => Ok(Self::Check),
            "GC" => Ok(Self::Gc),
            "STATUS" => Ok(Self::Status),
            "VERSION" => Ok(Self::Version),
            other => Err(bad(format!("CNI_COMMAND {:?} is unknown", one_line(other, 40)))),
        }
    }
}

/// A validated call.
#[derive(Debug, Clone)]
pub struct Request {
    /// `CNI_COMMAND`.
    pub command: Command,
    /// `CNI_CONTAINERID`; empty for GC, STATUS and VERSION.
    pub container_id: String,
    /// `CNI_NETNS`, where it is given.
    pub netns: Option<String>,
    /// `CNI_IFNAME`; empty for GC, STATUS and VERSION.
    pub ifname: String,
    /// `CNI_ARGS` as pairs, in order.
    pub args: Vec<(String, String)>,
    /// `CNI_PATH`.
    pub path: Vec<PathBuf>,
    /// Standard input, parsed.
    pub config: raw::Object,
    /// The configuration's version; 0.1.0 where it says none.
    pub cni_version: String,
}

impl Request {
    /// Reads a call. A DEL is held to less than the others: it must clean up also after a configuration that
    /// ADD would refuse.
    pub fn from_env(env: &BTreeMap<String, String>, stdin: &[u8]) -> Result<Self, Error> {
        let var = |name: &str| env.get(name).map(String::as_str).unwrap_or_default();
        if var("CNI_COMMAND").is_empty() {
            return Err(bad(
                "CNI_COMMAND is missing: this is a CNI plugin, to be run by a container runtime",
            ));
        }
        let command: Command = var("CNI_COMMAND").parse()?;
        let missing: Vec<&str> = command.required().iter().copied().filter(|n| var(n).is_empty()).collect();
        if !missing.is_empty() {
            return Err(bad(format!("{} needs {}, which is missing", command.as_str(), missing.join(", "))));
        }
        if command == Command::Version {
            return Ok(Self::version_call(stdin));
        }
        // GC and STATUS concern no container, whatever a runtime leaves in the environment.
        let attachment = |name: &str| if command.concerns_attachment() { var(name) } else { "" };
        let (container_id, ifname) = (attachment("CNI_CONTAINERID"), attachment("CNI_IFNAME"));
        if !container_id.is_empty() && !valid_container_id(container_id) {
            let shown = one_line(container_id, 60);
            return Err(bad(format!("CNI_CONTAINERID {shown:?} is no valid container id")));
        }
        if !ifname.is_empty() && !valid_ifname(ifname) {
            return Err(bad(format!("CNI_IFNAME {:?} is no valid interface name", one_line(ifname, 40))));
        }
        let text = std::str::from_utf8(stdin)
            .map_err(|_| Error::new(code::DECODE, "the configuration on stdin is not UTF-8"))?;
        let config = raw::Object::parse_capped(text, MAX_STDIN)
            .map_err(|e| Error { msg: format!("configuration on stdin: {}", e.msg), ..e })?;
        let cni_version = config_version(&config)?;
        if command != Command::Del {
            version::require(&cni_version)?;
            let name: String = config.get_known("name")?.unwrap_or_default();
            if !valid_network_name(&name) {
                let msg = format!("network name {:?} is missing or invalid", one_line(&name, 60));
                return Err(Error::new(code::INVALID_CONFIG, msg));
            }
        }
        Ok(Self {
            command,
            container_id: container_id.to_owned(),
            netns: Some(attachment("CNI_NETNS")).filter(|n| !n.is_empty()).map(str::to_owned),
            ifname: ifname.to_owned(),
            args: parse_args(var("CNI_ARGS"), command)?,
            path: var("CNI_PATH").split(':').filter(|p| !p.is_empty()).map(PathBuf::from).collect(),
            config,
            cni_version,
        })
    }

    /// `prevResult` of the configuration, where there is one: the answer of the plugin before this one, or the
    /// answer of the ADD.
    ///
    /// # Errors
    /// Code 6 when it is no result, code 7 when it is not an object.
    pub fn prev_result(&self) -> Result<Option<CniResult>, Error> {
        let Some(raw) = self.config.get("prevResult").filter(|raw| raw.get() != "null") else {
            return Ok(None);
        };
        let located = |e: Error| Error { msg: format!("prevResult: {}", e.msg), ..e };
        CniResult::parse(raw.get().as_bytes(), &self.cni_version).map(Some).map_err(located)
    }

    /// GC: the attachments that live, as (container id, interface). `None` where the runtime gave no list; then
    /// nothing may be removed.
    ///
    /// # Errors
    /// Code 7 when it is no such list.
    pub fn valid_attachments(&self) -> Result<Option<Vec<(String, String)>>, Error> {
        #[derive(Deserialize)]
        struct Valid {
            #[serde(rename = "containerID")]
            container_id: String,
            ifname: String,
        }
        let listed: Option<Vec<Keyed<Valid>>> = self.config.get_as("cni.dev/valid-attachments")?;
        let pair = |Keyed(valid): Keyed<Valid>| (valid.container_id, valid.ifname);
        Ok(listed.map(|listed| listed.into_iter().map(pair).collect()))
    }

    /// VERSION must answer without any configuration, so a broken one is no error here.
    fn version_call(stdin: &[u8]) -> Self {
        let config =
            std::str::from_utf8(stdin).ok().and_then(|t| raw::Object::parse_capped(t, MAX_STDIN).ok());
        let config = config.unwrap_or_default();
        let cni_version = config_version(&config).unwrap_or_else(|_| version::DEFAULT.to_owned());
        Self {
            command: Command::Version,
            container_id: String::new(),
            netns: None,
            ifname: String::new(),
            args: Vec::new(),
            path: Vec::new(),
            config,
            cni_version,
        }
    }
}

fn config_version(config: &raw::Object) -> Result<String, Error> {
    let version: String = config.get_known("cniVersion")?.unwrap_or_default();
    Ok(if version.is_empty() { version::DEFAULT.to_owned() } else { version })
}

/// `K=V;K2=V2`. A value may itself contain `=`, as runtimes and users send such values. A DEL passes over what
/// ADD would refuse.
fn parse_args(text: &str, command: Command) -> Result<Vec<(String, String)>, Error> {
    let mut pairs = Vec::new();
    for item in text.split(';').filter(|item| !item.is_empty()) {
        match item.split_once('=') {
            Some((key, value)) => pairs.push((key.to_owned(), value.to_owned())),
            None if command == Command::Del => {}
            None => {
                let shown = one_line(item, 60);
                return Err(bad(format!("CNI_ARGS: {shown:?} has no value, expected KEY=VALUE")));
            }
        }
    }
    Ok(pairs)
}

fn bad(msg: impl Into<String>) -> Error {
    Error::new(code::BAD_ENVIRONMENT, msg)
}

/// True for a name that the kernel accepts and does not expand.
pub fn valid_ifname(name: &str) -> bool {
    let bad_char = |c: char| matches!(c, '/' | ':' | '%') || c.is_whitespace() || c.is_control();
    !matches!(name, "" | "." | "..") && name.len() <= MAX_IFNAME && !name.contains(bad_char)
}

/// True for an id of the specification's alphabet that also fits into a file name.
pub fn valid_container_id(id: &str) -> bool {
    id.len() <= MAX_CONTAINER_ID
        && id.starts_with(|c: char| c.is_ascii_alphanumeric())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}
