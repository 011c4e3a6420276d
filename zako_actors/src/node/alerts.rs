//! Alerts: rules on the node's own figures, and somebody who is told when one of them holds.
//!
//! Owns the rules, their state, and the notifier. Does not know what the figures mean (`metrics`).
//! Invariants: whoever is told hears once that a rule began to hold and once that it ceased; a
//! notifier that hangs holds up neither the node nor the next look; what cannot be delivered is
//! logged and dropped.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Node, metrics};
use crate::engine::open_files::with_old_limit;

/// Longer than this nobody listens.
const DELIVERY: Duration = Duration::from_secs(10);
/// Notices that wait for their delivery.
const BACKLOG: usize = 64;

/// `[alerts]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AlertsConfig {
    /// Seconds between two looks.
    every_seconds: u64,
    /// Is sent each notice as JSON: `http://HOST:PORT/PATH`.
    webhook: Option<String>,
    /// Is started for each notice, which it reads as JSON from its standard input.
    command: Vec<String>,
    rule: Vec<Rule>,
}

impl Default for AlertsConfig {
    fn default() -> Self {
        Self {
            every_seconds: 15,
            webhook: None,
            command: Vec::new(),
            rule: Vec::new(),
        }
    }
}

/// One rule. Thresholds are whole numbers: figures that need fractions count in smaller units.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    name: String,
    /// As in `/metrics`, labels included.
    figure: String,
    above: Option<i64>,
    below: Option<i64>,
    /// Whether it is about the growth per minute instead of the value.
    #[serde(default)]
    per_minute: bool,
    /// How long it must hold.
    #[serde(default)]
    for_seconds: u64,
}

/// What somebody is told.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Notice {
    alert: String,
    /// `firing` or `resolved`.
    state: &'static str,
    figure: String,
    value: f64,
}

impl AlertsConfig {
    /// Whether it can work.
    ///
    /// # Errors
    /// What cannot, with the key.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.rule.is_empty() {
            return Ok(());
        }
        if self.every_seconds == 0 {
            return Err("alerts.every_seconds must be at least 1".into());
        }
        if self.webhook.is_none() && self.command.is_empty() {
            return Err(
                "alerts.rule needs somebody who is told: set alerts.webhook or alerts.command"
                    .into(),
            );
        }
        if let Some(webhook) = &self.webhook {
            let uri: Option<Uri> = webhook.parse().ok();
            if uri.is_none_or(|uri| uri.scheme_str() != Some("http") || uri.host().is_none()) {
                return Err(format!(
                    "alerts.webhook `{webhook}` is not http://HOST:PORT/PATH; for anything else use alerts.command, for example with curl"
                ));
            }
        }
        let wrong = |rule: &&Rule| rule.above.is_some() == rule.below.is_some();
        match self.rule.iter().find(wrong) {
            Some(rule) => Err(format!(
                "alerts.rule `{}` needs one of `above` and `below`",
                rule.name
            )),
            None => Ok(()),
        }
    }
}

/// Watches the figures of `node` as long as it lives.
pub(super) fn watch(node: &Arc<Node>, config: AlertsConfig) {
    if config.rule.is_empty() {
        return;
    }
    let (tell, told) = channel(BACKLOG);
    tokio::spawn(deliver(config.clone(), told));
    let node = Arc::downgrade(node);
    tokio::spawn(async move {
        let mut ticks = interval(Duration::from_secs(config.every_seconds));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut states: Vec<State> = config.rule.into_iter().map(State::new).collect();
        loop {
            ticks.tick().await;
            let Some(node) = node.upgrade() else {
                return;
            };
            let page = metrics::render(&node).await;
            let figures = read(&page);
            let now = Instant::now();
            for notice in states
                .iter_mut()
                .filter_map(|state| state.look(&figures, now))
            {
                tracing::warn!(
                    "alert {}: {} ({} = {})",
                    notice.state,
                    notice.alert,
                    notice.figure,
                    notice.value
                );
                if tell.try_send(notice).is_err() {
                    tracing::warn!("an alert was not delivered: too many wait");
                }
            }
        }
    });
}

/// The samples of a page.
fn read(page: &str) -> HashMap<&str, f64> {
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    samples
        .filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name, value.parse().ok()?))
        })
        .collect()
}

/// A rule and what came of it so far.
struct State {
    rule: Rule,
    /// The last value, for growth.
    last: Option<(f64, Instant)>,
    /// Since when it holds.
    since: Option<Instant>,
    firing: bool,
}

impl State {
    fn new(rule: Rule) -> Self {
        Self {
            rule,
            last: None,
            since: None,
            firing: false,
        }
    }

