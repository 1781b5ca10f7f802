//! From offences to bans, as the daemon's engine comes to them, without a kernel.
//!
//! Whoever replays something (packets, lines of a log) says who committed an offence under which
//! policy and when; what follows is decided by the same [`policy`](crate::policy) as in the daemon.
//! The clock is that of what is replayed. Nothing is left to chance: what `rndtime` would add to
//! a ban is left out.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    time::Duration,
};

use abuser_common::{layout::MAX_BANS, prefix::PrefixKey};
use ipnet::IpNet;

use crate::{
    config::{AllowEntry, Config},
    policy::{BanTime, MAX_OFFENDERS, Offenders, Rollup, Rollups, Spared, is_wide, with_repeats},
    words::counted,
};

/// Something that led to a ban.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// When, since 1970.
    pub at: Duration,
    /// What happened.
    pub text: String,
}

/// A ban that would have been made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// Its number: 1 for the first one.
    pub id: u64,
    /// Whom it bans.
    pub source: PrefixKey,
    /// When it begins, since 1970.
    pub at: Duration,
    /// How long it lasts.
    pub time: BanTime,
    /// What was offended against, such as `limit web`; `rollup` if it is for the bans of hosts
    /// in it.
    pub cause: String,
    /// The policy that says for how long.
    pub policy: String,
    /// The offences that led to it; 0 if none did.
    pub offences: u32,
    /// Why, in words.
    pub reason: String,
    /// What led to it, the latest.
    pub evidence: Vec<Evidence>,
    /// Packets or lines that met it.
    pub hits: u64,
}

impl Ban {
    /// When it ends, since 1970; `None`: never.
    pub fn ends(&self) -> Option<Duration> {
        match self.time {
            BanTime::Permanent => None,
            BanTime::For(time) => Some(self.at.saturating_add(time)),
        }
    }
}

/// A ban in force.
#[derive(Clone, Copy)]
struct InForce {
    /// Its number.
    id: u64,
    ends: Option<Duration>,
    /// The policy under which it counts for a rollup.
    counts_for: Option<u16>,
}

/// Who offended, who is banned, and who was.
pub struct Judge {
    offenders: Offenders<Evidence>,
    rollups: Rollups,
    allowed: Vec<IpNet>,
    trusted: Vec<IpNet>,
    in_force: HashMap<PrefixKey, InForce>,
    ends: BTreeSet<(Duration, PrefixKey)>,
    /// The lengths of prefixes that were banned, longest first.
    lengths: BTreeSet<Reverse<u8>>,
    bans: Vec<Ban>,
    offences: u64,
    no_room: u64,
    /// Evidence that is kept of each ban.
    evidence: usize,
}

impl Judge {
    /// Judges by the policies, the allow list and the trusted proxies of a configuration.
    pub fn new(config: &Config) -> Self {
        let allowed = config.allow.iter().filter_map(|entry| match entry {
            AllowEntry::Prefix(prefix) => Some(*prefix),
            AllowEntry::Name(_) => None,
        });
        Self {
            offenders: Offenders::new(config.all_policies(), MAX_OFFENDERS),
            rollups: Rollups::default(),
            allowed: allowed.collect(),
            trusted: config.trusted_proxies(),
            in_force: HashMap::new(),
            ends: BTreeSet::new(),
            lengths: BTreeSet::new(),
            bans: Vec::new(),
            offences: 0,
            no_room: 0,
            evidence: config.store.evidence,
        }
    }

    /// The number of the policy with this name; of the default one if there is none.
    pub fn policy(&self, name: &str) -> u16 {
        self.offenders.policy_number(name).unwrap_or_default()
    }

    /// Whether offences under a policy count only if their source is known to be no forgery.
    pub fn requires_verified(&self, policy: u16) -> bool {
        self.offenders.policy(policy).require_verified
    }

    /// All bans so far, in the order of time.
    pub fn bans(&self) -> &[Ban] {
        &self.bans
    }

