//! Files that are read: what they are, and logs as blocks of whole lines.
//!
//! Large blocks, because a system call for each line would take longer than to read it; and of one size,
//! because a log may have a line of any length.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use flate2::bufread::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressStyle};
use memchr::{memchr, memrchr};

use super::CliError;

/// The size of a block. A line that does not fit into one is longer than what is looked at of
/// a line, and its rest is left out.
const BLOCK: usize = 1 << 20;

/// What a compressed file begins with (RFC 1952, 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// How much of a file is looked at to see what it is, in bytes.
const LOOKED_AT: u64 = 8 << 10;

/// What captures begin with: pcap in both orders of bytes, with micro- and nanoseconds, and pcapng.
const CAPTURES: [[u8; 4]; 5] = [
    [0xd4, 0xc3, 0xb2, 0xa1],
    [0xa1, 0xb2, 0xc3, 0xd4],
    [0x4d, 0x3c, 0xb2, 0xa1],
    [0xa1, 0xb2, 0x3c, 0x4d],
    [0x0a, 0x0d, 0x0d, 0x0a],
];

/// What a file is, by its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contents {
    /// There is nothing in it.
    Empty,
    /// Packets.
    Capture,
    /// Lines.
    Text,
    /// Something else.
    Other,
}

/// A file that was opened.
pub(super) struct Opened {
    /// How it is called in messages.
    pub(super) name: String,
    /// Its beginning.
    start: Vec<u8>,
    rest: Box<dyn Read + Send>,
}

impl Opened {
    /// Opens a file, or standard input if it is `-`.
    pub(super) fn open(path: &Path, progress: &ProgressBar) -> Result<Self, CliError> {
        let name = name_of(path);
        let input: Box<dyn Read + Send> = if path == Path::new("-") {
            Box::new(io::stdin())
        } else {
            let opened = File::open(path).and_then(|file| {
                let data = file.metadata()?;
                if data.is_dir() {
                    return Err(io::ErrorKind::IsADirectory.into());
                }
                Ok((file, data.len()))
            });
            let (file, size) = opened.map_err(|error| unreadable(&name, &error))?;
            progress.set_length(progress.length().unwrap_or(0) + size);
            progress.set_style(style());
            Box::new(file)
        };
        let mut rest = progress.wrap_read(input);
        let mut start = Vec::new();
        let is_read = (&mut rest).take(LOOKED_AT).read_to_end(&mut start);
        is_read.map_err(|error| unreadable(&name, &error))?;
        Ok(Self {
            name,
            start,
            rest: Box::new(rest),
        })
    }

    /// What it is; of what is compressed, what is in it.
    pub(super) fn contents(&self) -> Contents {
        if !self.start.starts_with(&GZIP) {
            return contents(&self.start);
        }
        let mut start = Vec::new();
        let mut packed = MultiGzDecoder::new(&*self.start).take(LOOKED_AT);
        match packed.read_to_end(&mut start) {
            // It goes on behind what is here, or is damaged, which whoever reads it will say.
            Err(_) if start.is_empty() => Contents::Other,
            _ => contents(&start),
        }
    }

    /// Its bytes as they are.
    pub(super) fn bytes(self) -> Box<dyn Read + Send> {
        Box::new(io::Cursor::new(self.start).chain(self.rest))
    }
}

/// What begins so.
fn contents(start: &[u8]) -> Contents {
    if start.is_empty() {
        return Contents::Empty;
    }
    if CAPTURES.iter().any(|magic| start.starts_with(magic)) {
        return Contents::Capture;
    }
    // NULs before a line are what is left in a file that was truncated while it was written.
    let is_text = |line: &[u8]| {
        let nuls = line.iter().take_while(|byte| **byte == 0).count();
        let line = line.get(nuls..).unwrap_or_default();
        !line.contains(&0) && (nuls == 0 || !line.is_empty())
    };
    if start.split(|byte| *byte == b'\n').all(is_text) {
        Contents::Text
    } else {
        Contents::Other
    }
}

/// A log that is read.
pub(super) struct Input {
    /// How it is called in messages.
    pub(super) name: String,
    bytes: Box<dyn Read + Send>,
    /// What was read behind the last whole line.
    rest: Vec<u8>,
    /// Whether the rest of a line is to be left out that was longer than a block.
    in_long_line: bool,
}

impl Input {
    /// Opens a file, or standard input if it is `-`; what is compressed is decompressed.
    pub(super) fn open(path: &Path, progress: &ProgressBar) -> Result<Self, CliError> {
        Ok(Self::of(Opened::open(path, progress)?))
    }

    /// Reads what was opened.
    pub(super) fn of(opened: Opened) -> Self {
        let name = opened.name.clone();
        let is_compressed = opened.start.starts_with(&GZIP);
        let whole = opened.bytes();
        let input: Box<dyn Read + Send> = if is_compressed {
            Box::new(MultiGzDecoder::new(BufReader::with_capacity(
                1 << 16,
                whole,
            )))
        } else {
            whole
        };
        Self::new(name, input)
    }

