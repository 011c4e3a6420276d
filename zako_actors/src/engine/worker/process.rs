//! One worker process and the conversation with it.
//!
//! Owns its pipes, its directory and its end. Does not know what is asked, nor who else works.
//! Invariants: it has one request at a time; a worker that did not answer as it should is never asked
//! again; what it said before it had been asked is no answer; nobody waits for it beyond a deadline or a
//! cancellation, also while writing to it.
//! Answers of one request at a time have no numbers: one too many that comes when the next request has been
//! written is taken for that one's. Nothing but `multiplex` can tell them apart.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{ChildStdin, ChildStdout, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

use super::mirror::Mirror;
use super::protocol::WorkResponse;
use crate::engine::cancel::{Cancel, CancelReason};
use crate::engine::process::{Group, ProcessSpec, Streams, describe, has_ended, hear_out};

/// A longer answer is a mistake.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// What is read of a pipe at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// What is shown of what it printed.
pub(super) const SHOWN_BYTES: u64 = 64 << 10;

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    stdin: ChildStdin,
    stdout: ChildStdout,
    answers: Vec<u8>,
    /// So much of it holds no end of a line.
    searched: usize,
    log: File,
    /// Where the log ended when it was last asked,
    asked_at: u64,
    /// and when it last answered.
    answered_at: u64,
    /// Its end.
    pidfd: OwnedFd,
    group: Group,
    /// Its working directory; outlives the process.
    mirror: Mirror,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// It ended, or said what is no answer; asking another one may help.
    Died {
        /// In a few words.
        how: String,
        /// What it wrote to stderr since it last answered; the end of it when that is much.
        printed: String,
    },
    /// Time was up.
    TimedOut,
    /// The build was cancelled.
    Cancelled(CancelReason),
}

/// What a process closed before it answered, or before it was asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pipe {
    /// Where requests come.
    Input,
    /// Where answers go.
    Output,
}

impl Pipe {
    /// What a process that closed it has to end by itself. One that takes no requests may still have something to say; one that
    /// gives no answers is only told of by its status.
    pub(super) fn patience(self) -> Duration {
        match self {
            Self::Input => Duration::from_secs(5),
            Self::Output => Duration::from_millis(200),
        }
    }
}

/// How a process ended that closed `pipe`: `by_itself`, or because somebody ended it then.
pub(super) fn how_it_ended(pipe: Pipe, by_itself: bool, status: ExitStatus) -> String {
    match (by_itself, pipe) {
        (true, _) => format!("ended before it answered ({})", describe(status)),
        (false, Pipe::Input) => "closed its input before it answered, then was stopped".to_owned(),
        (false, Pipe::Output) => {
            "closed its output before it answered, then was stopped".to_owned()
        }
    }
}

