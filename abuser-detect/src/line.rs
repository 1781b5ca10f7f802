//! From the bytes of a line to text that every parser may take.
//!
//! Whoever sends requests has a hand in what is in a log: a line may be as long as it likes, and
//! need not be UTF-8. What is made of it here is bounded, and valid.

use std::borrow::Cow;

/// How much of a line is looked at. Servers refuse requests whose lines would be longer.
pub const MAX: usize = 64 * 1024;

/// What a line ends with that was longer.
pub const CUT: &str = "[cut]";

/// The text of a line: without its end, cut after [`MAX`] bytes and then with [`CUT`] behind it,
/// with U+FFFD for what is not UTF-8.
///
/// NULs before a line are not part of it: they are what is left in a file that was truncated
/// while a program wrote to it. Those within a line stay, and mean nothing.
pub fn text(bytes: &[u8]) -> Cow<'_, str> {
    let mut bytes = bytes;
    while let [line @ .., b'\n' | b'\r'] = bytes {
        bytes = line;
    }
    while let [0, line @ ..] = bytes {
        bytes = line;
    }
    let Some(start) = bytes.get(..MAX).filter(|start| start.len() < bytes.len()) else {
        // Ten times faster than to look for what is to be replaced, which almost no line has.
        return simdutf8::basic::from_utf8(bytes)
            .map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed);
    };
    // A character is not cut in two: its start is at most three bytes back.
    let mut end = start.len();
    while end > MAX - 4 && bytes.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
        end -= 1;
    }
    let mut text = String::from_utf8_lossy(start.get(..end).unwrap_or(start)).into_owned();
    text.push_str(CUT);
    Cow::Owned(text)
}

/// The beginning of a text, of at most `most` bytes; no character is cut in two.
pub fn beginning(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_line_is_borrowed_without_its_end() {
        for line in ["GET /", "GET /\n", "GET /\r\n"] {
            assert!(matches!(text(line.as_bytes()), Cow::Borrowed("GET /")));
        }
        assert_eq!(text(b""), "");
        assert_eq!(text(b"\r\n"), "");
    }

    #[test]
    fn what_is_not_utf_8_is_replaced_and_nuls_do_no_harm() {
        assert_eq!(text(b"a\xff\xfeb\n"), "a\u{fffd}\u{fffd}b");
        assert_eq!(text(b"\0\0\0a\0b\n"), "a\0b");
        assert_eq!(text(b"\0\0"), "");
    }

    #[test]
    fn a_long_line_is_cut_between_characters_and_says_so() {
        let exact = "x".repeat(MAX);
        assert_eq!(text(exact.as_bytes()), exact);
        for before in 0..4 {
            let long = "x".repeat(before) + &"\u{1f600}".repeat(MAX);
            let cut = text(long.as_bytes());
            let kept = cut.strip_suffix(CUT).expect("a marker");
            assert!(long.starts_with(kept), "a character was cut in two");
            assert!((MAX - 3..=MAX).contains(&kept.len()), "{}", kept.len());
        }
        // Ten megabytes of continuation bytes are no character at all.
        let long = vec![0x80; 10 << 20];
        let cut = text(&long);
        assert!(cut.ends_with(CUT));
        assert!(cut.len() <= MAX * 3 + CUT.len());
    }
}
