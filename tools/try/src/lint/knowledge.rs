//! What is known of CNI plugins: their names, keys, words and capabilities.
//!
//! The reference plugins' keys are those of their release 1.9.1, complete. Of others, names are known, and of some
//! the keys that their manuals have; a key that is not listed there is no mistake unless it is nearly one of them.

use std::ops::RangeInclusive;

/// What a plugin is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Makes an interface.
    Main,
    /// Changes what another plugin made, so it cannot stand first.
    Chained,
    /// Gives addresses; stands in `ipam`.
    Ipam,
}

/// What a key wants.
#[derive(Debug, Clone)]
pub enum Takes {
    /// A string.
    Text,
    /// `true` or `false`.
    Switch,
    /// A whole number of this range.
    Number(RangeInclusive<i128>),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list.
    List,
    /// An object.
    Map,
    /// A hardware address of six bytes.
    Mac,
    /// The name of an interface.
    Interface,
    /// The name of an interface that the node has already.
    Master,
    /// Bytes of the largest packet.
    Mtu,
    /// A VLAN number.
    Vlan,
    /// Whatever it is, it is checked elsewhere or not at all.
    Any,
}

/// One plugin.
#[derive(Debug)]
pub struct Known {
    /// Its `type`.
    pub name: &'static str,
    /// What it is for.
    pub role: Role,
    /// All of its keys are listed.
    pub complete: bool,
    /// Keys and what they want.
    pub keys: &'static [(&'static str, Takes)],
}

/// Keys that every plugin has.
pub const COMMON: &[(&str, Takes)] = &[
    ("cniVersion", Takes::Text),
    ("cniVersions", Takes::List),
    ("name", Takes::Text),
    ("type", Takes::Text),
    ("capabilities", Takes::Map),
    ("ipam", Takes::Map),
    ("dns", Takes::Map),
    ("args", Takes::Map),
    ("runtimeConfig", Takes::Any),
    ("prevResult", Takes::Any),
];

/// Keys of a list of plugins.
pub const LIST: &[(&str, Takes)] = &[
    ("cniVersion", Takes::Text),
    ("cniVersions", Takes::List),
    ("name", Takes::Text),
    ("plugins", Takes::List),
    // libcni takes the words in quotes too.
    ("disableCheck", Takes::Any),
    ("disableGC", Takes::Any),
    ("loadOnlyInlinedPlugins", Takes::Any),
    ("args", Takes::Map),
    ("runtimeConfig", Takes::Any),
    ("prevResult", Takes::Any),
];

/// Keys of a route in `ipam`.
pub const ROUTE: &[(&str, Takes)] = &[
    ("dst", Takes::Text),
    ("gw", Takes::Text),
    ("mtu", Takes::Number(0..=65535)),
    ("advmss", Takes::Number(0..=65535)),
    ("priority", Takes::Number(0..=4_294_967_295)),
    ("table", Takes::Number(0..=4_294_967_295)),
    ("scope", Takes::Number(0..=255)),
];

/// Keys of a range of host-local.
pub const RANGE: &[(&str, Takes)] = &[
    ("subnet", Takes::Text),
    ("rangeStart", Takes::Text),
    ("rangeEnd", Takes::Text),
    ("gateway", Takes::Text),
];

/// Keys of an address of static.
pub const ADDRESS: &[(&str, Takes)] = &[("address", Takes::Text), ("gateway", Takes::Text)];

/// Capabilities with a meaning that people agreed on.
pub const CAPABILITIES: &[&str] = &[
    "portMappings",
    "bandwidth",
    "ips",
    "mac",
    "ipRanges",
    "infinibandGUID",
    "deviceID",
    "CNIDeviceInfoFile",
    "dns",
    "aliases",
    "cgroupPath",
    "snat",
];

const ON_OFF: Takes = Takes::Word(&["on", "off"]);
const BACKEND: Takes = Takes::Word(&["iptables", "nftables"]);
const RATE: Takes = Takes::Number(0..=u64::MAX as i128);
const U32: Takes = Takes::Number(0..=u32::MAX as i128);

