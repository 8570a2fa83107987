//! One call after the other: ADD and DEL of pods with so many networks, everybody in turn within each round, so that
//! whatever else the machine does falls on all of them.

use std::{
    thread::sleep,
    time::{Duration, SystemTime},
};

use anyhow::Result;
use serde::Serialize;

use crate::{
    audit::{self, Window},
    call,
    progress::Progress,
    stats::Stats,
    subject::{Kind, Subject},
    world::{NODE, Pod, REAL, World},
};

/// Before each call: what a call leaves to be done after its answer (events, requests that Go Multus sends later) must
/// not fall on whoever comes next, and on a node the calls of one pod are seconds apart.
pub(crate) const REST: Duration = Duration::from_millis(25);
/// Pods of which later requests are counted.
const LASTING: usize = 5;
/// Calls that warm caches and are not counted.
const WARM_UP: usize = 3;

/// The times of one subject in one scenario.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) subject: Kind,
    pub(crate) add: Stats,
    pub(crate) del: Stats,
}

/// What the pods of a scenario ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Load {
    pub(crate) networks: usize,
    /// Real macvlan with host-local, in place of the delegate that does nothing.
    pub(crate) real: bool,
    /// Whether everybody begins from rest; else a DEL is called right after the ADD, and others right after it.
    pub(crate) rest: bool,
}

impl Load {
    /// Delegates that do nothing, from rest.
    pub(crate) fn noop(networks: usize) -> Self {
        Self { networks, real: false, rest: true }
    }

    /// For people.
    pub(crate) fn title(self) -> String {
        let real = if self.real { "macvlan " } else { "" };
        match self.networks {
            0 => "plain pod".to_owned(),
            1 => format!("pod with 1 {real}network"),
            more if self.rest => format!("pod with {more} {real}networks"),
            more => format!("{more} {real}networks, no rest"),
        }
    }

    /// For names of objects and files.
    pub(crate) fn name(self) -> String {
        let (real, rest) = (if self.real { "real" } else { "" }, if self.rest { "" } else { "busy" });
        format!("{real}{rest}{}", self.networks)
    }

    fn network_names(self) -> Vec<String> {
        let prefix = if self.real { REAL } else { "net" };
        (0..self.networks).map(|number| format!("{prefix}-{number}")).collect()
    }
}

/// Pods with so many networks.
#[derive(Debug, Serialize)]
pub(crate) struct Scenario {
    pub(crate) load: Load,
    pub(crate) rows: Vec<Row>,
}

impl Scenario {
    pub(crate) fn row(&self, subject: Kind) -> Option<&Row> {
        self.rows.iter().find(|row| row.subject == subject)
    }

    /// What a subject adds to the delegates' own time, in microseconds: ADD and DEL.
    pub(crate) fn above(&self, subject: Kind) -> Option<(f64, f64)> {
        let (row, bare) = (self.row(subject)?, self.row(Kind::Bare)?);
        Some((row.add.median - bare.add.median, row.del.median - bare.del.median))
    }
}

/// A scenario's figures, and when each subject's ADDs ran.
pub(crate) type Outcome = (Scenario, Vec<(Kind, Vec<Window>)>);

/// The names of the first networks of a namespace.
pub(crate) fn network_names(networks: usize) -> Vec<String> {
    Load::noop(networks).network_names()
}

/// Pods that live long enough for what is told of them later: when they ran.
pub(crate) fn lasting(world: &World, subject: &Subject, load: Load) -> Result<Vec<Window>> {
    let prefix = format!("lasting{}", load.name());
    let pods = world.pods(subject.kind.namespace(), &prefix, LASTING, NODE, &load.network_names())?;
    let mut added = Vec::new();
    for pod in &pods {
        let begin = SystemTime::now();
        call::run(&subject.calls("ADD", pod), &subject.log)?;
        added.push((begin, SystemTime::now()));
    }
    audit::settle(&world.audit_log())?;
    let end = |(pod, (begin, added)): (&Pod, (SystemTime, SystemTime))| {
        let deleting = SystemTime::now();
        call::run(&subject.calls("DEL", pod), &subject.log)?;
        Ok(Window::new(pod, [begin, added, deleting, SystemTime::now()]))
    };
    pods.iter().zip(added).map(end).collect()
}

/// Runs so many rounds.
pub(crate) fn run(
    world: &World,
    subjects: &[Subject],
    load: Load,
    rounds: usize,
    progress: &Progress,
) -> Result<Outcome> {
    let title = load.title();
    progress.begin(&title);
    let names = load.network_names();
    let make = |subject: &Subject| {
        world.pods(
            subject.kind.namespace(),
            &format!("serial{}", load.name()),
            WARM_UP + rounds,
            NODE,
            &names,
        )
    };
    let pods: Vec<Vec<Pod>> = subjects.iter().map(make).collect::<Result<_>>()?;
    let mut times = vec![(Vec::new(), Vec::new()); subjects.len()];
    let mut windows: Vec<Vec<Window>> = vec![Vec::new(); subjects.len()];
    let rest = if load.rest { REST } else { Duration::ZERO };
    for round in 0..WARM_UP + rounds {
        for turn in 0..subjects.len() {
            // Another one first in each round: nobody always follows the same neighbour.
            let place = (turn + round) % subjects.len();
            let (Some(subject), Some(pod)) =
                (subjects.get(place), pods.get(place).and_then(|p| p.get(round)))
            else {
                continue;
            };
            sleep(rest);
            let begin = SystemTime::now();
            let add = call::run(&subject.calls("ADD", pod), &subject.log)?;
            let added = SystemTime::now();
            sleep(rest);
            let deleting = SystemTime::now();
            let del = call::run(&subject.calls("DEL", pod), &subject.log)?;
            let window = Window::new(pod, [begin, added, deleting, SystemTime::now()]);
            if round >= WARM_UP
                && let (Some(times), Some(windows)) = (times.get_mut(place), windows.get_mut(place))
            {
                times.0.push(add);
                times.1.push(del);
                windows.push(window);
            }
        }
        progress.step(&title, round + 1, WARM_UP + rounds);
    }
    let row = |(subject, (add, del)): (&Subject, &(Vec<Duration>, Vec<Duration>))| Row {
        subject: subject.kind,
        add: Stats::of(add),
        del: Stats::of(del),
    };
    let rows = subjects.iter().zip(&times).map(row).collect();
    let windows = subjects.iter().map(|subject| subject.kind).zip(windows).collect();
    Ok((Scenario { load, rows }, windows))
}
