//! Two actors that send a ball back and forth: `cargo run --release --example ping_pong`.
//!
//! What to look at: actors hold references to each other, a message is an enum, and a question carries the
//! `Reply` that answers it.

use actor_rt::{Actor, ActorRef, Context, Reply, System};
use std::error::Error;
use std::time::{Duration, Instant};

const ROUND_TRIPS: u64 = 100_000;

enum Msg {
    /// Play with this partner; the answer comes when the game is over.
    Serve(ActorRef<Msg>, Reply<u64>),
    /// The ball, and who sent it.
    Ball(ActorRef<Msg>),
}

#[derive(Default)]
struct Player {
    returned: u64,
    /// Of the player who served: answered at the end of the game.
    game: Option<Reply<u64>>,
}

impl Actor for Player {
    type Msg = Msg;

    fn handle(&mut self, msg: Msg, ctx: &mut Context<'_, Self>) {
        let partner = match msg {
            Msg::Serve(partner, reply) => {
                self.game = Some(reply);
                partner
            }
            Msg::Ball(partner) => partner,
        };
        if self.returned == ROUND_TRIPS
            && let Some(reply) = self.game.take()
        {
            return reply.send(self.returned);
        }
        self.returned += 1;
        // At most one ball is under way, so the mailbox has room; the partner may have ended, though.
        if partner.tell(Msg::Ball(ctx.me())).is_err() {
            ctx.stop();
        }
    }
}

/// Runs it all and checks what comes out.
pub fn main() -> Result<(), Box<dyn Error>> {
    let system = System::new()?;
    let ping = system.spawn(Player::default);
    let pong = system.spawn(Player::default);
    let begin = Instant::now();
    let returned = ping.ask(|reply| Msg::Serve(pong.clone(), reply)).wait()?;
    assert_eq!(returned, ROUND_TRIPS);
    println!("{returned} round trips in {:?}", begin.elapsed());
    system.shutdown(Duration::from_secs(5))?;
    Ok(())
}
