//! Frames out of a capture: pcap and pcapng, whole or gzipped, in the order of the file.
//!
//! A capture is somebody else's file. A record that is longer than any frame ends the reading,
//! and no more is kept than one record and the numbers of its interfaces.

use std::{
    io::{self, Cursor, Read},
    sync::{Arc, Mutex, PoisonError},
};

use flate2::read::MultiGzDecoder;
use pcap_parser::{
    Block, LegacyPcapBlock, PcapBlockOwned, PcapError, create_reader,
    pcapng::{EnhancedPacketBlock, OptionCode},
    traits::{PcapNGPacketBlock as _, PcapReaderIterator},
};

use super::frame::{Frame, Link, MAX_FRAME, Told, number};

/// What is read at once, and what a record may take before more is asked for, in bytes.
const BUFFER: usize = 1 << 18;
/// The longest record; libpcap takes no longer frames than 2^18 bytes.
const MAX_RECORD: usize = 1 << 20;
/// Interfaces of one capture.
const MAX_INTERFACES: usize = 1 << 16;

const NANOSECONDS: u64 = 1_000_000_000;
/// Why a capture, or the rest of it, cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// There is nothing in it.
    #[error("is empty; write a capture with `tcpdump -w`")]
    Empty,
    /// It is something else.
    #[error(
        "is no capture; those of `tcpdump -w` are (pcap and pcapng, also compressed with gzip)"
    )]
    NotACapture,
    /// It ends where more was to come, as when what wrote it was killed.
    #[error("ends in the middle of a packet; all before that was replayed")]
    Cut,
    /// What it says makes no sense.
    #[error("is damaged: {0}; all before that was replayed")]
    Damaged(&'static str),
    /// It is of a kind of network that the packet path does not read.
    #[error(
        "was captured on a link of type {0}; what can be replayed is Ethernet (1), Linux cooked \
         (113 and 276) and bare IP (101, 228 and 229): capture on an Ethernet interface or on any"
    )]
    Link(i32),
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
}

impl CaptureError {
    /// Whether this is how a capture ends whose writer was stopped.
    pub(super) fn is_cut(&self) -> bool {
        matches!(self, Self::Cut)
    }
}

/// An interface as a pcapng file describes it.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: i32,
    /// Units of time a second.
    resolution: u64,
    /// Seconds to be added.
    offset: i64,
}

/// A capture that is read.
pub(super) struct Reader {
    blocks: Box<dyn PcapReaderIterator + Send>,
    failure: Failure,
    /// Of a pcap file: its link, and nanoseconds in a unit of time.
    whole: Option<(Link, u64)>,
    interfaces: Vec<Interface>,
    /// The first interface of the section that is being read.
    section: usize,
    last_ns: u64,
    /// The size of the buffer in bytes.
    buffer: usize,
}

/// What the file said when it could not be read: the parser only says that it could not.
#[derive(Clone, Default)]
struct Failure(Arc<Mutex<Option<io::Error>>>);

impl Failure {
    fn set(&self, error: io::Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn take(&self) -> Option<CaptureError> {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.map(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => CaptureError::Cut,
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                CaptureError::Damaged("it cannot be decompressed")
            }
            _ => CaptureError::Read(error),
        })
    }
}

/// Fills all of a buffer if it can: the parser wants the whole of a header at once.
struct Filling<R> {
    input: R,
    failure: Failure,
}

impl<R: Read> Read for Filling<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.input.read(rest) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failure.set(error);
                    break;
                }
            }
        }
        Ok(filled)
    }
}

/// What came of a step.
enum Step {
    /// A frame, and how many bytes it took.
    Frame(usize),
    /// Something else.
    Other(usize),
    /// More is to be read.
    More,
    /// And there is no room for it.
    Grow,
    End,
    Fail(CaptureError),
}