/// Plugins whose keys are known.
pub const KNOWN: &[Known] = &[
    main(
        "bridge",
        &[
            ("bridge", Takes::Interface),
            ("isGateway", Takes::Switch),
            ("isDefaultGateway", Takes::Switch),
            ("forceAddress", Takes::Switch),
            ("ipMasq", Takes::Switch),
            ("ipMasqBackend", BACKEND),
            ("mtu", Takes::Mtu),
            ("hairpinMode", Takes::Switch),
            ("promiscMode", Takes::Switch),
            ("vlan", Takes::Vlan),
            ("vlanTrunk", Takes::List),
            ("preserveDefaultVlan", Takes::Switch),
            ("macspoofchk", Takes::Switch),
            ("enabledad", Takes::Switch),
            ("disableContainerInterface", Takes::Switch),
            ("portIsolation", Takes::Switch),
        ],
    ),
    main(
        "macvlan",
        &[
            ("master", Takes::Master),
            ("mode", Takes::Word(&["bridge", "private", "vepa", "passthru"])),
            ("mtu", Takes::Mtu),
            ("mac", Takes::Mac),
            ("linkInContainer", Takes::Switch),
            ("bcqueuelen", U32),
        ],
    ),
    main(
        "ipvlan",
        &[
            ("master", Takes::Master),
            ("mode", Takes::Word(&["l2", "l3", "l3s"])),
            ("mtu", Takes::Mtu),
            ("linkInContainer", Takes::Switch),
        ],
    ),
    main(
        "vlan",
        &[
            ("master", Takes::Master),
            ("vlanId", Takes::Vlan),
            ("mtu", Takes::Mtu),
            ("linkInContainer", Takes::Switch),
        ],
    ),
    main("ptp", &[("ipMasq", Takes::Switch), ("ipMasqBackend", BACKEND), ("mtu", Takes::Mtu)]),
    main(
        "host-device",
        &[
            ("device", Takes::Master),
            ("hwaddr", Takes::Mac),
            ("DPDKMode", Takes::Switch),
            ("kernelpath", Takes::Text),
            ("pciBusID", Takes::Text),
            ("deviceID", Takes::Text),
        ],
    ),
    main("dummy", &[]),
    main("loopback", &[]),
    main(
        "tap",
        &[
            ("multiQueue", Takes::Switch),
            ("mtu", Takes::Mtu),
            ("mac", Takes::Mac),
            ("owner", U32),
            ("group", U32),
            ("selinuxContext", Takes::Text),
            ("bridge", Takes::Interface),
        ],
    ),
    chained(
        "tuning",
        &[
            ("dataDir", Takes::Text),
            ("sysctl", Takes::Map),
            ("mac", Takes::Mac),
            ("promisc", Takes::Switch),
            ("mtu", Takes::Mtu),
            ("txQLen", U32),
            ("allmulti", Takes::Switch),
        ],
    ),
    chained(
        "portmap",
        &[
            ("backend", BACKEND),
            ("snat", Takes::Switch),
            ("conditionsV4", Takes::List),
            ("conditionsV6", Takes::List),
            ("masqAll", Takes::Switch),
            ("markMasqBit", Takes::Number(0..=31)),
            ("externalSetMarkChain", Takes::Text),
        ],
    ),
    chained(
        "bandwidth",
        &[("ingressRate", RATE), ("ingressBurst", RATE), ("egressRate", RATE), ("egressBurst", RATE)],
    ),
    chained("sbr", &[("table", U32)]),
    chained("vrf", &[("vrfname", Takes::Interface), ("table", U32)]),
    chained(
        "firewall",
        &[
            ("backend", Takes::Word(&["iptables", "firewalld"])),
            ("iptablesAdminChainName", Takes::Text),
            ("firewalldZone", Takes::Text),
            ("ingressPolicy", Takes::Word(&["open", "same-bridge", "isolated"])),
        ],
    ),
    ipam(
        "host-local",
        true,
        &[
            ("ranges", Takes::List),
            ("subnet", Takes::Text),
            ("rangeStart", Takes::Text),
            ("rangeEnd", Takes::Text),
            ("gateway", Takes::Text),
            ("routes", Takes::List),
            ("dataDir", Takes::Text),
            ("resolvConf", Takes::Text),
        ],
    ),
    ipam("static", true, &[("addresses", Takes::List), ("routes", Takes::List), ("dns", Takes::Map)]),
    ipam(
        "dhcp",
        true,
        &[
            ("daemonSocketPath", Takes::Text),
            ("provide", Takes::List),
            ("request", Takes::List),
            ("priority", U32),
        ],
    ),
    ipam(
        "whereabouts",
        false,
        &[
            ("range", Takes::Text),
            ("range_start", Takes::Text),
            ("range_end", Takes::Text),
            ("gateway", Takes::Text),
            ("exclude", Takes::List),
            ("ipRanges", Takes::List),
            ("routes", Takes::List),
            ("addresses", Takes::List),
            ("dns", Takes::Map),
            ("datastore", Takes::Word(&["kubernetes", "etcd"])),
            ("kubernetes", Takes::Map),
            ("network_name", Takes::Text),
            ("enable_overlapping_ranges", Takes::Switch),
            ("overlapping_ranges", Takes::Switch),
            ("node_slice_size", Takes::Any),
            ("log_file", Takes::Text),
            ("log_level", Takes::Text),
            ("configuration_path", Takes::Text),
            ("etcd_host", Takes::Text),
            ("leader_lease_duration", Takes::Any),
            ("leader_renew_deadline", Takes::Any),
            ("leader_retry_period", Takes::Any),
        ],
    ),
    third(
        "sriov",
        &[
            ("vlan", Takes::Vlan),
            ("vlanQoS", Takes::Number(0..=7)),
            ("vlanProto", Takes::Text),
            ("deviceID", Takes::Text),
            ("pciBusID", Takes::Text),
            ("mac", Takes::Mac),
            ("mtu", Takes::Mtu),
            ("min_tx_rate", Takes::Number(0..=10_000_000)),
            ("max_tx_rate", Takes::Number(0..=10_000_000)),
            ("spoofchk", ON_OFF),
            ("trust", ON_OFF),
            ("link_state", Takes::Word(&["auto", "enable", "disable"])),
            ("vlan_trunk", Takes::Text),
            ("logLevel", Takes::Text),
            ("logFile", Takes::Text),
        ],
    ),
    third(
        "ovs",
        &[
            ("bridge", Takes::Text),
            ("vlan", Takes::Vlan),
            ("mtu", Takes::Mtu),
            ("trunk", Takes::List),
            ("deviceID", Takes::Text),
            ("ofport_request", Takes::Number(1..=65279)),
            ("configuration_path", Takes::Text),
            ("socket_file", Takes::Text),
        ],
    ),
];

