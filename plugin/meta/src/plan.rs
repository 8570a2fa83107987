//! What a sandbox gets, decided whole before anything is done: the list of its delegates, primary first.

use cni::{config::NetworkConfig, env::Request, error::one_line, raw};

use crate::{
    cluster::{Cluster, Network, NetworkRef, PodRef, ResolveRequest, ResolveResponse},
    equip::{self, Devices},
    error::{Fault, Result},
    netconf::NetConf,
    pod::{self, Asks, Wish},
    primary,
    resolve::{self, Delegate, Interfaces},
    selection::{self, Selection},
    source::{self, Lookup, Source},
};

/// The delegates of a sandbox, in the order of their ADD.
#[derive(Debug)]
pub struct Plan {
    /// The primary first; never empty.
    pub delegates: Vec<Delegate>,
    /// The pod has more than its primary, or another primary than its node: its record must last, and its status is
    /// published before it starts.
    pub beyond_primary: bool,
    /// The kubelet's own pod: its status may come later.
    pub is_static: bool,
}

/// Decides what the sandbox of this request gets.
///
/// # Errors
/// One line that names the network and says what to do; nothing has been done.
pub fn plan(request: &Request, conf: &NetConf, cluster: &dyn Cluster) -> Result<Plan> {
    let pod = pod::of(request);
    let lookup = Lookup { cluster, pod: pod.clone().unwrap_or_default(), sandbox: &request.container_id };
    let wish = wish(request, &lookup, pod.as_ref())?;
    let default = wish
        .default_network
        .as_deref()
        .map(|text| selection::parse_default(text, &conf.multus_namespace, conf.strict));
    let default = default.transpose()?;
    let namespace = lookup.pod.namespace.clone();
    let chosen = wish.networks.as_deref().map(|text| selection::parse(text, &namespace, conf.strict));
    let chosen = chosen.transpose()?.unwrap_or_default();
    let (default_definition, definitions, mut devices) = definitions(&lookup, default.as_ref(), &chosen)?;

    let primary = match (&default, default_definition) {
        (Some(selection), Some(definition)) => {
            replaced_primary(request, conf, &lookup, selection, definition, &mut devices)?
        }
        _ => Delegate {
            capability_args: runtime_config(request)?,
            primary: true,
            ..Delegate::plain(primary::load(conf, &lookup)?, request.ifname.clone())
        },
    };
    let mut delegates = vec![primary];
    let mut interfaces = Interfaces::new(&request.ifname);
    for source in every_pods(conf, &lookup, pod.as_ref())? {
        let ifname = interfaces.next(None, &source.network)?;
        delegates.push(Delegate::plain(source, ifname));
    }
    for (selection, definition) in resolve::answered(&chosen, definitions)? {
        delegates.push(resolve::selected(
            conf,
            &lookup.pod,
            lookup.sandbox,
            selection,
            definition,
            &mut interfaces,
            &mut devices,
        )?);
    }
    // An auxiliary chain works on the primary's interface and adds none.
    let beyond_primary = delegates.len() > 1 || default.is_some();
    delegates.extend(auxiliary_chain(request, conf)?);
    Ok(Plan { delegates, beyond_primary, is_static: wish.is_static })
}

/// What the pod asks for: by the runtime's word, else by the cluster's.
fn wish(request: &Request, lookup: &Lookup<'_>, pod: Option<&PodRef>) -> Result<Wish> {
    let pod = match (pod::asks(request)?, pod) {
        (Asks::For(wish), _) => return Ok(wish),
        (Asks::Unknown, None) => return Ok(Wish::default()),
        (Asks::Unknown, Some(pod)) => pod,
    };
    let answer = lookup.cluster.resolve(&ResolveRequest {
        pod: pod.clone(),
        sandbox: lookup.sandbox.to_owned(),
        want_annotations: true,
        ..ResolveRequest::default()
    })?;
    let annotations = answer.annotations.ok_or_else(|| {
        Fault::retry(
            "DAEMON_MISMATCH",
            "the multus daemon did not say the pod's annotations; nothing was attached",
        )
    })?;
    Ok(pod::wish(&annotations))
}