impl Reader {
    /// Begins to read.
    pub(super) fn open(mut input: Box<dyn Read + Send>) -> Result<Self, CaptureError> {
        let failure = Failure::default();
        let mut head = Vec::new();
        input.as_mut().take(2).read_to_end(&mut head)?;
        if head.is_empty() {
            return Err(CaptureError::Empty);
        }
        let is_compressed = head == [0x1f, 0x8b];
        let input = Cursor::new(head).chain(input);
        let input: Box<dyn Read + Send> = if is_compressed {
            Box::new(MultiGzDecoder::new(input))
        } else {
            Box::new(input)
        };
        let input = Filling {
            input,
            failure: failure.clone(),
        };
        let blocks = create_reader(BUFFER, input).map_err(|error| {
            let failed = failure.take();
            failed.unwrap_or(match error {
                PcapError::Eof => CaptureError::Empty,
                _ => CaptureError::NotACapture,
            })
        })?;
        let mut reader = Self {
            blocks,
            failure,
            whole: None,
            interfaces: Vec::new(),
            section: 0,
            last_ns: 0,
            buffer: BUFFER,
        };
        reader.read_header()?;
        Ok(reader)
    }

    /// Reads a pcap file's header, so that a link that cannot be replayed is told at once.
    fn read_header(&mut self) -> Result<(), CaptureError> {
        let Ok((size, PcapBlockOwned::LegacyHeader(header))) = self.blocks.next() else {
            return Ok(());
        };
        let unit = if header.is_nanosecond_precision() {
            1
        } else {
            1_000
        };
        self.whole = Some((Link::new(header.network.0)?, unit));
        self.blocks.consume(size);
        Ok(())
    }

    /// Reads the next frame; `false` if there are no more.
    pub(super) fn next(&mut self, frame: &mut Frame) -> Result<bool, CaptureError> {
        loop {
            match self.step(frame) {
                Step::Frame(size) => {
                    self.blocks.consume(size);
                    return Ok(true);
                }
                Step::Other(size) => self.blocks.consume(size),
                Step::More => {
                    let before = self.blocks.data().len();
                    if self.blocks.refill().is_err() {
                        return Err(CaptureError::Damaged("it cannot be read on"));
                    }
                    let is_full = self.blocks.data().len() == before;
                    if is_full && !self.blocks.reader_exhausted() {
                        self.grow()?;
                    }
                }
                Step::Grow => self.grow()?,
                Step::End => return self.failure.take().map_or(Ok(false), Err),
                Step::Fail(error) => return Err(self.failure.take().unwrap_or(error)),
            }
        }
    }

    fn grow(&mut self) -> Result<(), CaptureError> {
        // What is full may only have to be moved to its beginning.
        let before = self.blocks.data().len();
        let refilled = self.blocks.refill().is_ok();
        if refilled && (self.blocks.data().len() > before || self.blocks.reader_exhausted()) {
            return Ok(());
        }
        self.buffer *= 2;
        if self.buffer > MAX_RECORD || !self.blocks.grow(self.buffer) {
            return Err(TOO_LONG);
        }
        Ok(())
    }

    /// Why the capture ends before its last record does.
    fn broken_off(&self) -> CaptureError {
        let length_at = if self.whole.is_some() { 8 } else { 4 };
        let rest = self.blocks.data().get(length_at..);
        let length = rest.and_then(|rest| rest.first_chunk::<4>().copied());
        // In whichever order of bytes: one that only was not written makes sense in its own.
        let length = length.map_or(0, |length| {
            u32::from_le_bytes(length).min(u32::from_be_bytes(length))
        });
        if usize::try_from(length).unwrap_or(usize::MAX) > MAX_RECORD {
            TOO_LONG
        } else {
            CaptureError::Cut
        }
    }

