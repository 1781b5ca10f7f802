//! What must hold whatever the nodes of a fleet say, one of which may be hostile.

use std::{collections::BTreeMap, path::Path, sync::LazyLock, time::Duration};

use abuser::{
    config::{self, FleetConfig},
    fleet::{
        state::{Caps, Counts, Heard, State},
        wire::{Key, Kind, Presence, Said, Topic, Written, presence_key, topic_key},
    },
};
use abuser_common::prefix::PrefixKey;
use arbitrary::{Result, Unstructured};

/// The clock at the beginning, in milliseconds since 1970.
const NOW: u64 = 1_800_000_000_000;
/// What is heard at most.
const STEPS: usize = 200;
/// The longest reason and cause that are taken from others, in bytes.
const MAX_TEXT: usize = 300;

static CONFIG: LazyLock<FleetConfig> = LazyLock::new(|| {
    let text = "[fleet]\nnats = [\"nats://192.0.2.1\"]\nnode = \"here\"\nignore = [\"d\"]\naccept_allow = true\n";
    let config = config::parse(text, Path::new("a.toml")).expect("a configuration");
    config.fleet.expect("a fleet")
});

/// Has a node hear what bytes say that others say.
///
/// # Panics
///
/// If a key or a value is another one when it is written again, something counts that the caps leave
/// out, or who follows the changes knows something else than who asks for all.
pub fn fleet(bytes: &[u8]) {
    let mut hearing = Hearing {
        bytes: Unstructured::new(bytes),
        state: State::new(Caps::new(&CONFIG)),
        now: NOW,
        told: BTreeMap::new(),
    };
    for _ in 0..STEPS {
        if hearing.bytes.is_empty() || hearing.step().is_err() {
            break;
        }
        hearing.check();
    }
    hearing.follow(usize::MAX);
    let all: BTreeMap<_, _> = hearing.state.take_all().into_iter().collect();
    assert_eq!(hearing.told, all, "who followed the changes");
}

struct Hearing<'b> {
    bytes: Unstructured<'b>,
    state: State,
    now: u64,
    /// What who follows the changes knows.
    told: BTreeMap<PrefixKey, Counts>,
}