/// The definitions of all that the pod names, in one question; the default network's first.
fn definitions(
    lookup: &Lookup<'_>,
    default: Option<&Selection>,
    chosen: &[Selection],
) -> Result<(Option<Network>, Vec<Network>, Devices)> {
    let all = || default.into_iter().chain(chosen);
    if all().next().is_none() {
        return Ok((None, Vec::new(), Devices::default()));
    }
    let wanted: Vec<NetworkRef> = all().map(|selection| selection.network.clone()).collect();
    let answer: ResolveResponse = lookup.cluster.resolve(&ResolveRequest {
        pod: lookup.pod.clone(),
        sandbox: lookup.sandbox.to_owned(),
        selections: wanted,
        devices: all().any(|selection| selection.requests.device_id.is_some()),
        ..ResolveRequest::default()
    })?;
    let devices = Devices::new(&answer.devices);
    let mut networks = answer.networks;
    let first = match default {
        Some(selection) if networks.first().is_some_and(|network| network.is(&selection.network)) => {
            Some(networks.remove(0))
        }
        Some(_) => return Err(source::mismatch()),
        None => None,
    };
    Ok((first, networks, devices))
}

/// The pod's own choice of a primary. Isolation holds for it too.
fn replaced_primary(
    request: &Request,
    conf: &NetConf,
    lookup: &Lookup<'_>,
    selection: &Selection,
    definition: Network,
    devices: &mut Devices,
) -> Result<Delegate> {
    resolve::check_isolation(conf, &lookup.pod, &definition.namespace, &definition.shown(), true)?;
    let resource = definition.resource().map(str::to_owned);
    let mut delegate = Delegate {
        capability_args: runtime_config(request)?,
        primary: true,
        ..Delegate::plain(source::of_definition(conf, definition)?, request.ifname.clone())
    };
    let requests = &selection.requests;
    equip::equip(&mut delegate, requests, resource.as_deref(), devices, conf, lookup.sandbox)?;
    Ok(delegate)
}

/// The networks that every pod of this node gets beside its primary.
fn every_pods(conf: &NetConf, lookup: &Lookup<'_>, pod: Option<&PodRef>) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for (position, delegate) in conf.inline_networks.iter().enumerate() {
        let config = NetworkConfig::parse(&delegate.to_json(), None).map_err(|error| {
            let why = one_line(&error.msg, 200);
            Fault::invalid("NETCONF_INVALID", format!("delegates, number {}: {why}", position + 2))
        })?;
        sources.push(source::of_config(conf, config)?);
    }
    let outside = pod.filter(|pod| !conf.system_namespaces.contains(&pod.namespace));
    for value in conf.default_networks.iter().filter(|_| outside.is_some()) {
        sources.push(source::by_value(conf, value, lookup)?);
    }
    Ok(sources)
}

/// The chain of its own beside the primary, run on the primary's interface; none where its folder has no plugin.
fn auxiliary_chain(request: &Request, conf: &NetConf) -> Result<Option<Delegate>> {
    let Some(name) = &conf.auxiliary_chain else { return Ok(None) };
    let folder = primary::folder(conf)?.join(name);
    let broken = |error: cni::error::Error| {
        Fault::invalid(
            "NETCONF_INVALID",
            format!("auxiliaryCNIChainName {:?}: {}", one_line(name, 60), one_line(&error.msg, 180)),
        )
    };
    let head = serde_json::json!({
        "cniVersion": request.cni_version, "name": name,
        "plugins": [{ "type": "passthru", "name": "passthru-cni" }],
    });
    let mut config = NetworkConfig::parse(&head.to_string(), None).map_err(broken)?;
    config.add_folder(&folder).map_err(broken)?;
    if config.plugins.len() == 1 {
        return Ok(None);
    }
    let config = NetworkConfig::parse(&config.to_json(), None).map_err(broken)?;
    let source = source::of_config(conf, config)?;
    Ok(Some(Delegate { shares_interface: true, ..Delegate::plain(source, request.ifname.clone()) }))
}

/// What the runtime gave for the pod's own network.
///
/// # Errors
/// `NETCONF_INVALID`.
pub fn runtime_config(request: &Request) -> Result<raw::Object> {
    request
        .config
        .get_as::<raw::Object>("runtimeConfig")
        .map(Option::unwrap_or_default)
        .map_err(|error| Fault::invalid("NETCONF_INVALID", format!("runtimeConfig: {}", error.msg)))
}
