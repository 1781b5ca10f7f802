//! What must hold for any record of the ring buffer, and any key that a map of another version holds.

use std::collections::HashMap;

use abuser::daemon::events::Names;
use abuser_common::{
    event::{DecodeError, EVENT_VERSION, Event, Reason},
    prefix::PrefixKey,
};

use crate::shown;

/// Reads bytes as records, one after the other, and their sources as keys.
///
/// # Panics
///
/// If a record of another size or version is read, one that makes no sense is told of or one that
/// does is not, or a key stands for another prefix than it says.
pub fn event(bytes: &[u8]) {
    const SIZE: usize = size_of::<Event>();
    let names = Names {
        limits: HashMap::from([(1, "ssh".to_owned()), (2, "\u{1b}[31m".to_owned())]),
        interfaces: HashMap::from([(1, "eth0".to_owned())]),
    };
    for record in bytes.chunks(SIZE) {
        let event = match Event::decode(record) {
            Ok(event) => event,
            Err(error) => {
                let expected = if record.len() == SIZE {
                    assert_ne!(record[0], EVENT_VERSION);
                    DecodeError::Version(record[0])
                } else {
                    DecodeError::Size(record.len())
                };
                assert_eq!(error, expected);
                shown::is_one_plain_line(&error.to_string());
                continue;
            }
        };
        assert!(record.len() == SIZE && record[0] == EVENT_VERSION);
        key(&event.source);
        let told = names.record(&event);
        let makes_sense = event.verdict().is_some()
            && event.reason().is_some()
            && event.source.address().is_some();
        assert_eq!(told.is_some(), makes_sense, "{event:?}");
        let Some(told) = told else {
            continue;
        };
        shown::is_one_plain_line(&told.line());
        assert_eq!(told.drops, Some(event.drops));
        assert_eq!(told.port.is_some(), event.has_port());
        let is_ban = event.reason() == Some(Reason::Ban);
        assert_eq!(told.ban, is_ban.then_some(event.cause));
        assert_eq!(told.verified.is_some(), !is_ban);
        assert!(told.limit.is_none() || !is_ban);
    }
}

/// A key that some program wrote.
fn key(key: &PrefixKey) {
    let Some(address) = key.address() else {
        assert!(key.source().is_none() && !matches!(key.family, 4 | 6));
        return;
    };
    let Ok(length) = u8::try_from(key.length) else {
        return;
    };
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let made = PrefixKey::new(address, length);
    assert_eq!(made.is_some(), length <= bits);
    if let Some(made) = made {
        let net = ipnet::IpNet::new(address, length).expect("as long as it may be");
        assert_eq!(made.address(), Some(net.network()), "{key:?}");
        assert_eq!(
            made.source().map(|source| source.prefix(length)),
            Some(made)
        );
    }
}
