//! From pieces of a stream to lines.

/// Makes lines of what comes in pieces. It holds one line at most, and no more of it than its
/// bound.
#[derive(Debug)]
pub struct Splitter {
    /// What is there of a line whose end is not.
    partial: Vec<u8>,
    /// How many of its bytes were left out.
    skipped: usize,
    max: usize,
}

/// A line that a [`Splitter`] made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'l> {
    /// Its bytes, without its end, as many as may be.
    pub bytes: &'l [u8],
    /// How many more it had.
    pub skipped: usize,
}

impl Splitter {
    /// For lines of up to `max` bytes.
    pub fn new(max: usize) -> Self {
        Self {
            partial: Vec::new(),
            skipped: 0,
            max,
        }
    }

    /// Takes the next piece, and hands on what it completes.
    pub fn feed(&mut self, mut piece: &[u8], mut take: impl FnMut(Piece<'_>)) {
        while let Some(end) = memchr::memchr(b'\n', piece) {
            let (line, rest) = piece.split_at(end);
            if self.partial.is_empty() && self.skipped == 0 {
                take(cut(line, self.max));
            } else {
                self.add(line);
                self.finish(&mut take);
            }
            piece = rest.get(1..).unwrap_or_default();
        }
        self.add(piece);
    }

    /// Hands on a last line that has no end.
    pub fn finish(&mut self, mut take: impl FnMut(Piece<'_>)) {
        if !self.partial.is_empty() {
            // Of a line that was cut the end is not here, so what ends it is not either.
            let bytes = match self.skipped {
                0 => without_return(&self.partial),
                _ => &self.partial,
            };
            take(Piece {
                bytes,
                skipped: self.skipped,
            });
        }
        self.partial.clear();
        self.skipped = 0;
        // One long line is no reason to keep the room for another.
        self.partial.shrink_to(4096);
    }

    fn add(&mut self, bytes: &[u8]) {
        let room = self.max - self.partial.len();
        let (taken, rest) = bytes.split_at(room.min(bytes.len()));
        self.partial.extend_from_slice(taken);
        self.skipped = self.skipped.saturating_add(rest.len());
    }
}

/// A whole line, without its end, as much of it as may be.
pub fn cut(line: &[u8], max: usize) -> Piece<'_> {
    match line.split_at_checked(max) {
        Some((bytes, rest)) if !rest.is_empty() => Piece {
            bytes,
            skipped: rest.len(),
        },
        _ => Piece {
            bytes: without_return(line),
            skipped: 0,
        },
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_size_make_the_same_lines() {
        let text = b"one\r\n\ntwo\0\xff\nthis one is longer than it may be\nfour";
        let expected: [(&[u8], usize); 5] = [
            (b"one", 0),
            (b"", 0),
            (b"two\0\xff", 0),
            (b"this one i", 23),
            (b"four", 0),
        ];
        for size in 1..=text.len() {
            let mut splitter = Splitter::new(10);
            let mut lines = Vec::new();
            let mut take = |piece: Piece<'_>| lines.push((piece.bytes.to_vec(), piece.skipped));
            for piece in text.chunks(size) {
                splitter.feed(piece, &mut take);
            }
            splitter.finish(&mut take);
            let expected = expected.map(|(bytes, skipped)| (bytes.to_vec(), skipped));
            assert_eq!(lines[..3], expected[..3], "in pieces of {size}");
            assert_eq!(lines[3..], expected[3..], "in pieces of {size}");
        }
    }

    #[test]
    fn a_return_where_a_line_is_cut_is_part_of_it_in_any_pieces() {
        let text = b"123\r5678\nnext\r\n";
        for size in 1..=text.len() {
            let mut splitter = Splitter::new(4);
            let mut lines = Vec::new();
            for piece in text.chunks(size) {
                splitter.feed(piece, |piece| {
                    lines.push((piece.bytes.to_vec(), piece.skipped));
                });
            }
            let expected = [(b"123\r".to_vec(), 4), (b"next".to_vec(), 1)];
            assert_eq!(lines, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn a_line_without_end_takes_no_more_memory_than_its_bound() {
        let mut splitter = Splitter::new(1000);
        for _ in 0..10_000 {
            splitter.feed(&[b'x'; 100], |_| panic!("there is no end"));
        }
        assert!(splitter.partial.capacity() <= 2000);
        splitter.feed(b"\nnext\n", |piece| {
            assert!([(1000, 999_000), (4, 0)].contains(&(piece.bytes.len(), piece.skipped)));
        });
        assert!(splitter.partial.capacity() <= 4096);
    }
}
