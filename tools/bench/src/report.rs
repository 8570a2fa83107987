//! Everything that was measured, the budgets it is held against, and the table for the terminal.

use serde::Serialize;

use crate::{
    audit::Requests,
    burst::Burst,
    machine::Machine,
    memory,
    memory::growth,
    parts::Parts,
    scale::Scale,
    serial::{Load, Scenario},
    starts::Starts,
    subject::Kind,
};

/// A run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// Absent in a quick run.
    pub(crate) starts: Option<Starts>,
    pub(crate) serial: Vec<Scenario>,
    pub(crate) requests: Vec<Requests>,
    pub(crate) bursts: Vec<Burst>,
    pub(crate) parts: Parts,
    /// Empty in a quick run.
    pub(crate) memory: Vec<memory::Row>,
    pub(crate) scale: Option<Scale>,
    /// Programs and their bytes; the first is the plugin, the sum is the image.
    pub(crate) image: Vec<(String, u64)>,
    pub(crate) peer_sizes: Vec<(String, u64)>,
}

/// Something promised, and whether it holds.
#[derive(Debug, Serialize)]
pub(crate) struct Budget {
    pub(crate) promise: &'static str,
    pub(crate) limit: String,
    pub(crate) measured: String,
    pub(crate) holds: bool,
}

impl Report {
    /// The scenario with so many networks.
    pub(crate) fn scenario(&self, networks: usize) -> Option<&Scenario> {
        self.serial.iter().find(|scenario| scenario.load == Load::noop(networks))
    }

    pub(crate) fn requests_of(&self, subject: Kind, load: Load) -> Option<&Requests> {
        self.requests.iter().find(|row| row.subject == subject && row.load == load)
    }

    fn resident(&self, subject: Kind, networks: usize) -> Option<f64> {
        let row = self.memory.iter().find(|row| row.subject == subject && row.networks == networks)?;
        Some(row.resident as f64)
    }

