//! Numbers and texts as people read them.

use std::borrow::Cow;

/// A count with its thousands apart: `1 234 567`.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position != 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A count with what is counted: `1 ban`, `1 000 bans`.
pub(crate) fn counted(count: u64, one: &str, many: &str) -> String {
    let what = if count == 1 { one } else { many };
    format!("{} {what}", grouped(count))
}

/// `text`, which somebody else wrote, so that it cannot end a line or a column, nor command
/// the terminal.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().map(|c| {
        if c.is_control() {
            c.escape_default().to_string()
        } else {
            c.to_string()
        }
    });
    Cow::Owned(escaped.collect())
}

/// The first `most` bytes of a text at most, to the end of a character.
pub(crate) fn beginning(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1000), "1 000");
        assert_eq!(grouped(1_234_567), "1 234 567");
    }

    #[test]
    fn one_is_told_from_many() {
        assert_eq!(counted(1, "ban", "bans"), "1 ban");
        assert_eq!(counted(0, "ban", "bans"), "0 bans");
        assert_eq!(counted(1000, "ban", "bans"), "1 000 bans");
    }

    #[test]
    fn nothing_ends_a_line_or_commands_the_terminal() {
        assert_eq!(plain("gr\u{fc}\u{df}e, \\n"), "gr\u{fc}\u{df}e, \\n");
        assert_eq!(
            plain("a\tb\n\u{1b}[31m\u{9b}"),
            "a\\tb\\n\\u{1b}[31m\\u{9b}"
        );
    }
}
