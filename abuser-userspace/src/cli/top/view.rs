//! From what is known and what is looked at to cells of the screen: a pure function of both, the
//! theme and the size.

use std::{borrow::Cow, time::Duration};

use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    style::Style,
    text::{Line, Span},
    widgets::{
        Block, Clear, Paragraph, RenderDirection, Row as TableRow, Sparkline, Table, TableState,
        Wrap,
    },
};

use super::{
    grid::{Column, Row},
    keys::HELP,
    model::{Link, Model, VERDICTS},
    panes::Pane,
    snapshot::{BANS, Snapshot},
    state::{Mode, State},
    text,
    theme::{CHOSEN, QUIET, Theme},
};
use crate::{
    api::types::{InterfaceState, InterfaceStatus, Status},
    cli::output::{counted, grouped, plain, span},
};

/// From this size on several panes are shown at once.
const WIDE: (u16, u16) = (110, 32);

/// From this height on events are shown below the pane that is looked at.
const TALL: u16 = 32;

/// Lines of events below other panes, with their heading.
const EVENTS: u16 = 8;

/// Smaller than this there is nothing to be seen.
const LEAST: (u16, u16) = (40, 12);

/// Draws all.
pub(super) fn draw(frame: &mut Frame, model: &Model, state: &State, theme: Theme, now: Duration) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let (width, height) = LEAST;
        let words = format!("abuser top needs {width} columns and {height} lines");
        return frame.render_widget(Paragraph::new(words).wrap(Wrap { trim: true }), area);
    }
    let verdicts = u16::try_from(VERDICTS.len()).unwrap_or_default();
    let [title, facts, rates, tabs, body, message, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(verdicts),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
        Constraint::Length(1),
    ])
    .areas(area);
    draw_title(frame, title, model, state, theme);
    draw_facts(frame, facts, model, theme, now);
    draw_rates(frame, rates, model, theme);
    draw_tabs(frame, tabs, model, state, theme);
    let view = View {
        model,
        state,
        theme,
    };
    view.draw_panes(frame, body);
    draw_message(frame, message, state, theme);
    let hints = "b ban  u unban  a allow  o observe  / filter  s sort  p pause  ? help  q quit";
    frame.render_widget(Paragraph::new(hints).style(QUIET), keys);
    match &state.mode {
        Mode::Help => draw_help(frame, area, theme),
        Mode::Explain {
            address,
            lines,
            from,
        } => draw_explanation(frame, area, theme, address, lines, *from),
        _ => {}
    }
}

fn draw_title(frame: &mut Frame, area: Rect, model: &Model, state: &State, theme: Theme) {
    let status = model.snapshot.as_ref().map(|now| &now.status);
    let mut left = vec![Span::styled("abuser", theme.heading())];
    if let Some(status) = status {
        left.push(Span::raw(format!(
            " {}  up {}  ",
            plain(&status.version),
            span(status.uptime_seconds)
        )));
        // What is not protected comes first: there may be no room for all.
        let mut interfaces: Vec<_> = status.interfaces.iter().collect();
        interfaces.sort_by_key(|interface| interface.state == InterfaceState::Attached);
        let mut interfaces = interfaces.into_iter();
        left.extend(
            interfaces
                .next()
                .map(|interface| protection(interface, theme)),
        );
        for interface in interfaces {
            left.push(Span::raw(", "));
            left.push(protection(interface, theme));
        }
    }
    let mut right = Vec::new();
    if let Some(left) = model.snapshot.as_ref().and_then(unconfirmed) {
        let words = format!(" DETACHES IN {} ", text::time(left));
        right.push(Span::styled(words, theme.alarm()));
    }
    if status.is_some_and(|status| status.observe) {
        right.push(Span::styled(" OBSERVES ", theme.alarm()));
    }
    if state.paused {
        right.push(Span::styled(" PAUSED ", theme.alarm()));
    }
    spread(frame, area, left, right);
}

/// How long the daemon waits yet for `abuser confirm`, if it does; by its own clock.
fn unconfirmed(now: &Snapshot) -> Option<Duration> {
    let until = humantime::parse_rfc3339(now.status.confirm_by.as_deref()?).ok()?;
    let now = humantime::parse_rfc3339(&now.top.time).ok()?;
    Some(until.duration_since(now).unwrap_or_default())
}

