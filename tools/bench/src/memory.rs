//! How much a daemon keeps in memory, by the number of networks in the cluster.

use std::{
    sync::atomic::AtomicUsize,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde::Serialize;

use crate::{
    burst, call,
    progress::Progress,
    serial::network_names,
    subject::{Kind, Programs, Subject},
    world::{NODE, World},
};

/// A network definition as people write them.
pub(crate) const TYPICAL: &str = r#"{"cniVersion":"1.0.0","name":"storage","type":"macvlan","master":"ens1f0","mode":"bridge","mtu":9000,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.56.217.0/24","rangeStart":"10.56.217.100","rangeEnd":"10.56.217.200"}]],"routes":[{"dst":"10.56.0.0/16"}]}}"#;

/// Pods, and how many of them at once.
pub(crate) const BURST: (usize, usize) = (60, 20);
/// How long it may change no more until it is at rest.
const REST: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(30);

/// One daemon and so many networks.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Row {
    pub(crate) subject: Kind,
    pub(crate) networks: usize,
    /// Resident, in kB, at rest.
    pub(crate) resident: u64,
    /// The largest in a burst of [`BURST`], in kB.
    pub(crate) peak: u64,
    /// ADDs of the burst that failed and were called again.
    pub(crate) failed: usize,
    /// From the start of the process until it attached a first pod with networks, in milliseconds.
    pub(crate) serves_after: f64,
}

/// Fills the cluster step by step, and starts each daemon anew at each step.
pub(crate) fn run(
    world: &World,
    programs: &Programs,
    steps: &[usize],
    progress: &Progress,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut there = 0;
    let with_daemon = |kind: &Kind| matches!(kind, Kind::Ours | Kind::PeerThick);
    for &networks in steps {
        progress.begin(&format!("daemons beside {networks} networks"));
        world.networks("many", "net", there..networks, |_| TYPICAL.to_owned())?;
        there = networks;
        for kind in programs.kinds().into_iter().filter(with_daemon) {
            let pods =
                world.pods(kind.namespace(), &format!("first{networks}"), 1, NODE, &network_names(1))?;
            let begin = Instant::now();
            let subject = Subject::start(kind, programs, world)?;
            let Some(pod) = pods.first() else { continue };
            // One that does not know the network yet refuses, and the runtime tries again.
            while let Err(error) = call::run(&subject.calls("ADD", pod), &subject.log) {
                if begin.elapsed() > PATIENCE {
                    return Err(error);
                }
                call::run(&subject.calls("DEL", pod), &subject.log)?;
                thread::sleep(Duration::from_millis(50));
            }
            let serves_after = begin.elapsed().as_secs_f64() * 1000.0;
            call::run(&subject.calls("DEL", pod), &subject.log)?;
            let resident = at_rest(&subject)?;
            let (peak, failed) = in_a_burst(world, &subject, &format!("peak{networks}"))?;
            rows.push(Row { subject: kind, networks, resident, peak, failed, serves_after });
        }
    }
    Ok(rows)
}

/// Largest resident memory, and failed ADDs.
fn in_a_burst(world: &World, subject: &Subject, prefix: &str) -> Result<(u64, usize)> {
    let Some(daemon) = &subject.daemon else { return Ok((0, 0)) };
    daemon.forget_peak()?;
    let failed = AtomicUsize::new(0);
    burst::once(world, subject, prefix, BURST, &failed)?;
    Ok((daemon.memory("VmHWM")?, failed.into_inner()))
}

fn at_rest(subject: &Subject) -> Result<u64> {
    let Some(daemon) = &subject.daemon else { return Ok(0) };
    let (begin, mut since) = (Instant::now(), Instant::now());
    let mut last = daemon.memory("VmRSS")?;
    while since.elapsed() < REST && begin.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(100));
        let now = daemon.memory("VmRSS")?;
        // A page more or less is no change.
        if now.abs_diff(last) > 64 {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(last)
}

/// Bytes by which a network's text makes the daemon grow beyond itself, between two numbers of networks.
pub(crate) fn growth(rows: &[Row], subject: Kind, from: usize, to: usize) -> Option<f64> {
    let resident = |networks| {
        rows.iter()
            .find(|row| row.subject == subject && row.networks == networks)
            .map(|row| row.resident as f64)
    };
    let bytes = (resident(to)? - resident(from)?) * 1024.0;
    Some(bytes / (to as f64 - from as f64) - TYPICAL.len() as f64)
}
