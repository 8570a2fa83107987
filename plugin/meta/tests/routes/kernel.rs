//! What the pod's namespace has afterwards.

use serde_json::json;

use crate::pod::{Pod, network, silent};

fn lines(list: &[&str]) -> Vec<String> {
    list.iter().map(|line| (*line).to_owned()).collect()
}

/// A pod whose primary gave it both default routes, and whose other network gave it none.
fn usual() -> Option<Pod> {
    let pod = Pod::or_skip()?;
    pod.ip("route add default via 10.1.0.1 dev eth0");
    pod.ip("-6 route add default via fd01::1 dev eth0");
    Some(pod)
}

const PRIMARY: [&str; 2] = ["default via 10.1.0.1 dev eth0", "default via fd01::1 dev eth0 metric 1024"];

#[test]
fn without_any_request_no_route_is_touched() {
    let Some(pod) = usual() else { return };
    pod.ip("route prepend default via 10.2.0.1 dev net1");
    let before = pod.defaults();
    pod.settle(&[network("eth0", None, &silent()), network("net1", None, &silent())], &["10.96.0.0/12"])
        .unwrap();
    assert_eq!(pod.defaults(), before);
    assert_eq!(pod.to("10.96.0.0/12"), "");
}

// Holds: N31, B1
#[test]
fn gateways_replace_the_default_routes_of_every_network() {
    let Some(pod) = usual() else { return };
    pod.interface("net2", 3);
    pod.ip("route append default via 10.2.0.9 dev net1");
    pod.ip("route append default via 10.3.0.1 dev net2 metric 50");
    let networks = [
        network("eth0", None, &silent()),
        network("net1", Some(&["10.2.0.1", "fd02::1"]), &silent()),
        network("net2", None, &silent()),
    ];
    pod.settle(&networks, &[]).unwrap();
    let wanted = ["default via 10.2.0.1 dev net1", "default via fd02::1 dev net1 metric 1024"];
    assert_eq!(pod.defaults(), lines(&wanted));
}

// Holds: N31
#[test]
fn one_family_asked_for_takes_the_other_family_away_too() {
    let Some(pod) = usual() else { return };
    let networks = [network("eth0", None, &silent()), network("net1", Some(&["10.2.0.1"]), &silent())];
    pod.settle(&networks, &[]).unwrap();
    assert_eq!(pod.defaults(), lines(&["default via 10.2.0.1 dev net1"]));

    let Some(pod) = usual() else { return };
    let networks = [network("eth0", None, &silent()), network("net1", Some(&["fd02::1"]), &silent())];
    pod.settle(&networks, &[]).unwrap();
    assert_eq!(pod.defaults(), lines(&["default via fd02::1 dev net1 metric 1024"]));
}

// Holds: N31
#[test]
fn several_gateways_are_preferred_in_the_order_given() {
    let Some(pod) = usual() else { return };
    let gateways = ["10.2.0.3", "fd02::3", "10.2.0.2", "fd02::2", "10.2.0.1"];
    let networks = [network("eth0", None, &silent()), network("net1", Some(&gateways), &silent())];
    pod.settle(&networks, &[]).unwrap();
    let wanted = [
        "default via 10.2.0.3 dev net1",
        "default via 10.2.0.2 dev net1 metric 1",
        "default via 10.2.0.1 dev net1 metric 2",
        "default via fd02::3 dev net1 metric 1024",
        "default via fd02::2 dev net1 metric 1025",
    ];
    assert_eq!(pod.defaults(), lines(&wanted));
}

// Holds: N31
#[test]
fn an_empty_list_keeps_what_the_network_made_and_takes_it_from_the_others() {
    let Some(pod) = usual() else { return };
    pod.ip("route append default via 10.2.0.1 dev net1 metric 7");
    pod.ip("route append default dev net1 metric 8");
    let networks = [network("eth0", None, &silent()), network("net1", Some(&[]), &silent())];
    pod.settle(&networks, &[]).unwrap();
    let wanted = ["default via 10.2.0.1 dev net1 metric 7", "default dev net1 scope link metric 8"];
    assert_eq!(pod.defaults(), lines(&wanted));
}

