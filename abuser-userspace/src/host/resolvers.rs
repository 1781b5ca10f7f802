//! Resolvers, as resolv.conf names them.

use std::{
    fs::File,
    io::{self, Read as _},
    net::IpAddr,
};

use super::parse_address;

/// Where they are named.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Where systemd-resolved names those that it asks, if the usual file names only itself.
const BEHIND_RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// More than any such file has, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The resolvers that were last read: a file that cannot be read for a moment, as while it is
/// replaced, takes nothing back.
#[derive(Debug, Default)]
pub(super) struct Resolvers {
    last: Vec<(IpAddr, &'static str)>,
}

impl Resolvers {
    /// Those that are named now.
    pub(super) fn read(&mut self) -> impl Iterator<Item = (IpAddr, &'static str)> + use<> {
        if let Ok(text) = read(RESOLV_CONF) {
            let mut found = named(&text, RESOLV_CONF);
            if found.iter().all(|(address, _)| address.is_loopback())
                && let Ok(text) = read(BEHIND_RESOLVED)
            {
                found.extend(named(&text, BEHIND_RESOLVED));
            }
            self.last = found;
        }
        self.last.clone().into_iter()
    }
}

fn read(path: &str) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn named(text: &str, file: &'static str) -> Vec<(IpAddr, &'static str)> {
    parse(text).map(|address| (address, file)).collect()
}

/// The addresses of the lines `nameserver ADDRESS`; whatever else there is means nothing.
fn parse(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            return None;
        }
        parse_address(words.next()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nameservers_are_found_among_whatever_else_there_is() {
        let text = "# nameserver 192.0.2.1\n;nameserver 192.0.2.2\nsearch example.com\n\
                    nameserver 192.0.2.3\r\nnameserver\t2001:db8::53 # ours\n\
                    nameserver fe80::1%eth0\nnameserver\nnameserver example.com\n\
                    nameservers 192.0.2.4\n  nameserver 192.0.2.5";
        let found: Vec<_> = parse(text).map(|address| address.to_string()).collect();
        assert_eq!(found, ["192.0.2.3", "2001:db8::53", "fe80::1", "192.0.2.5"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(nameserver[ \\t%:.0-9a-f]{0,40}\n|\\PC*){0,5}") {
            let _found = parse(&text).count();
        }
    }
}
