//! Plugins as the primary network.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::{
    host::Host,
    pod::{Pod, bare, live, reach, said},
};

/// `host-local`, dual-stack, with both default routes.
fn dual_stack(subnet: u8) -> Value {
    json!({
        "type": "host-local",
        "ranges": [[{"subnet": format!("10.{subnet}.0.0/24")}], [{"subnet": format!("fd{subnet}::/64")}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    })
}

/// A bridge with gateway and masquerade, as most how-tos have it.
pub(crate) fn bridge() -> Value {
    json!([{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "ipam": dual_stack(88)}])
}

/// The pod has on `eth0` what the result says, both families, and both default routes.
#[track_caller]
fn has_what_is_said(pod: &Pod, result: &Value, subnet: u8) -> Vec<String> {
    let addresses = said(result);
    let of = |start: &str| addresses.iter().any(|address| address.starts_with(start));
    assert!(
        addresses.len() == 2 && of(&format!("10.{subnet}.0.")) && of(&format!("fd{subnet}::")),
        "{result}"
    );
    assert_eq!(pod.addresses("eth0"), addresses);
    assert!(
        pod.ip("route").contains(&format!("default via 10.{subnet}.0.1 dev eth0")),
        "{}",
        pod.ip("route")
    );
    assert!(
        pod.ip("-6 route").contains(&format!("default via fd{subnet}::1 dev eth0")),
        "{}",
        pod.ip("-6 route")
    );
    addresses
}

// Holds: N45, P6, B6
#[test]
fn bridge_and_host_local() {
    let Some(host) = Host::or_skip(&["bridge", "host-local"]) else { return };
    for version in host.versions("bridge") {
        live(
            &host,
            version,
            || Pod::new(bridge()),
            |pod, result| {
                let addresses = has_what_is_said(pod, result, 88);
                for v6 in [false, true] {
                    let address = bare(&addresses, v6);
                    pod.is_reached(&host.net, address);
                    let reserved = host.read(&format!("cat /var/lib/cni/networks/cluster/{address}"));
                    assert_eq!(reserved.split_whitespace().collect::<Vec<_>>(), [pod.id.as_str(), "eth0"]);
                }
                let seen_as = reach(&host.outside, &pod.netns, "10.9.0.2");
                assert_eq!(
                    seen_as,
                    "10.9.0.1".parse::<IpAddr>().unwrap(),
                    "ipMasq hides the pod behind the host"
                );
            },
        );
    }
}

#[test]
fn ptp_and_host_local() {
    let Some(host) = Host::or_skip(&["ptp", "host-local"]) else { return };
    let primary = json!([{"type": "ptp", "ipMasq": true, "ipam": dual_stack(77)}]);
    for version in host.versions("ptp") {
        live(
            &host,
            version,
            || Pod::new(primary.clone()),
            |pod, result| {
                let addresses = has_what_is_said(pod, result, 77);
                assert!(host.read("ip route").contains(&format!("{} dev veth", bare(&addresses, false))));
                for v6 in [false, true] {
                    pod.is_reached(&host.net, bare(&addresses, v6));
                }
            },
        );
    }
}

// Every runtime sets up `lo` by this plugin, in a call of its own.
#[test]
fn loopback() {
    let Some(host) = Host::or_skip(&["loopback"]) else { return };
    for version in host.versions("loopback") {
        let pod = Pod { ifname: "lo", ..Pod::new(json!([{"type": "loopback"}])) };
        pod.ip("link set lo down");
        let result = host.call("ADD", version, &pod).result();
        assert_eq!(said(&result), ["127.0.0.1/8", "::1/128"], "{result}");
        reach(&pod.netns, &pod.netns, "127.0.0.1");
        if cni::version::at_least(version, "0.4.0") {
            host.call("CHECK", version, &pod).worked();
        }
        host.call("DEL", version, &pod).worked();
        assert!(pod.ip("-o link show lo").contains("state DOWN"), "{}", pod.ip("link"));
    }
}
