//! `docs/performance.md` and its plots, written from the figures of one run.

use std::{fmt::Display, fs, path::Path};

use anyhow::{Context, Result};

use crate::{
    limit,
    memory::BURST,
    plot::{self, Bar},
    report::{Report, megabytes, milliseconds, significant},
    serial::REST,
    starts::Starts,
    stats::Stats,
    subject::Kind,
};

/// Writes the page and its plots.
pub(crate) fn write(docs: &Path, report: &Report) -> Result<()> {
    let folder = docs.join("performance");
    fs::create_dir_all(&folder)?;
    let mut pictures = Vec::new();
    for (name, svg) in plots(report) {
        let file = folder.join(format!("{name}.svg"));
        fs::write(&file, svg).with_context(|| file.display().to_string())?;
        pictures.push(name);
    }
    let page = page(report, &pictures);
    fs::write(docs.join("performance.md"), page).context("docs/performance.md")
}

fn plots(report: &Report) -> Vec<(String, String)> {
    let mut plots = Vec::new();
    for scenario in &report.serial {
        let of = |verb: &str, stats: fn(&crate::serial::Row) -> Stats| {
            let bar = |row: &crate::serial::Row| Bar {
                name: row.subject.title(),
                ours: row.subject == Kind::Ours,
                value: stats(row).median / 1000.0,
                upper: Some(stats(row).p99 / 1000.0),
            };
            let bars: Vec<Bar<'_>> = scenario.rows.iter().map(bar).collect();
            let title = format!("{verb}, {}: median, line to p99", scenario.load.title());
            (format!("{}-{}", verb.to_lowercase(), scenario.load.name()), plot::bars(&title, "ms", &bars))
        };
        plots.push(of("ADD", |row| row.add));
        plots.push(of("DEL", |row| row.del));
    }
    if let Some(Starts(rows)) = &report.starts {
        let bars: Vec<Bar<'_>> = rows
            .iter()
            .map(|row| Bar {
                name: &row.case,
                ours: row.case != "primary alone",
                value: row.time.median / 1000.0,
                upper: Some(row.time.p99 / 1000.0),
            })
            .collect();
        plots.push((
            "pod-start".to_owned(),
            plot::bars("start of a pod on a cluster: median, line to p99", "ms", &bars),
        ));
    }
    for burst in &report.bursts {
        let bar = |row: &crate::burst::Row| Bar {
            name: row.subject.title(),
            ours: row.subject == Kind::Ours,
            value: row.per_second,
            upper: None,
        };
        let bars: Vec<Bar<'_>> = burst.rows.iter().map(bar).collect();
        let title = format!("{} pods with 2 networks, {} at once: ADD per second", burst.pods, burst.at_once);
        plots.push((format!("burst-{}", burst.pods), plot::bars(&title, "/s", &bars)));
    }
    let most = report.memory.iter().map(|row| row.networks).max();
    for networks in [Some(2_000), most].into_iter().flatten() {
        let bar = |row: &crate::memory::Row| Bar {
            name: row.subject.title(),
            ours: row.subject == Kind::Ours,
            value: row.resident as f64 / 1000.0,
            upper: None,
        };
        let bars: Vec<Bar<'_>> =
            report.memory.iter().filter(|row| row.networks == networks).map(bar).collect();
        let title = format!("daemon's resident memory beside {networks} networks");
        plots.push((format!("memory-{networks}"), plot::bars(&title, "MB", &bars)));
    }
    plots
}

