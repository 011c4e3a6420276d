//! A chat room over TCP.
//!
//! `cargo run --example chat -- 127.0.0.1:4000` serves until it is killed; talk to it with `nc 127.0.0.1 4000`
//! in two terminals. Without an address it serves itself, lets two clients talk, and checks what they hear.
//!
//! What to look at: asynchronous actors on tokio's sockets, children that end with their parent, lines that
//! are views of the buffer they were read into, and a slow listener that misses lines instead of holding up
//! the room.

use actor_rt::{
    Actor, ActorRef, AsyncActor, AsyncContext, BytePool, Context, ExitReason, Failure, Overflow,
    Reply, Restart, System,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream as Client};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

const LONGEST_LINE: usize = 1024;
/// Lines that wait for a slow listener.
const WAITING_LINES: usize = 64;

type Name = Arc<str>;

/// What a guest reads: who said it, if it was a guest, and what.
#[derive(Clone)]
struct Line {
    from: Option<Name>,
    text: Bytes,
}

enum RoomMsg {
    /// Answers whether the name was free.
    Join(Name, ActorRef<Line>, Reply<bool>),
    Said(Name, Bytes),
    Left(Name),
}

#[derive(Default)]
struct Room {
    guests: BTreeMap<Name, ActorRef<Line>>,
}

impl Room {
    fn announce(&self, from: Option<&Name>, text: impl Into<Bytes>) {
        let line = Line {
            from: from.cloned(),
            text: text.into(),
        };
        for (name, guest) in &self.guests {
            if Some(name) != from {
                // A guest that is gone will say so; one that is slow misses the line.
                let _ = guest.tell(line.clone());
            }
        }
    }
}

impl Actor for Room {
    type Msg = RoomMsg;

    fn handle(&mut self, msg: RoomMsg, _ctx: &mut Context<'_, Self>) {
        match msg {
            RoomMsg::Join(name, _, reply) if self.guests.contains_key(&name) => reply.send(false),
            RoomMsg::Join(name, guest, reply) => {
                self.guests.insert(Arc::clone(&name), guest);
                self.announce(
                    None,
                    format!("{name} has come, {} here\n", self.guests.len()),
                );
                reply.send(true);
            }
            RoomMsg::Said(name, text) => self.announce(Some(&name), text),
            RoomMsg::Left(name) => {
                if self.guests.remove(&name).is_some() {
                    self.announce(None, format!("{name} has left\n"));
                }
            }
        }
    }
}

/// Accepts connections for as long as it lives.
struct Door {
    room: ActorRef<RoomMsg>,
}

impl AsyncActor for Door {
    type Msg = TcpListener;

    async fn handle(&mut self, listener: TcpListener, ctx: &mut AsyncContext<Self>) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let room = self.room.clone();
                    let mut stream = Some(stream);
                    ctx.actor(move || Guest::new(stream.take(), room.clone()))
                        .restart(Restart::never())
                        .spawn_async();
                }
                Err(error) => return ctx.fail(error),
            }
        }
    }
}

/// One connection: reads lines and passes them on.
struct Guest {
    stream: Option<TcpStream>,
    room: ActorRef<RoomMsg>,
    name: Option<Name>,
}

impl Guest {
    fn new(stream: Option<TcpStream>, room: ActorRef<RoomMsg>) -> Self {
        Self {
            stream,
            room,
            name: None,
        }
    }

    async fn talk(
        &mut self,
        stream: TcpStream,
        ctx: &mut AsyncContext<Self>,
    ) -> Result<(), Failure> {
        let (read, write) = stream.into_split();
        let mut write = Some(write);
        let writer = ctx
            .actor(move || Writer {
                stream: write.take(),
            })
            .mailbox(WAITING_LINES)
            .overflow(Overflow::DropNewest)
            .restart(Restart::never())
            .spawn_async();
        let say = |text: &'static str| {
            let text = Bytes::from_static(text.as_bytes());
            writer.send(Line { from: None, text })
        };
        let mut lines = Lines {
            read,
            pool: BytePool::new(16 * LONGEST_LINE, 4),
        };
        say("what is your name?\n").await?;
        let name: Name = match lines.next().await? {
            Some(line) => String::from_utf8_lossy(&line).trim().into(),
            None => return Ok(()),
        };
        let join = |reply| RoomMsg::Join(Arc::clone(&name), writer.clone(), reply);
        if !self.room.ask(join).await? {
            say("somebody of this name is here already\n").await?;
            writer.drain();
            writer.closed().await;
            return Ok(());
        }
        self.name = Some(Arc::clone(&name));
        while let Some(line) = lines.next().await? {
            self.room
                .send(RoomMsg::Said(Arc::clone(&name), line))
                .await?;
        }
        Ok(())
    }
}

