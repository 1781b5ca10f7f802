//! From a key to what it changes or asks for. Whatever may hurt is asked first.

use ipnet::IpNet;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    model::Model,
    panes::Pane,
    state::{Mode, Question, Request, State},
    text,
};
use crate::{
    api::types::BanInfo,
    cli::{args::ban_time, bans::duration},
    config::parse_prefix,
};

/// The keys, and what they do: for `?` and for the guide.
pub(super) const HELP: [(&str, &str); 16] = [
    ("1-5, Tab", "the pane to look at"),
    (
        "Up, Down, j, k",
        "another row; PgUp, PgDn, Home, End: further",
    ),
    (
        "Enter",
        "explain: what a packet from there would meet, and why",
    ),
    ("b", "ban, for how long you say"),
    ("u", "unban"),
    ("a", "allow: never drop; once more: take that back"),
    ("o", "only observe, or enforce again"),
    (
        "/",
        "filter: rows with this text; an address finds its bans",
    ),
    ("s", "sort by the next column"),
    ("r", "the other way round"),
    ("p, Space", "pause: what is shown stays"),
    ("Ctrl-L", "draw all anew"),
    ("Ctrl-Z", "suspend"),
    ("Esc", "close, clear the filter"),
    ("?", "this"),
    ("q, Ctrl-C", "quit"),
];

/// The rows that a page key goes.
const PAGE: isize = 10;

/// What a key comes to beyond the state.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// Leave.
    Quit,
    /// Let the shell have the terminal for a while.
    Suspend,
    /// Draw all anew.
    Redraw,
    /// Ask the daemon.
    Ask(Request),
}

/// Takes a key.
pub(super) fn press(state: &mut State, model: &Model, key: KeyEvent) -> Option<Action> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        match key.code {
            KeyCode::Char('c') => return Some(Action::Quit),
            KeyCode::Char('z') => return Some(Action::Suspend),
            KeyCode::Char('l') => return Some(Action::Redraw),
            _ => {}
        }
    }
    let action = take(state, model, key);
    state.show_late();
    action
}

fn take(state: &mut State, model: &Model, key: KeyEvent) -> Option<Action> {
    // Others keep the mode that they put back.
    match std::mem::replace(&mut state.mode, Mode::Browse) {
        Mode::Browse => browse(state, model, key.code),
        Mode::Filter(before) => filter(state, before, key),
        Mode::Ban(line) => ban(state, line, key),
        Mode::Ask(question) => answer(state, question, key.code),
        Mode::Help => None,
        Mode::Explain {
            address,
            lines,
            from,
        } => {
            read(state, address, lines, from, key.code);
            None
        }
    }
}

fn browse(state: &mut State, model: &Model, code: KeyCode) -> Option<Action> {
    state.message = None;
    match code {
        KeyCode::Char('q') => return Some(Action::Quit),
        KeyCode::Char('?' | 'h') => state.mode = Mode::Help,
        KeyCode::Char('/') => state.mode = Mode::Filter(state.filter.clone()),
        KeyCode::Char('s') => state.sort_on(),
        KeyCode::Char('r') => state.reverse(),
        KeyCode::Char('p' | ' ') => {
            state.paused = !state.paused;
            return Some(Action::Ask(Request::Pause(state.paused)));
        }
        KeyCode::Char('b') => {
            let source = state.source(model);
            let source = source.map(|source| format!("{} ", text::source(&source)));
            state.mode = Mode::Ban(source.unwrap_or_default());
        }
        KeyCode::Char('u') => unban(state, model),
        KeyCode::Char('a') => allow(state, model),
        KeyCode::Char('o') => observe(state, model),
        KeyCode::Enter => return explain(state, model),
        KeyCode::Esc if !state.filter.is_empty() => {
            state.filter.clear();
            return Some(Action::Ask(Request::Find(None)));
        }
        KeyCode::Tab | KeyCode::Right => state.pane = turned(state.pane, 1),
        KeyCode::BackTab | KeyCode::Left => {
            state.pane = turned(state.pane, Pane::ALL.len() - 1);
        }
        KeyCode::Char(digit) if digit.is_ascii_digit() => {
            let number = digit.to_digit(10).and_then(|digit| digit.checked_sub(1));
            let number = number.and_then(|number| usize::try_from(number).ok());
            if let Some(pane) = number.and_then(|number| Pane::ALL.get(number)) {
                state.pane = *pane;
            }
        }
        KeyCode::Down | KeyCode::Char('j') => state.step(model, 1),
        KeyCode::Up | KeyCode::Char('k') => state.step(model, -1),
        KeyCode::PageDown => state.step(model, PAGE),
        KeyCode::PageUp => state.step(model, -PAGE),
        KeyCode::Home | KeyCode::Char('g') => state.step(model, isize::MIN),
        KeyCode::End | KeyCode::Char('G') => state.step(model, isize::MAX),
        _ => {}
    }
    None
}

fn turned(pane: Pane, by: usize) -> Pane {
    let number = (pane.number() + by) % Pane::ALL.len();
    Pane::ALL.get(number).copied().unwrap_or(pane)
}

/// The source of the chosen row, or words that there is none.
fn source(state: &mut State, model: &Model) -> Option<IpNet> {
    let source = state.source(model);
    if source.is_none() {
        state.complain("choose a source first: in the panes Sources, Bans and Events");
    }
    source
}

