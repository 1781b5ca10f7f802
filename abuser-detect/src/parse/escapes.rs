//! What servers do to quotes, control characters and the like before they write them to a log.

use std::borrow::Cow;

use memchr::memchr;

/// How to read the quoted texts of one line. Hardly any line has a backslash, which is asked once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quoting {
    escapes: bool,
}

impl Quoting {
    /// That of a line.
    pub(super) fn of(line: &str) -> Self {
        Self {
            escapes: memchr(b'\\', line.as_bytes()).is_some(),
        }
    }

    /// As [`closing_quote`] says.
    #[inline]
    pub(super) fn closing_quote(self, text: &str) -> Option<usize> {
        if self.escapes {
            return closing_quote(text);
        }
        memchr(b'"', text.as_bytes())
    }

    /// As [`unescape`] says.
    #[inline]
    pub(super) fn unescape(self, text: &str) -> Cow<'_, str> {
        if self.escapes {
            return unescape(text);
        }
        Cow::Borrowed(text)
    }
}

/// Where a quoted text ends that begins at the start of `text`: the place of the first quote that
/// is not escaped. nginx writes quotes as `\x22`, Apache as `\"`, and both escape backslashes.
fn closing_quote(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut from = 0;
    loop {
        let quote = from + memchr(b'"', bytes.get(from..)?)?;
        let before = bytes.get(..quote)?.iter().rev();
        let backslashes = before.take_while(|byte| **byte == b'\\').count();
        if backslashes % 2 == 0 {
            return Some(quote);
        }
        from = quote + 1;
    }
}

/// A text as the client sent it, from what nginx or Apache wrote: `\x22`, `\"`, `\\`, `\n`.
fn unescape(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let Some(first) = memchr(b'\\', bytes) else {
        return Cow::Borrowed(text);
    };
    let mut plain = Vec::with_capacity(bytes.len());
    plain.extend_from_slice(bytes.get(..first).unwrap_or_default());
    let mut rest = bytes.get(first..).unwrap_or_default();
    loop {
        rest = match rest {
            [b'\\', b'x', high, low, after @ ..] if let Some(byte) = hex(*high, *low) => {
                plain.push(byte);
                after
            }
            [b'\\', c, after @ ..] if let Some(byte) = named(*c) => {
                plain.push(byte);
                after
            }
            [byte, after @ ..] => {
                plain.push(*byte);
                after
            }
            [] => break,
        }
    }
    Cow::Owned(into_text(plain))
}

/// A text as the client sent it, from what `HAProxy` wrote: `#22`.
pub(super) fn unescape_haproxy(text: &str) -> Cow<'_, str> {
    if memchr(b'#', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [b'#', high, low, after @ ..] if let Some(byte) = hex(*high, *low) => {
                plain.push(byte);
                after
            }
            [byte, after @ ..] => {
                plain.push(*byte);
                after
            }
            [] => break,
        }
    }
    Cow::Owned(into_text(plain))
}

fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |c: u8| char::from(c).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// What a letter behind a backslash stands for.
fn named(c: u8) -> Option<u8> {
    Some(match c {
        b'"' | b'\\' => c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'f' => 0x0c,
        b'b' => 0x08,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_that_is_escaped_ends_nothing() {
        assert_eq!(closing_quote(r#"abc" x"#), Some(3));
        assert_eq!(closing_quote(r#"" x"#), Some(0));
        assert_eq!(closing_quote(r#"a\"b" x"#), Some(4));
        assert_eq!(closing_quote(r#"a\\" x"#), Some(3));
        assert_eq!(closing_quote(r#"a\\\"" x"#), Some(5));
        assert_eq!(closing_quote(r#"abc\""#), None);
        assert_eq!(closing_quote("abc"), None);
    }

    #[test]
    fn escapes_are_undone_and_what_is_none_stays() {
        assert_eq!(unescape("/plain"), "/plain");
        assert_eq!(unescape(r"a\x22b\x5C\x0a"), "a\"b\\\n");
        assert_eq!(unescape(r#"a\"b\\n\tc"#), "a\"b\\n\tc");
        assert_eq!(unescape(r"\xC3\xBC \xFF"), "\u{fc} \u{fffd}");
        assert_eq!(unescape(r"\xZZ \q \x4"), r"\xZZ \q \x4");
        assert_eq!(unescape("\\"), "\\");
        assert_eq!(unescape_haproxy("a#22b#23#zz#"), "a\"b##zz#");
        assert_eq!(unescape_haproxy("/plain"), "/plain");
    }
}
