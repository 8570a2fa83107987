//! What a plugin answers to ADD.

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    convert,
    error::{Error, code, one_line},
    raw::{Keyed, Object},
    version,
};

/// Largest answer that is read.
pub const MAX_SIZE: usize = 4 * 1024 * 1024;

/// An answer, kept as the text that the plugin printed.
#[derive(Debug, Clone)]
pub struct CniResult {
    version: String,
    text: String,
}

impl CniResult {
    /// Reads an answer to a call with a configuration of `config_version`. No output at all is a result that
    /// says nothing; an answer without version has the configuration's; an error object is a failure whatever
    /// the exit code was.
    pub fn parse(bytes: &[u8], config_version: &str) -> Result<Self, Error> {
        let decode =
            |e: String| Error::new(code::DECODE, format!("the plugin's answer is no CNI result: {e}"));
        let text = std::str::from_utf8(bytes).map_err(|e| decode(e.to_string()))?.trim();
        if text.is_empty() {
            return Ok(Self::empty(config_version));
        }
        let mut object = Object::parse_capped(text, MAX_SIZE)
            .map_err(|e| Error { code: code::DECODE, ..decode(e.msg) })?;
        if let Some(error) = error_object(&object) {
            return Err(error);
        }
        let own: String = object.get_as("cniVersion").map_err(|e| decode(e.msg))?.unwrap_or_default();
        if own.is_empty() {
            version::require(config_version)?;
            object.set("cniVersion", &config_version)?;
            return Ok(Self { version: config_version.to_owned(), text: object.to_json() });
        }
        version::require(&own).map_err(|e| decode(e.msg))?;
        Ok(Self { version: own, text: text.to_owned() })
    }

    /// A result that says nothing.
    pub fn empty(version: &str) -> Self {
        let text = format!("{{\"cniVersion\":{}}}", serde_json::Value::from(version));
        Self { version: version.to_owned(), text }
    }

    /// The text, as printed.
    pub fn raw(&self) -> &str {
        &self.text
    }

    /// The version that the text is written in.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The decoded answer in the shape of 1.1.0, whatever its version. Every address in it is one; its indices
    /// need not point to an interface.
    ///
    /// # Errors
    /// Code 6 when it does not have the shape of its version or an address is none.
    pub fn typed(&self) -> Result<Typed, Error> {
        convert::decode(&self.text, &self.version)
    }

    /// The same answer in another version. Between versions of one shape (up to 0.2.0, up to 0.4.0, from 1.0.0)
    /// only the version changes; otherwise what the other shape cannot say is lost, as libcni loses it.
    ///
    /// ```
    /// let result = cni::result::CniResult::parse(br#"{"ips": [{"address": "192.0.2.5/24"}]}"#, "1.0.0")?;
    /// assert_eq!(
    ///     result.convert("0.2.0")?.raw(),
    ///     r#"{"cniVersion":"0.2.0","ip4":{"ip":"192.0.2.5/24"}}"#
    /// );
    /// # Ok::<(), cni::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// Code 1 for an unknown version and for a result without address in 0.2.0 or older, code 6 when it cannot
    /// be decoded.
    pub fn convert(&self, to: &str) -> Result<Self, Error> {
        if self.version == to {
            return Ok(self.clone());
        }
        Ok(Self { version: to.to_owned(), text: convert::convert(&self.text, &self.version, to)? })
    }
}

/// The error that a plugin printed, where `object` is one and no result.
pub(crate) fn error_object(object: &Object) -> Option<Error> {
    let code: u32 = object.get_as("code").ok().flatten()?;
    let msg: String = object.get_as("msg").ok().flatten()?;
    if ["interfaces", "ips", "ip4", "ip6"].iter().any(|key| object.get(key).is_some()) {
        return None;
    }
    let details: String = object.get_as("details").ok().flatten().unwrap_or_default();
    let code = if code == 0 { code::INTERNAL } else { code };
    Some(Error { code, msg: one_line(&msg, 200), details: one_line(&details, 200) })
}

/// A result in the shape of 1.1.0.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Typed {
    /// The version that it was printed in.
    #[serde(rename = "cniVersion", default, deserialize_with = "or_default")]
    pub cni_version: String,
    /// Interfaces, in the sandbox and outside.
    #[serde(default, deserialize_with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// Addresses.
    #[serde(default, deserialize_with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<Ip>,
    /// Routes.
    #[serde(default, deserialize_with = "objects", skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Name resolution.
    #[serde(default, deserialize_with = "object", skip_serializing_if = "Dns::is_empty")]
    pub dns: Dns,
}

/// One interface.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
    /// Its hardware address.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Its MTU.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub mtu: i64,
    /// The sandbox that it is in; empty on the host.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// The socket of a user-space interface.
    #[serde(
        rename = "socketPath",
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub socket_path: String,
    /// The PCI address of its device.
    #[serde(
        rename = "pciID",
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub pci_id: String,
}

/// One address.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ip {
    /// Address with prefix length.
    #[serde(default, deserialize_with = "or_default")]
    pub address: String,
    /// Default gateway of its subnet.
    #[serde(default, deserialize_with = "or_none", skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Index into the interfaces; a plugin may give one that does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<i64>,
}

/// One route.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Destination with prefix length.
    #[serde(default, deserialize_with = "or_default")]
    pub dst: String,
    /// Gateway.
    #[serde(default, deserialize_with = "or_none", skip_serializing_if = "Option::is_none")]
    pub gw: Option<String>,
    /// MTU of the route.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub mtu: i64,
    /// Largest TCP segment to advertise.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub advmss: i64,
    /// Priority, also called metric.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub priority: i64,
    /// Routing table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<i64>,
    /// Scope; 0 is one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<i64>,
}

/// Name resolution.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Dns {
    /// Servers.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Search list.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options of the resolver.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Dns {
    /// True when it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// Go plugins print an empty address for none.
pub(crate) fn or_none<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(d)?.filter(|text| !text.is_empty()))
}

/// A list of objects; see [`or_default`].
pub(crate) fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Vec<T>, D::Error> {
    let objects: Vec<Keyed<T>> = or_default(d)?;
    Ok(objects.into_iter().map(|object| object.0).collect())
}

/// An object; see [`or_default`].
pub(crate) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    or_default(d).map(|object: Keyed<T>| object.0)
}

/// Go plugins print `null` for an empty list or object.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    d: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}
