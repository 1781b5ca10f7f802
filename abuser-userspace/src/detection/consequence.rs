//! What follows from a finding for one source: what the detector's action is, unless something
//! speaks against it. The daemon and a replay ask here.

use abuser_detect::pipeline::Found;
use ipnet::IpNet;

use crate::{
    config::{DetectorAction, DetectorRule},
    policy::{is_wide, overlap},
};

/// What is done about a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// What the detector says.
    Act(DetectorAction),
    /// Nothing but telling, for this reason.
    Spare(String),
}

impl Consequence {
    /// What follows for `source`; `allowed` is who is allowed in it or covers it, if somebody is.
    pub fn of(rule: &DetectorRule, found: &Found, source: &IpNet, allowed: Option<IpNet>) -> Self {
        if rule.action == DetectorAction::Alert {
            return Self::Act(DetectorAction::Alert);
        }
        let spare = |whom: &dyn std::fmt::Display, why: &str| {
            Self::Spare(format!("nothing: {whom} is {why}"))
        };
        if is_wide(source) {
            return spare(source, "too wide");
        }
        let mut trusted = found.trusted.iter();
        if let Some(proxy) = trusted.find(|proxy| overlap(proxy, source)) {
            return spare(proxy, "a trusted proxy");
        }
        match allowed {
            Some(allowed) => spare(&allowed, "allowed"),
            None => Self::Act(rule.action),
        }
    }

    /// In words, as events have it.
    pub fn text(&self) -> &str {
        match self {
            Self::Act(action) => action.name(),
            Self::Spare(why) => why,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use abuser_detect::{detect::Finding, time::Time};

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a prefix")
    }

    fn of(action: DetectorAction, source: &str, trusted: &[&str], allowed: Option<&str>) -> String {
        let rule = DetectorRule {
            name: "x".to_owned(),
            action,
            policy: "default".to_owned(),
            limit: None,
            throttle_for: Duration::ZERO,
        };
        let found = Found {
            watch: 0,
            finding: Finding {
                sources: Vec::new(),
                subject: None,
                at: Time(0),
                count: 1,
                reason: String::new(),
            },
            evidence: Vec::new(),
            trusted: trusted.iter().map(|text| net(text)).collect(),
        };
        let consequence = Consequence::of(&rule, &found, &net(source), allowed.map(net));
        consequence.text().to_owned()
    }

    #[test]
    fn who_is_trusted_allowed_or_too_many_is_told_and_spared() {
        use DetectorAction::{Alert, Ban, Throttle};
        let source = "192.0.2.7/32";
        assert_eq!(of(Ban, source, &[], None), "ban");
        assert_eq!(of(Throttle, source, &["192.0.2.8/32"], None), "throttle");
        for action in [Ban, Throttle] {
            let trusted = of(action, source, &["192.0.2.0/24"], None);
            assert_eq!(trusted, "nothing: 192.0.2.0/24 is a trusted proxy");
            let trusted = of(action, "192.0.2.0/24", &["192.0.2.7/32"], None);
            assert_eq!(trusted, "nothing: 192.0.2.7/32 is a trusted proxy");
            let allowed = of(action, source, &[], Some("192.0.2.0/28"));
            assert_eq!(allowed, "nothing: 192.0.2.0/28 is allowed");
            let wide = of(action, "192.0.0.0/8", &[], None);
            assert_eq!(wide, "nothing: 192.0.0.0/8 is too wide");
        }
        assert_eq!(of(Alert, source, &["192.0.2.7/32"], None), "alert");
    }
}
