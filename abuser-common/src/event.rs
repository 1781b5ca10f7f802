//! The ring-buffer record: what the program tells the daemon about a drop.

use crate::prefix::PrefixKey;

/// Version of [`Event`]; a record of another version is not read.
pub const EVENT_VERSION: u8 = 2;

/// What was done with the packet that an event reports.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Dropped.
    Drop = 0,
    /// Passed because only observed.
    Observe = 1,
    /// Passed because the allow list says so.
    Allow = 2,
}

impl Verdict {
    /// From the number that it is, in the lowest two bits.
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        match bits & 3 {
            0 => Self::Drop,
            1 => Self::Observe,
            _ => Self::Allow,
        }
    }
}

/// Why the packet was, or would have been, dropped.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It went over a limit.
    Limit = 0,
    /// Its source is banned.
    Ban = 1,
}

/// One event. All fields are in host order, addresses in network order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// [`EVENT_VERSION`].
    pub version: u8,
    /// A [`Verdict`].
    pub verdict: u8,
    /// A [`Reason`].
    pub reason: u8,
    /// IP protocol number.
    pub protocol: u8,
    /// Destination port; meaningful only with [`Event::HAS_PORT`].
    pub port: u16,
    /// [`Event::HAS_PORT`] and [`Event::VERIFIED`].
    pub flags: u8,
    /// The TCP flags octet; 0 where there is none.
    pub tcp_flags: u8,
    /// Kernel time in nanoseconds.
    pub time_ns: u64,
    /// Packets of this source dropped (or observed, or allowed) for this reason since the
    /// last event of the same source and reason, this one included. Under a limit: on the
    /// CPU that reports, each drop in one event at most.
    pub drops: u64,
    /// [`Ban::id`](crate::layout::Ban::id), or [`Limit::id`](crate::layout::Limit::id).
    pub cause: u64,
    /// Index of the interface it came in on.
    pub interface: u32,
    /// Length of the frame in bytes.
    pub length: u32,
    /// The source's whole address.
    pub source: PrefixKey,
    /// Bits of the source that count under the limit: who is charged.
    pub prefix: u64,
}

const _: () = assert!(size_of::<Event>() == 72);

/// Why bytes are not an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Not the size of a record; holds the size in bytes.
    Size(usize),
    /// A version this build does not know; holds it.
    Version(u8),
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Size(size) => write!(
                f,
                "an event record of {size} bytes, expected {}",
                size_of::<Event>()
            ),
            Self::Version(version) => write!(
                f,
                "an event record of version {version}, expected {EVENT_VERSION}"
            ),
        }
    }
}

impl core::error::Error for DecodeError {}

impl Event {
    /// Flag: the destination port is known.
    pub const HAS_PORT: u8 = 1;
    /// Flag: the source is no forgery; it has a TCP connection to this host.
    pub const VERIFIED: u8 = 1 << 1;

    /// Whether the destination port is known.
    pub const fn has_port(&self) -> bool {
        self.flags & Self::HAS_PORT != 0
    }

    /// Whether the source is known to be no forgery.
    pub const fn verified(&self) -> bool {
        self.flags & Self::VERIFIED != 0
    }

    /// Reads a record from the ring buffer.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() != size_of::<Self>() {
            return Err(DecodeError::Size(bytes.len()));
        }
        // SAFETY: the size was checked, every bit pattern is an Event, and the read does
        // not need alignment.
        let event = unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() };
        if event.version != EVENT_VERSION {
            return Err(DecodeError::Version(event.version));
        }
        Ok(event)
    }

    /// The verdict; `None` if the number is not one.
    pub const fn verdict(&self) -> Option<Verdict> {
        match self.verdict {
            0 => Some(Verdict::Drop),
            1 => Some(Verdict::Observe),
            2 => Some(Verdict::Allow),
            _ => None,
        }
    }

    /// The reason; `None` if the number is not one.
    pub const fn reason(&self) -> Option<Reason> {
        match self.reason {
            0 => Some(Reason::Limit),
            1 => Some(Reason::Ban),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_another_size_or_version_is_refused() {
        assert_eq!(Event::decode(&[]), Err(DecodeError::Size(0)));
        assert_eq!(Event::decode(&[1; 73]), Err(DecodeError::Size(73)));
        assert_eq!(Event::decode(&[9; 72]), Err(DecodeError::Version(9)));
        let mut record = [1; 72];
        record[0] = EVENT_VERSION;
        let event = Event::decode(&record).unwrap();
        assert_eq!(event.verdict(), Some(Verdict::Observe));
        assert_eq!(event.reason(), Some(Reason::Ban));
    }
}
