//! Files of captured packets, written as tcpdump and dumpcap write them.

use std::time::Duration;

/// The interface that frames were captured on, by its `LINKTYPE_`.
pub mod links {
    /// Ethernet.
    pub const ETHERNET: u16 = 1;
    /// Bare IP packets.
    pub const RAW: u16 = 101;
    /// `tcpdump -i any`, as it was.
    pub const LINUX_SLL: u16 = 113;
    /// `tcpdump -i any`.
    pub const LINUX_SLL2: u16 = 276;
}

/// How a capture is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// pcap with microseconds.
    Pcap,
    /// pcap with nanoseconds.
    PcapNanoseconds,
    /// pcap with microseconds, as a big-endian machine writes it.
    PcapBigEndian,
    /// pcapng with nanoseconds.
    Pcapng,
}

/// A capture under construction.
#[derive(Clone, Debug)]
pub struct Capture {
    format: Format,
    link: u16,
    bytes: Vec<u8>,
}

impl Capture {
    /// One of Ethernet frames.
    pub fn new(format: Format) -> Self {
        Self::of_link(format, links::ETHERNET)
    }

    /// One of frames of another link.
    pub fn of_link(format: Format, link: u16) -> Self {
        let mut capture = Self {
            format,
            link,
            bytes: Vec::new(),
        };
        capture.header();
        capture
    }

    fn header(&mut self) {
        let magic: u32 = match self.format {
            Format::PcapNanoseconds => 0xa1b2_3c4d,
            _ => 0xa1b2_c3d4,
        };
        if self.format == Format::Pcapng {
            // Section header: byte order, version 1.0, length unknown.
            let mut body = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
            body.extend([1, 0, 0, 0]);
            body.extend([0xff; 8]);
            self.block(0x0a0d_0d0a, &body);
            // Interface: link, reserved, snap length, its clock counts nanoseconds.
            let mut body = self.link.to_le_bytes().to_vec();
            body.extend([0, 0]);
            body.extend(262_144_u32.to_le_bytes());
            body.extend([9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
            self.block(1, &body);
            return;
        }
        self.word(magic);
        match self.format {
            Format::PcapBigEndian => self.bytes.extend([0, 2, 0, 4]),
            _ => self.bytes.extend([2, 0, 4, 0]),
        }
        for word in [0, 0, 262_144, self.link.into()] {
            self.word(word);
        }
    }

    fn word(&mut self, word: u32) {
        self.bytes.extend(match self.format {
            Format::PcapBigEndian => word.to_be_bytes(),
            _ => word.to_le_bytes(),
        });
    }

    fn block(&mut self, number: u32, body: &[u8]) {
        let length = u32::try_from(body.len() + 12).expect("a short block");
        self.word(number);
        self.word(length);
        self.bytes.extend(body);
        self.word(length);
    }

    /// Adds a frame, captured `at` this time since 1970.
    #[must_use]
    pub fn frame(self, at: Duration, frame: &[u8]) -> Self {
        self.cut_frame(at, frame, frame.len())
    }

    /// Adds the first bytes of a frame that was `length` bytes long.
    ///
    /// # Panics
    /// If the time or a length cannot be written.
    #[must_use]
    pub fn cut_frame(self, at: Duration, captured: &[u8], length: usize) -> Self {
        self.record(at, captured, length, None)
    }

    /// Adds a frame with its way, which only pcapng can tell.
    #[must_use]
    pub fn directed_frame(self, at: Duration, frame: &[u8], goes_out: bool) -> Self {
        self.record(at, frame, frame.len(), Some(goes_out))
    }

    fn record(
        mut self,
        at: Duration,
        captured: &[u8],
        length: usize,
        goes_out: Option<bool>,
    ) -> Self {
        let [captured_length, length] =
            [captured.len(), length].map(|length| u32::try_from(length).expect("a frame"));
        if self.format == Format::Pcapng {
            let at = u64::try_from(at.as_nanos()).expect("a time");
            let mut body = vec![0; 4];
            for word in [at >> 32, at & 0xffff_ffff] {
                body.extend(u32::try_from(word).expect("half of it").to_le_bytes());
            }
            body.extend(captured_length.to_le_bytes());
            body.extend(length.to_le_bytes());
            body.extend(captured);
            body.resize(body.len().next_multiple_of(4), 0);
            if let Some(goes_out) = goes_out {
                // The flags' two lowest bits, then the end of options.
                body.extend([2, 0, 4, 0, 1 + u8::from(goes_out), 0, 0, 0, 0, 0, 0, 0]);
            }
            self.block(6, &body);
            return self;
        }
        assert_eq!(goes_out, None, "only pcapng tells the way");
        let fraction = match self.format {
            Format::PcapNanoseconds => at.subsec_nanos(),
            _ => at.subsec_micros(),
        };
        self.word(u32::try_from(at.as_secs()).expect("a time"));
        self.word(fraction);
        self.word(captured_length);
        self.word(length);
        self.bytes.extend(captured);
        self
    }

    /// The file.
    pub fn build(self) -> Vec<u8> {
        self.bytes
    }
}
