//! `abuser top`: how it stands, live, and keys to act on it.
//!
//! | module | what it is about |
//! | --- | --- |
//! | `snapshot` | how it stands at one time |
//! | `poll` | asking the daemon |
//! | `model` | what follows from snapshots: rates, and what was before |
//! | `panes`, `grid` | the tables, sorted and filtered |
//! | `state`, `keys` | what is looked at, and what keys change |
//! | `view`, `theme`, `text` | how it looks |
//! | `terminal` | the terminal, and putting it back |
//!
//! Without a terminal that can be drawn on, or with `--json`, it is told once.

mod grid;
mod keys;
mod model;
mod panes;
mod poll;
mod snapshot;
mod state;
mod terminal;
#[cfg(test)]
mod tests;
mod text;
mod theme;
mod view;

use std::{
    io,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use nix::libc;
use ratatui::crossterm::event::{Event, KeyEventKind};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use self::{
    keys::Action,
    model::Model,
    panes::Pane,
    poll::{Poller, Update},
    snapshot::Snapshot,
    state::{Request, State},
    terminal::Screen,
    theme::Theme,
};
use super::{CliError, args::TopArgs, output};
use crate::api::client::Client;

/// Updates and requests that may wait.
const BACKLOG: usize = 64;

pub(super) async fn top(socket: &Path, args: &TopArgs) -> Result<(), CliError> {
    let is_live = output::is_terminal() && moves_its_cursor();
    if args.json || !is_live {
        if !args.json && output::is_terminal() {
            output::message(
                "abuser: TERM names no terminal that can be drawn on, so this is told once",
            );
        }
        let mut client = Client::connect(socket).await?;
        let snapshot = Snapshot::fetch(&mut client, None).await?;
        if args.json {
            return Ok(output::json(&snapshot)?);
        }
        return Ok(print(snapshot)?);
    }
    // A daemon that is not there when it is first asked will not come by itself.
    drop(Client::connect(socket).await?);
    watch(socket, args.interval).await
}

/// Whether the terminal is more than a typewriter, by what the environment says of it.
fn moves_its_cursor() -> bool {
    std::env::var_os("TERM").is_some_and(|name| !name.is_empty() && name != "dumb")
}

/// Prints the busiest sources, as tables are printed.
fn print(snapshot: Snapshot) -> io::Result<()> {
    let mut model = Model::default();
    model.take(snapshot, Duration::ZERO);
    let grid = Pane::Sources.grid(&model);
    let rows = grid.rows.into_iter();
    let rows = rows.map(|row| row.cells.into_iter().map(|cell| cell.text).collect());
    let titles: Vec<_> = grid.columns.iter().map(|column| column.title).collect();
    let right = grid.columns.iter().enumerate();
    let right: Vec<_> = right
        .filter(|(_, column)| column.right)
        .map(|(number, _)| number)
        .collect();
    output::table(&titles, rows.collect(), &right)
}

/// Signals that end the view, and one that suspends it.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    stop: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            stop: signal(SignalKind::from_raw(libc::SIGTSTP))?,
        })
    }

    /// What they ask for.
    async fn next(&mut self) -> Action {
        tokio::select! {
            _ = self.terminate.recv() => Action::Quit,
            _ = self.interrupt.recv() => Action::Quit,
            _ = self.hang_up.recv() => Action::Quit,
            _ = self.stop.recv() => Action::Suspend,
        }
    }
}

/// Shows how it stands until it is enough.
async fn watch(socket: &Path, interval: Duration) -> Result<(), CliError> {
    let mut signals =
        Signals::new().map_err(|error| anyhow!("cannot wait for signals: {error}"))?;
    let theme = Theme::of_environment();
    let mut screen = Screen::take().map_err(|error| anyhow!("cannot use the terminal: {error}"))?;
    let (updates_in, mut updates) = mpsc::channel(BACKLOG);
    let (requests, requests_out) = mpsc::channel(BACKLOG);
    tokio::spawn(Poller::new(socket, interval, updates_in).run(requests_out));
    let mut events = terminal::events();
    let (mut model, mut state) = (Model::default(), State::default());
    let started = Instant::now();
    loop {
        let now = started.elapsed();
        screen.draw(|frame| view::draw(frame, &model, &state, theme, now))?;
        let action = tokio::select! {
            action = signals.next() => Some(action),
            event = events.recv() => match event {
                Some(Ok(event)) => take_event(&mut state, &model, &event),
                Some(Err(error)) => return Err(error.into()),
                // The terminal is gone.
                None => Some(Action::Quit),
            },
            Some(update) = updates.recv() => {
                take_update(&mut state, &mut model, update, started.elapsed());
                // Many may have come at once, and one drawing shows them all.
                while let Ok(update) = updates.try_recv() {
                    take_update(&mut state, &mut model, update, started.elapsed());
                }
                None
            }
        };
        match action {
            Some(Action::Quit) => return Ok(()),
            Some(Action::Suspend) => screen.suspend()?,
            Some(Action::Redraw) => screen.forget()?,
            Some(Action::Ask(request)) => ask(&mut state, &requests, request),
            None => {}
        }
    }
}

fn take_event(state: &mut State, model: &Model, event: &Event) -> Option<Action> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => keys::press(state, model, *key),
        _ => None,
    }
}

fn take_update(state: &mut State, model: &mut Model, update: Update, now: Duration) {
    match update {
        // One that was on its way.
        Update::Snapshot(_) | Update::Event(_) if state.paused => {}
        Update::Snapshot(snapshot) => model.take(*snapshot, now),
        Update::Event(event) => model.note(*event),
        Update::Lost(error) => model.lose(error, now),
        Update::Done(said) => state.say(said),
        Update::Failed(error) => state.complain(error),
        Update::Explained(address, lines) => state.explain(address, lines),
    }
}

/// Hands on what is to be asked; the daemon may be slow, and then so much does not wait.
fn ask(state: &mut State, requests: &mpsc::Sender<Request>, request: Request) {
    if requests.try_send(request).is_err() {
        state.complain("the daemon has not answered what was asked before");
    }
}
