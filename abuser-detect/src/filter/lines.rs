//! The lines that an expression may span (`maxlines`).

use super::{expression::Expression, pattern::Scratch};

/// How many bytes of lines are kept, with what each of them takes by itself.
const MAX_BYTES: usize = 256 << 10;
const LINE_BYTES: usize = 64;

/// A line without its date, as expressions see it, and whole.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) whole: String,
}

/// The lines so far, for expressions that span several; nothing is kept for those that do not.
#[derive(Debug)]
pub(super) struct Lines {
    max: usize,
    kept: Vec<Line>,
}

impl Lines {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            kept: Vec::new(),
        }
    }

    /// Whether expressions span several lines.
    pub(super) fn several(&self) -> bool {
        self.max > 1
    }

    /// Takes a line whose date is at `span`, and makes the text that is searched.
    pub(super) fn push(&mut self, line: &str, span: (usize, usize), text: &mut String) {
        text.clear();
        let before = line.get(..span.0).unwrap_or_default();
        let after = line.get(span.1..).unwrap_or(line);
        if self.max == 1 {
            text.push_str(before);
            text.push_str(after);
            text.push('\n');
            return;
        }
        self.kept.push(Line {
            text: format!("{before}{after}"),
            whole: line.to_owned(),
        });
        let mut drop = self.kept.len().saturating_sub(self.max);
        let mut bytes: usize = self
            .kept
            .iter()
            .skip(drop)
            .map(|line| line.whole.len() + LINE_BYTES)
            .sum();
        while bytes > MAX_BYTES
            && let Some(line) = self.kept.get(drop)
        {
            bytes -= line.whole.len() + LINE_BYTES;
            drop += 1;
        }
        self.kept.drain(..drop);
        join(&self.kept, text);
    }

    /// How many bytes are kept.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.kept
            .iter()
            .map(|line| line.text.len() + line.whole.len())
            .sum()
    }

    /// The lines that are kept now.
    pub(super) fn kept(&self) -> Vec<Line> {
        self.kept.clone()
    }

    /// Keeps these lines from now on, and makes the text that is searched.
    pub(super) fn replace(&mut self, lines: Vec<Line>, text: &mut String) {
        self.kept = lines;
        join(&self.kept, text);
    }

    /// Keeps the content alone that prefregex has found.
    pub(super) fn only(&mut self, content: &str) {
        self.kept = vec![Line {
            text: content.to_owned(),
            whole: content.to_owned(),
        }];
    }
}

pub(super) fn join(lines: &[Line], text: &mut String) {
    text.clear();
    for line in lines {
        text.push_str(&line.text);
        text.push('\n');
    }
}

/// Splits lines into those that an expression matched in `text`, and the others, among which are
/// those that `<SKIPLINES>` passed over.
pub(super) fn split(
    lines: &[Line],
    text: &str,
    expression: &Expression,
    scratch: &Scratch,
) -> (Vec<Line>, Vec<Line>) {
    if lines.len() <= 1 {
        return (lines.to_vec(), vec![]);
    }
    let (start, end) = scratch.group(0).unwrap_or((0, text.len()));
    let bytes = text.as_bytes();
    let newline = |byte: &u8| *byte == b'\n';
    let before = bytes.get(..=start).unwrap_or(bytes);
    let first_line = before.iter().rposition(newline).map_or(0, |at| at + 1);
    let tail = end.saturating_sub(1);
    let after = bytes.get(tail..).unwrap_or_default();
    let last_line = after
        .iter()
        .position(newline)
        .map_or(bytes.len(), |at| tail + at + 1);
    let count = |to: usize| {
        bytes
            .get(..to)
            .unwrap_or(bytes)
            .iter()
            .filter(|byte| newline(byte))
            .count()
    };
    let from = count(first_line).min(lines.len());
    let to = count(last_line).clamp(from, lines.len());
    let (before, rest) = lines.split_at(from);
    let (matched, after) = rest.split_at(to - from);
    let (mut matched, mut unmatched) = (matched.to_vec(), before.to_vec());
    let mut at = 0;
    for skipped in expression.skipped(text, scratch) {
        let mut rest = matched.iter().enumerate().skip(at);
        if let Some((found, _)) = rest.find(|(_, line)| line.text == skipped) {
            unmatched.push(matched.remove(found));
            at = found;
        }
    }
    unmatched.extend_from_slice(after);
    (matched, unmatched)
}
