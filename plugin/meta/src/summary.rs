//! All networks of a sandbox in one line, for the event that tells a pod's owner. Pure.

use crate::record::Record;

/// Reason of that event; the one that Go Multus uses for each network.
pub const REASON: &str = "AddedInterface";

/// Longest line, in bytes: an event's message has 1024.
const LONGEST: usize = 1000;

/// `eth0 [10.1.0.5/24] from cluster, net1 [192.168.1.7/24] from demo/a`: interface, addresses and network of each
/// attachment, in the order of their ADD. Where that is too long, whole networks are left off and counted.
pub fn of(record: &Record) -> String {
    let mut line = String::new();
    let own_interface = || record.attachments.iter().filter(|attachment| !attachment.shares_interface);
    for (position, attachment) in own_interface().enumerate() {
        let addresses = match addresses(attachment) {
            addresses if addresses.is_empty() => String::new(),
            addresses => format!(" [{}]", addresses.join(" ")),
        };
        let separator = if line.is_empty() { "" } else { ", " };
        let part = format!("{separator}{}{addresses} from {}", attachment.ifname, attachment.network);
        let rest = own_interface().count() - position;
        // What is left off must still be said.
        if line.len() + part.len() > LONGEST - ", and 64 more".len() {
            line.push_str(&format!("{separator}and {rest} more"));
            break;
        }
        line.push_str(&part);
    }
    line
}

/// The addresses of the delegate's result; one that cannot be understood has none to show, and fails elsewhere.
fn addresses(attachment: &crate::record::Attachment) -> Vec<String> {
    let result = attachment.config().and_then(|config| attachment.result(&config.cni_version));
    let typed = result.ok().flatten().and_then(|result| result.typed().ok());
    typed.map(|typed| typed.ips.into_iter().map(|ip| ip.address).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(attachments: &[(&str, &str, &[&str])]) -> Record {
        let attachments: Vec<_> = attachments
            .iter()
            .map(|(network, ifname, addresses)| {
                let ips: Vec<_> = addresses.iter().map(|address| serde_json::json!({ "address": address })).collect();
                serde_json::json!({
                    "network": network, "ifname": ifname, "phase": "attached", "primary": false, "capabilityArgs": {},
                    "config": {"cniVersion": "1.0.0", "name": "n", "type": "t"},
                    "result": {"cniVersion": "1.0.0", "ips": ips},
                })
            })
            .collect();
        let text = serde_json::json!({"sandbox": "s", "pod": null, "netns": "", "args": "", "bootId": "",
            "failingSince": null, "attachments": attachments});
        serde_json::from_str(&text.to_string()).unwrap()
    }

    #[test]
    fn the_line_names_interface_addresses_and_network_of_each() {
        let record = record(&[("cluster", "eth0", &["10.1.0.5/24", "fd00::5/64"]), ("demo/a", "net1", &[])]);
        assert_eq!(of(&record), "eth0 [10.1.0.5/24 fd00::5/64] from cluster, net1 from demo/a");
    }

    #[test]
    fn the_most_networks_with_the_longest_names_fit_an_event() {
        let long = "n".repeat(253);
        let many: Vec<(&str, &str, &[&str])> = vec![(long.as_str(), "net1234567890ab", &["10.0.0.1/24"]); 64];
        let line = of(&record(&many));
        assert!(line.len() <= LONGEST, "{}", line.len());
        assert!(line.ends_with(", and 61 more"), "{line}");
        assert!(of(&record(&[(&"n".repeat(2000), "e", &[])])).len() <= LONGEST);
    }
}
