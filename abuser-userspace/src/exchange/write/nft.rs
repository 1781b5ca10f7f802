//! nft's JSON, for `nft -j -f`.
//!
//! A set of intervals refuses elements that overlap. `auto-merge` is no help: it merges also
//! neighbours, and what it merges loses its timeout (nft 1.0.6 made four addresses of an hour,
//! two hours and for good one prefix for good), and some versions do not know it in JSON. So
//! nothing overlaps here: a ban that a wider one outlasts is left out, and one that outlasts a
//! wider one is cut out of it. At any time, the set holds the addresses that the bans hold.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use serde_json::{Value, json};

use super::{
    Record,
    text::{cleaned, unquoted},
};

/// Beyond, what nft lists it does not load again.
const MAX_COMMENT: usize = 128;

/// Loading it again replaces what it loaded before.
pub(super) const BEGIN: &str = r#"{"nftables": [
{"add": {"table": {"family": "inet", "name": "abuser"}}},
{"add": {"set": {"family": "inet", "table": "abuser", "name": "abuser4", "type": "ipv4_addr", "flags": ["interval", "timeout"]}}},
{"add": {"set": {"family": "inet", "table": "abuser", "name": "abuser6", "type": "ipv6_addr", "flags": ["interval", "timeout"]}}},
{"flush": {"set": {"family": "inet", "table": "abuser", "name": "abuser4"}}},
{"flush": {"set": {"family": "inet", "table": "abuser", "name": "abuser6"}}}"#;

/// What is written, and what is not yet.
#[derive(Debug, Default)]
pub(super) struct Nft {
    /// Prefixes that more may be cut out of, each within the one before and outlasting it.
    open: Vec<Open>,
    /// The last record's source, to see that they come in order.
    last: Option<IpNet>,
    /// The set whose elements are being written.
    set: Option<&'static str>,
}

#[derive(Debug)]
struct Open {
    source: IpNet,
    /// The first address that is not dealt with, if there is one.
    next: Option<u128>,
    /// Seconds, or for good.
    left: Option<u64>,
    comment: Option<String>,
}

impl Nft {
    /// Takes a record; whether it is in the list.
    pub(super) fn record(
        &mut self,
        output: &mut impl Write,
        record: &Record<'_>,
        left: Option<u64>,
    ) -> io::Result<bool> {
        let source = record.source.trunc();
        if let Some(last) = self.last.filter(|last| *last > source) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "nft's list is written in the order of the sources, but {source} came after \
                     {last}"
                ),
            ));
        }
        self.last = Some(source);
        while let Some(open) = self.open.pop_if(|open| !open.source.contains(&source)) {
            self.close(output, &open)?;
        }
        let (first, last) = bounds(source);
        if let Some(mut wider) = self.open.pop() {
            let is_outlasted = match (wider.left, left) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(wider), Some(left)) => wider >= left,
            };
            if is_outlasted {
                self.open.push(wider);
                return Ok(false);
            }
            if let Some(next) = wider.next.filter(|next| *next < first) {
                self.piece(output, &wider, next, first - 1)?;
            }
            wider.next = last.checked_add(1);
            self.open.push(wider);
        }
        let comment = record
            .reason
            .and_then(|reason| cleaned(&unquoted(reason), MAX_COMMENT));
        self.open.push(Open {
            source,
            next: Some(first),
            left,
            comment,
        });
        Ok(true)
    }

    pub(super) fn finish(&mut self, output: &mut impl Write) -> io::Result<()> {
        while let Some(open) = self.open.pop() {
            self.close(output, &open)?;
        }
        if self.set.is_some() {
            output.write_all(END_OF_SET)?;
        }
        output.write_all(b"\n]}\n")
    }

    /// Writes what is left of a prefix that nothing is cut out of any more.
    fn close(&mut self, output: &mut impl Write, open: &Open) -> io::Result<()> {
        let (_, last) = bounds(open.source);
        match open.next {
            Some(next) if next <= last => self.piece(output, open, next, last),
            _ => Ok(()),
        }
    }

    /// Writes a part of a prefix.
    fn piece(
        &mut self,
        output: &mut impl Write,
        of: &Open,
        first: u128,
        last: u128,
    ) -> io::Result<()> {
        let set = match of.source {
            IpNet::V4(_) => "abuser4",
            IpNet::V6(_) => "abuser6",
        };
        if self.set == Some(set) {
            output.write_all(b",\n")?;
        } else {
            if self.set.is_some() {
                output.write_all(END_OF_SET)?;
            }
            self.set = Some(set);
            write!(
                output,
                ",\n{{\"add\": {{\"element\": {{\"family\": \"inet\", \"table\": \"abuser\", \
                 \"name\": \"{set}\", \"elem\": [\n"
            )?;
        }
        serde_json::to_writer(output, &element(of, first, last))?;
        Ok(())
    }
}

const END_OF_SET: &[u8] = b"\n]}}}";

fn element(of: &Open, first: u128, last: u128) -> Value {
    let address = |number| address(of.source, number);
    let value = if first == last {
        json!(address(first))
    } else if (first, last) == bounds(of.source) {
        json!({"prefix": {"addr": of.source.addr(), "len": of.source.prefix_len()}})
    } else {
        json!({"range": [address(first), address(last)]})
    };
    let mut element = serde_json::Map::new();
    element.insert("val".to_owned(), value);
    if let Some(left) = of.left {
        element.insert("timeout".to_owned(), left.into());
    }
    if let Some(comment) = &of.comment {
        element.insert("comment".to_owned(), comment.as_str().into());
    }
    json!({"elem": element})
}

/// The first and the last address of a prefix, as numbers.
fn bounds(source: IpNet) -> (u128, u128) {
    let number = |address| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    (number(source.network()), number(source.broadcast()))
}

/// The address that a number is in the family of `source`.
fn address(source: IpNet, number: u128) -> IpAddr {
    match source {
        IpNet::V4(_) => Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        IpNet::V6(_) => Ipv6Addr::from_bits(number).into(),
    }
}