    /// Takes note of how many packets or lines met the ban with this number.
    pub fn set_hits(&mut self, id: u64, hits: u64) {
        if let Some(ban) = self.ban_mut(id) {
            ban.hits = hits;
        }
    }

    fn ban_mut(&mut self, id: u64) -> Option<&mut Ban> {
        let index = usize::try_from(id.checked_sub(1)?).ok()?;
        self.bans.get_mut(index)
    }

    /// Who is to be spared of bans within a range, or covers it; the first of them.
    pub fn spared_within(&self, range: &IpNet) -> Option<Spared> {
        Spared::within(range, &self.trusted, self.allowed.iter().copied())
    }

    /// Offences that counted.
    pub fn offences(&self) -> u64 {
        self.offences
    }

    /// Bans that were not made because there are as many as there can be.
    pub fn no_room(&self) -> u64 {
        self.no_room
    }

    /// Whether exactly this prefix is banned at `at`.
    pub fn is_banned(&mut self, source: &PrefixKey, at: Duration) -> bool {
        self.end_bans(at);
        self.in_force.contains_key(source)
    }

    /// Something came from an address at `at`: whether it would have met a ban, for which it
    /// counts then.
    pub fn meets(&mut self, source: IpAddr, at: Duration) -> bool {
        self.end_bans(at);
        if self.in_force.is_empty() {
            return false;
        }
        let mut keys = self
            .lengths
            .iter()
            .filter_map(|length| PrefixKey::new(source, length.0));
        let Some(met) = keys
            .find_map(|key| self.in_force.get(&key))
            .map(|met| met.id)
        else {
            return false;
        };
        // Allowed is allowed, whoever else is banned with it.
        let source = source.to_canonical();
        if self.allowed.iter().any(|allowed| allowed.contains(&source)) {
            return false;
        }
        if let Some(ban) = self.ban_mut(met) {
            ban.hits += 1;
        }
        true
    }

    /// Somebody offended against `cause`; returns the bans that follow: none, its own, or also
    /// that of the prefix it lies in.
    ///
    /// Who is banned already commits no more offences, and nobody is banned together with a trusted
    /// proxy, or for so many neighbours as a [wide](is_wide) prefix has.
    pub fn offence(
        &mut self,
        source: PrefixKey,
        policy: u16,
        cause: &str,
        at: Duration,
        evidence: String,
    ) -> &[Ban] {
        let before = self.bans.len();
        let range = net(&source);
        let trusted = Spared::within(&range, &self.trusted, []).is_some();
        if is_wide(&range) || trusted || self.is_banned(&source, at) {
            return &[];
        }
        self.offences += 1;
        let evidence = Evidence { at, text: evidence };
        let subject = (policy, source);
        let sentence = self.offenders.offence(subject, at, 0.0, evidence);
        // Nobody keeps a copy.
        self.offenders.take_forgotten();
        if let Some(sentence) = sentence {
            let evidence = sentence.offences.into_iter();
            let evidence = evidence.map(|offence| offence.evidence).collect();
            let repeats = sentence.repeats;
            self.sentence(source, policy, cause, at, evidence, sentence.time, repeats);
        }
        self.bans.get(before..).unwrap_or_default()
    }

    /// Somebody is banned for `cause` at once, for as long as the policy says; returns the bans
    /// that follow, as [`Judge::offence`] does.
    pub fn ban(
        &mut self,
        source: PrefixKey,
        policy: u16,
        cause: &str,
        at: Duration,
        evidence: Vec<Evidence>,
    ) -> &[Ban] {
        let before = self.bans.len();
        if is_wide(&net(&source)) || self.is_banned(&source, at) {
            return &[];
        }
        let (time, repeats) = self.offenders.convict((policy, source), at, 0.0);
        self.sentence(source, policy, cause, at, evidence, time, repeats);
        self.bans.get(before..).unwrap_or_default()
    }

