//! What keys change, and what they ask for.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    super::{
        keys::{Action, press},
        model::Model,
        panes::Pane,
        state::{Mode, Request, State},
    },
    scene::model,
};
use crate::api::types::BanDuration;

/// Presses keys as they are written; `\n` is Enter, `\x1b` Escape. The last action.
fn type_in(state: &mut State, model: &Model, keys: &str) -> Option<Action> {
    let mut action = None;
    for key in keys.chars() {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\x1b' => KeyCode::Esc,
            key => KeyCode::Char(key),
        };
        action = press(state, model, KeyEvent::new(code, KeyModifiers::NONE));
    }
    action
}

fn asked(keys: &str) -> Option<Request> {
    match type_in(&mut State::default(), &model(), keys) {
        Some(Action::Ask(request)) => Some(request),
        None => None,
        other => panic!("{other:?}"),
    }
}

fn net(text: &str) -> ipnet::IpNet {
    text.parse().unwrap()
}

#[test]
fn a_ban_is_of_the_chosen_source_for_as_long_as_is_said() {
    let second = net("198.51.100.0/24");
    assert_eq!(
        asked("jb10m\n"),
        Some(Request::Ban(second, BanDuration::Seconds(600)))
    );
    assert_eq!(
        asked("jb\n"),
        Some(Request::Ban(second, BanDuration::Policy))
    );
    assert_eq!(
        asked("3b192.0.2.1 permanent\n"),
        Some(Request::Ban(net("192.0.2.1/32"), BanDuration::Permanent))
    );
    assert_eq!(asked("jb10m\x1b"), None);
    for (line, word) in [("x", "x"), ("0s", "at least a second"), ("soon", "soon")] {
        let mut state = State::default();
        assert_eq!(type_in(&mut state, &model(), &format!("b{line}\n")), None);
        let message = state.message.expect("a complaint");
        assert!(
            message.is_error && message.text.contains(word),
            "{message:?}"
        );
        assert!(matches!(state.mode, Mode::Ban(_)), "it can be mended");
    }
}

#[test]
fn what_may_hurt_is_asked_first() {
    for (key, request) in [
        ("u", Request::Unban(net("203.0.113.66/32"))),
        ("a", Request::Allow(net("203.0.113.66/32"))),
        ("jjja", Request::Disallow(net("10.0.0.5/32"))),
        ("2ju", Request::Unban(net("192.0.2.200/32"))),
        ("o", Request::Observe(true)),
    ] {
        assert_eq!(asked(key), None, "{key}");
        for no in ["n", "\x1b", "x"] {
            assert_eq!(asked(&format!("{key}{no}")), None, "{key}{no}");
        }
        assert_eq!(asked(&format!("{key}y")), Some(request), "{key}y");
    }
}

#[test]
fn who_is_not_banned_and_what_is_no_source_is_not_asked_about() {
    for keys in ["ju", "3u", "3a", "4\n"] {
        let mut state = State::default();
        assert_eq!(type_in(&mut state, &model(), keys), None, "{keys}");
        assert_eq!(state.mode, Mode::Browse, "{keys}");
        assert!(
            state.message.is_some_and(|message| message.is_error),
            "{keys}"
        );
    }
}

#[test]
fn a_filter_is_in_force_as_it_is_typed_and_looks_up_an_address() {
    let (model, mut state) = (model(), State::default());
    type_in(&mut state, &model, "/198");
    let keys = |state: &State| -> Vec<_> {
        let grid = state.grid(Pane::Sources, &model);
        grid.rows.into_iter().map(|row| row.key).collect()
    };
    assert_eq!(keys(&state), ["198.51.100.0/24"]);
    let found = type_in(&mut state, &model, ".51.100.9\n");
    let address = "198.51.100.9".parse().ok();
    assert_eq!(found, Some(Action::Ask(Request::Find(address))));
    assert_eq!(keys(&state), ["198.51.100.0/24"], "it holds the address");
    type_in(&mut state, &model, "/xxx\x1b");
    assert_eq!(state.filter, "198.51.100.9", "as it was");
    type_in(&mut state, &model, "\x1b");
    assert_eq!(keys(&state).len(), 5);
}

#[test]
fn sorting_goes_on_by_a_column_and_the_chosen_row_stays_chosen() {
    let (model, mut state) = (model(), State::default());
    type_in(&mut state, &model, "j");
    let chosen = |state: &State| state.source(&model).unwrap().to_string();
    assert_eq!(chosen(&state), "198.51.100.0/24");
    type_in(&mut state, &model, "s");
    let first = |state: &State| state.grid(Pane::Sources, &model).rows[0].key.clone();
    assert_eq!(first(&state), "10.0.0.5/32");
    assert_eq!(chosen(&state), "198.51.100.0/24");
    type_in(&mut state, &model, "r");
    assert_eq!(first(&state), "2001:db8:1234:5678::/64");
    type_in(&mut state, &model, "sssssss");
    assert_eq!(first(&state), "203.0.113.66/32", "as the daemon tells it");
}

#[test]
fn panes_pauses_and_the_end_have_their_keys() {
    let (model, mut state) = (model(), State::default());
    for (key, pane) in [("2", Pane::Bans), ("5", Pane::Events), ("9", Pane::Events)] {
        type_in(&mut state, &model, key);
        assert_eq!(state.pane, pane, "{key}");
    }
    let tab = KeyEvent::new(KeyCode::Tab, KeyModifiers::NONE);
    press(&mut state, &model, tab);
    assert_eq!(
        state.pane,
        Pane::Sources,
        "after the last one comes the first"
    );
    let pause = type_in(&mut state, &model, " ");
    assert_eq!(pause, Some(Action::Ask(Request::Pause(true))));
    let on = type_in(&mut state, &model, "p");
    assert_eq!(on, Some(Action::Ask(Request::Pause(false))));
    let explained = type_in(&mut state, &model, "\n");
    let address = "203.0.113.66".parse().unwrap();
    assert_eq!(explained, Some(Action::Ask(Request::Explain(address))));
    assert_eq!(
        type_in(&mut state, &model, "?q"),
        None,
        "any key closes the help"
    );
    assert_eq!(type_in(&mut state, &model, "q"), Some(Action::Quit));
    for (key, action) in [
        ('c', Action::Quit),
        ('z', Action::Suspend),
        ('l', Action::Redraw),
    ] {
        let key = KeyEvent::new(KeyCode::Char(key), KeyModifiers::CONTROL);
        assert_eq!(press(&mut state, &model, key), Some(action));
    }
}

#[test]
fn an_explanation_that_comes_late_waits_until_nothing_is_being_written() {
    for (keys, rest, asked) in [
        ("b10", "m\n", true),
        ("b10", "\x1b", false),
        ("/203", "\n", true),
        ("u", "n", false),
        ("?", "x", false),
    ] {
        let (model, mut state) = (model(), State::default());
        type_in(&mut state, &model, keys);
        let before = state.mode.clone();
        state.explain("203.0.113.66".to_owned(), vec!["passes".to_owned()]);
        assert_eq!(state.mode, before, "{keys}");
        let action = type_in(&mut state, &model, rest);
        assert_eq!(
            matches!(action, Some(Action::Ask(_))),
            asked,
            "{keys}{rest}"
        );
        assert!(
            matches!(&state.mode, Mode::Explain { address, .. } if address == "203.0.113.66"),
            "{keys}{rest}: {:?}",
            state.mode
        );
        type_in(&mut state, &model, "\x1b");
        assert_eq!(state.mode, Mode::Browse, "it is shown once");
    }
}