    /// Every budget that this run can judge; those against the peer need its binaries.
    pub(crate) fn budgets(&self) -> Vec<Budget> {
        let ours = |networks| self.scenario(networks)?.above(Kind::Ours);
        let peer = |networks| self.scenario(networks)?.above(Kind::PeerThick);
        let calls = |networks| self.requests_of(Kind::Ours, Load::noop(networks));
        let rate = |kind| Some(self.bursts.first()?.row(kind)?.per_second);
        let share = |ours: Option<f64>, peer: Option<f64>| Some(ours? / peer?);
        let at_most = |promise, limit: f64, unit: &str, measured: Option<f64>| {
            let shown = |value: f64| format!("{} {unit}", significant(value)).trim().to_owned();
            measured.map(|measured| Budget {
                promise,
                limit: format!("at most {}", shown(limit)),
                measured: shown(measured),
                holds: measured <= limit,
            })
        };
        let of_peer = |promise, divisor: f64, measured: Option<f64>| {
            measured.map(|share| Budget {
                promise,
                limit: format!("at most 1/{divisor}"),
                measured: format!("1/{}", significant(1.0 / share)),
                holds: share <= 1.0 / divisor,
            })
        };
        let size = self.image.first().map(|(_, bytes)| *bytes as f64 / 1e6);
        let image = self.image.iter().map(|(_, bytes)| *bytes as f64 / 1e6).sum();
        let burst = share(rate(Kind::Ours), rate(Kind::PeerThick)).map(|times| Budget {
            promise: "burst of 60 pods, 20 at once: pods per second, of Go Multus thick",
            limit: "at least 5 times".to_owned(),
            measured: format!("{} times", significant(times)),
            holds: times >= 5.0,
        });
        let grown = growth(&self.memory, Kind::Ours, 2_000, 10_000);
        let scale = self.scale.as_ref().map(|scale| (scale.large.median / scale.small.median - 1.0) * 100.0);
        [
            of_peer(
                "plain pod, ADD: time above the primary alone, of Go Multus thick",
                15.0,
                share(ours(0).map(|above| above.0), peer(0).map(|above| above.0)),
            ),
            at_most("plain pod, ADD: API requests awaited", 0.0, "", calls(0).map(|calls| calls.awaited)),
            of_peer(
                "two networks, ADD: time above the delegates alone, of Go Multus thick",
                5.0,
                share(ours(2).map(|above| above.0), peer(2).map(|above| above.0)),
            ),
            at_most("two networks, ADD: API requests awaited", 1.0, "", calls(2).map(|calls| calls.awaited)),
            of_peer(
                "two networks, DEL: time above the delegates alone, of Go Multus thick",
                10.0,
                share(ours(2).map(|above| above.1), peer(2).map(|above| above.1)),
            ),
            at_most(
                "two networks, DEL: API requests meanwhile",
                0.0,
                "",
                calls(2).map(|calls| calls.awaited_by_del),
            ),
            burst,
            of_peer(
                "daemon's resident memory beside 2,000 networks, of Go Multus thick",
                4.0,
                share(self.resident(Kind::Ours, 2_000), self.resident(Kind::PeerThick, 2_000)),
            ),
            at_most(
                "daemon's growth per network from 2,000 to 10,000, beyond its text",
                1024.0,
                "bytes",
                grown,
            ),
            at_most("ADD in a cluster of 10,000 networks and 5,000 pods: slower by", 10.0, "%", scale),
            at_most("size of multus-shim", 0.85, "MB", size),
            at_most("size of the image, unpacked", 15.0, "MB", Some(image)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// For the terminal.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let mut line = |columns: [&str; 6]| {
            let [a, b, c, d, e, f] = columns;
            let row = format!("{a:<30} {b:<16} {c:>10} {d:>10} {e:>10} {f:>12}");
            text += row.trim_end();
            text.push('\n');
        };
        line(["", "", "ADD ms", "p99", "DEL ms", "API requests"]);
        for scenario in &self.serial {
            for row in &scenario.rows {
                let name = scenario.load.title();
                let calls = self.requests_of(row.subject, scenario.load);
                line([
                    &name,
                    row.subject.title(),
                    &milliseconds(row.add.median),
                    &milliseconds(row.add.p99),
                    &milliseconds(row.del.median),
                    &calls.map(|calls| significant(calls.awaited)).unwrap_or_default(),
                ]);
            }
        }
        if let Some(Starts(rows)) = &self.starts {
            line(["", "", "start ms", "p99", "", ""]);
            for row in rows {
                let [median, p99] =
                    [row.time.median, row.time.p99].map(|time| format!("{:.0}", time / 1000.0));
                line(["pod on a cluster", &row.case, &median, &p99, "", ""]);
            }
        }
        line(["", "", "ADD/s", "peak MB", "failed", ""]);
        for burst in &self.bursts {
            for row in &burst.rows {
                let name = format!("{} pods, {} at once", burst.pods, burst.at_once);
                let peak = row.daemon_peak.map(megabytes).unwrap_or_default();
                line([
                    &name,
                    row.subject.title(),
                    &significant(row.per_second),
                    &peak,
                    &row.failed.to_string(),
                    "",
                ]);
            }
        }
        if !self.memory.is_empty() {
            line(["", "", "MB", "ready ms", "peak MB", ""]);
        }
        for row in &self.memory {
            let name = format!("daemon, {} networks", row.networks);
            let ready = format!("{:.0}", row.serves_after);
            line([&name, row.subject.title(), &megabytes(row.resident), &ready, &megabytes(row.peak), ""]);
        }
        let budgets = self.budgets();
        text.push('\n');
        for budget in &budgets {
            let word = if budget.holds { "holds " } else { "MISSED" };
            text += &format!("{word} {:<72} {:<17} {}\n", budget.promise, budget.limit, budget.measured);
        }
        text
    }
}

/// Microseconds as milliseconds.
pub(crate) fn milliseconds(microseconds: f64) -> String {
    format!("{:.2}", microseconds / 1000.0)
}

/// kB as MB.
pub(crate) fn megabytes(kilobytes: u64) -> String {
    format!("{:.1}", kilobytes as f64 / 1000.0)
}

/// Three digits say what is known.
pub(crate) fn significant(value: f64) -> String {
    let text = match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let shown: Vec<String> = [1234.5, 12.34, 1.5, 0.85, 100.0, 0.0].map(significant).to_vec();
        assert_eq!(shown, ["1234", "12.3", "1.5", "0.85", "100", "0"]);
    }
}