    #[expect(clippy::too_many_arguments, reason = "a ban has as many sides")]
    fn sentence(
        &mut self,
        source: PrefixKey,
        policy: u16,
        cause: &str,
        at: Duration,
        mut evidence: Vec<Evidence>,
        time: BanTime,
        repeats: u32,
    ) {
        let offences = u32::try_from(evidence.len()).unwrap_or(u32::MAX);
        evidence.drain(..evidence.len().saturating_sub(self.evidence));
        let offended = counted(offences.into(), "offence", "offences");
        let reason = with_repeats(format!("{offended} against {cause}"), repeats);
        let rule = self.offenders.policy(policy).rollup;
        let made = self.enforce(
            Ban {
                id: 0,
                source,
                at,
                time,
                cause: cause.to_owned(),
                policy: String::new(),
                offences,
                reason,
                evidence,
                hits: 0,
            },
            policy,
            rule.is_some(),
        );
        if made
            && let Some(rule) = rule
            && let Some(prefix) = self.rollups.banned(policy, rule, &source)
        {
            self.roll_up(policy, rule, prefix, at);
        }
    }

    /// Bans a prefix for the hosts in it, unless that bans one that is allowed or a trusted proxy.
    fn roll_up(&mut self, policy: u16, rule: Rollup, prefix: PrefixKey, at: Duration) {
        let is_spared = self.spared_within(&net(&prefix)).is_some();
        if is_spared || self.in_force.contains_key(&prefix) {
            return;
        }
        let (time, _) = self.offenders.convict((policy, prefix), at, 0.0);
        let ban = Ban {
            id: 0,
            source: prefix,
            at,
            time,
            cause: "rollup".to_owned(),
            policy: String::new(),
            offences: 0,
            reason: rule.reason(),
            evidence: Vec::new(),
            hits: 0,
        };
        self.enforce(ban, policy, false);
    }

    /// Puts a ban in force; `false` if there is no room for it.
    fn enforce(&mut self, ban: Ban, policy: u16, counts: bool) -> bool {
        if self.in_force.len() >= usize::try_from(MAX_BANS).unwrap_or(usize::MAX) {
            self.no_room += 1;
            return false;
        }
        let ends = ban.ends();
        if let Some(ends) = ends {
            self.ends.insert((ends, ban.source));
        }
        let in_force = InForce {
            id: self.bans.len() as u64 + 1,
            ends,
            counts_for: counts.then_some(policy),
        };
        self.in_force.insert(ban.source, in_force);
        let length = u8::try_from(ban.source.length).unwrap_or(u8::MAX);
        self.lengths.insert(Reverse(length));
        self.bans.push(Ban {
            id: in_force.id,
            policy: self.offenders.policy(policy).name.clone(),
            ..ban
        });
        true
    }

    /// Ends the bans that are over.
    fn end_bans(&mut self, at: Duration) {
        while let Some((ends, source)) = self.ends.first().copied() {
            if ends > at {
                return;
            }
            self.ends.pop_first();
            let over = self.in_force.get(&source).copied();
            let Some(over) = over.filter(|over| over.ends == Some(ends)) else {
                continue;
            };
            self.in_force.remove(&source);
            if let Some(policy) = over.counts_for
                && let Some(rule) = self.offenders.policy(policy).rollup
            {
                self.rollups.unbanned(policy, rule, &source);
            }
        }
    }
}

