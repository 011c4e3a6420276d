//! The terminal as the live line has it.
//!
//! Owns the columns that the line leaves free. Does not know what it says.
//! Invariant: what a terminal shows of a key that was pressed (`^C`) stands on the line of the cursor, where it is cleared with
//! the live line; behind a line that fills the terminal it would begin another one.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use indicatif::TermLike;
use rustix::termios::{Winsize, tcgetwinsize};

/// Three keys.
const FREE: u16 = 6;

/// What a terminal is taken for that does not say how large it is.
const USUAL: (u16, u16) = (80, 24);

/// Standard error, written to in one piece for each picture.
#[derive(Debug, Default)]
pub struct Screen(Mutex<String>);

impl Screen {
    /// Columns and rows.
    fn size() -> (u16, u16) {
        match tcgetwinsize(io::stderr()) {
            Ok(Winsize {
                ws_col: columns @ 1..,
                ws_row: rows @ 1..,
                ..
            }) => (columns, rows),
            _ => USUAL,
        }
    }

    fn put(&self, text: &str) -> io::Result<()> {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pending.push_str(text);
        Ok(())
    }

    /// Moves the cursor, if at all.
    fn go(&self, count: usize, to: char) -> io::Result<()> {
        match count {
            0 => Ok(()),
            count => self.put(&format!("\x1b[{count}{to}")),
        }
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        Self::size().0.saturating_sub(FREE).max(1)
    }

    fn height(&self) -> u16 {
        Self::size().1
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.go(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.go(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.go(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.go(n, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.put(&format!("{text}\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.put(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.put("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = std::mem::take(&mut *pending);
        io::stderr().write_all(text.as_bytes())
    }
}
