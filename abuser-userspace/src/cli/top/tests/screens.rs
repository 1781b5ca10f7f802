//! What is drawn, compared with what is checked in; `ABUSER_UPDATE_SCREENS=1` writes it anew.

use std::{env, fmt::Write as _, fs, path::Path, time::Duration};

use proptest::prelude::*;
use ratatui::{
    Terminal,
    backend::TestBackend,
    buffer::Buffer,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};
use unicode_width::UnicodeWidthStr as _;

use super::{
    super::{
        keys::press,
        model::{Link, Model},
        panes::Pane,
        state::{Mode, State},
        theme::Theme,
        view,
    },
    scene::model,
};

const UPDATE: &str = "ABUSER_UPDATE_SCREENS";

const PLAIN: Theme = Theme {
    colour: false,
    unicode: false,
};
const COLOURED: Theme = Theme {
    colour: true,
    unicode: true,
};

fn drawn(size: (u16, u16), model: &Model, state: &State, theme: Theme) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    let now = Duration::from_secs(95);
    terminal
        .draw(|frame| view::draw(frame, model, state, theme, now))
        .unwrap();
    terminal.backend().buffer().clone()
}

fn lines(buffer: &Buffer) -> Vec<String> {
    let area = buffer.area;
    (0..area.height)
        .map(|y| {
            let mut line = String::new();
            let mut x = 0;
            while x < area.width {
                let symbol = buffer[(x, y)].symbol();
                line.push_str(symbol);
                x += u16::try_from(symbol.width().max(1)).unwrap();
            }
            line.trim_end().to_owned()
        })
        .collect()
}

/// The text, and below it where it does not look as usual.
fn described(buffer: &Buffer) -> String {
    let mut text = String::new();
    for line in lines(buffer) {
        writeln!(text, "{line}").unwrap();
    }
    let area = buffer.area;
    for y in 0..area.height {
        let mut from = 0;
        while from < area.width {
            let look = |x: u16| {
                let cell = &buffer[(x, y)];
                (cell.fg, cell.bg, cell.modifier)
            };
            let this = look(from);
            let to = (from..area.width).find(|x| look(*x) != this);
            let to = to.unwrap_or(area.width);
            let (foreground, background, modifier) = this;
            if this != Default::default() {
                writeln!(
                    text,
                    "{y}: {from}-{}: {foreground} on {background} {modifier:?}",
                    to - 1
                )
                .unwrap();
            }
            from = to;
        }
    }
    text
}

#[track_caller]
fn compare(name: &str, buffer: &Buffer) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/top/tests/screens");
    let path = path.join(format!("{name}.txt"));
    let now = described(buffer);
    if env::var_os(UPDATE).is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &now).unwrap();
    }
    let before = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        before == now,
        "{} is not what is drawn:\n{now}\nif that is right: {UPDATE}=1 cargo test -p \
         abuser-userspace --lib cli::top",
        path.display()
    );
}

fn at(pane: Pane) -> State {
    let mut state = State::default();
    state.pane = pane;
    state
}

#[test]
fn each_pane_has_all_that_matters_at_80_by_24_without_colour() {
    for pane in Pane::ALL {
        let name = format!("{}-80x24", pane.name().to_lowercase());
        let buffer = drawn((80, 24), &model(), &at(pane), PLAIN);
        compare(&name, &buffer);
        for cell in buffer.content() {
            assert!(cell.symbol().is_ascii() || cell.symbol().width() == 2);
            assert_eq!(format!("{} {}", cell.fg, cell.bg), "Reset Reset");
        }
    }
}

#[test]
fn the_same_has_colours_where_there_are_any() {
    compare(
        "sources-80x24-coloured",
        &drawn((80, 24), &model(), &at(Pane::Sources), COLOURED),
    );
}

