//! `zako trace`: where the time of a build goes.
//!
//! Owns the words. Times are those of each target's last run here; how they add up is the
//! scheduler's to say.

use std::fmt::Write as _;
use std::fs::File;

use serde_json::json;

use super::args::{Global, TraceArgs};
use super::chrome_trace::Trace;
use super::opened::{Opened, Targets};
use super::sink::Sink;
use super::written::refuse_one;
use super::{Exit, Failure, print, print_json, say};
use crate::engine::event::{Event, Outcome, Stamped};
use crate::engine::forecast::{Played, Steps, end_of};
use crate::engine::graph::NodeId;
use crate::engine::schedule::Capacity;
use crate::lang::label::Label;
use crate::machine::Machine;

/// Steps that are named as the slowest.
const SLOWEST: usize = 10;

/// Prints it.
pub fn run(global: &Global, args: &TraceArgs) -> Result<Exit, Failure> {
    Opened::look(global, |opened| tell(opened, args))
}

fn tell(opened: &mut Opened, args: &TraceArgs) -> Result<Exit, Failure> {
    let targets = opened.load_whole()?;
    if let Some(path) = &args.output {
        refuse_one("-o", path, opened, &targets)?;
    }
    let patterns = opened.patterns(&args.labels)?;
    let wanted = targets
        .graph
        .select(&patterns, &|_| true)
        .map_err(Failure::usage)?;
    let times = Times::look(opened, &targets, &wanted);
    let jobs = args
        .jobs
        .map_or(opened.options.jobs, |jobs| jobs.get() as usize);
    let capacity = Capacity {
        memory_bytes: Machine::look().memory_bytes,
        named: opened.session.workspace.manifest.settings.resources.clone(),
    };
    if let Some(path) = &args.output {
        let steps = times.steps.play(jobs, &capacity);
        times
            .draw(path, &steps)
            .map_err(|error| Failure::work(format!("cannot write {}: {error}", path.display())))?;
        say(&format!("wrote {}", path.display()));
        return Ok(Exit::Done);
    }
    let forecast: Vec<(usize, u64)> = [1, 2, 4]
        .map(|times| jobs * times)
        .into_iter()
        .map(|jobs| (jobs, end_of(&times.steps.play(jobs, &capacity))))
        .collect();
    if args.json {
        print_json(&times.as_json(&forecast))?;
    } else {
        print(times.as_text(&forecast).as_bytes())?;
    }
    Ok(Exit::Done)
}

/// What each step took when it last ran.
struct Times {
    labels: Vec<Label>,
    steps: Steps,
    /// How many never ran here.
    unknown: usize,
}

impl Times {
    fn look(opened: &Opened, targets: &Targets, wanted: &[NodeId]) -> Self {
        let graph = &targets.graph;
        let mut place = vec![None; graph.len()];
        for (index, id) in wanted.iter().enumerate() {
            place[id.index()] = Some(index as u32);
        }
        let deps = |id: &NodeId| {
            let deps = graph.deps(*id).iter();
            deps.filter_map(|dep| place[dep.index()]).collect()
        };
        let labels: Vec<Label> = wanted
            .iter()
            .map(|id| graph.target(*id).label.clone())
            .collect();
        let records = labels.iter().map(|label| opened.session.record(label));
        let times: Vec<Option<u64>> = records
            .map(|record| record.map(|record| record.duration_us))
            .collect();
        let uses = |id: &NodeId| {
            let command = graph.target(*id).command();
            command
                .map(|command| command.special.uses.clone())
                .unwrap_or_default()
        };
        Self {
            labels,
            unknown: times.iter().filter(|time| time.is_none()).count(),
            steps: Steps {
                deps: wanted.iter().map(deps).collect(),
                cost_us: times.into_iter().map(Option::unwrap_or_default).collect(),
                uses: wanted.iter().map(uses).collect(),
            },
        }
    }