#[test]
fn gateways_for_the_primary_replace_its_own() {
    let Some(pod) = usual() else { return };
    pod.ip("route append default via 10.2.0.1 dev net1 metric 7");
    let networks = [network("eth0", Some(&["10.1.0.9"]), &silent()), network("net1", None, &silent())];
    pod.settle(&networks, &[]).unwrap();
    assert_eq!(pod.defaults(), lines(&["default via 10.1.0.9 dev eth0"]));
}

#[test]
fn other_routes_and_other_tables_stay() {
    let Some(pod) = usual() else { return };
    pod.ip("route add 10.50.0.0/16 via 10.1.0.1 dev eth0");
    pod.ip("-6 route add fd50::/64 via fd01::1 dev eth0");
    pod.ip("route add 0.0.0.0/1 via 10.1.0.1 dev eth0");
    pod.ip("route add default via 10.1.0.1 dev eth0 table 100");
    pod.ip("route add unreachable default metric 4000");
    let networks = [network("eth0", None, &silent()), network("net1", Some(&["10.2.0.1"]), &silent())];
    pod.settle(&networks, &[]).unwrap();
    for destination in ["10.50.0.0/16", "fd50::/64", "0.0.0.0/1", "10.1.0.0/24", "fd01::/64"] {
        assert!(pod.to(destination).contains("dev eth0"), "{destination}: {:?}", pod.to(destination));
    }
    assert!(pod.ip("route show table 100").contains("default via 10.1.0.1 dev eth0"));
    assert_eq!(pod.defaults(), lines(&["default via 10.2.0.1 dev net1", "unreachable default metric 4000"]));
}

// Holds: B1
#[test]
fn an_interface_that_is_to_lead_and_is_missing_is_named_and_nothing_changes() {
    let Some(pod) = usual() else { return };
    let networks = [network("eth0", None, &silent()), network("net9", Some(&["10.2.0.1"]), &silent())];
    let fault = pod.settle(&networks, &[]).unwrap_err();
    assert_eq!((fault.code, fault.slug.as_str()), (7, "DEFAULT_ROUTE_FAILED"));
    assert!(fault.message.contains("net9"), "{fault}");
    assert_eq!(pod.defaults(), lines(&PRIMARY));
}

// Holds: B1
#[test]
fn a_network_without_an_interface_loses_nothing_and_costs_nobody_a_route() {
    let Some(pod) = usual() else { return };
    pod.interface("other", 9);
    pod.ip("route append default via 10.9.0.1 dev other metric 90");
    let networks = [
        network("eth0", None, &silent()),
        network("net1", Some(&["10.2.0.1"]), &silent()),
        network("userspace0", None, &json!({"interfaces": [{"name": "userspace0", "sandbox": "/x"}]})),
    ];
    pod.settle(&networks, &[]).unwrap();
    let wanted = ["default via 10.2.0.1 dev net1", "default via 10.9.0.1 dev other metric 90"];
    assert_eq!(pod.defaults(), lines(&wanted), "an interface of no network is nobody's");
}

#[test]
fn further_interfaces_of_an_attachment_lose_their_default_routes_with_it() {
    let Some(pod) = Pod::or_skip() else { return };
    pod.interface("extra0", 4);
    pod.ip("route add default via 10.4.0.1 dev extra0");
    let primary =
        json!({"interfaces": [{"name": "eth0", "sandbox": "/x"}, {"name": "extra0", "sandbox": "/x"}]});
    let networks = [network("eth0", None, &primary), network("net1", Some(&["10.2.0.1"]), &silent())];
    pod.settle(&networks, &["10.96.0.0/12"]).unwrap();
    assert_eq!(pod.defaults(), lines(&["default via 10.2.0.1 dev net1"]));
    assert!(pod.to("10.96.0.0/12").contains("via 10.4.0.1 dev extra0"));
}

