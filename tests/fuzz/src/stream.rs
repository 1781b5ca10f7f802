//! What must hold for any stream of bytes, datagram or entry of the journal that lines are made of.

use abuser::sources::{
    Entry, Message,
    lines::{Piece, Splitter},
};

/// Makes lines of bytes in the way that the first of them names.
///
/// # Panics
///
/// If lines depend on how a stream comes in pieces, or one message makes two lines.
pub fn stream(bytes: &[u8]) {
    let [how, size, bytes @ ..] = bytes else {
        return;
    };
    match how % 3 {
        0 => pieces(bytes, usize::from(*size)),
        1 => message(bytes),
        _ => entry(bytes),
    }
}

/// A stream in pieces of a size, and what is longer than a bound cut.
fn pieces(bytes: &[u8], size: usize) {
    let max = 1 + size % 13;
    let mut splitter = Splitter::new(max);
    let mut lines = Vec::new();
    let mut take = |piece: Piece<'_>| {
        assert!(piece.bytes.len() <= max);
        lines.push((piece.bytes.to_vec(), piece.skipped));
    };
    for piece in bytes.chunks(1 + size / 13) {
        splitter.feed(piece, &mut take);
    }
    splitter.finish(&mut take);
    let mut expected: Vec<_> = bytes.split(|byte| *byte == b'\n').collect();
    if expected.last().is_some_and(|last| last.is_empty()) {
        expected.pop();
    }
    let expected: Vec<_> = expected
        .into_iter()
        .map(|line| match line.get(..max) {
            Some(start) if line.len() > max => (start.to_vec(), line.len() - max),
            _ => (line.strip_suffix(b"\r").unwrap_or(line).to_vec(), 0),
        })
        .collect();
    assert_eq!(
        lines,
        expected,
        "lines of {max} in pieces of {}",
        1 + size / 13
    );
}

/// A datagram of syslog.
fn message(datagram: &[u8]) {
    let message = Message::read(datagram);
    let mut line = Vec::new();
    message.line("here", &mut line);
    is_one_line(&line, datagram.len());
    let mut again = Vec::new();
    Message::read(datagram).line("here", &mut again);
    assert_eq!(line, again, "read twice");
}

/// An entry of the journal.
fn entry(json: &[u8]) {
    let Some(entry) = Entry::read(json) else {
        return;
    };
    let mut line = Vec::new();
    entry.line(&mut line);
    is_one_line(&line, json.len());
}

/// A line without an end, and no longer than what it is made of can make it.
fn is_one_line(line: &[u8], length: usize) {
    assert!(!line.contains(&b'\n'), "two lines: {}", line.escape_ascii());
    assert!(line.len() <= 3 * length + 64, "{} of {length}", line.len());
}
