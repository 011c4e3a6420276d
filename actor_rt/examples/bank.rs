//! Accounts, and transfers between them that survive a crash: `cargo run --example bank`.
//!
//! What to look at: several message types with a handler each, an actor that asks other actors without
//! waiting (`pipe`), and supervision: a teller that panics restarts, its mailbox and reference intact, and
//! no money is lost, because the state that matters is not the teller's.

use actor_rt::{Actor, ActorRef, Context, Handle, Messages, Reply, Restart, System};
use std::error::Error;
use std::time::Duration;

struct Deposit(u64);
struct Balance(Reply<u64>);
/// Answers whether there was enough.
struct Withdraw(u64, Reply<bool>);

/// What an account understands.
#[derive(Messages)]
enum AccountMsg {
    Deposit(Deposit),
    Balance(Balance),
    Withdraw(Withdraw),
}

struct Account {
    balance: u64,
}

impl Actor for Account {
    type Msg = AccountMsg;
    fn handle(&mut self, msg: AccountMsg, ctx: &mut Context<'_, Self>) {
        msg.dispatch(self, ctx);
    }
}

impl Handle<Deposit> for Account {
    fn handle_one(&mut self, Deposit(sum): Deposit, _ctx: &mut Context<'_, Self>) {
        self.balance += sum;
    }
}

impl Handle<Balance> for Account {
    fn handle_one(&mut self, Balance(reply): Balance, _ctx: &mut Context<'_, Self>) {
        reply.send(self.balance);
    }
}

impl Handle<Withdraw> for Account {
    fn handle_one(&mut self, Withdraw(sum, reply): Withdraw, _ctx: &mut Context<'_, Self>) {
        // Each message has the balance to itself: nobody comes in between.
        let enough = self.balance >= sum;
        if enough {
            self.balance -= sum;
        }
        reply.send(enough);
    }
}

struct Transfer {
    from: ActorRef<AccountMsg>,
    to: ActorRef<AccountMsg>,
    sum: u64,
    done: Reply<bool>,
}

enum TellerMsg {
    Transfer(Transfer),
    /// The money has left the first account, or has not.
    Withdrawn(Transfer, bool),
    Crash,
}

struct Teller;

impl Actor for Teller {
    type Msg = TellerMsg;

    fn handle(&mut self, msg: TellerMsg, ctx: &mut Context<'_, Self>) {
        match msg {
            TellerMsg::Transfer(transfer) => {
                let sum = transfer.sum;
                let answer = transfer.from.ask(|reply| Withdraw(sum, reply));
                // The answer comes back as a message; meanwhile the teller serves others.
                ctx.pipe(answer, move |answer| {
                    TellerMsg::Withdrawn(transfer, answer == Ok(true))
                });
            }
            TellerMsg::Withdrawn(Transfer { to, sum, done, .. }, enough) => {
                let arrived = enough && to.tell_from(Deposit(sum)).is_ok();
                done.send(arrived);
            }
            TellerMsg::Crash => panic!("the teller faints"),
        }
    }
}

/// Runs it all and checks what comes out.
pub fn main() -> Result<(), Box<dyn Error>> {
    let system = System::new()?;
    let accounts: Vec<_> = (0..10)
        .map(|_| system.spawn(|| Account { balance: 100 }))
        .collect();
    let teller = system
        .actor(|| Teller)
        .name("teller")
        .restart(Restart::on_failure())
        .spawn();

    // A transfer that works, one that does not, a crash, and one more.
    let transfer = |from: usize, to: usize, sum| {
        let (from, to) = (accounts[from].clone(), accounts[to].clone());
        teller.ask(move |done| {
            TellerMsg::Transfer(Transfer {
                from,
                to,
                sum,
                done,
            })
        })
    };
    assert!(transfer(0, 1, 60).wait()?);
    assert!(!transfer(0, 1, 60).wait()?, "only 40 are left");
    teller.tell(TellerMsg::Crash)?;
    assert!(transfer(1, 2, 150).wait()?, "the teller is back");

    // Many at once, round in a circle.
    let asked: Vec<_> = (0..1000)
        .map(|n| transfer(n % 10, (n + 3) % 10, 5))
        .collect();
    let mut done = 0;
    for answer in asked {
        done += u32::from(answer.wait()?);
    }

    let mut total = 0;
    for account in &accounts {
        total += account.ask(Balance).wait()?;
    }
    assert_eq!(total, 1000, "money is neither made nor lost");
    println!("{done} of 1000 transfers had cover; all accounts together hold {total}");
    system.shutdown(Duration::from_secs(5))?;
    Ok(())
}