#[test]
fn a_pod_without_default_route_gets_the_one_that_is_asked_for() {
    let Some(pod) = Pod::or_skip() else { return };
    let networks = [network("eth0", None, &silent()), network("net1", Some(&["10.2.0.1"]), &silent())];
    pod.settle(&networks, &["10.96.0.0/12"]).unwrap();
    assert_eq!(pod.defaults(), lines(&["default via 10.2.0.1 dev net1"]));
    assert_eq!(pod.to("10.96.0.0/12"), "", "no default route was taken, so nothing is led instead");
}

#[test]
fn a_second_run_changes_nothing() {
    let Some(pod) = usual() else { return };
    let networks =
        [network("eth0", None, &silent()), network("net1", Some(&["10.2.0.1", "fd02::1"]), &silent())];
    let cluster = ["10.96.0.0/12", "fd10::/108"];
    pod.settle(&networks, &cluster).unwrap();
    let (defaults, all) = (pod.defaults(), pod.ip("route") + &pod.ip("-6 route"));
    pod.settle(&networks, &cluster).unwrap();
    assert_eq!(pod.defaults(), defaults);
    assert_eq!(pod.ip("route") + &pod.ip("-6 route"), all);
}

#[test]
fn a_gateway_out_of_reach_is_named_with_interface_and_addresses() {
    for gateway in ["10.77.0.1", "fd77::1", "10.2.0.255", "ff02::1"] {
        let Some(pod) = usual() else { return };
        let networks = [network("eth0", None, &silent()), network("net1", Some(&[gateway]), &silent())];
        let fault = pod.settle(&networks, &[]).unwrap_err();
        assert_eq!((fault.code, fault.slug.as_str()), (7, "DEFAULT_ROUTE_FAILED"));
        let line = fault.line();
        for part in [gateway, "net1", "10.2.0.5/24", "fd02::5/64"] {
            assert!(line.contains(part), "{part} is not in: {line}");
        }
        assert!(line.chars().count() < 300 && !line.ends_with('…'), "{line}");
    }
}

#[test]
fn the_unspecified_address_is_no_gateway() {
    let Some(pod) = usual() else { return };
    let networks = [network("eth0", None, &silent()), network("net1", Some(&["0.0.0.0"]), &silent())];
    assert_eq!(pod.settle(&networks, &[]).unwrap_err().code, 7);
    assert_eq!(pod.defaults(), lines(&PRIMARY));
}

#[test]
fn two_networks_that_lead_the_same_family_are_told_so() {
    let Some(pod) = usual() else { return };
    let networks = [network("eth0", Some(&[]), &silent()), network("net1", Some(&["10.2.0.1"]), &silent())];
    let fault = pod.settle(&networks, &[]).unwrap_err();
    assert_eq!(fault.code, 7);
    assert!(fault.message.contains("via 10.1.0.1 on eth0"), "{fault}");
}

#[test]
fn ipv6_default_routes_of_two_networks_are_taken_apart() {
    let Some(pod) = usual() else { return };
    // As the reference plugins add it: the kernel makes one route with two next hops of it.
    pod.ip("-6 route append default via fd02::1 dev net1");
    assert!(pod.ip("-6 route show default").contains("nexthop"), "{}", pod.ip("-6 route show default"));
    let networks = [network("eth0", None, &silent()), network("net1", Some(&[]), &silent())];
    pod.settle(&networks, &[]).unwrap();
    assert_eq!(pod.defaults(), lines(&["default via fd02::1 dev net1 metric 1024"]));
}