    fn step(&mut self, frame: &mut Frame) -> Step {
        let (size, block) = match self.blocks.next() {
            Ok(next) => next,
            Err(error) => {
                return match error {
                    PcapError::Eof => Step::End,
                    PcapError::UnexpectedEof => Step::Fail(self.broken_off()),
                    PcapError::Incomplete(_) => Step::More,
                    PcapError::BufferTooSmall => Step::Grow,
                    _ => Step::Fail(CaptureError::Damaged("a record makes no sense")),
                };
            }
        };
        if size == 0 {
            return Step::Fail(CaptureError::Damaged("a record has no length"));
        }
        let read = match block {
            PcapBlockOwned::Legacy(block) => legacy(&block, self.whole, frame).map(|()| true),
            PcapBlockOwned::NG(Block::SectionHeader(_)) => {
                self.section = self.interfaces.len();
                Ok(false)
            }
            PcapBlockOwned::NG(Block::InterfaceDescription(block)) => {
                let resolution = block.ts_resolution().filter(|units| *units != 0);
                match resolution {
                    Some(resolution) if self.interfaces.len() < MAX_INTERFACES => {
                        self.interfaces.push(Interface {
                            link: block.linktype.0,
                            resolution,
                            offset: block.ts_offset(),
                        });
                        Ok(false)
                    }
                    Some(_) => Err(CaptureError::Damaged("it has too many interfaces")),
                    None => Err(CaptureError::Damaged("its clock has no resolution")),
                }
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(block)) => {
                let own = self.interfaces.get(self.section..).unwrap_or_default();
                enhanced(&block, own, frame).map(|()| {
                    frame.interface = number(self.section).saturating_add(block.if_id);
                    true
                })
            }
            PcapBlockOwned::NG(Block::SimplePacket(block)) => {
                match self.interfaces.get(self.section) {
                    Some(interface) => Link::new(interface.link).map(|link| {
                        frame.fill(link, block.packet_data(), block.orig_len());
                        // It does not say when.
                        frame.at_ns = self.last_ns;
                        frame.interface = number(self.section);
                        true
                    }),
                    None => Err(NO_INTERFACE),
                }
            }
            PcapBlockOwned::LegacyHeader(_) | PcapBlockOwned::NG(_) => Ok(false),
        };
        match read {
            Ok(true) => {
                self.last_ns = frame.at_ns;
                Step::Frame(size)
            }
            Ok(false) => Step::Other(size),
            Err(error) => Step::Fail(error),
        }
    }
}

const TOO_LONG: CaptureError = CaptureError::Damaged("a record is longer than any packet");

const NO_INTERFACE: CaptureError =
    CaptureError::Damaged("a packet is of an interface that is not described");

/// A record of a pcap file.
fn legacy(
    block: &LegacyPcapBlock<'_>,
    whole: Option<(Link, u64)>,
    frame: &mut Frame,
) -> Result<(), CaptureError> {
    let Some((link, unit)) = whole else {
        return Err(NO_INTERFACE);
    };
    if block.caplen > MAX_FRAME {
        return Err(TOO_LONG);
    }
    frame.fill(link, block.data, block.origlen);
    frame.at_ns = u64::from(block.ts_sec) * NANOSECONDS + u64::from(block.ts_usec) * unit;
    frame.interface = 0;
    Ok(())
}

/// A packet of a pcapng file.
fn enhanced(
    block: &EnhancedPacketBlock<'_>,
    interfaces: &[Interface],
    frame: &mut Frame,
) -> Result<(), CaptureError> {
    let index = usize::try_from(block.if_id).unwrap_or(usize::MAX);
    let interface = interfaces.get(index).ok_or(NO_INTERFACE)?;
    frame.fill(
        Link::new(interface.link)?,
        block.packet_data(),
        block.orig_len(),
    );
    let units = u128::from(block.ts_high) << 32 | u128::from(block.ts_low);
    let since = units * u128::from(NANOSECONDS) / u128::from(interface.resolution);
    let offset = i128::from(interface.offset) * i128::from(NANOSECONDS);
    let at = i128::try_from(since)
        .unwrap_or(i128::MAX)
        .saturating_add(offset);
    frame.at_ns = u64::try_from(at.max(0)).unwrap_or(u64::MAX);
    if frame.told == Told::Nothing {
        frame.told = told(block);
    }
    Ok(())
}

/// What the flags of a packet say of its way.
fn told(block: &EnhancedPacketBlock<'_>) -> Told {
    const FLAGS: OptionCode = OptionCode(2);
    let flags = block.options.iter().find(|option| option.code == FLAGS);
    let octets = flags.and_then(|option| option.value().first_chunk::<4>());
    let flags = octets.map_or(0, |octets| {
        if block.big_endian() {
            u32::from_be_bytes(*octets)
        } else {
            u32::from_le_bytes(*octets)
        }
    });
    match flags & 3 {
        1 => Told::Incoming,
        2 => Told::Outgoing,
        _ => Told::Nothing,
    }
}
