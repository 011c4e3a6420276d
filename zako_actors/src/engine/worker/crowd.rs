//! One worker process that does several things at a time, and the conversation with it.
//!
//! Owns the numbers of requests, who waits for which answer, and the directory that all of them share. Does not
//! know who else could be asked (`joined`).
//! Invariants: every request ends once, with its answer or with the reason why there is none; a process that says
//! something that was not asked for, or ends, is asked no more and answers nobody any more; the thread of a
//! request waits for nothing but its own answer, deadline and cancellation, also while others write.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::mirror::Mirror;
use super::process::{NoAnswer, Pipe, SHOWN_BYTES, how_it_ended};
use super::protocol::{WorkInput, WorkRequest, WorkResponse};
use crate::engine::cancel::{Cancel, CancelReason};
use crate::engine::files::FileTable;
use crate::engine::process::{Group, ProcessSpec, Streams, hear_out};
use crate::engine::record::Input;
use crate::engine::scratch::ScratchError;

/// A longer answer is a mistake.
const MAX_ANSWER_BYTES: u64 = 64 << 20;
const MAX_ANSWER_BYTES_READ: usize = MAX_ANSWER_BYTES as usize;
/// How long a request that was taken back may go on.
const GRACE: Duration = Duration::from_secs(2);

/// What somebody who waits for an answer hears.
enum Said {
    Answer(WorkResponse),
    /// There will be none.
    Ended(String),
    Cancelled(CancelReason),
}

/// The conversation, as those who ask and the one who listens see it.
#[derive(Default)]
struct Talk {
    waiting: HashMap<i32, Sender<Said>>,
    last_id: i32,
    /// Why nobody can be asked any more.
    ended: Option<String>,
}

/// The directory of the process.
struct Room {
    mirror: Mirror,
    /// Requests whose files lie there.
    present: usize,
}

/// A running process.
pub struct Crowd {
    /// To the thread that writes.
    lines: Sender<Vec<u8>>,
    talk: Arc<Mutex<Talk>>,
    group: Arc<Mutex<Group>>,
    room: Mutex<Room>,
    work: PathBuf,
    log: PathBuf,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Crowd {
    /// Starts one that stands in `mirror`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(spec: &ProcessSpec, mirror: Mirror) -> io::Result<Self> {
        let mut group = Group::start(spec, Streams::Pipes)?;
        let (stdin, stdout) = group
            .pipes()
            .ok_or_else(|| io::Error::other("it has no pipes"))?;
        let pidfd = Arc::new(group.pidfd()?);
        let stdout = Heard {
            stdout,
            pidfd: Arc::clone(&pidfd),
        };
        let (lines, to_write) = channel();
        let talk = Arc::new(Mutex::new(Talk::default()));
        let group = Arc::new(Mutex::new(group));
        // They end when the process has, which is killed when this is dropped.
        let (asked, asked_of) = (Arc::clone(&talk), Arc::clone(&group));
        std::thread::Builder::new()
            .name("worker-asks".to_owned())
            .spawn(move || write_all(stdin, &to_write, &asked, (&pidfd, &asked_of)))?;
        let (heard, heard_of) = (Arc::clone(&talk), Arc::clone(&group));
        std::thread::Builder::new()
            .name("worker-answers".to_owned())
            .spawn(move || listen(stdout, &heard, &heard_of))?;
        Ok(Self {
            lines,
            talk,
            group,
            work: mirror.scratch().work(),
            log: spec.log.clone(),
            room: Mutex::new(Room { mirror, present: 0 }),
        })
    }

    /// Where it stands.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// Whether it can be asked.
    pub fn lives(&self) -> bool {
        lock(&self.talk).ended.is_none()
    }

