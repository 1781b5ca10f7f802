//! Which events go to whom: pure.

use std::collections::HashMap;

use crate::{
    api::types::{EventKind, EventRecord},
    config::{Config, NotifyFilter},
};

/// The policies of what events name, by a configuration.
#[derive(Debug, Default, Clone)]
pub(super) struct Policies {
    limits: HashMap<String, String>,
    detectors: HashMap<String, String>,
}

impl Policies {
    /// Those of a configuration.
    pub(super) fn new(config: &Config) -> Self {
        let limits = config.limits.iter();
        let detectors = config.detectors.iter().map(|detector| &detector.rule);
        Self {
            limits: limits
                .map(|limit| (limit.name.clone(), limit.policy.clone()))
                .collect(),
            detectors: detectors
                .map(|rule| (rule.name.clone(), rule.policy.clone()))
                .collect(),
        }
    }

    /// The policy that an event is of: that of the ban, of the limit, or of the detector.
    ///
    /// Bans that no policy made, such as those of a block list, have none.
    fn of<'e>(&'e self, event: &'e EventRecord) -> Option<&'e str> {
        if let EventKind::Ban | EventKind::Unban = event.kind {
            return event.policy.as_deref();
        }
        let of_limit = event.limit.as_ref().and_then(|name| self.limits.get(name));
        let by_detector = event.detector.as_ref();
        let policy = of_limit.or_else(|| self.detectors.get(by_detector?));
        policy.map(String::as_str)
    }
}

/// Whether an event is wanted.
pub(super) fn is_wanted(filter: &NotifyFilter, policies: &Policies, event: &EventRecord) -> bool {
    let NotifyFilter {
        events,
        policies: wanted,
        causes,
        detectors,
    } = filter;
    let named = |names: &[String], name: Option<&str>| {
        names.is_empty() || name.is_some_and(|name| names.iter().any(|known| known == name))
    };
    let has_cause = matches!(event.kind, EventKind::Ban | EventKind::Unban);
    !event.among_all
        && events.contains(&event.kind)
        && (!has_cause || named(causes, event.cause.as_deref()))
        && named(detectors, event.detector.as_deref())
        && (wanted.is_empty() || named(wanted, policies.of(event)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use abuser_common::layout::BanCause;

    use super::*;
    use crate::config::parse;

    const CONFIG: &str = "[[policy]]\nname = \"strict\"\n\
        [[limit]]\nname = \"web\"\nrate = \"1/s\"\npolicy = \"strict\"\n\
        [[limit]]\nname = \"dns\"\nrate = \"1/s\"\n\
        [[source]]\nname = \"app\"\nfiles = [\"/a.log\"]\nparser = \"json\"\n\
        [[detector]]\nname = \"login\"\ncount = 5\nwithin = \"1m\"\naction = \"ban\"\npolicy = \"strict\"\n";

    fn filter(keys: &str) -> (NotifyFilter, Policies) {
        let text = format!("{CONFIG}[[notify]]\nname = \"a\"\nurl = \"http://a/\"\n{keys}\n");
        let config = parse(&text, Path::new("a.toml")).unwrap();
        (config.notify[0].filter.clone(), Policies::new(&config))
    }

    fn event(kind: EventKind) -> EventRecord {
        EventRecord::new(kind, String::new())
    }

    fn because(kind: EventKind, cause: BanCause) -> EventRecord {
        EventRecord {
            cause: Some(cause.name().to_owned()),
            ..event(kind)
        }
    }

    #[test]
    fn bans_are_wanted_unless_others_are_named() {
        let (filter, policies) = filter("");
        let limit = BanCause::Limit;
        assert!(is_wanted(
            &filter,
            &policies,
            &because(EventKind::Ban, limit)
        ));
        let unban = because(EventKind::Unban, limit);
        for event in [unban, event(EventKind::Drop), event(EventKind::Missed)] {
            assert!(!is_wanted(&filter, &policies, &event));
        }
    }

    #[test]
    fn what_comes_by_the_thousand_is_told_only_to_who_names_it() {
        use BanCause::{Application, Detector, Limit, Manual, Rollup};

        const EVENTS: &str = "events = [\"ban\", \"unban\", \"drop\"]";
        let (unnamed, policies) = filter(EVENTS);
        let (lists, _) = filter(
            "causes = [\"import\", \"blocklist\", \"crowdsec\", \"fleet\"]\nevents = [\"ban\", \"unban\"]",
        );
        let told: Vec<_> = BanCause::ALL
            .into_iter()
            .filter(|cause| is_wanted(&unnamed, &policies, &because(EventKind::Ban, *cause)))
            .collect();
        assert_eq!(told, [Manual, Limit, Rollup, Detector, Application]);
        for cause in BanCause::ALL {
            for kind in [EventKind::Ban, EventKind::Unban] {
                let event = because(kind, cause);
                let by_default = is_wanted(&unnamed, &policies, &event);
                assert_ne!(
                    is_wanted(&lists, &policies, &event),
                    by_default,
                    "{event:?}"
                );
            }
        }
        // What has no cause is not asked for one.
        assert!(is_wanted(&unnamed, &policies, &event(EventKind::Drop)));
        // All bans lifted at once, whatever their causes.
        let lifted = EventRecord {
            among_all: true,
            ..because(EventKind::Unban, Limit)
        };
        assert!(!is_wanted(&unnamed, &policies, &lifted));
    }

    #[test]
    fn a_policy_is_that_of_the_ban_or_of_the_limit_or_detector() {
        let keys = "policies = [\"strict\"]\nevents = [\"ban\", \"unban\", \"drop\", \"detect\"]";
        let (filter, policies) = filter(keys);
        let wanted = |event: EventRecord| is_wanted(&filter, &policies, &event);
        let text = |text: &str| Some(text.to_owned());
        for (kind, policy, limit, detector, expected) in [
            (EventKind::Ban, text("strict"), None, None, true),
            (EventKind::Unban, text("strict"), text("dns"), None, true),
            (EventKind::Ban, text("default"), text("web"), None, false),
            // By hand, or by a list.
            (EventKind::Ban, None, None, None, false),
            (EventKind::Drop, None, text("web"), None, true),
            (EventKind::Drop, None, text("dns"), None, false),
            (EventKind::Drop, None, text("gone"), None, false),
            (EventKind::Detect, None, None, text("login"), true),
            (EventKind::Detect, None, None, text("other"), false),
        ] {
            let event = EventRecord {
                limit,
                policy,
                detector,
                ..because(kind, BanCause::Limit)
            };
            assert_eq!(wanted(event.clone()), expected, "{event:?}");
        }
    }

    #[test]
    fn all_that_is_given_must_match() {
        let keys = "causes = [\"limit\", \"detector\"]\ndetectors = [\"login\"]";
        let (filter, policies) = filter(keys);
        let ban = |cause: &str, detector: Option<&str>| EventRecord {
            cause: Some(cause.to_owned()),
            detector: detector.map(str::to_owned),
            ..event(EventKind::Ban)
        };
        assert!(is_wanted(
            &filter,
            &policies,
            &ban("detector", Some("login"))
        ));
        assert!(!is_wanted(&filter, &policies, &ban("detector", Some("x"))));
        assert!(!is_wanted(&filter, &policies, &ban("limit", None)));
        assert!(!is_wanted(
            &filter,
            &policies,
            &ban("manual", Some("login"))
        ));
    }
}
