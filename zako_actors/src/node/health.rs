//! Whether each component of the node works, found out by using it.
//!
//! Owns the report, and those checks that are not the front ends' own. Does not know HTTP.
//! Invariant: however many ask, a report is made once a second at most.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actor_rt::{Actor, Context, Reply};
use cas_actor::front::FrontProbe;
use serde::Serialize;
use tokio::sync::Mutex;

use super::Node;

/// A component that takes longer is not well.
const LIMIT: Duration = Duration::from_secs(2);

/// How long a report holds.
const FRESH: Duration = Duration::from_secs(1);

/// The answer of `/healthz`.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether every component is well.
    pub healthy: bool,
    components: BTreeMap<&'static str, Component>,
}

#[derive(Debug, Serialize)]
struct Component {
    healthy: bool,
    latency_us: u128,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The last report, and when it was made.
#[derive(Default)]
pub struct Last(Mutex<Option<(Instant, Arc<Report>)>>);

impl Last {
    /// The state of every component, which may be a second old.
    pub async fn report(&self, node: &Node) -> Arc<Report> {
        let mut last = self.0.lock().await;
        if let Some((when, report)) = &*last
            && when.elapsed() < FRESH
        {
            return Arc::clone(report);
        }
        let report = Arc::new(check(node).await);
        *last = Some((Instant::now(), Arc::clone(&report)));
        report
    }
}

/// Checks every component.
async fn check(node: &Node) -> Report {
    let components = BTreeMap::from([
        ("actors", timed(actors(node)).await),
        ("isolates", timed(node.engine.check_isolates()).await),
        ("store", timed(store(node)).await),
        ("transport", timed(transport(node)).await),
        ("transpilers", timed(node.engine.check_transpilers()).await),
    ]);
    Report {
        healthy: components.values().all(|component| component.healthy),
        components,
    }
}

async fn timed(check: impl Future<Output = Result<(), String>>) -> Component {
    let begin = Instant::now();
    let result = match tokio::time::timeout(LIMIT, check).await {
        Ok(result) => result,
        Err(_) => Err(format!("no answer within {} s", LIMIT.as_secs())),
    };
    Component {
        healthy: result.is_ok(),
        latency_us: begin.elapsed().as_micros(),
        error: result.err(),
    }
}

/// An actor that answers: proves that workers take new actors and run them.
struct Echo;

impl Actor for Echo {
    type Msg = Reply<()>;

    fn handle(&mut self, reply: Reply<()>, ctx: &mut Context<'_, Self>) {
        reply.send(());
        ctx.stop();
    }
}

async fn actors(node: &Node) -> Result<(), String> {
    let echo = node.system.spawn(|| Echo);
    echo.ask(|reply| reply)
        .await
        .map_err(|error| error.to_string())
}

/// Uploads, verifies and downloads a part, as clients do.
async fn transport(node: &Node) -> Result<(), String> {
    probe(node)?.check().await
}

/// Writes a blob, and reads it back.
async fn store(node: &Node) -> Result<(), String> {
    probe(node)?.check_store().await
}

fn probe(node: &Node) -> Result<&FrontProbe, String> {
    let front = node.front.get();
    let front = front.ok_or("the front ends have not started")?;
    Ok(&front.probe)
}
