//! Counts the words of a long text in stages: `cargo run --release --example pipeline`.
//!
//! What to look at: a fast source, a stage of several actors, a slow end; mailboxes of 8 hold the source back,
//! so that a text of any length needs little memory.

use actor_rt::{Pipeline, System};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LINES: usize = 20_000;
const WAITING: usize = 8;

/// Runs it all and checks what comes out.
pub fn main() -> Result<(), Box<dyn Error>> {
    let system = System::new()?;
    let counts = Arc::new(Mutex::new(BTreeMap::<String, usize>::new()));
    let counted = Arc::clone(&counts);

    let pipeline = Pipeline::new(&system, WAITING)
        .stage("skip comments", |line: String| {
            (!line.starts_with('#')).then_some(line)
        })
        .parallel("split", 3, |line| {
            let words = line.split_whitespace().map(str::to_lowercase);
            Some(words.collect::<Vec<_>>())
        })
        .sink("count", move |words| {
            // Nobody else looks before the end.
            if let Ok(mut counts) = counted.lock() {
                for word in words {
                    *counts.entry(word).or_default() += 1;
                }
            }
        });

    // Mailboxes in front of one, three and one actors, and an item in the hands of each of them.
    let most = (1 + 3 + 1) * WAITING;
    let mut fullest = 0;
    for number in 0..LINES {
        let line = match number % 4 {
            0 => "# a comment".to_owned(),
            _ => format!("The quick fox jumps over line {number}"),
        };
        pipeline.send_blocking(line)?;
        fullest = fullest.max(pipeline.queued());
    }
    pipeline.finish_blocking();

    let counts = counts.lock().map_err(|_| "a stage failed")?;
    assert_eq!(counts["fox"], LINES / 4 * 3);
    assert_eq!(counts.get("comment"), None);
    assert!(fullest <= most, "{fullest} items waited");
    println!(
        "{} different words; never more than {fullest} of {LINES} lines waited",
        counts.len()
    );
    system.shutdown(Duration::from_secs(5))?;
    Ok(())
}
