//! What stays in memory. A program of its own: what is counted is the whole process's.

use actor_rt::testkit::Simulation;
use actor_rt::{Actor, ActorRef, Context, Failure, System};

struct Idle;
impl Actor for Idle {
    type Msg = ();
    fn handle(&mut self, (): (), _ctx: &mut Context<'_, Self>) {}
}

/// A short life beside a long one: monitors it, is linked to it, ends.
struct Session(ActorRef<()>);
impl Actor for Session {
    type Msg = ();
    fn started(&mut self, ctx: &mut Context<'_, Self>) -> Result<(), Failure> {
        ctx.monitor(&self.0, |_| ());
        ctx.link(&self.0);
        ctx.stop();
        Ok(())
    }
    fn handle(&mut self, (): (), _ctx: &mut Context<'_, Self>) {}
}

const SESSIONS: u32 = 20_000;

#[test]
fn who_lives_long_does_not_remember_all_who_watched_it() {
    let simulation = Simulation::new(4);
    let system = simulation.system();
    let registry = system.spawn(|| Idle);
    let in_use_after = |sessions: u32| {
        for _ in 0..sessions {
            let watched = registry.clone();
            system.spawn(move || Session(watched.clone()));
            simulation.run();
        }
        assert_eq!(system.stats().live, 1);
        System::memory().in_use_bytes
    };
    let before = in_use_after(100);
    let after = in_use_after(SESSIONS);
    // No actor is smaller than four lines.
    assert!(
        after < before + u64::from(SESSIONS / 2) * 256,
        "{before} bytes, then {after}: sessions stay"
    );
}
