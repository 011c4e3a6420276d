//! Whether each component of the node works, found out by using it.
//!
//! Owns the checks and the report. Does not know HTTP.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use actor_rt::{Actor, Context, Reply};
use cas_actor::Digest;
use serde::Serialize;

use super::Node;

/// A component that takes longer is not well.
const LIMIT: Duration = Duration::from_secs(2);

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

/// Checks every component.
pub async fn check(node: &Node) -> Report {
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
    match node.front.get() {
        Some(front) => front.probe.check().await,
        None => Err("the front ends have not started".into()),
    }
}

/// Writes a blob, reads it back and compares. A new one each time: what is there is not written again.
async fn store(node: &Node) -> Result<(), String> {
    let content = format!("zako health check after {:?}\n", node.begin.elapsed());
    let digest = node
        .store
        .put(content.clone())
        .await
        .map_err(|error| error.to_string())?;
    if digest != Digest::of(content.as_bytes()) {
        return Err("the store gave a blob another name".into());
    }
    let blob = node
        .store
        .get(&digest)
        .await
        .map_err(|error| error.to_string())?;
    node.store
        .delete(&digest)
        .await
        .map_err(|error| error.to_string())?;
    if blob[..] == *content.as_bytes() {
        Ok(())
    } else {
        Err("the store gave back something else".into())
    }
}
