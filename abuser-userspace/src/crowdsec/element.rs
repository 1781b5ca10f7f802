//! One decision as a local API tells of it, and why some ban nobody here.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use abuser_common::{layout::BanCause, prefix::PrefixKey};
use ipnet::IpNet;
use serde::Deserialize;

use super::{
    decisions::{Decision, DecisionKey},
    filter::Filter,
};
use crate::{
    config::{PrefixError, parse_prefix},
    daemon::{clock, engine::MAX_REASON},
    exchange::{self, Expiry},
    policy::is_wide,
    store::rows::BanNote,
    words::beginning,
};

/// Why a decision bans nobody here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ignored {
    /// It asks for something else than a ban.
    Type,
    /// It is about something else than an address or a prefix.
    Scope,
    /// It is simulated.
    Simulated,
    /// It is wider than what is banned without force.
    Wide,
    /// It cannot be read.
    Malformed,
}

impl Ignored {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Type,
        Self::Scope,
        Self::Simulated,
        Self::Wide,
        Self::Malformed,
    ];

    /// The name used in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Scope => "scope",
            Self::Simulated => "simulated",
            Self::Wide => "wide",
            Self::Malformed => "malformed",
        }
    }
}

/// One decision, as it stands there.
#[derive(Deserialize)]
pub(super) struct Wire<'a> {
    id: Option<u64>,
    #[serde(borrow)]
    origin: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    scope: Option<Cow<'a, str>>,
    #[serde(borrow)]
    value: Option<Cow<'a, str>>,
    #[serde(borrow)]
    duration: Option<Cow<'a, str>>,
    #[serde(borrow)]
    scenario: Option<Cow<'a, str>>,
    simulated: Option<bool>,
}

/// Why a decision is left out, and what to say of it.
pub(super) struct LeftOut(pub(super) Ignored, pub(super) String);

/// What reads decisions, one after the other.
#[derive(Debug, Default)]
pub(super) struct Elements {
    /// Whether they may ban prefixes wider than IPv4 /16 and IPv6 /32.
    pub(super) force: bool,
    /// Which are taken.
    pub(super) filter: Filter,
    /// Notes by origin and scenario: many decisions share one.
    notes: HashMap<(String, String), Arc<BanNote>>,
}

impl Elements {
    /// These, of which none was read yet.
    pub(super) fn new(force: bool, filter: Filter) -> Self {
        Self {
            force,
            filter,
            notes: HashMap::new(),
        }
    }

    /// The decision; `None` if it is over, or of those that are not asked for.
    pub(super) fn read(&mut self, text: &str) -> Result<Option<Decision>, LeftOut> {
        let malformed = |problem: String| LeftOut(Ignored::Malformed, problem);
        let wire: Wire<'_> = Wire::parse(text).map_err(|error| malformed(error.to_string()))?;
        let scenario = wire.scenario.as_deref().unwrap_or_default();
        if !self.filter.takes(wire.origin(), scenario) {
            return Ok(None);
        }
        if wire.simulated == Some(true) {
            return Err(LeftOut(Ignored::Simulated, String::new()));
        }
        let kind = wire.kind.as_deref();
        if !kind.is_some_and(|kind| kind.eq_ignore_ascii_case("ban")) {
            return Err(match kind {
                Some(_) => LeftOut(Ignored::Type, String::new()),
                None => malformed("it has no `type`".to_owned()),
            });
        }
        let (source, id) = wire.key()?;
        let net = source
            .address()
            .and_then(|address| IpNet::new(address, u8::try_from(source.length).ok()?).ok());
        if !self.force && net.as_ref().is_some_and(is_wide) {
            return Err(LeftOut(
                Ignored::Wide,
                "wider than IPv4 /16 or IPv6 /32, which takes force = true in [crowdsec]"
                    .to_owned(),
            ));
        }
        let Some(duration) = wire.duration.as_deref() else {
            return Err(malformed("it has no `duration`".to_owned()));
        };
        let expires_ns = match exchange::left(duration).map_err(malformed)? {
            Expiry::In(left) if left.is_zero() => return Ok(None),
            Expiry::In(left) => clock::kernel_deadline(left),
            _ => 0,
        };
        let text = |text: Option<Cow<'_, str>>| bounded(text.as_deref().unwrap_or_default());
        let key = (text(wire.origin), text(wire.scenario));
        let note = self
            .notes
            .entry(key)
            .or_insert_with_key(|(origin, scenario)| {
                let said = |text: &String| (!text.is_empty()).then(|| text.clone());
                Arc::new(BanNote {
                    cause: BanCause::Crowdsec,
                    subject: said(origin),
                    policy: None,
                    reason: said(scenario),
                    by: None,
                })
            });
        Ok(Some(Decision {
            id,
            source,
            expires_ns,
            note: Arc::clone(note),
        }))
    }
}

impl<'a> Wire<'a> {
    /// One as it stands there.
    pub(super) fn parse(text: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    /// Whose it is.
    pub(super) fn origin(&self) -> &str {
        self.origin.as_deref().unwrap_or_default()
    }

    /// Whom it is about, and its number.
    pub(super) fn key(&self) -> Result<DecisionKey, LeftOut> {
        let malformed = |problem: String| LeftOut(Ignored::Malformed, problem);
        match self.scope.as_deref() {
            Some(scope)
                if ["ip", "range"]
                    .iter()
                    .any(|known| scope.eq_ignore_ascii_case(known)) => {}
            Some(_) => return Err(LeftOut(Ignored::Scope, String::new())),
            None => return Err(malformed("it has no `scope`".to_owned())),
        }
        let Some(value) = self.value.as_deref() else {
            return Err(malformed("it has no `value`".to_owned()));
        };
        let net = match parse_prefix(value) {
            Ok(net) => net,
            // As CrowdSec itself takes it.
            Err(PrefixError::HostBits { network, .. }) => network,
            Err(error) => return Err(malformed(error.to_string())),
        };
        let source = PrefixKey::new(net.addr(), net.prefix_len());
        match (source, self.id) {
            (Some(source), Some(id)) => Ok((source, id)),
            _ => Err(malformed("it has no `id`".to_owned())),
        }
    }
}

/// A text that is kept as long as a ban.
fn bounded(text: &str) -> String {
    beginning(text, MAX_REASON).to_owned()
}
