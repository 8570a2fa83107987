//! Many pods at once, as after the start of a node: how many a second.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde::Serialize;

use crate::{
    call,
    progress::Progress,
    serial::network_names,
    stats::median,
    subject::{Kind, Subject},
    world::{NODE, Pod, World},
};

/// ADDs of one pod that may fail before the run does.
const TRIES: usize = 5;

/// What one subject did with so many pods.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) subject: Kind,
    /// ADDs per second, the median of the repetitions.
    pub(crate) per_second: f64,
    /// ADDs that failed and were called again, as the kubelet does.
    pub(crate) failed: usize,
    /// Largest resident memory of its daemon until then, in kB.
    pub(crate) daemon_peak: Option<u64>,
}

/// A burst of so many pods with two networks, so many of them at a time.
#[derive(Debug, Serialize)]
pub(crate) struct Burst {
    pub(crate) pods: usize,
    pub(crate) at_once: usize,
    pub(crate) rows: Vec<Row>,
}

impl Burst {
    pub(crate) fn row(&self, subject: Kind) -> Option<&Row> {
        self.rows.iter().find(|row| row.subject == subject)
    }
}

/// Runs the burst so often, everybody in turn.
pub(crate) fn run(
    world: &World,
    subjects: &[Subject],
    (count, at_once): (usize, usize),
    repetitions: usize,
    progress: &Progress,
) -> Result<Burst> {
    let title = format!("{count} pods with 2 networks, {at_once} at once");
    progress.begin(&title);
    let mut rates = vec![Vec::new(); subjects.len()];
    let failed: Vec<AtomicUsize> = subjects.iter().map(|_| AtomicUsize::new(0)).collect();
    for repetition in 0..repetitions {
        for ((subject, rates), failed) in subjects.iter().zip(&mut rates).zip(&failed) {
            let prefix = format!("burst{count}-{repetition}");
            let took = once(world, subject, &prefix, (count, at_once), failed)?;
            rates.push(count as f64 / took.as_secs_f64());
        }
        progress.step(&title, repetition + 1, repetitions);
    }
    let row = |((subject, rates), failed): ((&Subject, &Vec<f64>), AtomicUsize)| -> Result<Row> {
        let daemon_peak = subject.daemon.as_ref().map(|daemon| daemon.memory("VmHWM")).transpose()?;
        let failed = failed.into_inner();
        Ok(Row { subject: subject.kind, per_second: median(rates), failed, daemon_peak })
    };
    let rows = subjects.iter().zip(&rates).zip(failed).map(row).collect::<Result<_>>()?;
    Ok(Burst { pods: count, at_once, rows })
}

/// Attaches so many new pods, so many at a time, and detaches them; returns how long the ADDs took.
pub(crate) fn once(
    world: &World,
    subject: &Subject,
    prefix: &str,
    (count, at_once): (usize, usize),
    failed: &AtomicUsize,
) -> Result<Duration> {
    let pods = world.pods(subject.kind.namespace(), prefix, count, NODE, &network_names(2))?;
    let begin = Instant::now();
    all(&pods, at_once, |pod| add(subject, pod, failed))?;
    let took = begin.elapsed();
    all(&pods, at_once, |pod| call::run(&subject.calls("DEL", pod), &subject.log).map(drop))?;
    Ok(took)
}

fn add(subject: &Subject, pod: &Pod, failed: &AtomicUsize) -> Result<()> {
    for _ in 0..TRIES {
        if call::run(&subject.calls("ADD", pod), &subject.log).is_ok() {
            return Ok(());
        }
        failed.fetch_add(1, Ordering::Relaxed);
        call::run(&subject.calls("DEL", pod), &subject.log)?;
    }
    call::run(&subject.calls("ADD", pod), &subject.log).map(drop)
}

/// Does the same for all pods, so many at a time.
fn all(pods: &[Pod], at_once: usize, act: impl Fn(&Pod) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        while let Some(pod) = pods.get(next.fetch_add(1, Ordering::Relaxed)) {
            act(pod)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().map_err(|_| anyhow::anyhow!("a worker of the burst broke off"))?
        })
    })
}
