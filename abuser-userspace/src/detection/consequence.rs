//! What follows from a finding for one source: what the detector's action is, unless something
//! speaks against it. The daemon and a replay ask here.

use ipnet::IpNet;

use crate::{
    config::{DetectorAction, DetectorRule},
    policy::{Spared, is_wide},
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
    /// What follows for `source`; `spared` is who is to be spared in it or covers it, if somebody
    /// is.
    pub fn of(rule: &DetectorRule, source: &IpNet, spared: Option<Spared>) -> Self {
        if rule.action == DetectorAction::Alert {
            return Self::Act(DetectorAction::Alert);
        }
        if is_wide(source) {
            return Self::Spare(format!("nothing: {source} is too wide"));
        }
        match spared {
            Some(spared) => Self::Spare(format!("nothing: {spared}")),
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

    use super::*;

    fn of(action: DetectorAction, source: &str, spared: Option<Spared>) -> String {
        let rule = DetectorRule {
            name: "x".to_owned(),
            action,
            policy: "default".to_owned(),
            limit: None,
            throttle_for: Duration::ZERO,
        };
        let source = source.parse().expect("a prefix");
        let consequence = Consequence::of(&rule, &source, spared);
        consequence.text().to_owned()
    }

    #[test]
    fn who_is_trusted_allowed_or_too_many_is_told_and_spared() {
        use DetectorAction::{Alert, Ban, Throttle};
        let source = "192.0.2.7/32";
        let net = "192.0.2.0/28".parse().expect("a prefix");
        let (trusted, allowed) = (Spared::TrustedProxy(net), Spared::Allowed(net));
        assert_eq!(of(Ban, source, None), "ban");
        assert_eq!(of(Throttle, source, None), "throttle");
        for action in [Ban, Throttle] {
            let text = of(action, source, Some(trusted));
            assert_eq!(text, "nothing: 192.0.2.0/28 is a trusted proxy");
            let text = of(action, source, Some(allowed));
            assert_eq!(text, "nothing: 192.0.2.0/28 is allowed");
            let text = of(action, "192.0.0.0/8", Some(allowed));
            assert_eq!(text, "nothing: 192.0.0.0/8 is too wide");
        }
        assert_eq!(of(Alert, source, Some(trusted)), "alert");
    }
}