    /// Those of `nodes` that took any time, with what they took.
    fn named(&self, nodes: impl IntoIterator<Item = u32>) -> Vec<(u64, &Label)> {
        let nodes = nodes.into_iter().map(|node| node as usize);
        nodes
            .map(|node| (self.steps.cost_us[node], &self.labels[node]))
            .filter(|(time, _)| *time > 0)
            .collect()
    }

    fn slowest(&self) -> Vec<(u64, &Label)> {
        let mut all = self.named(0..self.labels.len() as u32);
        all.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        all.truncate(SLOWEST);
        all
    }

    fn total(&self) -> u64 {
        self.steps.cost_us.iter().sum()
    }

    fn as_text(&self, forecast: &[(usize, u64)]) -> String {
        let mut text = String::new();
        let seconds = |us: u64| us as f64 / 1e6;
        let chain = self.named(self.steps.longest_chain());
        let mut tell = |line: String| text.write_fmt(format_args!("{line}\n")).unwrap_or(());
        tell(format!(
            "{} targets, {:.2} s of work when each last ran here",
            self.labels.len(),
            seconds(self.total())
        ));
        if self.unknown > 0 {
            tell(format!(
                "{} never ran here; they count as nothing",
                self.unknown
            ));
        }
        let sum = chain.iter().map(|(time, _)| time).sum();
        tell(format!(
            "longest chain: {:.2} s; more jobs cannot be faster than it",
            seconds(sum)
        ));
        for (time, label) in &chain {
            tell(format!("{:>9.2} s  {label}", seconds(*time)));
        }
        tell("slowest steps:".to_owned());
        for (time, label) in self.slowest() {
            tell(format!("{:>9.2} s  {label}", seconds(time)));
        }
        tell("building all of it anew would take about".to_owned());
        for (jobs, time) in forecast {
            let word = if *jobs == 1 { "job" } else { "jobs" };
            tell(format!("{:>9.2} s  with {jobs} {word}", seconds(*time)));
        }
        text
    }

    fn as_json(&self, forecast: &[(usize, u64)]) -> serde_json::Value {
        let steps = |steps: Vec<(u64, &Label)>| -> Vec<_> {
            steps
                .into_iter()
                .map(|(time, label)| json!({"label": label.to_string(), "duration_us": time}))
                .collect()
        };
        let forecast = forecast.iter();
        json!({
            "targets": self.labels.len(),
            "never_ran": self.unknown,
            "work_us": self.total(),
            "longest_chain": steps(self.named(self.steps.longest_chain())),
            "slowest": steps(self.slowest()),
            "forecast": forecast
                .map(|(jobs, time)| json!({"jobs": jobs, "duration_us": time}))
                .collect::<Vec<_>>(),
        })
    }

    /// The picture that `zako build --trace` would leave of such a build.
    fn draw(&self, path: &std::path::Path, steps: &[Played]) -> std::io::Result<()> {
        let mut trace = Trace::of(File::create(path)?)?;
        let mut events: Vec<Stamped> = Vec::with_capacity(2 * steps.len());
        for step in steps.iter().filter(|step| step.end_us > step.begin_us) {
            let label = self.labels[step.node as usize].to_string();
            events.push(Stamped {
                time_us: step.begin_us,
                event: Event::StepStarted {
                    label: label.clone(),
                    cause: String::new(),
                    critical: false,
                },
            });
            events.push(Stamped {
                time_us: step.end_us,
                event: Event::StepFinished {
                    label,
                    outcome: Outcome::Executed,
                    duration_us: step.end_us - step.begin_us,
                    causes: Vec::new(),
                    failure: None,
                    output: None,
                    reason: None,
                    attempts: 1,
                    left_us: None,
                },
            });
        }
        // One that ends makes room for one that begins at that time.
        events.sort_by_key(|stamped| {
            let begins = matches!(stamped.event, Event::StepStarted { .. });
            (stamped.time_us, begins)
        });
        for event in &events {
            trace.take(event)?;
        }
        trace.end()
    }
}
