//! What the time of a call is made of, for the page.

use crate::{
    page::row,
    report::{Report, milliseconds},
    serial::Load,
    subject::Kind,
};

/// The system calls of a plain pod's ADD, as the gate holds them.
const HOT_PATH: &str = include_str!("../hot-path.txt");

/// What the time of an ADD with two networks is made of, each part measured alone.
pub(crate) fn parts(report: &Report) -> String {
    let parts = &report.parts;
    let load = Load::noop(2);
    let (Some(scenario), Some(calls)) = (report.scenario(2), report.requests_of(Kind::Ours, load)) else {
        return String::new();
    };
    let (Some(ours), Some(bare)) = (scenario.row(Kind::Ours), scenario.row(Kind::Bare)) else {
        return String::new();
    };
    let known = [
        ("three delegates, called bare", bare.add.median),
        ("starting and ending the plugin itself", parts.start_plugin.median),
        ("the record before the first delegate: file and folder synced (fsync)", parts.synced_file.median),
        ("the record after each delegate: three steps added", 3.0 * parts.noted.median),
        ("two round trips on the daemon's socket: resolve and publish", 2.0 * parts.round_trip.median),
        ("the API server's own time for the PATCH of the status", calls.status_write),
    ];
    let rest = ours.add.median - known.iter().map(|(_, time)| time).sum::<f64>();
    let mut text =
        String::from("\n## What the limit is made of\n\nADD of a pod with two networks, medians.\n\n");
    text += &row(["part", "ms"]);
    text += &row(["---"; 2]);
    for (name, time) in known {
        text += &row([name.to_owned(), milliseconds(time)]);
    }
    text += &row([
        "the rest: locks, JSON, a look into the pod's namespace, waking daemon and API server, TLS"
            .to_owned(),
        milliseconds(rest),
    ]);
    text += &row(["together".to_owned(), milliseconds(ours.add.median)]);
    let peer = report.requests_of(Kind::PeerThick, load).map(|calls| calls.status_write);
    let update = peer.map(|time| format!(" ({} ms here)", milliseconds(time))).unwrap_or_default();
    let each = (ours.del.median - parts.start_plugin.median - parts.removed.median) / 3.0;
    text += &format!(
        "\nThe status of a pod with networks is published before the pod starts, so the PATCH is waited for. The last step of\n\
         the record is synced meanwhile ({} ms alone). Go Multus sends an UPDATE{update}, for which a GET just before has\n\
         warmed the API server. The record is synced before the first delegate, or a power cut would leak addresses; Go\n\
         Multus keeps none.\n",
        milliseconds(parts.noted_synced.median),
    );
    text += &format!(
        "\nA DEL is the plugin's start, three delegates of {} ms each, and the removal of the record ({} ms; a file system\n\
         without a journal that is mounted with `discard` frees its blocks at once). A delegate is found, started as\n\
         `posix_spawn` does, fed, listened to and reaped, under a deadline and as a group of its own. Called bare, each\n\
         takes {} ms.\n",
        milliseconds(each),
        milliseconds(parts.removed.median),
        milliseconds(bare.del.median / 3.0)
    );
    text += &format!(
        "\nA plain pod's ADD is the plugin's start ({} ms), the delegate's ({} ms), and the system calls below. It asks nobody\n\
         and syncs nothing.\n",
        milliseconds(parts.start_plugin.median),
        milliseconds(parts.start_delegate.median)
    );
    text
}

/// The system calls of a plain pod's ADD, each with its reason.
pub(crate) fn system_calls() -> String {
    let mut text = String::from(
        "\n## System calls of a plain pod's ADD\n\n\
         Held by a test, with the number of instructions: `cargo test -p xtask hot_path`. Calls of the delegate are not\n\
         counted.\n\n",
    );
    text += &row(["call", "times", "why"]);
    text += &row(["---"; 3]);
    for line in HOT_PATH.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let Some((call, rest)) = line.split_once(' ') else { continue };
        let Some((times, why)) = rest.trim_start().split_once(' ') else { continue };
        if call != "instructions" {
            text += &row([call, times, why]);
        }
    }
    text
}