fn unban(state: &mut State, model: &Model) {
    let Some(source) = source(state, model) else {
        return;
    };
    let told = model.snapshot.iter();
    let in_top = told.clone().flat_map(|now| &now.top.sources);
    let mut in_top = in_top.filter(|told| told.source == source);
    let of_top = in_top.find_map(|told| Some(told.ban.as_ref()?.source));
    let covers = |ban: &&BanInfo| ban.source.contains(&source);
    let in_bans = told.flat_map(|now| &now.bans);
    let of_bans = in_bans.filter(covers).map(|ban| ban.source);
    let of_bans = of_bans.max_by_key(IpNet::prefix_len);
    let Some(banned) = of_top.or(of_bans) else {
        state.complain(format!(
            "{} is not banned, as far as is known here",
            text::source(&source)
        ));
        return;
    };
    state.mode = Mode::Ask(Question {
        text: format!("Lift the ban of {}?", text::source(&banned)),
        request: Request::Unban(banned),
    });
}

fn allow(state: &mut State, model: &Model) {
    let Some(source) = source(state, model) else {
        return;
    };
    let told = model.snapshot.iter().flat_map(|now| &now.top.sources);
    let is_allowed = told.clone().any(|told| told.source == source && told.allow);
    let name = text::source(&source);
    state.mode = Mode::Ask(if is_allowed {
        Question {
            text: format!("Take {name} off the allow list?"),
            request: Request::Disallow(source),
        }
    } else {
        Question {
            text: format!("Allow {name}, so that it is never dropped?"),
            request: Request::Allow(source),
        }
    });
}

fn observe(state: &mut State, model: &Model) {
    let Some(now) = &model.snapshot else {
        state.complain("not known yet whether the daemon observes");
        return;
    };
    let observe = !now.status.observe;
    state.mode = Mode::Ask(Question {
        text: if observe {
            "Only observe: DROP NOTHING until you take that back, or the daemon starts again?"
        } else {
            "Enforce again, so that what bans and limits say is dropped?"
        }
        .to_owned(),
        request: Request::Observe(observe),
    });
}

fn explain(state: &mut State, model: &Model) -> Option<Action> {
    let source = source(state, model)?;
    // Of a prefix, its first address stands for all.
    Some(Action::Ask(Request::Explain(source.addr())))
}

fn answer(state: &mut State, question: Question, code: KeyCode) -> Option<Action> {
    match code {
        KeyCode::Char('y' | 'Y') => Some(Action::Ask(question.request)),
        KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc => {
            state.say("nothing was changed");
            None
        }
        _ => {
            state.mode = Mode::Ask(question);
            None
        }
    }
}

fn filter(state: &mut State, before: String, key: KeyEvent) -> Option<Action> {
    match key.code {
        KeyCode::Enter => {}
        KeyCode::Esc => state.filter = before,
        _ => {
            edit(&mut state.filter, key);
            state.mode = Mode::Filter(before);
            return None;
        }
    }
    Some(Action::Ask(Request::Find(state.filter.parse().ok())))
}

fn ban(state: &mut State, mut line: String, key: KeyEvent) -> Option<Action> {
    match key.code {
        KeyCode::Esc => {
            state.say("nobody was banned");
            None
        }
        KeyCode::Enter => match parse_ban(&line) {
            Ok(request) => Some(Action::Ask(request)),
            Err(error) => {
                state.complain(error);
                state.mode = Mode::Ban(line);
                None
            }
        },
        _ => {
            state.message = None;
            edit(&mut line, key);
            state.mode = Mode::Ban(line);
            None
        }
    }
}

/// A source, and a time unless it is to be as the policy says.
fn parse_ban(line: &str) -> Result<Request, String> {
    let line = line.trim();
    let (source, time) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    if source.is_empty() {
        return Err("write whom to ban, and for how long: 203.0.113.7 10m".to_owned());
    }
    let source = parse_prefix(source).map_err(|error| error.to_string())?;
    let time = match time.trim() {
        "" => None,
        time => Some(ban_time(time)?),
    };
    Ok(Request::Ban(source, duration(time)))
}

/// Longer lines than this are not written.
const MAX_LINE: usize = 200;

fn edit(line: &mut String, key: KeyEvent) {
    let with_control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('u') if with_control => line.clear(),
        KeyCode::Char('w') if with_control => {
            let kept = line.trim_end();
            let kept = kept.rfind(char::is_whitespace).map_or(0, |space| space + 1);
            line.truncate(kept);
        }
        KeyCode::Char(c) if !with_control && line.len() < MAX_LINE => line.push(c),
        KeyCode::Backspace => {
            line.pop();
        }
        _ => {}
    }
}

fn read(state: &mut State, address: String, lines: Vec<String>, from: u16, code: KeyCode) {
    let from = match code {
        KeyCode::Down | KeyCode::Char('j') => from.saturating_add(1),
        KeyCode::Up | KeyCode::Char('k') => from.saturating_sub(1),
        KeyCode::PageDown | KeyCode::Char(' ') => from.saturating_add(10),
        KeyCode::PageUp => from.saturating_sub(10),
        KeyCode::Home | KeyCode::Char('g') => 0,
        KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q') => return,
        _ => from,
    };
    // A long line takes several of the screen, which has forty columns at least.
    let taken = lines.iter().map(|line| 1 + line.len() / 38);
    let last = u16::try_from(taken.sum::<usize>().saturating_sub(1)).unwrap_or(u16::MAX);
    state.mode = Mode::Explain {
        address,
        lines,
        from: from.min(last),
    };
}
