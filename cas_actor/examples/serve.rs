//! A cache server in thirty lines: `cargo run --release --example serve -- 127.0.0.1:7471 DIR`.
//! `zako node` is the same with configuration, figures and health.

use std::time::Duration;

use cas_actor::front::{Front, FrontConfig};
use cas_actor::{Store, StoreConfig};

type AnyError = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or("127.0.0.1:7471".into());
    let directory = arguments.next().unwrap_or("zako-cache".into());

    let system = actor_rt::System::new()?;
    let store = Store::open(StoreConfig::new(directory), &system)?;
    let front = Front::new(store.clone(), &FrontConfig::default())?;
    println!("http://{}/", front.listen(address.parse()?)?);

    tokio::signal::ctrl_c().await?;
    front.drain(Duration::from_secs(10)).await;
    store.close().await;
    Ok(())
}
