//! The networks annotation (NPWG multi-network standard 1.3, section 4.1): `a,b`, `ns/a`, `a@if`, or a JSON list.

use serde_json::{Map, Value};

use cni::error::one_line;

use crate::{
    cluster::NetworkRef,
    error::{Fault, Result},
};

/// Most networks one pod may ask for.
pub const MAX_NETWORKS: usize = 64;

/// Requests of the standard that this version does not pass on; a pod that makes one is refused, not half served.
const NOT_SERVED: [&str; 10] = [
    "ips",
    "mac",
    "infiniband-guid",
    "portMappings",
    "bandwidth",
    "default-route",
    "deviceID",
    "cni-args",
    "ipam-claim-reference",
    "interfaceRequest",
];

/// One network that a pod asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Which definition.
    pub network: NetworkRef,
    /// The interface's name in the pod; `net1`, `net2`, … by position when absent.
    pub interface: Option<String>,
}

/// Parses the annotation of a pod in `pod_namespace`.
///
/// # Errors
/// `SELECTION_INVALID` says which element is wrong and why.
pub fn parse(text: &str, pod_namespace: &str) -> Result<Vec<Selection>> {
    let selections = if text.contains(['[', '{', '"']) {
        parse_json(text, pod_namespace)?
    } else {
        parse_list(text, pod_namespace)?
    };
    if selections.len() > MAX_NETWORKS {
        return Err(invalid(
            text,
            &format!("it asks for {} networks, {MAX_NETWORKS} is the most", selections.len()),
        ));
    }
    Ok(selections)
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
    selection(item, namespace.trim(), name.trim(), interface.map(str::trim))
}

fn parse_json(text: &str, pod_namespace: &str) -> Result<Vec<Selection>> {
    let elements: Vec<Value> = serde_json::from_str(text)
        .map_err(|error| invalid(text, &format!("it is no JSON list ({error})")))?;
    elements.iter().map(|element| parse_element(element, pod_namespace)).collect()
}

fn parse_element(element: &Value, pod_namespace: &str) -> Result<Selection> {
    let shown = element.to_string();
    let Value::Object(fields) = element else {
        return Err(invalid(&shown, "each element must be an object with a name"));
    };
    if let Some(key) =
        NOT_SERVED.into_iter().find(|key| fields.get(*key).is_some_and(|value| !value.is_null()))
    {
        return Err(Fault::invalid(
            "SELECTION_UNSUPPORTED",
            format!(
                "networks annotation: the key {key} in {} is not served by this version; remove it",
                one_line(&shown, 80)
            ),
        ));
    }
    let name = string(fields, "name", &shown)?.unwrap_or_default();
    let namespace =
        string(fields, "namespace", &shown)?.filter(|text| !text.is_empty()).unwrap_or(pod_namespace);
    let interface = string(fields, "interface", &shown)?.filter(|text| !text.is_empty());
    selection(&shown, namespace, name, interface)
}

fn string<'a>(fields: &'a Map<String, Value>, key: &str, shown: &str) -> Result<Option<&'a str>> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(invalid(shown, &format!("{key} must be a string"))),
    }
}

fn selection(shown: &str, namespace: &str, name: &str, interface: Option<&str>) -> Result<Selection> {
    if !valid_name(name) || name.len() > 253 {
        return Err(invalid(shown, "the network's name must be lower case letters, digits, '-' and '.'"));
    }
    if !valid_name(namespace) || namespace.contains('.') || namespace.len() > 63 {
        return Err(invalid(shown, "the namespace must be lower case letters, digits and '-', at most 63"));
    }
    if let Some(interface) = interface.filter(|interface| !cni::env::valid_ifname(interface)) {
        return Err(invalid(
            shown,
            &format!(
                "{interface:?} is no interface name: 1 to 15 characters without '/', ':', '%' or blanks"
            ),
        ));
    }
    Ok(Selection {
        network: NetworkRef { namespace: namespace.to_owned(), name: name.to_owned() },
        interface: interface.map(str::to_owned),
    })
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
    Fault::invalid("SELECTION_INVALID", format!("networks annotation, at {:?}: {why}", one_line(shown, 80)))
}