fn page(report: &Report, pictures: &[String]) -> String {
    let machine = &report.machine;
    let mut page = format!(
        "# Performance\n\n\
         This page is written by `cargo xtask bench --peer DIR --docs`; DIR holds the binaries of Go Multus v4.3.\n\
         Machines differ and drift, so compare ratios within one run: everybody is called in turn, call by call, by the\n\
         same code. But for the macvlan rows delegates do nothing, so what is above the bare delegates is the meta-plugin's\n\
         own cost. The API server and etcd are real. Go Multus thick runs without chroot and with little logging, which favours it.\n\n\
         Taken on {} cores of {}, Linux {}, load average {} before the run.\n\n## Budgets\n\n",
        machine.cores, machine.processor, machine.kernel, machine.load
    );
    page += &row(["promise", "limit", "measured", "holds"]);
    page += &row(["---"; 4]);
    for budget in report.budgets() {
        let holds = if budget.holds { "yes" } else { "**no**" };
        page += &row([budget.promise, &budget.limit, &budget.measured, holds]);
    }
    page += &format!(
        "\n## One call after the other\n\nMilliseconds, each call {} ms after the one before: as on a node, nobody pays \
         for what somebody leaves to be done\nafter the answer, itself or another (events, above all). The rows without \
         rest are of the same calls without pause.\nRequests are those that the ADD of a pod waits for.\n\n",
        REST.as_millis()
    );
    page += &row(["", "", "ADD median", "ADD p99", "DEL median", "DEL p99", "API requests"]);
    page += &row(["---"; 7]);
    for scenario in &report.serial {
        for (position, one) in scenario.rows.iter().enumerate() {
            let name = if position == 0 { scenario.load.title() } else { String::new() };
            let calls = report.requests_of(one.subject, scenario.load);
            page += &row([
                name,
                one.subject.title().to_owned(),
                milliseconds(one.add.median),
                milliseconds(one.add.p99),
                milliseconds(one.del.median),
                milliseconds(one.del.p99),
                calls.map(|calls| significant(calls.awaited)).unwrap_or_default(),
            ]);
        }
    }
    if let Some(Starts(rows)) = &report.starts {
        page += "\n## A pod's whole start\n\n\
             From the moment that the pod is known to the API server until it says that its container runs, on a real\n\
             cluster with kubelet and containerd: milliseconds. The primary network and the others are bridges. The primary\n\
             alone is on another node of the same machine, one without our daemon.\n\n";
        page += &row(["", "p50", "p99", "starts"]);
        page += &row(["---"; 4]);
        for one in rows {
            let [median, p99] = [one.time.median, one.time.p99].map(|time| format!("{:.0}", time / 1000.0));
            page += &row([one.case.clone(), median, p99, one.time.count.to_string()]);
        }
    }
    page += "\n## Many at once\n\nPods with two networks. An ADD that failed was called again.\n\n";
    page += &row(["", "", "ADD per second", "failed ADDs", "daemon's peak, MB"]);
    page += &row(["---"; 5]);
    for burst in &report.bursts {
        for (position, one) in burst.rows.iter().enumerate() {
            let name = format!("{} pods, {} at once", burst.pods, burst.at_once);
            page += &row([
                if position == 0 { name } else { String::new() },
                one.subject.title().to_owned(),
                significant(one.per_second),
                one.failed.to_string(),
                one.daemon_peak.map(megabytes).unwrap_or_default(),
            ]);
        }
    }
    page += &cluster(report);
    page += &requests(report);
    page += &limit::parts(report);
    page += &limit::system_calls();
    page += "\n## Plots\n\n";
    for name in pictures {
        page += &format!("![{name}](performance/{name}.svg)\n");
    }
    page
}

/// Memory, large clusters and sizes.
fn cluster(report: &Report) -> String {
    let mut text = String::from("\n## Memory and sizes\n\n");
    text += &format!(
        "Resident, of the daemon alone. The burst: {} pods with two networks, {} at once. Ready: from the start of the\n\
         process until a pod with a network was attached.\n\n",
        BURST.0, BURST.1
    );
    text += &row([
        "networks in the cluster",
        "daemon of",
        "at rest, MB",
        "peak in a burst, MB",
        "ready after, ms",
    ]);
    text += &row(["---"; 5]);
    for one in &report.memory {
        text += &row([
            one.networks.to_string(),
            one.subject.title().to_owned(),
            megabytes(one.resident),
            megabytes(one.peak),
            format!("{:.0}", one.serves_after),
        ]);
    }
    if let Some(scale) = &report.scale {
        text += &format!(
            "\nADD of a pod with two networks: {} ms in a cluster of {} networks and {} pods, {} ms in a small one, in turn.\n",
            milliseconds(scale.large.median),
            scale.networks,
            scale.pods,
            milliseconds(scale.small.median)
        );
    }
    text += "\n| program | MB |\n| --- | --- |\n";
    let size = |(name, bytes): &(String, u64), of: &str| {
        row([format!("{name}{of}"), format!("{:.2}", *bytes as f64 / 1e6)])
    };
    text.extend(report.image.iter().map(|program| size(program, "")));
    text.extend(report.peer_sizes.iter().map(|program| size(program, " of Go Multus, as built")));
    text
}

fn requests(report: &Report) -> String {
    let mut text = String::from(
        "\n## Requests to the API server, per pod\n\n\
         From its audit log. Events are sent after the answer to the runtime, and so is the status of a plain pod.\n\n",
    );
    text += &row(["", "", "during ADD", "during DEL", "all"]);
    text += &row(["---"; 5]);
    for one in &report.requests {
        let each = |(kind, count): (&String, &f64)| format!("{} {kind}", significant(*count));
        let all: Vec<String> = one.all.iter().map(each).collect();
        text += &row([
            one.load.title(),
            one.subject.title().to_owned(),
            significant(one.awaited),
            // The status of a plain pod is written later, maybe then.
            if one.load.networks == 0 { "–".to_owned() } else { significant(one.awaited_by_del) },
            all.join(", "),
        ]);
    }
    text
}

/// A row of a table.
pub(crate) fn row<const N: usize>(cells: [impl Display; N]) -> String {
    format!("| {} |\n", cells.map(|cell| cell.to_string()).join(" | "))
}