    fn new(name: String, input: Box<dyn Read + Send>) -> Self {
        Self {
            name,
            bytes: input,
            rest: Vec::new(),
            in_long_line: false,
        }
    }

    /// The next block, of whole lines; `None` at the end.
    pub(super) fn next_block(&mut self) -> Result<Option<Vec<u8>>, CliError> {
        let block = self.read_block();
        block.map_err(|error| unreadable(&self.name, &error))
    }

    /// All blocks.
    pub(super) fn blocks(mut self) -> impl Iterator<Item = io::Result<Vec<u8>>> + Send {
        std::iter::from_fn(move || self.read_block().transpose()).fuse()
    }

    fn read_block(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let mut block = Vec::with_capacity(BLOCK);
            block.append(&mut self.rest);
            let room = BLOCK.saturating_sub(block.len());
            let room = u64::try_from(room).unwrap_or(u64::MAX);
            (&mut self.bytes).take(room).read_to_end(&mut block)?;
            let is_end = block.len() < BLOCK;
            if std::mem::take(&mut self.in_long_line) {
                if let Some(end) = memchr(b'\n', &block) {
                    block.drain(..=end);
                } else {
                    self.in_long_line = !is_end;
                    block.clear();
                }
                if block.is_empty() && !is_end {
                    continue;
                }
            }
            match memrchr(b'\n', &block) {
                // The last line of a log may have no end.
                _ if is_end => {}
                Some(end) => self.rest = block.split_off(end + 1),
                None => self.in_long_line = true,
            }
            return Ok((!block.is_empty()).then_some(block));
        }
    }
}

/// An error of reading, with what was to be read.
pub(super) fn unreadable(name: &str, error: &io::Error) -> CliError {
    CliError::Other(anyhow::anyhow!("cannot read {name}: {error}"))
}

/// How a file is called in messages.
fn name_of(path: &Path) -> String {
    if path == Path::new("-") {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All lines of an input, and the lengths of its blocks.
    fn lines(bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let mut input = Input::new("a log".to_owned(), Box::new(io::Cursor::new(bytes)));
        let mut lines = Vec::new();
        while let Some(block) = input.next_block().expect("a block") {
            assert!(block.len() <= BLOCK);
            let block = block.strip_suffix(b"\n").unwrap_or(&block);
            lines.extend(block.split(|byte| *byte == b'\n').map(<[u8]>::to_vec));
        }
        lines
    }

    #[test]
    fn text_is_told_from_what_is_not() {
        let text = [
            "a line",
            "one\ntwo\n",
            "\0\0one\n\0two\n",
            "gr\u{fc}\u{df}e \u{1b}",
        ];
        assert!(
            text.iter()
                .all(|text| contents(text.as_bytes()) == Contents::Text)
        );
        assert_eq!(contents(b"caf\xe9\n"), Contents::Text, "an old encoding");
        for other in [
            "\x7fELF\x02\0\0",
            "\0\0\0",
            "LPKSHHRH\0\0\n",
            "one\ntwo\0three\n",
        ] {
            assert_eq!(contents(other.as_bytes()), Contents::Other, "{other:?}");
        }
        assert_eq!(contents(&CAPTURES[0]), Contents::Capture);
        assert_eq!(contents(b""), Contents::Empty);
    }

    #[test]
    fn no_line_is_torn_between_blocks() {
        let expected: Vec<_> = (0..300_000)
            .map(|n| format!("line {n}").into_bytes())
            .collect();
        let mut log = expected.join(&b'\n');
        assert_eq!(lines(log.clone()), expected);
        log.push(b'\n');
        assert_eq!(lines(log), expected);
        assert_eq!(lines(Vec::new()), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn of_a_line_that_is_longer_than_a_block_the_rest_is_left_out() {
        for length in [
            BLOCK - 1,
            BLOCK,
            BLOCK + 1,
            2 * BLOCK - 1,
            2 * BLOCK,
            10 * BLOCK + 7,
        ] {
            let mut log = b"before\n".to_vec();
            log.extend(std::iter::repeat_n(b'x', length));
            log.extend(b"\nafter\nend");
            let lines = lines(log);
            let [before, endless, after, end] = &*lines else {
                panic!("{} lines of a log with a line of {length}", lines.len());
            };
            assert_eq!(
                (&**before, &**after, &**end),
                (&b"before"[..], &b"after"[..], &b"end"[..])
            );
            assert_eq!(endless.len(), length.min(BLOCK), "of {length}");
        }
        let endless = vec![b'x'; 3 * BLOCK];
        assert_eq!(lines(endless).len(), 1);
    }
}