#[test]
fn a_large_terminal_shows_all_panes_at_once() {
    compare(
        "all-120x40",
        &drawn((120, 40), &model(), &at(Pane::Bans), PLAIN),
    );
    compare(
        "all-120x40-coloured",
        &drawn((120, 40), &model(), &at(Pane::Sources), COLOURED),
    );
}

#[test]
fn what_must_not_be_overlooked_is_in_words() {
    let mut model = model();
    let status = &mut model.snapshot.as_mut().unwrap().status;
    status.observe = true;
    status.confirm_by = Some("2026-11-23T19:43:00.000Z".to_owned());
    let mut state = at(Pane::Sources);
    state.paused = true;
    compare("alarms-80x24", &drawn((80, 24), &model, &state, PLAIN));
    model.link = Link::Down {
        since: Duration::from_secs(90),
        error: "the conversation broke off".to_owned(),
    };
    let shown = lines(&drawn((80, 24), &model, &state, PLAIN));
    assert_eq!(shown[1], " NO ANSWER for 5s: the conversation broke off");
}

#[test]
fn help_and_explanations_lie_over_all_else() {
    let mut state = at(Pane::Sources);
    state.mode = Mode::Help;
    compare("help-80x24", &drawn((80, 24), &model(), &state, PLAIN));
    state.mode = Mode::Explain {
        address: "203.0.113.66".to_owned(),
        lines: vec![
            "203.0.113.66 is banned".to_owned(),
            "    evil \u{1b}]0;title\u{7} ".repeat(9),
        ],
        from: 0,
    };
    compare("explain-80x24", &drawn((80, 24), &model(), &state, PLAIN));
}

#[test]
fn words_of_others_neither_command_the_terminal_nor_move_a_column() {
    let mut model = model();
    let hostile = [
        "\u{1b}[31m\u{1b}[2J",
        "\u{4f60}\u{597d}\u{4f60}\u{597d}",
        "\u{202e}\u{200b}\u{feff}",
        "e\u{301}e\u{301}\u{1f468}\u{200d}\u{1f469}",
        "\r\n\t\u{9b}31m",
    ];
    let snapshot = model.snapshot.as_mut().unwrap();
    let plain = snapshot.bans[0].clone();
    snapshot.bans.clear();
    for text in hostile {
        let mut ban = plain.clone();
        ban.reason = Some(text.to_owned());
        ban.detector = Some(text.to_owned());
        ban.limit = None;
        snapshot.bans.push(ban);
    }
    let buffer = drawn((80, 24), &model, &at(Pane::Bans), COLOURED);
    for cell in buffer.content() {
        assert!(
            !cell.symbol().contains(char::is_control),
            "{:?}",
            cell.symbol()
        );
        assert!(!cell.symbol().contains('\u{202e}'));
    }
    let reasons: Vec<_> = (0..80).map(|x| buffer[(x, 9)].symbol()).collect();
    let at = reasons.concat().find("REASON").unwrap();
    // The cell before a column is always empty.
    for y in 9..15 {
        assert_eq!(
            buffer[(u16::try_from(at).unwrap() - 1, y)].symbol(),
            " ",
            "line {y}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    /// Whatever the size and whatever was pressed.
    #[test]
    fn it_can_always_be_drawn(
        width in 0_u16..150,
        height in 0_u16..50,
        pressed in proptest::collection::vec(
            prop_oneof![
                proptest::char::range(' ', '~').prop_map(KeyCode::Char),
                Just(KeyCode::Enter), Just(KeyCode::Esc), Just(KeyCode::Tab),
                Just(KeyCode::Down), Just(KeyCode::PageDown), Just(KeyCode::Backspace),
                Just(KeyCode::Char('\u{4f60}')),
            ],
            0..30,
        ),
    ) {
        let (model, mut state) = (model(), State::default());
        for code in pressed {
            press(&mut state, &model, KeyEvent::new(code, KeyModifiers::NONE));
        }
        drawn((width, height), &model, &state, COLOURED);
        drawn((width, height), &Model::default(), &state, PLAIN);
    }
}