/// Two parts of a line, of which the right one is not to be cut.
fn spread(frame: &mut Frame, area: Rect, left: Vec<Span<'_>>, right: Vec<Span<'_>>) {
    let right = Line::from(right).alignment(Alignment::Right);
    let width = u16::try_from(right.width()).unwrap_or(u16::MAX);
    let [first, second] =
        Layout::horizontal([Constraint::Min(0), Constraint::Length(width)]).areas(area);
    frame.render_widget(Paragraph::new(Line::from(left)), first);
    frame.render_widget(Paragraph::new(right), second);
}

fn protection(interface: &InterfaceStatus, theme: Theme) -> Span<'static> {
    let name = plain(&interface.name);
    match interface.state {
        InterfaceState::Attached => {
            let mode = interface.mode.as_deref().unwrap_or("unknown");
            Span::raw(format!("{name} ({mode})"))
        }
        InterfaceState::Missing => Span::styled(format!("{name} IS MISSING"), theme.alarm()),
        InterfaceState::Refused => Span::styled(format!("{name} NOT PROTECTED"), theme.alarm()),
    }
}

fn draw_facts(frame: &mut Frame, area: Rect, model: &Model, theme: Theme, now: Duration) {
    let line = match (&model.link, &model.snapshot) {
        (Link::Connecting, _) => Line::from("connecting"),
        (Link::Down { since, error }, _) => {
            let silent = text::time(now.saturating_sub(*since));
            let words = format!(" NO ANSWER for {silent}: {} ", plain(error));
            Line::from(Span::styled(words, theme.alarm()))
        }
        (Link::Up, None) => Line::default(),
        (Link::Up, Some(now)) => facts(&now.status, theme),
    };
    frame.render_widget(Paragraph::new(line), area);
}

fn facts(status: &Status, theme: Theme) -> Line<'static> {
    if let Some(error) = &status.store.error {
        let words = format!(" NOT ON DISK: {} ", plain(error));
        return Line::from(Span::styled(words, theme.alarm()));
    }
    let count = |number: usize, one, many| counted(number as u64, one, many);
    let percent = status.buckets.active * 100 / status.buckets.capacity.max(1);
    let mut facts = vec![
        count(status.bans, "ban", "bans"),
        count(status.limits, "limit", "limits"),
        format!("{} allowed", grouped(status.allow as u64)),
        format!("{} throttled", grouped(status.throttles as u64)),
        format!("buckets {percent}% full"),
    ];
    if status.events.lost > 0 {
        facts.push(format!("{} events lost", text::count(status.events.lost)));
    }
    let broken = status.blocklists.iter().filter(|list| list.error.is_some());
    let broken: Vec<_> = broken.map(|list| plain(&list.name)).collect();
    if !broken.is_empty() {
        facts.push(format!("BLOCK LIST NOT READ: {}", broken.join(", ")));
    }
    Line::from(facts.join("  "))
}

fn draw_rates(frame: &mut Frame, area: Rect, model: &Model, theme: Theme) {
    let lines = Layout::vertical(vec![Constraint::Length(1); VERDICTS.len()]).split(area);
    let rows = model.verdicts.iter().zip(VERDICTS).enumerate();
    for ((number, (series, (name, _))), line) in rows.zip(lines.iter()) {
        let style = theme.verdict(number);
        let numbers = format!(
            "{name:<11} {:>7}/s {:>12}  ",
            text::rate(series.now.packets),
            text::bits(series.now.bytes)
        );
        let width = u16::try_from(numbers.len()).unwrap_or_default();
        let [numbers_at, bars_at] =
            Layout::horizontal([Constraint::Length(width), Constraint::Min(0)]).areas(*line);
        frame.render_widget(Paragraph::new(numbers), numbers_at);
        let bars = Sparkline::default()
            .data(series.history.iter().rev().copied())
            .direction(RenderDirection::RightToLeft)
            .bar_set(theme.bars())
            .style(style);
        frame.render_widget(bars, bars_at);
    }
}

