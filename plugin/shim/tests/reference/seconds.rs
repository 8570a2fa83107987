//! Plugins as a network beside the primary.

use std::process::Command;

use serde_json::{Value, json};

use crate::{
    host::Host,
    pod::{Pod, Second, live, reach},
    primaries::bridge,
};

/// The published status of a pod's attachment, of the pod published last; 0 is the primary.
fn status(host: &Host, position: usize) -> Value {
    let published = host.daemon.published.lock().unwrap();
    published.last().unwrap()[position].clone()
}

/// A plugin that makes a link above the host's `up0`, with addresses that the pod asks for.
fn above_up0(plugin: Value) -> Second {
    let mut plugin = plugin;
    plugin["ipam"] = json!({"type": "static"});
    plugin["capabilities"] = json!({"ips": true, "mac": true});
    Second::new("above", json!({ "plugins": [plugin] }))
        .asking(json!({"ips": ["10.9.0.50/24", "fd09::50/64"]}))
}

fn lives_above_up0(host: &Host, kind: &str, second: &Second) {
    for version in host.versions(kind) {
        live(
            host,
            version,
            || Pod::new(bridge()).with(second.clone()),
            |pod, _| {
                assert_eq!(pod.addresses("net1"), ["10.9.0.50/24", "fd09::50/64"]);
                assert!(pod.ip("-d link show net1").contains(kind), "{}", pod.ip("-d link show net1"));
                assert_eq!(status(host, 1)["ips"], json!(["10.9.0.50", "fd09::50"]));
                assert!(pod.ip("route").contains("default via 10.88.0.1 dev eth0"), "{}", pod.ip("route"));
            },
        );
    }
}

// Holds: N14, N15, N17, N42
#[test]
fn macvlan_and_static_with_addresses_and_mac_that_the_pod_asks_for() {
    let Some(host) = Host::or_skip(&["bridge", "host-local", "macvlan", "static"]) else { return };
    let mut second = above_up0(json!({"type": "macvlan", "master": "up0", "mode": "bridge"}));
    second.request["mac"] = json!("02:00:00:00:00:50");
    for version in host.versions("macvlan") {
        live(
            &host,
            version,
            || Pod::new(bridge()).with(second.clone()),
            |pod, _| {
                assert_eq!(pod.addresses("net1"), ["10.9.0.50/24", "fd09::50/64"]);
                let link = pod.ip("-d link show net1");
                assert!(link.contains("macvlan mode bridge") && link.contains("02:00:00:00:00:50"), "{link}");
                let entry = status(&host, 1);
                assert_eq!(entry["ips"], json!(["10.9.0.50", "fd09::50"]));
                assert_eq!(entry["name"], "demo/above");
                for address in ["10.9.0.50", "fd09::50"] {
                    pod.is_reached(&host.outside, address);
                }
            },
        );
    }
}

#[test]
fn ipvlan_and_static() {
    let Some(host) = Host::or_skip(&["bridge", "host-local", "ipvlan", "static"]) else { return };
    if host.lacks("link add probe0 link up0 type ipvlan") {
        return testkit::skip("the kernel has no ipvlan");
    }
    lives_above_up0(&host, "ipvlan", &above_up0(json!({"type": "ipvlan", "master": "up0"})));
}

#[test]
fn vlan_and_static() {
    let Some(host) = Host::or_skip(&["bridge", "host-local", "vlan", "static"]) else { return };
    if host.lacks("link add probe0 link up0 type vlan id 7") {
        return testkit::skip("the kernel has no vlan (8021q)");
    }
    lives_above_up0(&host, "vlan", &above_up0(json!({"type": "vlan", "master": "up0", "vlanId": 7})));
}

#[test]
fn host_device_comes_back_under_its_name() {
    let Some(host) = Host::or_skip(&["bridge", "host-local", "host-device"]) else { return };
    host.net.wire("dev0", &host.outside, "dev0").unwrap();
    host.outside.ip("address add 10.30.0.1/24 dev dev0").unwrap();
    let ipam =
        json!({"type": "host-local", "ranges": [[{"subnet": "10.30.0.0/24", "rangeStart": "10.30.0.9"}]]});
    let config = json!({"type": "host-device", "device": "dev0", "ipam": ipam});
    for version in host.versions("host-device") {
        let make = || Pod::new(bridge()).with(Second::new("device", config.clone()));
        live(&host, version, make, |pod, _| {
            assert_eq!(pod.interfaces(), ["eth0", "net1"]);
            assert!(!host.state().contains(&"link dev0".to_owned()));
            let address = &status(&host, 1)["ips"][0];
            pod.is_reached(&host.outside, address.as_str().unwrap());
        });
        assert!(host.state().contains(&"link dev0".to_owned()));
    }
}