    /// Has `inputs` and `directories` lie there, and of everything else only what others need. Tells whether it could: not where
    /// others are at work on something else in the same place.
    ///
    /// # Errors
    /// When the disk refuses, or a source is not what the key says any more.
    pub fn enter<'a>(
        &self,
        files: &FileTable,
        inputs: &'a [Input],
        directories: impl Iterator<Item = &'a str>,
    ) -> Result<bool, ScratchError> {
        let mut room = lock(&self.room);
        let entered = match room.present {
            0 => {
                room.mirror.show(files, inputs, directories)?;
                true
            }
            _ => room.mirror.add(files, inputs, directories)?,
        };
        room.present += usize::from(entered);
        Ok(entered)
    }

    /// Takes away what a request left, when others are there; otherwise the next one does.
    pub fn leave<'p>(&self, outputs: impl Iterator<Item = &'p str>) {
        let mut room = lock(&self.room);
        room.present -= 1;
        if room.present > 0 {
            for path in outputs {
                // An input of the next one that is in its way is replaced.
                drop(fs::remove_file(self.work.join(path)));
            }
        }
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// Why there is none. Where it is not that the process ended, the request has ended all the same.
    pub fn ask(
        &self,
        arguments: &[String],
        inputs: Vec<WorkInput<'_>>,
        can_cancel: bool,
        cancel: &Cancel,
        deadline: Option<Instant>,
    ) -> Result<WorkResponse, NoAnswer> {
        let (tell, told) = channel();
        let id = {
            let mut talk = lock(&self.talk);
            if let Some(how) = talk.ended.clone() {
                drop(talk);
                return Err(self.died(how));
            }
            // 0 is for those who do one thing at a time.
            talk.last_id = talk.last_id.checked_add(1).unwrap_or(1);
            let id = talk.last_id;
            talk.waiting.insert(id, tell.clone());
            id
        };
        let signal = cancel.clone();
        let _guard = cancel.token().on_cancel(move || {
            let reason = signal.reason().unwrap_or(CancelReason::Interrupted);
            drop(tell.send(Said::Cancelled(reason)));
        });
        self.write(&WorkRequest {
            arguments,
            inputs,
            request_id: id,
            cancel: false,
        });
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        let said = match deadline {
            None => told.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(deadline) => told.recv_timeout(left(deadline)),
        };
        match said {
            Ok(Said::Answer(response)) => Ok(response),
            Ok(Said::Ended(how)) => Err(self.died(how)),
            Ok(Said::Cancelled(reason)) => {
                // An interruption ends the process anyway.
                if reason != CancelReason::Interrupted {
                    // Of a build that failed nobody needs it any more.
                    let goes_on = reason == CancelReason::Invalidated;
                    self.take_back(id, can_cancel && goes_on, &told);
                }
                Err(NoAnswer::Cancelled(reason))
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.died("is gone".to_owned())),
            Err(RecvTimeoutError::Timeout) => {
                self.take_back(id, can_cancel, &told);
                Err(NoAnswer::TimedOut)
            }
        }
    }

    /// Has the process give a request up, by its end where it does not.
    fn take_back(&self, id: i32, can_cancel: bool, told: &Receiver<Said>) {
        if can_cancel {
            self.write(&WorkRequest {
                arguments: &[],
                inputs: Vec::new(),
                request_id: id,
                cancel: true,
            });
        }
        let grace = if can_cancel { GRACE } else { Duration::ZERO };
        if !matches!(told.recv_timeout(grace), Ok(Said::Answer(_))) {
            let how = "was killed, because it went on with a request that was given up";
            end(&self.talk, &self.group, how.to_owned());
        }
    }

    fn write(&self, request: &WorkRequest<'_>) {
        // What cannot be written is answered with the end of the process.
        if let Ok(mut line) = serde_json::to_vec(request) {
            line.push(b'\n');
            drop(self.lines.send(line));
        }
    }

    fn died(&self, how: String) -> NoAnswer {
        NoAnswer::Died {
            how,
            printed: self.printed(),
        }
    }

    /// The end of what it wrote to stderr, about whichever request.
    pub fn printed(&self) -> String {
        let read = || -> io::Result<Vec<u8>> {
            let mut log = File::open(&self.log)?;
            let size = log.metadata()?.len();
            log.seek(SeekFrom::Start(size.saturating_sub(SHOWN_BYTES)))?;
            let mut bytes = Vec::new();
            log.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        end(&self.talk, &self.group, "was ended".to_owned());
    }
}

/// Kills the process and tells everybody who waits.
fn end(talk: &Mutex<Talk>, group: &Mutex<Group>, how: String) {
    drop(lock(group).end());
    let mut talk = lock(talk);
    let how = talk.ended.get_or_insert(how).clone();
    for (_, waiting) in talk.waiting.drain() {
        // Whoever waits no more wants to know nothing.
        drop(waiting.send(Said::Ended(how.clone())));
    }
}

/// Writes requests until the process takes no more, whether it has ended or not.
fn write_all(
    mut stdin: ChildStdin,
    lines: &Receiver<Vec<u8>>,
    talk: &Mutex<Talk>,
    (pidfd, group): (&OwnedFd, &Mutex<Group>),
) {
    for line in lines {
        if stdin.write_all(&line).is_err() {
            return end(talk, group, how_it_went(Pipe::Input, pidfd, group));
        }
    }
}

/// How the process has ended; if it does not by itself, it is killed.
fn how_it_went(pipe: Pipe, pidfd: &OwnedFd, group: &Mutex<Group>) -> String {
    // Meanwhile others may kill it.
    let heard = hear_out(pidfd, pipe.patience(), None, None);
    match heard.and_then(|by_itself| Ok((by_itself, lock(group).end()?))) {
        Ok((by_itself, status)) => how_it_ended(pipe, by_itself, status),
        Err(error) => format!("ended before it answered ({error})"),
    }
}

/// What a process writes, until it has ended: a child of its that holds the pipe says nothing.
struct Heard {
    stdout: ChildStdout,
    pidfd: Arc<OwnedFd>,
}

impl Read for Heard {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut has_ended = false;
        loop {
            let mut fds = vec![PollFd::new(&self.stdout, PollFlags::IN)];
            if !has_ended {
                fds.push(PollFd::new(&*self.pidfd, PollFlags::IN));
            }
            // What it wrote before it ended is there: one more look is enough.
            let limit = has_ended.then(Timespec::default);
            match poll(&mut fds, limit.as_ref()) {
                Ok(_) if !fds[0].revents().is_empty() => return self.stdout.read(into),
                Ok(_) if has_ended => return Ok(0),
                Ok(_) => has_ended = true,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Hands answers to those who wait for them, until the process ends or says what is none.
fn listen(stdout: Heard, talk: &Mutex<Talk>, group: &Mutex<Group>) {
    let pidfd = Arc::clone(&stdout.pidfd);
    let mut stdout = BufReader::new(stdout);
    let how = loop {
        let mut line = Vec::new();
        let mut bounded = Read::by_ref(&mut stdout).take(MAX_ANSWER_BYTES);
        match bounded.read_until(b'\n', &mut line) {
            Ok(0) => break None,
            Err(error) => break Some(format!("could not be talked with: {error}")),
            Ok(MAX_ANSWER_BYTES_READ) => {
                break Some("could not be talked with: its answer has no end".to_owned());
            }
            Ok(_) if line.last() != Some(&b'\n') => break None,
            Ok(_) => {}
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice::<WorkResponse>(&line) {
            Ok(answer) => {
                let id = answer.request_id;
                match lock(talk).waiting.remove(&id) {
                    // Whoever waits no more was told so.
                    Some(waiting) => drop(waiting.send(Said::Answer(answer))),
                    None => {
                        break Some(format!(
                            "answered request {id}, which nobody waits for; each answer has the `requestId` of one request"
                        ));
                    }
                }
            }
            Err(error) => {
                let text = String::from_utf8_lossy(&line);
                let text: String = text.trim_end().chars().take(200).collect();
                break Some(format!(
                    "wrote to stdout what is no answer ({error}); only answers go there, everything else to stderr: {text}"
                ));
            }
        }
    };
    end(
        talk,
        group,
        how.unwrap_or_else(|| how_it_went(Pipe::Output, &pidfd, group)),
    );
}