impl Hearing<'_> {
    fn step(&mut self) -> Result<()> {
        match self.bytes.int_in_range(0..=11_u8)? {
            0 => self.now += self.bytes.int_in_range(0..=3_600_000)?,
            1 => self.now += u64::from(self.bytes.arbitrary::<u8>()?),
            2 => self.state.pass_time(self.now),
            3 => self.state.begin_snapshot(),
            4 => self.state.end_snapshot(self.now),
            5 => {
                let count = self.bytes.arbitrary::<u8>()?;
                self.follow(count.into());
            }
            _ => {
                let key = self.key()?;
                let value = self.value()?;
                let seq = self.bytes.arbitrary::<Option<u8>>()?.map(u64::from);
                let heard = if self.bytes.arbitrary()? {
                    Heard::Live
                } else {
                    Heard::Kept(self.now - u64::from(self.bytes.arbitrary::<u16>()?))
                };
                self.hear(&key, value.as_deref(), seq, heard);
            }
        }
        Ok(())
    }

    /// A key as a node writes one, or anything.
    fn key(&mut self) -> Result<String> {
        let node = *self.bytes.choose(&["a", "b", "c", "d"])?;
        let last = self.bytes.int_in_range(0..=5_u8)?;
        let address = match self.bytes.int_in_range(0..=1_u8)? {
            0 => [203, 0, 113, last].into(),
            _ => [0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()].into(),
        };
        let kind = *self.bytes.choose(&[Kind::Ban, Kind::Ban, Kind::Allow])?;
        let length = *self.bytes.choose(&[32, 24, 8, 64, 128, 0])?;
        Ok(match self.bytes.int_in_range(0..=9_u8)? {
            0 => presence_key(node),
            1 => self.bytes.arbitrary::<&str>()?.to_owned(),
            _ => match PrefixKey::new(address, length) {
                Some(source) => topic_key(node, &Topic { kind, source }),
                None => presence_key(node),
            },
        })
    }

    /// A value as a node writes one, or anything; `None`: the key is deleted.
    fn value(&mut self) -> Result<Option<Vec<u8>>> {
        let seq = u64::from(self.bytes.arbitrary::<u8>()?);
        let at = self.now + u64::from(self.bytes.arbitrary::<u8>()?);
        Ok(match self.bytes.int_in_range(0..=9_u8)? {
            0 | 1 => None,
            2 => Some(self.bytes.arbitrary::<&[u8]>()?.to_vec()),
            3 => {
                let presence = Presence {
                    version: "1".to_owned(),
                    instance: seq,
                };
                Some(Written::new(presence, seq, at).to_bytes())
            }
            _ => {
                let expires = match self.bytes.int_in_range(0..=2_u8)? {
                    0 => None,
                    1 => Some(self.bytes.arbitrary()?),
                    _ => Some(self.now + u64::from(self.bytes.arbitrary::<u32>()?)),
                };
                let said = Said {
                    expires,
                    cause: "limit".to_owned(),
                    reason: None,
                };
                Some(Written::new(said, seq, at).to_bytes())
            }
        })
    }

    /// As a node takes what it hears of another one.
    fn hear(&mut self, key: &str, value: Option<&[u8]>, seq: Option<u64>, heard: Heard) {
        let Some(read) = Key::parse(key) else {
            return;
        };
        match read {
            Key::Topic(node, topic) => assert_eq!(topic_key(node, &topic), key, "one key each"),
            Key::Presence(node) => assert_eq!(presence_key(node), key),
        }
        let (Key::Topic(node, _) | Key::Presence(node)) = read;
        assert_eq!(Key::node_of(key), node);
        let now = self.now;
        let Ok(name) = self.state.listen(node, heard, now) else {
            return;
        };
        match (read, value) {
            (Key::Topic(_, topic), Some(value)) => match Written::<Said>::parse(value) {
                Some(written) => {
                    assert!(written.said.cause.len() <= MAX_TEXT);
                    assert!(
                        written
                            .said
                            .reason
                            .as_ref()
                            .is_none_or(|reason| reason.len() <= MAX_TEXT)
                    );
                    assert_eq!(Written::parse(&written.to_bytes()).as_ref(), Some(&written));
                    // Refused or not, it is checked what follows.
                    let _ = self.state.put(&name, topic, &written, heard, now);
                }
                None => self.state.spoil(&name, &topic, heard),
            },
            (Key::Topic(_, topic), None) => self.state.delete(&name, topic, seq, now),
            (Key::Presence(_), Some(value)) => {
                if let Some(written) = Written::<Presence>::parse(value) {
                    assert!(written.said.version.len() <= MAX_TEXT);
                    self.state.greet(&name, written, heard, now);
                }
            }
            (Key::Presence(_), None) => self.state.dismiss(&name),
        }
    }

    /// Takes up to `count` changes note of.
    fn follow(&mut self, count: usize) {
        for (source, counts) in self.state.take_changed(count) {
            let before = match counts.clone() {
                Some(counts) => self.told.insert(source, counts),
                None => self.told.remove(&source),
            };
            assert_ne!(before, counts, "told without a change");
        }
    }

    /// What holds after every step.
    fn check(&mut self) {
        assert!(self.state.has_changed() || self.told.len() == self.state.banned());
        let longest = self.now + millis(CONFIG.max_bantime);
        let allowed = self.state.take_allowed();
        assert_eq!(allowed.len(), self.state.allowed());
        let told = self
            .told
            .iter()
            .map(|(source, counts)| (*source, counts.clone()));
        for (source, counts) in told.chain(allowed) {
            assert!(counts.until <= longest, "{counts:?}");
            assert_ne!(&*counts.node, "d", "it is not listened to");
            let is_ipv4 = source.address().expect("a prefix").is_ipv4();
            let widest = if is_ipv4 {
                CONFIG.widest_ipv4
            } else {
                CONFIG.widest_ipv6
            };
            assert!(source.length >= widest.into(), "{source:?}");
        }
        let (mut bans, mut nodes) = (0, 0);
        for (_, node) in self.state.nodes() {
            bans += node.bans;
            nodes += 1;
        }
        assert!(bans >= self.state.banned() && nodes <= 4 + STEPS);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).expect("a sensible time")
}
