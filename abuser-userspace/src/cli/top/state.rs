//! What of it is looked at, and what is being asked: all that keys change.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    grid::{Grid, Sorting},
    model::Model,
    panes::Pane,
};
use crate::api::types::BanDuration;

/// What the daemon is to be asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Request {
    /// Ban, for how long.
    Ban(IpNet, BanDuration),
    /// Lift a ban.
    Unban(IpNet),
    /// Never drop.
    Allow(IpNet),
    /// Take that back.
    Disallow(IpNet),
    /// Only observe, or enforce.
    Observe(bool),
    /// Tell what a packet would meet.
    Explain(IpAddr),
    /// Look for the bans of this address, too.
    Find(Option<IpAddr>),
    /// Ask nothing until told otherwise.
    Pause(bool),
}

/// What is to be confirmed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Question {
    pub(super) text: String,
    pub(super) request: Request,
}

/// What keys mean now.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Mode {
    /// They choose and ask.
    Browse,
    /// They write the filter; what it was before.
    Filter(String),
    /// They write whom to ban, and for how long.
    Ban(String),
    /// They answer yes or no.
    Ask(Question),
    /// What keys there are is shown.
    Help,
    /// Lines about an address are shown, from this one on.
    Explain {
        address: String,
        lines: Vec<String>,
        from: u16,
    },
}

impl Mode {
    /// Whether something is being written, answered or read that nothing may replace.
    const fn is_held(&self) -> bool {
        match self {
            Self::Browse | Self::Explain { .. } => false,
            Self::Filter(_) | Self::Ban(_) | Self::Ask(_) | Self::Help => true,
        }
    }
}

/// What became of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) text: String,
    pub(super) is_error: bool,
}

/// Which row is chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Choice {
    /// By what it is about, because rows move.
    key: Option<String>,
    /// Where it was.
    index: usize,
}

/// What is looked at.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) pane: Pane,
    pub(super) mode: Mode,
    pub(super) filter: String,
    pub(super) paused: bool,
    pub(super) message: Option<Message>,
    /// An explanation that came while something was being written; it is shown after that.
    late: Option<Mode>,
    sorting: [Sorting; Pane::ALL.len()],
    choices: [Choice; Pane::ALL.len()],
}

impl Default for State {
    fn default() -> Self {
        Self {
            pane: Pane::default(),
            mode: Mode::Browse,
            filter: String::new(),
            paused: false,
            message: None,
            late: None,
            sorting: Pane::ALL.map(Pane::sorting),
            choices: Default::default(),
        }
    }
}

impl State {
    /// Says what became of something.
    pub(super) fn say(&mut self, text: impl Into<String>) {
        self.message = Some(Message {
            text: text.into(),
            is_error: false,
        });
    }

    /// Says what went wrong.
    pub(super) fn complain(&mut self, text: impl Into<String>) {
        self.message = Some(Message {
            text: text.into(),
            is_error: true,
        });
    }

    /// Shows lines about an address: now, or when what is being written is.
    pub(super) fn explain(&mut self, address: String, lines: Vec<String>) {
        let from = 0;
        self.late = Some(Mode::Explain {
            address,
            lines,
            from,
        });
        self.show_late();
    }

    /// Shows what came late, if nothing is being written.
    pub(super) fn show_late(&mut self) {
        if !self.mode.is_held()
            && let Some(late) = self.late.take()
        {
            self.mode = late;
        }
    }

    /// How a pane is sorted.
    pub(super) fn sorting(&self, pane: Pane) -> Sorting {
        self.sorting.get(pane.number()).copied().unwrap_or_default()
    }

    /// A pane's table as it is to be seen.
    pub(super) fn grid(&self, pane: Pane, model: &Model) -> Grid {
        let mut grid = pane.grid(model);
        grid.filter(&self.filter);
        grid.sort(self.sorting(pane));
        grid
    }

    /// The chosen row's place in a pane's table.
    pub(super) fn chosen(&self, pane: Pane, grid: &Grid) -> Option<usize> {
        let choice = self.choices.get(pane.number())?;
        let last = grid.rows.len().checked_sub(1)?;
        let by_key = |key: &String| grid.rows.iter().position(|row| row.key == *key);
        let found = choice.key.as_ref().and_then(by_key);
        Some(found.unwrap_or(choice.index.min(last)))
    }

    /// Moves the choice by so many rows.
    pub(super) fn step(&mut self, model: &Model, by: isize) {
        let grid = self.grid(self.pane, model);
        let at = self.chosen(self.pane, &grid).unwrap_or_default();
        let last = grid.rows.len().saturating_sub(1);
        let index = at.saturating_add_signed(by).min(last);
        let key = grid.rows.get(index).map(|row| row.key.clone());
        // The first row is whatever comes first, and not who was there.
        let key = key.filter(|_| index > 0);
        if let Some(choice) = self.choices.get_mut(self.pane.number()) {
            *choice = Choice { key, index };
        }
    }

    /// Sorts by the next column, and after the last one as the daemon tells it.
    pub(super) fn sort_on(&mut self) {
        let columns = self.pane.columns();
        let titled = |column: &usize| columns.get(*column).is_some_and(|c| !c.title.is_empty());
        let Some(sorting) = self.sorting.get_mut(self.pane.number()) else {
            return;
        };
        let next = sorting.column.map_or(0, |column| column + 1);
        *sorting = Sorting {
            column: Some(next).filter(titled),
            reversed: false,
        };
    }

    /// Sorts the other way round.
    pub(super) fn reverse(&mut self) {
        if let Some(sorting) = self.sorting.get_mut(self.pane.number()) {
            sorting.reversed = !sorting.reversed;
        }
    }

    /// The source that the chosen row is about, if it is about one.
    pub(super) fn source(&self, model: &Model) -> Option<IpNet> {
        let grid = self.grid(self.pane, model);
        let row = grid.rows.get(self.chosen(self.pane, &grid)?)?;
        match self.pane {
            Pane::Sources | Pane::Bans => row.key.parse().ok(),
            Pane::Events => {
                let source = row.key.split(' ').nth(2)?;
                let address = source.parse::<IpAddr>().map(IpNet::from);
                address.or_else(|_| source.parse()).ok()
            }
            Pane::Limits | Pane::Detectors => None,
        }
    }
}
