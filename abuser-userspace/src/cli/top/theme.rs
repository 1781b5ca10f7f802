//! How it looks: with colours or without, with the characters that the terminal has.
//!
//! Colours say nothing that words do not say, too.

use std::env;

use ratatui::{
    style::{Color, Modifier, Style},
    symbols::{bar, border},
};

use super::grid::Tone;

/// How it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Theme {
    /// Whether there are colours.
    pub(super) colour: bool,
    /// Whether there are characters beyond ASCII.
    pub(super) unicode: bool,
}

/// Sparklines of ASCII.
const ASCII_BARS: bar::Set<'static> = bar::Set {
    full: "#",
    seven_eighths: "#",
    three_quarters: "*",
    five_eighths: "+",
    half: "=",
    three_eighths: "-",
    one_quarter: ":",
    one_eighth: ".",
    empty: " ",
};

/// Frames of ASCII.
const ASCII_BORDER: border::Set<'static> = border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};

impl Theme {
    /// As the environment says: `NO_COLOR` (no-color.org), `TERM`, and the locale.
    pub(super) fn of_environment() -> Self {
        Self::of(|name| env::var(name).ok())
    }

    fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let term = set("TERM").unwrap_or_default();
        let is_plain = matches!(term.as_str(), "vt100" | "vt102" | "vt220")
            || term.ends_with("-m")
            || term.contains("mono");
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
        // Without a locale it is "C" by the book, and UTF-8 by what terminals are today.
        let unicode = locale.is_none_or(|locale| {
            let locale = locale.to_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        });
        Self {
            colour: set("NO_COLOR").is_none() && !is_plain,
            // The kernel's console has a font of 256 characters, and few bars among them.
            unicode: unicode && !matches!(term.as_str(), "linux" | "vt100"),
        }
    }

    pub(super) const fn bars(self) -> bar::Set<'static> {
        if self.unicode {
            bar::NINE_LEVELS
        } else {
            ASCII_BARS
        }
    }

    pub(super) const fn border(self) -> border::Set<'static> {
        if self.unicode {
            border::PLAIN
        } else {
            ASCII_BORDER
        }
    }

    /// The mark of the column that is sorted by.
    pub(super) const fn mark(self, reversed: bool) -> &'static str {
        match (self.unicode, reversed) {
            (true, false) => "\u{25bc}",
            (true, true) => "\u{25b2}",
            (false, false) => "v",
            (false, true) => "^",
        }
    }

    fn coloured(self, colour: Color) -> Style {
        if self.colour {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    pub(super) fn tone(self, tone: Tone) -> Style {
        match tone {
            Tone::Plain => Style::new(),
            Tone::Bad => self.coloured(Color::Red).add_modifier(Modifier::BOLD),
            Tone::Warn => self.coloured(Color::Yellow),
            Tone::Good => self.coloured(Color::Green),
        }
    }

    /// The line of a verdict, by its number.
    pub(super) fn verdict(self, number: usize) -> Style {
        let colours = [
            Color::Green,
            Color::Yellow,
            Color::Red,
            Color::Blue,
            Color::Cyan,
            Color::Magenta,
        ];
        colours
            .get(number)
            .map_or_else(Style::new, |colour| self.coloured(*colour))
    }

    /// Headings.
    pub(super) fn heading(self) -> Style {
        self.coloured(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// What must not be overlooked.
    pub(super) fn alarm(self) -> Style {
        self.coloured(Color::Red)
            .add_modifier(Modifier::BOLD | Modifier::REVERSED)
    }
}

/// What is chosen.
pub(super) const CHOSEN: Style = Style::new().add_modifier(Modifier::REVERSED);

/// What is there to look up.
pub(super) const QUIET: Style = Style::new().add_modifier(Modifier::DIM);

#[cfg(test)]
mod tests {
    use super::*;

    fn theme(variables: &[(&str, &str)]) -> (bool, bool) {
        let theme = Theme::of(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        });
        (theme.colour, theme.unicode)
    }

    #[test]
    fn colours_and_characters_are_those_that_the_environment_allows() {
        let xterm = ("TERM", "xterm-256color");
        assert_eq!(theme(&[xterm, ("LANG", "en_GB.UTF-8")]), (true, true));
        assert_eq!(theme(&[xterm]), (true, true));
        assert_eq!(theme(&[xterm, ("NO_COLOR", "1")]), (false, true));
        assert_eq!(theme(&[xterm, ("NO_COLOR", "")]), (true, true));
        assert_eq!(theme(&[xterm, ("LANG", "C")]), (true, false));
        assert_eq!(
            theme(&[xterm, ("LC_ALL", "C.utf8"), ("LANG", "C")]),
            (true, true)
        );
        assert_eq!(theme(&[("TERM", "vt100")]), (false, false));
        assert_eq!(theme(&[("TERM", "xterm-mono")]), (false, true));
        assert_eq!(theme(&[("TERM", "linux")]), (true, false));
    }
}
