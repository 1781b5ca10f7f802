//! Bytes into lines, however they come.

/// Cuts a stream into lines. One that is longer than it may be is cut, and the rest of it skipped.
#[derive(Debug)]
pub(super) struct Lines {
    most: usize,
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    /// Bytes of the line that were skipped.
    skipped: u64,
    cut: u64,
}

impl Lines {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            partial: Vec::new(),
            skipped: 0,
            cut: 0,
        }
    }

    /// Gives each line that ends in `bytes` to `take`, without its end.
    pub(super) fn push(&mut self, bytes: &[u8], take: &mut dyn FnMut(&[u8])) {
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            if self.partial.is_empty() && self.skipped == 0 && line.len() <= self.most {
                take(line);
                continue;
            }
            self.keep(line);
            self.cut += u64::from(self.skipped > 0);
            take(&self.partial);
            self.clear();
        }
        self.keep(rest);
    }

    /// Bytes of a line whose end has not come.
    pub(super) fn pending(&self) -> u64 {
        self.partial.len() as u64 + self.skipped
    }

    /// Lines that were cut.
    pub(super) fn cut(&self) -> u64 {
        self.cut
    }

    /// Forgets the line whose end has not come.
    pub(super) fn clear(&mut self) {
        self.partial.clear();
        // One long line is no reason to keep its room.
        self.partial.shrink_to(4096);
        self.skipped = 0;
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.most.saturating_sub(self.partial.len());
        let kept = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        self.partial.extend_from_slice(kept);
        self.skipped += (bytes.len() - kept.len()) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> (Vec<String>, Lines) {
        let mut lines = Lines::new(8);
        let mut taken = Vec::new();
        for chunk in chunks {
            lines.push(chunk, &mut |line| {
                taken.push(String::from_utf8_lossy(line).into_owned());
            });
        }
        (taken, lines)
    }

    #[test]
    fn lines_are_the_same_however_they_are_cut_up() {
        let text = b"one\n\ntwo\nthree";
        for size in 1..=text.len() {
            let chunks: Vec<_> = text.chunks(size).collect();
            let (taken, lines) = lines(&chunks);
            assert_eq!(taken, ["one", "", "two"], "{size}");
            assert_eq!(lines.pending(), 5);
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_and_those_around_it_are_whole() {
        let text = b"a\n0123456789abcdef\n01234567\nb\n";
        for size in 1..=text.len() {
            let chunks: Vec<_> = text.chunks(size).collect();
            let (taken, lines) = lines(&chunks);
            assert_eq!(taken, ["a", "01234567", "01234567", "b"], "{size}");
            assert_eq!((lines.cut(), lines.pending()), (1, 0));
        }
    }

    #[test]
    fn a_line_without_end_takes_bounded_memory() {
        let mut lines = Lines::new(1 << 16);
        for _ in 0..1000 {
            lines.push(&[b'x'; 10_000], &mut |_| panic!("it has no end"));
        }
        assert!(lines.partial.capacity() <= 2 << 16);
        assert_eq!(lines.pending(), 10_000_000);
    }
}
