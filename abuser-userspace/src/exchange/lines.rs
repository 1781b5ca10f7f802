//! Lines of whatever somebody calls a text file.

use std::io::{self, BufRead};

use super::{BadLine, Item, Sink};

/// The longest line that is read, in bytes: far beyond any entry.
pub(super) const MAX_LINE: usize = 65_536;

/// Calls `each` with every line and its number, from 1, without its end. Lines that are too long
/// or no text are told as bad; of a long one no more than its beginning is kept.
pub(super) fn each(
    input: &mut dyn BufRead,
    sink: Sink<'_>,
    mut each: impl FnMut(u64, &str, Sink<'_>),
) -> io::Result<()> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let Some(too_long) = read_line(input, &mut line)? else {
            break;
        };
        let text = line.strip_suffix(b"\r").unwrap_or(&line);
        match str::from_utf8(text) {
            _ if too_long => {
                let problem = format!("the line is longer than {MAX_LINE} bytes");
                sink(bad(number, text, &problem));
            }
            Err(_) => sink(bad(number, text, "the line is not UTF-8")),
            Ok(text) if text.contains('\0') => {
                sink(bad(number, text.as_bytes(), "the line has a NUL byte"));
            }
            // What Windows puts before the first line is not part of it.
            Ok(text) if number == 1 => {
                each(number, text.strip_prefix('\u{feff}').unwrap_or(text), sink);
            }
            Ok(text) => each(number, text, sink),
        }
    }
    Ok(())
}

fn bad(number: u64, text: &[u8], problem: &str) -> Item {
    Item::Bad(BadLine::new(
        number,
        &String::from_utf8_lossy(text),
        problem,
    ))
}

/// Reads to the end of a line; whether it was too long, or `None` at the end of the input.
fn read_line(input: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    let mut length = 0;
    loop {
        let available = match input.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if available.is_empty() {
            return Ok((length > 0).then_some(length > MAX_LINE));
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(available.len());
        let room = MAX_LINE.saturating_sub(line.len());
        line.extend(available.iter().take(taken.min(room)));
        length += taken;
        input.consume(end.map_or(taken, |end| end + 1));
        if end.is_some() {
            return Ok(Some(length > MAX_LINE));
        }
    }
}