impl Worker {
    /// Starts one that stands in `mirror`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(spec: &ProcessSpec, mirror: Mirror) -> io::Result<Self> {
        let mut group = Group::start(spec, Streams::Pipes)?;
        let (stdin, stdout) = group
            .pipes()
            .ok_or_else(|| io::Error::other("it has no pipes"))?;
        for pipe in [stdin.as_fd(), stdout.as_fd()] {
            fcntl_setfl(pipe, fcntl_getfl(pipe)? | OFlags::NONBLOCK)?;
        }
        Ok(Self {
            stdin,
            stdout,
            answers: Vec::new(),
            searched: 0,
            log: File::open(&spec.log)?,
            asked_at: 0,
            answered_at: 0,
            pidfd: group.pidfd()?,
            group,
            mirror,
        })
    }

    /// What lies in its directory.
    pub fn mirror(&mut self) -> &mut Mirror {
        &mut self.mirror
    }

    /// Asks, and waits for the answer. After [`NoAnswer`] it is of no use any more.
    ///
    /// # Errors
    /// Why there is none.
    pub fn ask(
        &mut self,
        request: &impl serde::Serialize,
        cancel: &Cancel,
        deadline: Option<Instant>,
    ) -> Result<WorkResponse, NoAnswer> {
        let asked = serde_json::to_vec(request).map_err(io::Error::from);
        let line = asked.and_then(|mut line| {
            line.push(b'\n');
            self.asked_at = self.log.metadata()?.len();
            self.converse(&line, cancel, deadline)
        });
        let line = match line {
            Ok(Ok(line)) => line,
            Ok(Err(stopped)) => return Err(stopped),
            Err(error) => {
                let ended = error.kind() == ErrorKind::UnexpectedEof
                    || error.kind() == ErrorKind::BrokenPipe;
                let pipe = match error.kind() {
                    ErrorKind::BrokenPipe => Pipe::Input,
                    _ => Pipe::Output,
                };
                let how = ended.then(|| {
                    let by_itself = hear_out(&self.pidfd, pipe.patience(), Some(cancel), deadline)?;
                    let status = self.group.end()?;
                    io::Result::Ok(how_it_ended(pipe, by_itself, status))
                });
                let how = match how {
                    Some(Ok(how)) => how,
                    _ => format!("could not be talked with: {error}"),
                };
                return Err(self.died(how));
            }
        };
        self.answered_at = self.log.metadata().map_or(0, |log| log.len());
        match serde_json::from_slice::<WorkResponse>(&line) {
            Ok(answer) if answer.request_id == 0 => Ok(answer),
            Ok(answer) => Err(self.died(format!(
                "answered request {}; who does one thing at a time is asked without a number and answers so",
                answer.request_id
            ))),
            Err(error) => Err(self.died(format!(
                "wrote to stdout what is no answer ({error}); only answers go there, everything else to stderr: {}",
                shown(&line)
            ))),
        }
    }

    fn died(&mut self, how: String) -> NoAnswer {
        // It must not go on printing while this is read.
        drop(self.group.end());
        NoAnswer::Died {
            how,
            printed: self.printed_from(self.answered_at),
        }
    }

    /// What it wrote to stderr since it was last asked; the end of it when that is much.
    pub fn printed(&mut self) -> String {
        self.printed_from(self.asked_at)
    }

    fn printed_from(&mut self, from: u64) -> String {
        let mut read = || -> io::Result<Vec<u8>> {
            let size = self.log.metadata()?.len();
            let begin = from.max(size.saturating_sub(SHOWN_BYTES));
            self.log.seek(SeekFrom::Start(begin))?;
            let mut bytes = Vec::new();
            self.log.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
    }

    /// Writes `line` and reads one.
    fn converse(
        &mut self,
        line: &[u8],
        cancel: &Cancel,
        deadline: Option<Instant>,
    ) -> io::Result<Result<Vec<u8>, NoAnswer>> {
        let mut left = line;
        // What lies there was not asked for.
        self.read_some()?;
        loop {
            self.skip_blank();
            if !left.is_empty() && !self.answers.is_empty() {
                let how = format!(
                    "wrote to stdout before it had been asked; only answers go there, one for each request: {}",
                    shown(&self.answers)
                );
                return Ok(Err(self.died(how)));
            }
            if let Some(answer) = self.take_line() {
                return Ok(Ok(answer));
            }
            let mut fds = vec![
                PollFd::new(cancel, PollFlags::IN),
                PollFd::new(&self.stdout, PollFlags::IN),
                PollFd::new(&self.pidfd, PollFlags::IN),
            ];
            if !left.is_empty() {
                fds.push(PollFd::new(&self.stdin, PollFlags::OUT));
            }
            let wait = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            // One that never stops talking leaves nothing to wait for.
            if wait.is_some_and(|left| left.is_zero()) {
                return Ok(Err(NoAnswer::TimedOut));
            }
            let wait = wait.map(Timespec::try_from).transpose();
            match poll(&mut fds, wait.map_err(io::Error::other)?.as_ref()) {
                Ok(0) => return Ok(Err(NoAnswer::TimedOut)),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if let Some(reason) = cancel.reason() {
                return Ok(Err(NoAnswer::Cancelled(reason)));
            }
            // What it wrote before it ended is there by now. Children of its may hold the pipe, so that has no end.
            let has_ended = has_ended(&self.pidfd)?;
            match self.read_some()? {
                // Looked at before more is written.
                true => continue,
                false if has_ended => return Err(ErrorKind::UnexpectedEof.into()),
                false => {}
            }
            if !left.is_empty() {
                match self.stdin.write(left) {
                    Ok(written) => left = &left[written..],
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Tells whether there was something.
    fn read_some(&mut self) -> io::Result<bool> {
        let old = self.answers.len();
        self.answers.resize(old + CHUNK_BYTES, 0);
        let read = self.stdout.read(&mut self.answers[old..]);
        self.answers
            .truncate(old + read.as_ref().map_or(0, |count| *count));
        match read {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) if self.answers.len() > MAX_ANSWER_BYTES => {
                Err(io::Error::other("its answer has no end"))
            }
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Forgets empty lines before the next one.
    fn skip_blank(&mut self) {
        let blank = self.answers.iter().position(|it| !it.is_ascii_whitespace());
        self.answers.drain(..blank.unwrap_or(self.answers.len()));
    }

    /// The first line, when it is whole.
    fn take_line(&mut self) -> Option<Vec<u8>> {
        let new = &self.answers[self.searched..];
        let Some(end) = new.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.answers.len();
            return None;
        };
        let end = std::mem::take(&mut self.searched) + end;
        Some(self.answers.drain(..=end).collect())
    }
}

/// The beginning of what it said.
fn shown(said: &[u8]) -> String {
    let said = said.utf8_chunks().flat_map(|chunk| chunk.valid().chars());
    let said: String = said.take(200).collect();
    said.trim_end().to_owned()
}
