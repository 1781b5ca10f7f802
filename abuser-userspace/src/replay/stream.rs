//! Several captures as one stream in the order of time.
//!
//! Frames of one capture stay in its order. The first frames of each are read ahead, to find out
//! which host captured them.

use std::collections::{BTreeMap, VecDeque};

use ipnet::IpNet;

use super::{
    Input, ReplayError,
    capture::{CaptureError, Reader},
    direction::{Host, LOOKED_AT, LOOKED_AT_BYTES, Way},
    frame::{Frame, Told},
    report::CaptureReport,
};

/// All captures.
pub(super) struct Stream {
    captures: Vec<Capture>,
    /// The one that the last frame came from.
    current: Option<usize>,
}

struct Capture {
    reader: Option<Reader>,
    ahead: VecDeque<Frame>,
    /// The next frame, if there is one.
    head: Frame,
    has_head: bool,
    /// Hosts by interface.
    hosts: BTreeMap<u32, Host>,
    report: CaptureReport,
}

impl Stream {
    pub(super) fn open(inputs: Vec<Input>) -> Result<Self, ReplayError> {
        let captures = inputs.into_iter().map(|Input { path, contents }| {
            let reader = Reader::open(contents);
            let reader = reader.map_err(|error| ReplayError {
                path: path.clone(),
                error,
            })?;
            Ok(Capture::new(path, reader))
        });
        Ok(Self {
            captures: captures.collect::<Result<_, _>>()?,
            current: None,
        })
    }

    /// The next frame, and which way it went.
    pub(super) fn next(&mut self, to: &[IpNet]) -> Option<(&Frame, Way)> {
        if let Some(last) = self.current.take()
            && let Some(capture) = self.captures.get_mut(last)
        {
            capture.advance();
        }
        let heads = self.captures.iter().enumerate();
        let heads = heads.filter(|(_, capture)| capture.has_head);
        let (index, _) = heads.min_by_key(|(_, capture)| capture.head.at_ns)?;
        self.current = Some(index);
        let capture = self.captures.get_mut(index)?;
        let way = capture.way(to);
        capture.report.frames += 1;
        capture.report.replayed += u64::from(way.comes_in);
        Some((&capture.head, way))
    }

    pub(super) fn reports(self) -> Vec<CaptureReport> {
        let captures = self.captures.into_iter();
        captures.map(|capture| capture.report).collect()
    }
}

impl Capture {
    fn new(path: String, reader: Reader) -> Self {
        let mut capture = Self {
            reader: Some(reader),
            ahead: VecDeque::new(),
            head: Frame::default(),
            has_head: false,
            hosts: BTreeMap::new(),
            report: CaptureReport {
                path,
                ..CaptureReport::default()
            },
        };
        capture.look_ahead();
        capture.advance();
        capture
    }

    fn look_ahead(&mut self) {
        let mut bytes = 0;
        while self.ahead.len() < LOOKED_AT && bytes < LOOKED_AT_BYTES {
            let mut frame = Frame::default();
            if !self.read(&mut frame) {
                break;
            }
            bytes += frame.bytes.len();
            self.ahead.push_back(frame);
        }
        let mut interfaces: Vec<_> = self.ahead.iter().map(|frame| frame.interface).collect();
        interfaces.sort_unstable();
        interfaces.dedup();
        for interface in interfaces {
            let own = self.ahead.iter();
            let own = own.filter(|frame| frame.interface == interface);
            let host = Host::find(own.clone());
            let is_used = own.clone().any(|frame| frame.told == Told::Nothing);
            if let Some(address) = host.address.filter(|_| is_used) {
                let address = address.to_string();
                if !self.report.hosts.contains(&address) {
                    self.report.hosts.push(address);
                }
            }
            self.hosts.insert(interface, host);
        }
    }

    fn way(&self, to: &[IpNet]) -> Way {
        let host = self.hosts.get(&self.head.interface).copied();
        host.unwrap_or_default().way(&self.head, to)
    }

    fn advance(&mut self) {
        if let Some(frame) = self.ahead.pop_front() {
            self.head = frame;
            self.has_head = true;
            return;
        }
        let mut head = std::mem::take(&mut self.head);
        self.has_head = self.read(&mut head);
        self.head = head;
    }

    /// Reads a frame; `false` if there is none, or it cannot be read.
    fn read(&mut self, frame: &mut Frame) -> bool {
        let Some(reader) = &mut self.reader else {
            return false;
        };
        match reader.next(frame) {
            Ok(true) => return true,
            Ok(false) => {}
            Err(error) => self.broken(&error),
        }
        self.reader = None;
        false
    }

    fn broken(&mut self, error: &CaptureError) {
        self.report.error = Some(error.to_string());
        self.report.is_cut = error.is_cut();
    }
}
