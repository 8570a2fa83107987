//! Whether a pod costs more in a large cluster: the same pods beside few networks and beside very many, in turn.

use std::{thread::sleep, time::Duration};

use anyhow::Result;
use serde::Serialize;

use crate::{
    call,
    progress::Progress,
    serial::{REST, network_names},
    stats::Stats,
    subject::Subject,
    world::{NODE, World},
};

/// A pod with two networks in a small and in a large cluster.
#[derive(Debug, Serialize)]
pub(crate) struct Scale {
    pub(crate) networks: usize,
    pub(crate) pods: usize,
    pub(crate) small: Stats,
    pub(crate) large: Stats,
}

/// Compares two worlds that one kind of subject attends.
pub(crate) fn run(
    small: (&World, &Subject),
    large: (&World, &Subject),
    (networks, pods): (usize, usize),
    rounds: usize,
    progress: &Progress,
) -> Result<Scale> {
    let title = format!("a pod beside {networks} networks and {pods} pods");
    progress.begin(&title);
    large.0.pods("many", "pod", pods, "node2", &[])?;
    let names = network_names(2);
    let mut sides = Vec::new();
    for (world, subject) in [small, large] {
        let pods = world.pods(subject.kind.namespace(), "scale", rounds, NODE, &names)?;
        sides.push((subject, pods, Vec::<Duration>::new()));
    }
    for round in 0..rounds {
        if round % 2 == 1 {
            sides.reverse();
        }
        for (subject, pods, times) in &mut sides {
            let Some(pod) = pods.get(round) else { continue };
            sleep(REST);
            times.push(call::run(&subject.calls("ADD", pod), &subject.log)?);
            sleep(REST);
            call::run(&subject.calls("DEL", pod), &subject.log)?;
        }
        if round % 2 == 1 {
            sides.reverse();
        }
        progress.step(&title, round + 1, rounds);
    }
    let of = |place: usize| sides.get(place).map(|(_, _, times)| Stats::of(times)).unwrap_or_default();
    Ok(Scale { networks, pods, small: of(0), large: of(1) })
}