fn draw_tabs(frame: &mut Frame, area: Rect, model: &Model, state: &State, theme: Theme) {
    let mut tabs = Vec::new();
    for pane in Pane::ALL {
        let name = format!("{} {}", pane.number() + 1, pane.name());
        tabs.push(if pane == state.pane {
            Span::styled(format!("[{name}]"), theme.heading())
        } else {
            Span::raw(format!(" {name} "))
        });
    }
    let mut right = Vec::new();
    if !state.filter.is_empty() {
        right.push(Span::raw(format!("only {} ", plain(&state.filter))));
    }
    // What is not asked for is not to be taken for what is not there.
    let hidden = model.snapshot.as_ref().map_or(0, |now| {
        let told = now.bans.len().min(BANS);
        now.status.bans.saturating_sub(told)
    });
    if hidden > 0 {
        right.push(Span::raw(format!("{} more bans ", grouped(hidden as u64))));
    }
    spread(frame, area, tabs, right);
}

/// What all panes need.
struct View<'a> {
    model: &'a Model,
    state: &'a State,
    theme: Theme,
}

impl View<'_> {
    fn draw_panes(&self, frame: &mut Frame, area: Rect) {
        let whole = frame.area();
        if whole.width >= WIDE.0 && whole.height >= WIDE.1 {
            return self.draw_all(frame, area);
        }
        if whole.height >= TALL && self.state.pane != Pane::Events {
            let [pane, events] =
                Layout::vertical([Constraint::Min(0), Constraint::Length(EVENTS)]).areas(area);
            self.draw_pane(frame, pane, self.state.pane);
            return self.draw_pane(frame, events, Pane::Events);
        }
        self.draw_pane(frame, area, self.state.pane);
    }

    fn draw_all(&self, frame: &mut Frame, area: Rect) {
        let [upper, events] =
            Layout::vertical([Constraint::Min(0), Constraint::Length(EVENTS)]).areas(area);
        let [first, second] =
            Layout::horizontal([Constraint::Percentage(61), Constraint::Percentage(39)])
                .spacing(1)
                .areas(upper);
        let halves = |area| {
            let halves = [Constraint::Fill(1), Constraint::Fill(1)];
            Layout::vertical(halves).areas::<2>(area)
        };
        let ([sources, bans], [limits, detectors]) = (halves(first), halves(second));
        self.draw_pane(frame, sources, Pane::Sources);
        self.draw_pane(frame, bans, Pane::Bans);
        self.draw_pane(frame, limits, Pane::Limits);
        self.draw_pane(frame, detectors, Pane::Detectors);
        self.draw_pane(frame, events, Pane::Events);
    }

    fn draw_pane(&self, frame: &mut Frame, area: Rect, pane: Pane) {
        let Self {
            model,
            state,
            theme,
        } = self;
        let grid = state.grid(pane, model);
        let columns = fitting(grid.columns, area.width);
        let sorting = state.sorting(pane);
        let header = columns.iter().enumerate().map(|(number, column)| {
            let mark = if sorting.column == Some(number) {
                theme.mark(sorting.reversed)
            } else {
                ""
            };
            aligned(format!("{}{mark}", column.title).into(), *column)
        });
        let header = TableRow::new(header).style(theme.heading());
        let rows = grid.rows.iter().map(|row| table_row(row, columns, *theme));
        let widths = columns.iter().map(|column| match column.width {
            0 => Constraint::Fill(1),
            width => Constraint::Length(width),
        });
        let mut table = Table::new(rows, widths).header(header).column_spacing(1);
        let is_lost = matches!(model.link, Link::Down { .. });
        if is_lost {
            table = table.style(QUIET);
        }
        if pane == state.pane {
            table = table.row_highlight_style(CHOSEN);
        }
        let chosen = (pane == state.pane).then(|| state.chosen(pane, &grid));
        let mut at = TableState::new().with_selected(chosen.flatten());
        frame.render_stateful_widget(table, area, &mut at);
        if grid.rows.is_empty() {
            self.draw_emptiness(frame, area, pane);
        }
    }

    /// Says why there is nothing to be seen.
    fn draw_emptiness(&self, frame: &mut Frame, area: Rect, pane: Pane) {
        let words = if !self.state.filter.is_empty() {
            "nothing here has the filter's text; Esc clears it"
        } else if self.model.snapshot.is_none() {
            ""
        } else {
            match pane {
                Pane::Sources => "nobody has met a limit or a ban within a minute",
                Pane::Bans => "nobody is banned",
                Pane::Limits => "there are no limits",
                Pane::Detectors => "no logs are read",
                Pane::Events => "nothing has happened since you look",
            }
        };
        let below = Rect {
            y: area.y.saturating_add(1),
            height: area.height.saturating_sub(1).min(1),
            ..area
        };
        frame.render_widget(Paragraph::new(words).style(QUIET), below);
    }
}