/// Names of plugins of which nothing more is known.
pub const NAMES: &[&str] = &[
    "accelerated-bridge",
    "afxdp",
    "antrea",
    "aws-cni",
    "azure-vnet",
    "bond",
    "calico",
    "calico-ipam",
    "cilium-cni",
    "cnv-bridge",
    "cnv-tuning",
    "coordinator",
    "egress-cni",
    "flannel",
    "ib-sriov",
    "ifacer",
    "infiniband-sriov-cni",
    "ipoib",
    "istio-cni",
    "kube-ovn",
    "linkerd-cni",
    "macvtap",
    "netris",
    "node-local-ipam",
    "nv-ipam",
    "ovn-k8s-cni-overlay",
    "ovs-mirror-consumer",
    "ovs-mirror-producer",
    "passthru",
    "ptp-device",
    "rdma",
    "route-override",
    "spiderpool",
    "userspace",
    "virt-tap",
    "weave-ipam",
    "weave-net",
];

/// Our own names and those of Go Multus: never a delegate.
pub const MULTUS: &[&str] = &["multus", "multus-shim", "multus-cni", "multus-daemon"];

const fn main(name: &'static str, keys: &'static [(&'static str, Takes)]) -> Known {
    Known { name, role: Role::Main, complete: true, keys }
}

const fn chained(name: &'static str, keys: &'static [(&'static str, Takes)]) -> Known {
    Known { name, role: Role::Chained, complete: true, keys }
}

const fn ipam(name: &'static str, complete: bool, keys: &'static [(&'static str, Takes)]) -> Known {
    Known { name, role: Role::Ipam, complete, keys }
}

const fn third(name: &'static str, keys: &'static [(&'static str, Takes)]) -> Known {
    Known { name, role: Role::Main, complete: false, keys }
}

/// The plugin of that name.
pub fn known(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name == name)
}

/// Every name that is known.
pub fn names() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|known| known.name).chain(NAMES.iter().copied())
}
