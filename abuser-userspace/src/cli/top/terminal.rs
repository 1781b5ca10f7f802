//! The terminal as the view needs it, and as it was before: whatever ends the program, it is put
//! back.

use std::io;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use ratatui::{
    DefaultTerminal, Frame,
    crossterm::{
        event::{self, Event},
        execute,
        terminal::{EnterAlternateScreen, enable_raw_mode},
    },
    layout::{Position, Rect},
};
use tokio::sync::mpsc;

/// The terminal while the view has it. Dropping it puts it back; so does a panic.
pub(super) struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn take() -> io::Result<Self> {
        let terminal = ratatui::try_init().inspect_err(|_| {
            // Half of it may be done.
            let _not_a_terminal = ratatui::try_restore();
        })?;
        Ok(Self { terminal })
    }

    /// Draws.
    pub(super) fn draw(&mut self, render: impl FnOnce(&mut Frame)) -> io::Result<()> {
        self.terminal.draw(render)?;
        Ok(())
    }

    /// Has the next drawing write every cell.
    pub(super) fn forget(&mut self) -> io::Result<()> {
        // Not `clear`, which asks the terminal where its cursor is: the answer would be read as keys.
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::from((Position::ORIGIN, size)))
    }

    /// Lets the shell have the terminal until it continues this process.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        ratatui::try_restore()?;
        self.terminal.show_cursor()?;
        kill(Pid::this(), Signal::SIGSTOP).map_err(io::Error::from)?;
        // Here the shell has continued it.
        enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen)?;
        self.terminal.hide_cursor()?;
        self.forget()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _gone = self.terminal.show_cursor();
        // A terminal that is gone needs nothing put back.
        let _gone = ratatui::try_restore();
    }
}

/// Keys and changes of size, read on a thread of their own: reading them blocks.
pub(super) fn events() -> mpsc::Receiver<io::Result<Event>> {
    const BACKLOG: usize = 64;
    let (sender, receiver) = mpsc::channel(BACKLOG);
    std::thread::spawn(move || {
        loop {
            let event = event::read();
            let is_over = event.is_err();
            if sender.blocking_send(event).is_err() || is_over {
                return;
            }
        }
    });
    receiver
}
