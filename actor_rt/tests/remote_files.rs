//! A process that runs out of files, in a program of its own because the limit is the process's.
#![cfg(target_os = "linux")]

use actor_rt::remote::{self, Inbox};
use actor_rt::testkit::Probe;
use actor_rt::{ActorRef, System};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::fs::File;
use std::net::TcpStream;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

/// Takes all files that the process may still open.
fn take_all() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

#[test]
fn an_inbox_that_finds_no_file_for_a_connection_keeps_those_that_stand() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = Some(256);
    setrlimit(Resource::Nofile, limit).expect("a lower limit");
    let here = System::builder().workers(1).build().expect("threads");
    let there = System::builder().workers(1).build().expect("threads");
    let inbox = Inbox::open(&there, "127.0.0.1:0").expect("a port");
    let probe = Probe::<u64>::new(&there);
    inbox.publish("probe", probe.actor());
    let address = inbox.address().to_string();
    let far: ActorRef<u64> = remote::connect(&here, &address, "probe");
    far.tell(1).expect("room");
    assert_eq!(probe.expect(), 1);

    let mut files = take_all();
    files.pop();
    // Takes the last one, so that there is none for the other end.
    let stranger = TcpStream::connect(&address).expect("it listens");
    // There and back meanwhile, again and again.
    for n in 2..1000 {
        far.tell(n).expect("room");
        assert_eq!(probe.expect(), n);
    }
    drop((files, stranger));

    let another: ActorRef<u64> = remote::connect(&here, &address, "probe");
    another.tell(1000).expect("room");
    assert_eq!(probe.expect(), 1000);
    here.shutdown(LONG).expect("everything ends");
    there.shutdown(LONG).expect("everything ends");
}
