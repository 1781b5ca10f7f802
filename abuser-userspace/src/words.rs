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

/// `text`, which somebody else wrote, as characters that only show: what would end a line or a column,
/// command the terminal, change the direction of what follows or hide is written out.
///
/// This is for whatever goes to a terminal or into a line of text; JSON escapes by its own rules.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_plain(c) {
            escaped.push(c);
        } else {
            escaped.extend(c.escape_default());
        }
    }
    Cow::Owned(escaped)
}

/// Whether a character only shows.
pub(crate) fn is_plain(c: char) -> bool {
    !c.is_control() && !is_invisible(c)
}

/// Characters of no width that change how others look: marks and overrides of direction, joiners,
/// separators, tags.
const fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
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
    fn nothing_ends_a_line_commands_the_terminal_or_hides() {
        for harmless in ["gr\u{fc}\u{df}e, \\n", "\u{4f60}\u{597d}", ""] {
            assert!(matches!(plain(harmless), Cow::Borrowed(text) if text == harmless));
        }
        for (text, shown) in [
            ("a\tb\n\u{1b}[31m\u{9b}", "a\\tb\\n\\u{1b}[31m\\u{9b}"),
            ("\u{7f}\0\r", "\\u{7f}\\u{0}\\r"),
            (
                "a\u{202e}b\u{200d}c\u{2028}",
                "a\\u{202e}b\\u{200d}c\\u{2028}",
            ),
            (
                "\u{2066}x\u{2069}\u{feff}\u{e0041}",
                "\\u{2066}x\\u{2069}\\u{feff}\\u{e0041}",
            ),
        ] {
            assert_eq!(plain(text), shown);
            // Whoever escapes what is escaped changes nothing.
            assert_eq!(plain(shown), shown);
        }
    }
}