#[test]
fn a_route_of_nexthop_objects_is_taken_away() {
    let Some(pod) = Pod::or_skip() else { return };
    pod.ip("nexthop add id 7 via 10.1.0.1 dev eth0");
    pod.ip("nexthop add id 8 via fd01::1 dev eth0");
    pod.ip("route add default nhid 7");
    pod.ip("-6 route add default nhid 8");
    let networks = [network("eth0", None, &silent()), network("net1", Some(&["10.2.0.1"]), &silent())];
    pod.settle(&networks, &["10.96.0.0/12", "fd10::/108"]).unwrap();
    assert_eq!(pod.defaults(), lines(&["default via 10.2.0.1 dev net1"]));
    assert!(pod.to("10.96.0.0/12").contains("via 10.1.0.1 dev eth0"), "{}", pod.to("10.96.0.0/12"));
    assert!(pod.to("fd10::/108").contains("via fd01::1 dev eth0"), "{}", pod.to("fd10::/108"));
}

#[test]
fn an_ipv4_route_over_two_networks_at_once_is_not_split_in_silence() {
    let Some(pod) = Pod::or_skip() else { return };
    pod.ip("route add default nexthop via 10.1.0.1 dev eth0 nexthop via 10.2.0.1 dev net1");
    let networks = [network("eth0", None, &silent()), network("net1", Some(&[]), &silent())];
    let fault = pod.settle(&networks, &[]).unwrap_err();
    assert!(fault.message.contains("eth0 shares one default route"), "{fault}");
}

#[test]
fn a_router_advertised_default_route_goes_and_does_not_come_back() {
    let Some(pod) = Pod::or_skip() else { return };
    pod.ip("-6 route add default via fe80::1 dev eth0 proto ra metric 1024 expires 1800");
    let networks = [network("eth0", None, &silent()), network("net1", Some(&["fd02::1"]), &silent())];
    pod.settle(&networks, &[]).unwrap();
    assert_eq!(pod.defaults(), lines(&["default via fd02::1 dev net1 metric 1024"]));
    let setting = |ifname: &str| {
        let path = format!("/proc/sys/net/ipv6/conf/{ifname}/accept_ra_defrtr");
        pod.netns.inside(|| Ok(std::fs::read_to_string(path)?)).unwrap()
    };
    assert_eq!((setting("eth0").trim(), setting("net1").trim(), setting("default").trim()), ("0", "0", "1"));
}

#[test]
fn cluster_destinations_stay_on_the_primary() {
    let Some(pod) = usual() else { return };
    let networks =
        [network("eth0", None, &silent()), network("net1", Some(&["10.2.0.1", "fd02::1"]), &silent())];
    let results =
        pod.settle(&networks, &["10.96.0.0/12", "10.244.0.0/16", "10.96.0.10", "fd10::/108"]).unwrap();
    for (address, gateway) in [
        ("10.96.0.10", "10.1.0.1"),
        ("10.100.1.1", "10.1.0.1"),
        ("10.244.3.4", "10.1.0.1"),
        ("fd10::a", "fd01::1"),
    ] {
        assert!(pod.way_to(address).contains(&format!("via {gateway} dev eth0")), "{}", pod.way_to(address));
    }
    assert!(pod.way_to("192.0.2.1").contains("via 10.2.0.1 dev net1"));
    assert!(pod.way_to("2001:db8::1").contains("via fd02::1 dev net1"));
    assert_eq!(
        results[0]["routes"],
        json!([
            {"dst": "10.96.0.0/12", "gw": "10.1.0.1"}, {"dst": "10.244.0.0/16", "gw": "10.1.0.1"},
            {"dst": "10.96.0.10/32", "gw": "10.1.0.1"}, {"dst": "fd10::/108", "gw": "fd01::1"},
        ])
    );
    assert_eq!(
        results[1]["routes"],
        json!([{"dst": "0.0.0.0/0", "gw": "10.2.0.1"}, {"dst": "::/0", "gw": "fd02::1"}])
    );
}

