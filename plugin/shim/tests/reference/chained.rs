//! Plugins that change what another plugin of the same network made.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::{
    host::Host,
    pod::{Pod, Second, arrives, bare, listen, live, said},
    primaries::bridge,
};

/// The usual primary, with one more plugin in its chain.
fn bridge_and(plugin: Value) -> Value {
    let mut plugins = bridge();
    plugins.as_array_mut().unwrap().push(plugin);
    plugins
}

fn ports_are_mapped(backend: &str) {
    let Some(host) = Host::or_skip(&["bridge", "host-local", "portmap"]) else { return };
    let primary = bridge_and(json!({
        "type": "portmap", "backend": backend, "snat": true, "capabilities": {"portMappings": true},
    }));
    for version in host.versions("portmap") {
        let make = || {
            let mut pod = Pod::new(primary.clone());
            pod.runtime_config =
                json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]});
            pod
        };
        live(&host, version, make, |pod, _| {
            let listener = listen(&pod.netns, 80);
            let seen_as = arrives(&listener, &host.outside, "10.9.0.1", 8080);
            assert_eq!(seen_as, "10.9.0.2".parse::<IpAddr>().unwrap(), "{backend}, cniVersion {version}");
            arrives(&listener, &host.outside, "fd09::1", 8080);
        });
    }
}

#[test]
fn portmap_by_iptables() {
    ports_are_mapped("iptables");
}

#[test]
fn portmap_by_nftables() {
    ports_are_mapped("nftables");
}

#[test]
fn bandwidth() {
    let Some(host) = Host::or_skip(&["bridge", "host-local", "bandwidth"]) else { return };
    let limits = json!({"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 4_000_000, "egressBurst": 400_000});
    let primary = bridge_and(json!({"type": "bandwidth", "capabilities": {"bandwidth": true}}));
    for version in host.versions("bandwidth") {
        let make = || {
            let mut pod = Pod::new(primary.clone());
            pod.runtime_config = json!({ "bandwidth": limits });
            pod
        };
        live(&host, version, make, |pod, result| {
            let disciplines = host.read("tc qdisc");
            assert!(disciplines.contains("tbf"), "{disciplines}");
            assert!(
                disciplines.contains("rate 8Mbit") && disciplines.contains("rate 4Mbit"),
                "{disciplines}"
            );
            pod.is_reached(&host.net, bare(&said(result), false));
        });
    }
}

#[test]
fn tuning() {
    let Some(host) = Host::or_skip(&["bridge", "host-local", "tuning"]) else { return };
    let primary = bridge_and(json!({
        "type": "tuning", "mac": "02:00:00:00:00:42", "mtu": 1400, "promisc": true,
        "sysctl": {"net.ipv4.conf.IFNAME.log_martians": "1", "net.core.somaxconn": "500"},
    }));
    for version in host.versions("tuning") {
        live(
            &host,
            version,
            || Pod::new(primary.clone()),
            |pod, result| {
                let link = pod.ip("-d link show eth0");
                for part in ["02:00:00:00:00:42", "mtu 1400", "PROMISC"] {
                    assert!(link.contains(part), "{part} is not in {link}");
                }
                let setting = |path: &str| {
                    pod.netns.inside(|| Ok(std::fs::read_to_string(path)?)).unwrap().trim().to_owned()
                };
                assert_eq!(setting("/proc/sys/net/ipv4/conf/eth0/log_martians"), "1");
                assert_eq!(setting("/proc/sys/net/core/somaxconn"), "500");
                pod.is_reached(&host.net, bare(&said(result), false));
            },
        );
    }
}

#[test]
fn sbr() {
    let Some(host) = Host::or_skip(&["bridge", "host-local", "macvlan", "static", "sbr"]) else { return };
    let address = json!({"address": "10.9.0.50/24", "gateway": "10.9.0.2"});
    let macvlan =
        json!({"type": "macvlan", "master": "up0", "ipam": {"type": "static", "addresses": [address]}});
    // macvlan's CHECK looks for the gateway in the main table, where sbr takes it away.
    let config = json!({"disableCheck": true, "plugins": [macvlan, {"type": "sbr"}]});
    for version in host.versions("sbr") {
        let make = || Pod::new(bridge()).with(Second::new("by-source", config.clone()));
        live(&host, version, make, |pod, _| {
            let rules = pod.ip("rule");
            let rule = rules
                .lines()
                .find(|line| line.contains("from 10.9.0.50"))
                .unwrap_or_else(|| panic!("{rules}"));
            let table = rule.split_whitespace().last().unwrap();
            let routes = pod.ip(&format!("route show table {table}"));
            assert!(routes.contains("default via 10.9.0.2 dev net1"), "{routes}");
            assert!(pod.ip("route").contains("default via 10.88.0.1 dev eth0"), "{}", pod.ip("route"));
            pod.is_reached(&host.outside, "10.9.0.50");
        });
    }
}
