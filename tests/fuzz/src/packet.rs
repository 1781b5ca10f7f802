//! What must hold for any frame.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use abuser_common::{
    layout::{Ban, Outcome},
    model::{Machine, Model},
    packet::{Network, TCP, Transport, UDP, Unreadable, network, transport},
    prefix::PrefixKey,
    verdict::decide,
};

/// All that the parser finds in a frame.
type Parsed = (Result<Option<Network>, Unreadable>, Option<Transport>);

thread_local! {
    /// Tables that ban everybody; costly to make.
    static BANNED: Model = banned();
    /// Tables with nothing in them.
    static EMPTY: Model = Model::default();
}

/// Parses a frame as the XDP program would.
///
/// # Panics
///
/// If the parser guesses, contradicts itself or the frame, reads more from fewer bytes, or
/// lets a banned source through.
pub fn packet(frame: &[u8]) {
    let whole = parse(frame);
    // Plainly read, without regard to lengths.
    let tags = (12..)
        .step_by(4)
        .take_while(|at| matches!(frame.get(*at..at + 2), Some([0x81, 0x00] | [0x88, 0xa8])))
        .count();
    let ip = 14 + 4 * tags;
    let ether_type = frame.get(ip - 2..ip);
    match whole.0 {
        Ok(Some(Network { source, offset, .. })) => {
            let address = match ether_type {
                Some([0x08, 0x00]) => frame.get(ip + 12..ip + 16).and_then(ipv4),
                Some([0x86, 0xdd]) => frame.get(ip + 8..ip + 24).and_then(ipv6),
                other => panic!("a source, though the type is {other:x?}"),
            };
            let address = address.expect("a source is in the frame");
            assert_eq!(source.host().address(), Some(address), "whose packet it is");
            assert_eq!(offset, ip);
            assert!(tags <= 4, "{tags} tags");
        }
        Ok(None) => assert!(
            !matches!(ether_type, Some([0x08, 0x00] | [0x86, 0xdd])),
            "IP is not IP"
        ),
        Err(Unreadable::Hidden) => assert!(tags > 4, "only {tags} tags"),
        Err(Unreadable::Malformed) => {}
    }
    if let Some(found) = whole.1 {
        transport_is_no_guess(frame, ip, found);
    }
    decisions_follow(frame, &whole);
    for length in (0..frame.len()).rev() {
        fewer_bytes_say_no_more(&whole, &parse(&frame[..length]), length);
    }
}

fn parse(frame: &[u8]) -> Parsed {
    let network = network(frame);
    let transport = network
        .ok()
        .flatten()
        .map(|network| transport(frame, network.source.family, network.offset));
    (network, transport)
}

fn ipv4(octets: &[u8]) -> Option<IpAddr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).into())
}

fn ipv6(octets: &[u8]) -> Option<IpAddr> {
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).into())
}

fn banned() -> Model {
    let mut model = Model::default();
    for everybody in [
        IpAddr::from(Ipv4Addr::UNSPECIFIED),
        Ipv6Addr::UNSPECIFIED.into(),
    ] {
        let prefix = PrefixKey::new(everybody, 0).expect("a prefix");
        model.add_ban(prefix, Ban::default());
    }
    model
}

/// A ban holds as soon as the source can be read, whatever follows; and without one, what
/// can be read passes.
fn decisions_follow(frame: &[u8], (network, transport): &Parsed) {
    let decided = |model: &Model| decide(frame, model, &Machine::default()).outcome;
    let unread = match network {
        Ok(Some(_)) => None,
        Ok(None) => Some(Outcome::NotIp),
        Err(Unreadable::Malformed) => Some(Outcome::Malformed),
        Err(Unreadable::Hidden) => Some(Outcome::DroppedHidden),
    };
    let banned = unread.unwrap_or(Outcome::DroppedBan);
    assert_eq!(BANNED.with(decided), banned, "with a ban");
    let free = unread.unwrap_or(match transport {
        Some(transport) if transport.is_malformed() => Outcome::Malformed,
        Some(transport) if transport.is_hidden() => Outcome::DroppedHidden,
        _ => Outcome::Passed,
    });
    assert_eq!(EMPTY.with(decided), free, "without a ban");
}

/// Ports and flags are those of TCP and UDP, and stand in the frame.
fn transport_is_no_guess(frame: &[u8], ip: usize, found: Transport) {
    if found.is_malformed() || found.is_hidden() {
        assert_eq!((found.port(), found.tcp_flags()), (None, 0));
        return;
    }
    let has_ports = matches!(found.protocol(), TCP | UDP);
    if let Some(port) = found.port() {
        assert!(has_ports, "protocol {} has no port", found.protocol());
        let octets = port.to_be_bytes();
        let behind = frame.get(ip + 20..).unwrap_or_default();
        assert!(behind.windows(2).any(|pair| pair == octets), "port {port}");
    }
    if found.tcp_flags() != 0 {
        assert!(found.protocol() == TCP && found.port().is_some());
    }
    if let (Some([0x08, 0x00]), Some([high, low])) =
        (frame.get(ip - 2..ip), frame.get(ip + 6..ip + 8))
    {
        let later = u16::from_be_bytes([*high, *low]) & 0x1fff != 0;
        let expected = has_ports && !later;
        assert_eq!(
            found.port().is_some(),
            expected,
            "a later fragment: {later}"
        );
    }
}

/// What the first `length` bytes say is what the whole frame says, or that they are cut short.
fn fewer_bytes_say_no_more(whole: &Parsed, cut: &Parsed, length: usize) {
    if cut.0 != Err(Unreadable::Malformed) {
        assert_eq!(cut.0, whole.0, "cut to {length} bytes");
    }
    if cut.1.is_some_and(|transport| !transport.is_malformed()) {
        assert_eq!(cut.1, whole.1, "cut to {length} bytes");
    }
}