#[test]
fn cluster_destinations_go_the_way_that_the_default_route_went() {
    let Some(pod) = Pod::or_skip() else { return };
    // A gateway outside of every subnet, as some primaries have it, and a second route that was not in use.
    pod.ip("route add default via 169.254.1.1 dev eth0 onlink src 10.1.0.5 mtu 1400");
    pod.ip("route add default via 10.1.0.9 dev eth0 metric 99");
    pod.ip("-6 route add default dev eth0");
    let networks = [network("eth0", None, &silent()), network("net1", Some(&["10.2.0.1"]), &silent())];
    let results = pod.settle(&networks, &["10.96.0.0/12", "fd10::/108"]).unwrap();
    let way = pod.to("10.96.0.0/12");
    for part in ["via 169.254.1.1 dev eth0", "onlink", "src 10.1.0.5", "mtu 1400"] {
        assert!(way.contains(part), "{part} is not in {way}");
    }
    assert!(
        pod.to("fd10::/108").starts_with("dev eth0")
            || pod.to("fd10::/108").starts_with("fd10::/108 dev eth0")
    );
    assert_eq!(
        results[0]["routes"],
        json!([{"dst": "10.96.0.0/12", "gw": "169.254.1.1"}, {"dst": "fd10::/108"}])
    );
    assert_eq!(pod.defaults(), lines(&["default via 10.2.0.1 dev net1"]));
}

#[test]
fn cluster_destinations_of_a_primary_without_gateway_are_on_its_link() {
    let Some(pod) = Pod::or_skip() else { return };
    pod.ip("route add default dev eth0");
    let networks = [network("eth0", None, &silent()), network("net1", Some(&["10.2.0.1"]), &silent())];
    let results = pod.settle(&networks, &["10.96.0.0/12"]).unwrap();
    assert!(pod.to("10.96.0.0/12").contains("dev eth0") && pod.to("10.96.0.0/12").contains("scope link"));
    assert_eq!(results[0]["routes"], json!([{"dst": "10.96.0.0/12"}]));
}

#[test]
fn a_route_that_is_there_already_keeps_its_way() {
    let Some(pod) = usual() else { return };
    pod.ip("route add 10.244.0.0/16 via 10.1.0.7 dev eth0");
    pod.ip("route add 10.96.0.0/12 via 10.2.0.7 dev net1");
    let networks = [network("eth0", None, &silent()), network("net1", Some(&["10.2.0.1"]), &silent())];
    let results = pod.settle(&networks, &["10.96.0.0/12", "10.244.0.0/16"]).unwrap();
    assert_eq!(results[0], silent(), "a result says what is");
    assert!(pod.to("10.244.0.0/16").contains("via 10.1.0.7 dev eth0"));
    assert!(
        pod.to("10.96.0.0/12").contains("via 10.2.0.7 dev net1"),
        "the network's own route is its author's wish"
    );
}

#[test]
fn the_thread_of_the_caller_stays_in_its_own_namespace() {
    let Some(pod) = usual() else { return };
    let here = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    let before = here();
    pod.settle(&[network("eth0", None, &silent()), network("net1", Some(&["10.2.0.1"]), &silent())], &[])
        .unwrap();
    assert_eq!(here(), before);
    let mut names = meta::netns::interfaces(&pod.netns.path()).unwrap();
    names.sort();
    assert_eq!(names, ["eth0", "lo", "net1"]);
}

#[test]
fn a_namespace_that_is_gone_may_be_tried_again() {
    let networks = [network("net1", Some(&["10.2.0.1"]), &silent())];
    let attached = networks.iter().map(|one| meta::routes::Attached {
        ifname: "net1",
        request: Some(&[]),
        primary: false,
        result: &one.result,
    });
    let fault = meta::routes::settle("/gone/netns".as_ref(), &attached.collect::<Vec<_>>(), &[]).unwrap_err();
    assert_eq!((fault.code, fault.slug.as_str()), (11, "NETNS_UNREADABLE"));
}
