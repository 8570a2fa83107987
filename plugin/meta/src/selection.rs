//! The networks annotation (NPWG multi-network standard 1.3, section 4.1): `a,b`, `ns/a`, `a@if`, or a JSON list.

use std::net::IpAddr;

use cni::{
    error::one_line,
    raw::{self, same_key},
};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::{
    cluster::NetworkRef,
    error::{Fault, Result},
    requests::{self, Requests},
};

/// Most networks one pod may ask for.
pub const MAX_NETWORKS: usize = 64;
/// Longest annotation that is read, in bytes; the API server allows this much for all of a pod's annotations.
const MAX_TEXT: usize = 256 * 1024;

/// One network that a pod asks for.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Which definition.
    pub network: NetworkRef,
    /// The interface's name in the pod; `net1`, `net2`, … by position when absent.
    pub interface: Option<String>,
    /// What the attachment shall be like.
    pub requests: Requests,
}

/// Parses the annotation of a pod in `pod_namespace`; `strict` refuses what the standard forbids and Go Multus lets
/// pass.
///
/// # Errors
/// `SELECTION_INVALID` says which element is wrong and why.
pub fn parse(text: &str, pod_namespace: &str, strict: bool) -> Result<Vec<Selection>> {
    if text.len() > MAX_TEXT {
        return Err(invalid(text, &format!("it has {} bytes, {MAX_TEXT} is the most", text.len())));
    }
    let selections = if text.contains(['[', '{', '"']) {
        parse_json(text, pod_namespace, strict)?
    } else {
        parse_list(text, pod_namespace)?
    };
    if selections.len() > MAX_NETWORKS {
        return Err(invalid(
            text,
            &format!("it asks for {} networks, {MAX_NETWORKS} is the most", selections.len()),
        ));
    }
    requests::check_default_routes(selections.iter().map(|chosen| &chosen.requests), strict)
        .map_err(|why| invalid(text, &why))?;
    Ok(selections)
}

/// Parses the annotation that replaces the primary network: the same grammar, exactly one network, and no interface,
/// since the runtime asked for its own.
///
/// # Errors
/// `SELECTION_INVALID` as for [`parse`].
pub fn parse_default(text: &str, default_namespace: &str, strict: bool) -> Result<Selection> {
    let selections = parse(text, default_namespace, strict);
    let selections = selections.map_err(|fault| Fault {
        message: fault.message.replacen("networks ", "default-network ", 1),
        ..fault
    })?;
    let wrong = |why| {
        Fault::invalid(
            "SELECTION_INVALID",
            format!("default-network annotation, at {:?}: {why}", one_line(text, 80)),
        )
    };
    match <[Selection; 1]>::try_from(selections) {
        Ok([Selection { interface: Some(_), .. }]) => {
            Err(wrong("the primary network keeps the interface of the runtime; remove the interface"))
        }
        Ok([chosen]) => Ok(chosen),
        Err(_) => Err(wrong("it must name exactly one network")),
    }
}

fn parse_list(text: &str, pod_namespace: &str) -> Result<Vec<Selection>> {
    text.split(',').map(|item| parse_item(item.trim(), pod_namespace)).collect()
}

fn parse_item(item: &str, pod_namespace: &str) -> Result<Selection> {
    let (path, interface) = match item.split_once('@') {
        Some((path, interface)) => (path, Some(interface)),
        None => (item, None),
    };
    if interface.is_some_and(|interface| interface.contains('@')) {
        return Err(invalid(item, "it has more than one '@'"));
    }
    let (namespace, name) = path.split_once('/').unwrap_or((pod_namespace, path));
    let network = network(item, namespace.trim(), name.trim())?;
    let interface = checked_interface(item, interface.map(str::trim))?;
    Ok(Selection { network, interface, requests: Requests::default() })
}

fn parse_json(text: &str, pod_namespace: &str, strict: bool) -> Result<Vec<Selection>> {
    let elements: Vec<Box<RawValue>> = serde_json::from_str(text)
        .map_err(|error| invalid(text, &format!("it is no JSON list ({error})")))?;
    elements.iter().map(|element| parse_element(element, pod_namespace, strict)).collect()
}

fn parse_element(element: &RawValue, pod_namespace: &str, strict: bool) -> Result<Selection> {
    let shown = element.get();
    let fields = raw::Object::parse(shown)
        .map_err(|_| invalid(shown, "each element must be an object with a name"))?;
    let wrong = |why: String| invalid(shown, &why);
    let name: String = field(&fields, "name").map_err(wrong)?.unwrap_or_default();
    let namespace: String = field(&fields, "namespace").map_err(wrong)?.unwrap_or_default();
    let namespace = if namespace.is_empty() { pod_namespace } else { &namespace };
    // The older name of the same key.
    let interface: Option<String> = field(&fields, "interface").map_err(wrong)?;
    let interface = match interface.filter(|name| !name.is_empty()) {
        Some(interface) => Some(interface),
        None => field(&fields, "interfaceRequest").map_err(wrong)?.filter(|name: &String| !name.is_empty()),
    };
    Ok(Selection {
        network: network(shown, namespace, &name)?,
        interface: checked_interface(shown, interface.as_deref())?,
        requests: Requests::read(&fields, strict).map_err(wrong)?,
    })
}

/// A key of an element, in any spelling that a Go program would accept; `null` is absent.
pub(crate) fn field<T: DeserializeOwned>(
    fields: &raw::Object,
    key: &str,
) -> std::result::Result<Option<T>, String> {
    let found = fields.iter().filter(|(name, _)| same_key(name, key)).last();
    let Some((_, value)) = found else { return Ok(None) };
    serde_json::from_str::<Option<T>>(value.get()).map_err(|error| format!("{key}: {error}"))
}

fn network(shown: &str, namespace: &str, name: &str) -> Result<NetworkRef> {
    if !valid_name(name) || name.len() > 253 {
        return Err(invalid(shown, "the network's name must be lower case letters, digits, '-' and '.'"));
    }
    if !valid_name(namespace) || namespace.contains('.') || namespace.len() > 63 {
        return Err(invalid(shown, "the namespace must be lower case letters, digits and '-', at most 63"));
    }
    Ok(NetworkRef { namespace: namespace.to_owned(), name: name.to_owned() })
}

fn checked_interface(shown: &str, interface: Option<&str>) -> Result<Option<String>> {
    if let Some(interface) = interface.filter(|interface| !cni::env::valid_ifname(interface)) {
        return Err(invalid(
            shown,
            &format!(
                "{interface:?} is no interface name: 1 to 15 characters without '/', ':', '%' or blanks"
            ),
        ));
    }
    Ok(interface.map(str::to_owned))
}

/// The gateways of a `default-route`.
pub(crate) fn addresses(texts: &[String]) -> std::result::Result<Vec<IpAddr>, String> {
    let address = |text: &String| {
        text.parse().map_err(|_| format!("default-route: {:?} is no IP address", one_line(text, 60)))
    };
    texts.iter().map(address).collect()
}

/// The API server's rule for object names (DNS-1123 subdomain), which also keeps path characters out.
fn valid_name(name: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    !name.is_empty()
        && name.split('.').all(|label| {
            label.bytes().all(|c| inner(c) || c == b'-')
                && label.bytes().next().is_some_and(inner)
                && label.bytes().last().is_some_and(inner)
        })
}

fn invalid(shown: &str, why: &str) -> Fault {
    let why = one_line(why, 160);
    Fault::invalid("SELECTION_INVALID", format!("networks annotation, at {:?}: {why}", one_line(shown, 80)))
}