    /// What there is to tell now. A figure that is not there says nothing.
    fn look(&mut self, figures: &HashMap<&str, f64>, now: Instant) -> Option<Notice> {
        let seen = *figures.get(self.rule.figure.as_str())?;
        let value = if self.rule.per_minute {
            let (before, then) = self.last.replace((seen, now))?;
            let minutes = now.saturating_duration_since(then).as_secs_f64() / 60.0;
            // A counter that starts again from zero has not shrunk.
            (seen - before).max(0.0) / minutes.max(f64::MIN_POSITIVE)
        } else {
            seen
        };
        let holds = self.rule.above.is_some_and(|limit| value > limit as f64)
            || self.rule.below.is_some_and(|limit| value < limit as f64);
        let since = if holds {
            Some(*self.since.get_or_insert(now))
        } else {
            None
        };
        self.since = since;
        let long = Duration::from_secs(self.rule.for_seconds);
        let firing = since.is_some_and(|since| now.saturating_duration_since(since) >= long);
        let changed = firing != self.firing;
        self.firing = firing;
        changed.then(|| Notice {
            alert: self.rule.name.clone(),
            state: if firing { "firing" } else { "resolved" },
            figure: self.rule.figure.clone(),
            value,
        })
    }
}

/// Tells whoever is to be told, one notice after another.
async fn deliver(config: AlertsConfig, mut notices: Receiver<Notice>) {
    while let Some(notice) = notices.recv().await {
        let body = serde_json::to_vec(&notice).unwrap_or_default();
        if let Some(webhook) = &config.webhook {
            report(
                "webhook",
                timeout(DELIVERY, post(webhook, body.clone())).await,
            );
        }
        if let Some((program, arguments)) = config.command.split_first() {
            report(
                "command",
                timeout(DELIVERY, start(program, arguments, &body)).await,
            );
        }
    }
}

fn report(way: &str, result: Result<Result<(), String>, tokio::time::error::Elapsed>) {
    match result {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("an alert was not delivered by {way}: {error}"),
        Err(_) => tracing::warn!("an alert was not delivered by {way}: no end after {DELIVERY:?}"),
    }
}

async fn post(webhook: &str, body: Vec<u8>) -> Result<(), String> {
    let request = Request::post(webhook).header("content-type", "application/json");
    let request = request
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| e.to_string())?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(request).await.map_err(|e| e.to_string())?;
    if response.status().is_success() {
        Ok(())
    } else {
        Err(format!("{webhook} answered {}", response.status()))
    }
}

async fn start(program: &str, arguments: &[String], body: &[u8]) -> Result<(), String> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    // Thousands of connections may be open, so the limit is never lowered for this process itself.
    let pid = |child: &Child| {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        pid.and_then(Pid::from_raw).unwrap_or(Pid::INIT)
    };
    let child = with_old_limit(u64::MAX, || command.spawn(), pid);
    let mut child = child.map_err(|error| format!("cannot start {program}: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read is not interested in the details.
        drop(stdin.write_all(body).await);
    }
    let status = child.wait().await.map_err(|error| error.to_string())?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{program} ended with {status}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> State {
        let text = format!("name = \"r\"\nfigure = \"f\"\n{text}");
        State::new(toml::from_str(&text).unwrap())
    }

    #[test]
    fn a_rule_tells_when_it_begins_and_ceases_to_hold() {
        let mut state = rule("above = 3\nfor_seconds = 60\n");
        let begin = Instant::now();
        let mut look = |value: f64, seconds: u64| {
            let page = format!("# HELP f Help.\nf {value}\ng{{a=\"b\"}} 9\n");
            let notice = state.look(&read(&page), begin + Duration::from_secs(seconds));
            notice.map(|notice| notice.state)
        };
        assert_eq!(look(4.0, 0), None);
        assert_eq!(look(3.0, 30), None, "it did not hold for long enough");
        assert_eq!(look(4.0, 60), None);
        assert_eq!(look(5.0, 120), Some("firing"));
        assert_eq!(look(6.0, 180), None, "once is enough");
        assert_eq!(look(1.0, 190), Some("resolved"));
        assert_eq!(look(1.0, 200), None);
    }

    #[test]
    fn growth_is_per_minute_and_what_is_not_there_says_nothing() {
        let mut state = rule("above = 10\nper_minute = true\n");
        let begin = Instant::now();
        let mut look = |page: &str, seconds: u64| {
            let notice = state.look(&read(page), begin + Duration::from_secs(seconds));
            notice.map(|notice| notice.value)
        };
        assert_eq!(look("f 100\n", 0), None);
        assert_eq!(look("", 10), None);
        assert_eq!(look("f 106\n", 30), Some(12.0));
        assert_eq!(look("f 0\n", 60), Some(0.0), "resolved: it began anew");
    }

    #[test]
    fn what_cannot_work_is_named() {
        let check = |text: &str| {
            toml::from_str::<AlertsConfig>(text)
                .unwrap()
                .check()
                .unwrap_err()
        };
        let one = "[[rule]]\nname = \"r\"\nfigure = \"f\"\n";
        assert!(check(&format!("{one}above = 1\n")).contains("somebody who is told"));
        assert!(
            check(&format!("webhook = \"https://x/\"\n{one}above = 1\n"))
                .contains("alerts.command")
        );
        let command = format!("command = [\"true\"]\n{one}");
        assert!(check(&command).contains("one of `above` and `below`"));
        assert!(check(&format!("every_seconds = 0\n{command}above = 1\n")).contains("at least 1"));
    }
}
