//! What may be shown on a terminal, and in a line.

/// Checks a text that people are shown.
///
/// # Panics
///
/// If it is empty, is more than a line, or commands the terminal.
pub(crate) fn is_one_plain_line(text: &str) {
    assert!(!text.is_empty(), "nothing is said");
    assert!(
        !text.contains(char::is_control),
        "control characters in {text:?}"
    );
}