// Holds: N34
#[test]
fn two_bridges_beside_the_primary() {
    let Some(host) = Host::or_skip(&["bridge", "host-local"]) else { return };
    let config = |number: u8| {
        let ipam = json!({"type": "host-local", "subnet": format!("10.{number}.0.0/24")});
        json!({"type": "bridge", "bridge": format!("br{number}"), "isGateway": true, "ipam": ipam})
    };
    for version in host.versions("bridge") {
        let make = || {
            let one = Second::new("one", config(31));
            let again = Second::new("one", config(31)).asking(json!({"interface": "again0"}));
            Pod::new(bridge()).with(one).with(again)
        };
        live(&host, version, make, |pod, _| {
            assert_eq!(pod.interfaces(), ["eth0", "net1", "again0"]);
            for (ifname, position) in [("net1", 1), ("again0", 2)] {
                let address = status(&host, position)["ips"][0].as_str().unwrap().to_owned();
                assert_eq!(pod.addresses(ifname), [format!("{address}/24")]);
            }
            reach(&host.net, &pod.netns, "10.31.0.1");
        });
    }
}

// Holds: N39
#[test]
fn each_network_of_a_pod_has_a_version_of_its_own() {
    let Some(host) = Host::or_skip(&["bridge", "host-local", "macvlan", "static"]) else { return };
    let make = || {
        let mut pod = Pod::new(bridge());
        for (name, version, address) in
            [("a", "0.2.0", 50), ("b", "0.3.1", 51), ("c", "0.4.0", 52), ("d", "1.1.0", 53)]
        {
            let ipam = json!({"type": "static", "addresses": [{"address": format!("10.9.0.{address}/24")}]});
            let config = json!({"cniVersion": version, "type": "macvlan", "master": "up0", "ipam": ipam});
            pod = pod.with(Second::new(name, config));
        }
        pod
    };
    live(&host, "1.0.0", make, |pod, _| {
        for position in 1..=4 {
            let address = format!("10.9.0.{}", position + 49);
            assert_eq!(pod.addresses(&format!("net{position}")), [format!("{address}/24")]);
            assert_eq!(status(&host, position)["ips"], json!([address]));
        }
    });
}

// Leases are asked for by packets of a daemon of its own, from inside the pod.
#[test]
fn macvlan_and_dhcp() {
    let Some(host) = Host::or_skip(&["bridge", "host-local", "macvlan", "dhcp"]) else { return };
    if !host.read("busybox --list").lines().any(|applet| applet == "udhcpd") {
        return testkit::skip("no DHCP server: install busybox with udhcpd");
    }
    let conf = host.folder().join("udhcpd.conf");
    let leases = host.folder().join("leases");
    std::fs::write(&leases, "").unwrap();
    let text = format!(
        "interface up0\nstart 10.9.0.100\nend 10.9.0.199\noption subnet 255.255.255.0\nlease_file {0}\npidfile {0}.pid\n",
        leases.display()
    );
    std::fs::write(&conf, text).unwrap();
    let mut server = Command::new("busybox");
    let _server = host.start_outside(server.args(["udhcpd", "-f", "-a", "0"]).arg(conf));
    let _daemon = host.start(Command::new(host.plugins.join("dhcp")).arg("daemon"));
    host.awaits("test -S /run/cni/dhcp.sock");

    let config = json!({"type": "macvlan", "master": "up0", "ipam": {"type": "dhcp"}});
    for version in host.versions("dhcp") {
        let make = || Pod::new(bridge()).with(Second::new("leased", config.clone()));
        live(&host, version, make, |pod, _| {
            let address = status(&host, 1)["ips"][0].as_str().unwrap().to_owned();
            assert!(address.starts_with("10.9.0.1"), "{address}");
            assert_eq!(pod.addresses("net1"), [format!("{address}/24")]);
            pod.is_reached(&host.outside, &address);
        });
    }
}