/// The first columns that there is room for; one that takes what is left wants eight cells.
fn fitting(columns: &'static [Column], width: u16) -> &'static [Column] {
    const REST: u16 = 8;
    let mut used = 0_u16;
    let fits = |column: &&Column| {
        let wanted = if column.width == 0 {
            REST
        } else {
            column.width
        };
        used = used.saturating_add(wanted);
        let fits = used <= width;
        used = used.saturating_add(1);
        fits
    };
    let count = columns.iter().take_while(fits).count();
    columns.get(..count.max(1)).unwrap_or(columns)
}

fn aligned(text: Cow<'_, str>, column: Column) -> Line<'_> {
    let alignment = if column.right {
        Alignment::Right
    } else {
        Alignment::Left
    };
    Line::from(text).alignment(alignment)
}

fn table_row<'a>(row: &'a Row, columns: &[Column], theme: Theme) -> TableRow<'a> {
    let cells = row.cells.iter().zip(columns);
    let cells = cells.map(|(cell, column)| aligned(cell.text.as_str().into(), *column));
    TableRow::new(cells).style(theme.tone(row.tone))
}

fn draw_message(frame: &mut Frame, area: Rect, state: &State, theme: Theme) {
    let line = match (&state.mode, &state.message) {
        (Mode::Filter(_), _) => prompt("filter: ", &state.filter, "  (Enter, Esc)"),
        // What was wrong with it is said beside it.
        (Mode::Ban(line), Some(message)) if message.is_error => {
            let mut prompt = prompt("ban: ", line, "  ");
            prompt.push_span(Span::styled(plain(&message.text), theme.alarm()));
            prompt
        }
        (Mode::Ban(line), _) => prompt(
            "ban: ",
            line,
            "  (and for how long: 10m, 1d, permanent, or as [ban] says)",
        ),
        (Mode::Ask(question), _) => Line::from(vec![
            Span::styled(plain(&question.text), theme.heading()),
            Span::raw(" (y, n)"),
        ]),
        (_, Some(message)) => {
            let style = if message.is_error {
                theme.alarm()
            } else {
                Style::new()
            };
            Line::from(Span::styled(plain(&message.text), style))
        }
        (_, None) => Line::default(),
    };
    frame.render_widget(Paragraph::new(line), area);
}

/// A line that is being written, with its end marked.
fn prompt<'a>(before: &'a str, line: &'a str, after: &'a str) -> Line<'a> {
    Line::from(vec![
        Span::raw(before),
        Span::raw(plain(line)),
        Span::styled(" ", Style::new().reversed()),
        Span::raw(after),
    ])
}

/// A frame over all else; what is within it.
fn popup(frame: &mut Frame, area: Rect, theme: Theme, title: String) -> Rect {
    let block = Block::bordered()
        .border_set(theme.border())
        .title(Span::styled(title, theme.heading()));
    let within = block.inner(area);
    frame.render_widget(Clear, area);
    frame.render_widget(block, area);
    within
}

fn draw_help(frame: &mut Frame, area: Rect, theme: Theme) {
    let height = u16::try_from(HELP.len()).unwrap_or_default() + 2;
    let area = area.centered(Constraint::Max(72), Constraint::Max(height));
    let within = popup(frame, area, theme, " Keys; any key closes this ".to_owned());
    let lines = HELP.iter().map(|(keys, what)| {
        Line::from(vec![
            Span::styled(format!(" {keys:<15}"), theme.heading()),
            Span::raw(*what),
        ])
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), within);
}

fn draw_explanation(
    frame: &mut Frame,
    area: Rect,
    theme: Theme,
    address: &str,
    lines: &[String],
    from: u16,
) {
    let title = format!(" explain {address}; Esc closes, j and k scroll ");
    let within = popup(frame, area, theme, title);
    let lines = lines.iter().map(|line| Line::from(plain(line)));
    let words = Paragraph::new(lines.collect::<Vec<_>>())
        .wrap(Wrap { trim: false })
        .scroll((from, 0));
    frame.render_widget(words, within);
}
