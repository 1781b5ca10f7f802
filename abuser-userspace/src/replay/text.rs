//! Lines out of blocks of whole lines, one at a time.

use std::io;

use memchr::memchr;

/// A log that is read.
pub struct LineReader {
    blocks: Box<dyn Iterator<Item = io::Result<Vec<u8>>>>,
    block: Vec<u8>,
    /// Where the next line begins in the block.
    at: usize,
}

impl LineReader {
    /// Reads blocks that end where lines do.
    pub fn new(blocks: impl Iterator<Item = io::Result<Vec<u8>>> + 'static) -> Self {
        Self {
            blocks: Box::new(blocks),
            block: Vec::new(),
            at: 0,
        }
    }

    /// The next line, without its end; `None` if there is none.
    ///
    /// # Errors
    /// If the next block cannot be read.
    pub fn next_line(&mut self) -> io::Result<Option<&[u8]>> {
        while self.at >= self.block.len() {
            match self.blocks.next().transpose()? {
                None => return Ok(None),
                Some(block) => self.block = block,
            }
            self.at = 0;
        }
        let rest = self.block.get(self.at..).unwrap_or_default();
        let end = memchr(b'\n', rest).unwrap_or(rest.len());
        self.at += end + 1;
        Ok(rest.get(..end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_one_by_one_through_all_blocks() {
        let blocks = ["one\n\ntwo\n", "", "three\n", "four"].map(|text| Ok(text.into()));
        let mut reader = LineReader::new(blocks.into_iter());
        let mut lines = Vec::new();
        while let Some(line) = reader.next_line().expect("a block") {
            lines.push(String::from_utf8(line.to_vec()).expect("UTF-8"));
        }
        assert_eq!(lines, ["one", "", "two", "three", "four"]);
    }
}