/// A key as people write it.
pub(super) fn net(key: &PrefixKey) -> IpNet {
    let length = u8::try_from(key.length).unwrap_or(0);
    key.address()
        .and_then(|address| IpNet::new(address, length).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn judge(text: &str) -> Judge {
        Judge::new(&crate::config::parse(text, Path::new("test.toml")).unwrap())
    }

    fn key(address: &str) -> PrefixKey {
        PrefixKey::new(address.parse().unwrap(), 32).unwrap()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn offend(judge: &mut Judge, address: &str, at: u64) -> Vec<Ban> {
        let bans = judge.offence(
            key(address),
            0,
            "limit web",
            seconds(at),
            format!("at {at}"),
        );
        bans.to_vec()
    }

    #[test]
    fn offences_within_findtime_ban_and_the_next_ban_is_longer() {
        let mut judge =
            judge("[ban]\nmaxretry = 2\nfindtime = \"1m\"\nbantime = \"10m\"\nincrement = true\n");
        assert!(offend(&mut judge, "203.0.113.7", 1000).is_empty());
        assert!(offend(&mut judge, "203.0.113.7", 1100).is_empty());
        let [ban] = &offend(&mut judge, "203.0.113.7", 1101)[..] else {
            panic!("no ban");
        };
        assert_eq!(
            (ban.id, ban.at, ban.ends()),
            (1, seconds(1101), Some(seconds(1701)))
        );
        assert_eq!(ban.reason, "2 offences against limit web");
        let texts: Vec<_> = ban.evidence.iter().map(|one| one.text.as_str()).collect();
        assert_eq!(texts, ["at 1100", "at 1101"]);
        // While it lasts nothing counts.
        assert!(offend(&mut judge, "203.0.113.7", 1700).is_empty());
        assert_eq!(judge.offences(), 3);
        offend(&mut judge, "203.0.113.7", 1701);
        let again = offend(&mut judge, "203.0.113.7", 1702);
        assert_eq!(again[0].ends(), Some(seconds(1702 + 1200)));
        assert_eq!(
            again[0].reason,
            "2 offences against limit web, banned 1 time before"
        );
    }

    #[test]
    fn hosts_that_are_banned_at_one_time_roll_up_but_not_around_who_is_allowed() {
        let text = "[ban]\nmaxretry = 1\nbantime = \"10m\"\n\
                    rollup = { hosts = 2, ipv4_prefix = 24 }\n";
        let mut judge = judge(text);
        assert_eq!(offend(&mut judge, "203.0.113.1", 1000).len(), 1);
        // The first one is over.
        assert_eq!(offend(&mut judge, "203.0.113.2", 1600).len(), 1);
        let bans = offend(&mut judge, "203.0.113.3", 1601);
        assert_eq!(bans.len(), 2);
        assert_eq!(net(&bans[1].source).to_string(), "203.0.113.0/24");
        assert_eq!(bans[1].cause, "rollup");
        let text = format!("[allow]\naddresses = [\"203.0.113.9\"]\n{text}");
        let mut judge = self::judge(&text);
        for number in 1..5 {
            let bans = offend(&mut judge, &format!("203.0.113.{number}"), 1000);
            assert_eq!(bans.len(), 1);
        }
    }

    #[test]
    fn hosts_do_not_roll_up_around_a_trusted_proxy_nor_is_it_banned_itself() {
        let text = "[ban]\nmaxretry = 1\nbantime = \"10m\"\n\
                    rollup = { hosts = 2, ipv4_prefix = 24 }\n\
                    [[source]]\nfiles = [\"/a\"]\ntrusted_proxies = [\"203.0.113.9\"]\n\
                    [[source]]\nfiles = [\"/b\"]\ntrusted_proxies = [\"198.51.100.0/24\"]\n";
        let mut judge = judge(text);
        for number in 1..5 {
            let bans = offend(&mut judge, &format!("203.0.113.{number}"), 1000);
            assert_eq!(bans.len(), 1);
        }
        for proxy in ["203.0.113.9", "198.51.100.7"] {
            assert!(offend(&mut judge, proxy, 1000).is_empty(), "{proxy}");
        }
        assert_eq!(judge.offences(), 4);
    }

    #[test]
    fn who_is_banned_at_once_is_banned_for_as_long_as_the_policy_says() {
        let mut judge = judge("[ban]\nbantime = \"-1\"\n");
        let bans = judge.ban(
            key("203.0.113.7"),
            0,
            "detector walk",
            seconds(5),
            Vec::new(),
        );
        assert_eq!((bans.len(), bans[0].ends()), (1, None));
        assert!(judge.is_banned(&key("203.0.113.7"), seconds(5_000_000)));
        assert!(
            judge
                .ban(key("203.0.113.7"), 0, "x", seconds(6), Vec::new())
                .is_empty()
        );
    }
}