impl AsyncActor for Guest {
    type Msg = ();

    async fn started(&mut self, ctx: &mut AsyncContext<Self>) -> Result<(), Failure> {
        if let Some(stream) = self.stream.take() {
            self.talk(stream, ctx).await?;
        }
        ctx.stop();
        Ok(())
    }

    async fn handle(&mut self, (): (), _ctx: &mut AsyncContext<Self>) {}

    /// However the connection ended.
    fn stopped(&mut self, _reason: &ExitReason) {
        if let Some(name) = self.name.take() {
            // The room may have ended before.
            let _ = self.room.tell(RoomMsg::Left(name));
        }
    }
}

/// Writes lines to one connection, in order.
struct Writer {
    stream: Option<OwnedWriteHalf>,
}

impl AsyncActor for Writer {
    type Msg = Line;

    async fn handle(&mut self, line: Line, ctx: &mut AsyncContext<Self>) {
        let Some(stream) = &mut self.stream else {
            return ctx.stop();
        };
        let from = line
            .from
            .map_or_else(|| "* ".into(), |name| format!("{name}: "));
        let written = async {
            stream.write_all(from.as_bytes()).await?;
            stream.write_all(&line.text).await
        };
        if written.await.is_err() {
            // The reader sees the end of the connection too.
            ctx.stop();
        }
    }
}

/// Reads lines, each a view of the buffer.
struct Lines {
    read: OwnedReadHalf,
    pool: BytePool,
}

impl Lines {
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let buffer = self.pool.room(LONGEST_LINE);
            if let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
                return Ok(Some(buffer.split_to(end + 1).freeze()));
            }
            if buffer.len() > LONGEST_LINE {
                return Err(Failure::new("a line is too long"));
            }
            if self.read.read_buf(buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// Opens the door; returns where.
fn serve(
    system: &System,
    address: &str,
) -> Result<(SocketAddr, ActorRef<TcpListener>), Box<dyn Error>> {
    let room = system.actor(Room::default).name("room").spawn();
    let door = system
        .actor(move || Door { room: room.clone() })
        .name("door")
        .restart(Restart::never())
        .spawn_async();
    let listener = system.tokio().block_on(TcpListener::bind(address))?;
    let address = listener.local_addr()?;
    door.tell(listener)?;
    Ok((address, door))
}

/// A guest of the self-check, who knows what to expect.
struct Visitor {
    read: BufReader<Client>,
    write: Client,
}

impl Visitor {
    fn enter(address: SocketAddr, name: &str) -> Result<Self, Box<dyn Error>> {
        let write = Client::connect(address)?;
        write.set_read_timeout(Some(Duration::from_secs(30)))?;
        let read = BufReader::new(write.try_clone()?);
        let mut visitor = Self { read, write };
        assert_eq!(visitor.hear()?, "* what is your name?");
        visitor.say(name)?;
        Ok(visitor)
    }

    fn say(&mut self, text: &str) -> std::io::Result<()> {
        self.write.write_all(format!("{text}\n").as_bytes())
    }

    fn hear(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        self.read.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

/// Runs it all and checks what comes out.
pub fn main() -> Result<(), Box<dyn Error>> {
    let system = System::new()?;
    if let Some(address) = std::env::args().nth(1).filter(|text| text.contains(':')) {
        let (address, door) = serve(&system, &address)?;
        println!("the room is open: nc {} {}", address.ip(), address.port());
        println!("closed: {}", door.join());
        return Ok(());
    }
    let (address, _door) = serve(&system, "127.0.0.1:0")?;
    let mut ann = Visitor::enter(address, "ann")?;
    assert_eq!(ann.hear()?, "* ann has come, 1 here");
    let mut ben = Visitor::enter(address, "ben")?;
    assert_eq!(ann.hear()?, "* ben has come, 2 here");
    assert_eq!(ben.hear()?, "* ben has come, 2 here");
    let mut impostor = Visitor::enter(address, "ann")?;
    assert_eq!(impostor.hear()?, "* somebody of this name is here already");
    for n in 0..100 {
        ann.say(&format!("hello {n}"))?;
        assert_eq!(ben.hear()?, format!("ann: hello {n}"));
    }
    drop(ben);
    assert_eq!(ann.hear()?, "* ben has left");
    println!("ann and ben had a talk at {address}");
    system.shutdown(Duration::from_secs(5))?;
    Ok(())
}
