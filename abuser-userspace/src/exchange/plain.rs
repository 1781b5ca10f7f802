//! An address, prefix or range a line. `#` and `;` begin comments; what follows one of them
//! after an entry is its reason, as in Spamhaus' lists.

use std::io::{self, BufRead};

use super::{Expiry, Sink, entries, lines};

pub(super) fn read(input: &mut dyn BufRead, sink: Sink<'_>) -> io::Result<()> {
    lines::each(input, sink, |number, line, sink| {
        let (text, reason) = line.split_once(['#', ';']).unwrap_or((line, ""));
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        entries(number, line, text, Expiry::Unsaid, Some(reason), sink);
    })
}
