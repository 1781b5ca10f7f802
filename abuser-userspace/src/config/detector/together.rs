//! Settings of a detector that are fine each alone and not together: those that would have no effect,
//! and those with which others could have somebody banned.

use abuser_detect::{detect::enumeration, field::Field};

use super::{
    super::{error::ConfigError, section::Section},
    DetectorAction, DetectorKind,
    kinds::FromPolicy,
};
use crate::policy::{WIDEST_IPV4, WIDEST_IPV6};

/// What is known of a detector when its own table is read.
pub(super) struct Settings<'s> {
    pub(super) section: &'s Section<'s>,
    pub(super) action: DetectorAction,
    pub(super) kind: &'s DetectorKind,
    pub(super) from_policy: &'s FromPolicy,
    /// Whether a filter of fail2ban reads its lines.
    pub(super) filtered: bool,
}

impl Settings<'_> {
    /// Checks all that has to go together.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.check_policy()?;
        if self.filtered {
            self.check_filtered_track()?;
        }
        if self.action != DetectorAction::Alert {
            self.check_prefixes()?;
            self.check_track()?;
            self.check_distinct()?;
        }
        self.check_fan_out()
    }

    /// A policy bans, and gives a threshold its numbers.
    fn check_policy(&self) -> Result<(), ConfigError> {
        let Some(item) = self.section.get("policy") else {
            return Ok(());
        };
        if self.action == DetectorAction::Ban || self.from_policy.takes(self.kind) {
            return Ok(());
        }
        let action = self.action.name();
        Err(item.error(format!(
            "it says for how long to ban, and action = \"{action}\" bans nobody; remove it, or write \
             action = \"ban\""
        )))
    }

    /// Nobody is banned or throttled for so many neighbours.
    fn check_prefixes(&self) -> Result<(), ConfigError> {
        let masks = self.kind.masks();
        for (key, length, widest, longest) in [
            ("ipv4_prefix", masks.ipv4, WIDEST_IPV4, 32),
            ("ipv6_prefix", masks.ipv6, WIDEST_IPV6, 128),
        ] {
            if let Some(item) = self.section.get(key).filter(|_| length < widest) {
                let action = self.action.name();
                return Err(item.error(format!(
                    "a /{length} is too wide for action = \"{action}\", which spares whatever is wider \
                     than a /{widest}; write {widest} to {longest}, or action = \"alert\""
                )));
            }
        }
        Ok(())
    }

    /// What is found by a value are those who sent it last. If anybody can send the value of
    /// somebody else, he has him found with himself: by failing to log in in his name. To be
    /// throttled harms him as well, if less, and he can do nothing about it either.
    fn check_track(&self) -> Result<(), ConfigError> {
        let Some((item, field)) = self.section.get("track").zip(self.kind.tracked()) else {
            return Ok(());
        };
        let action = self.action.name();
        let hit = match self.action {
            DetectorAction::Throttle => "throttled",
            _ => "banned",
        };
        match shared(field) {
            None => Ok(()),
            Some(Shared::User) => Err(item.error(format!(
                "with action = \"{action}\" all who use that name would be {hit}, so whoever fails to \
                 log in as somebody else could have him {hit}; leave track out, which counts by \
                 source, or write action = \"alert\""
            ))),
            Some(Shared::Anybody) => Err(item.error(format!(
                "with action = \"{action}\" all who have the same {field} would be {hit}, whoever they \
                 are; track what only one client has, such as \"source\" or \"key\", or write action = \
                 \"alert\""
            ))),
        }
    }

    /// Of different ids that everybody took together nobody is to blame, and the last to come would be.
    fn check_distinct(&self) -> Result<(), ConfigError> {
        let DetectorKind::Enumeration(settings) = self.kind else {
            return Ok(());
        };
        let by_all = settings.track == enumeration::Track::Path && settings.distinct.is_some();
        let item = self.section.get("distinct");
        match item.or_else(|| self.section.get("track")) {
            Some(item) if by_all => Err(item.error(format!(
                "with track = \"path\" and action = \"{}\", whoever comes when all clients together have \
                 asked for `distinct` ids would pay for them; write distinct = 0, or action = \"alert\"",
                self.action.name()
            ))),
            _ => Ok(()),
        }
    }

    /// What a filter makes of a line has not all that a record of a web server has.
    fn check_filtered_track(&self) -> Result<(), ConfigError> {
        let Some((item, field)) = self.section.get("track").zip(self.kind.tracked()) else {
            return Ok(());
        };
        let tells = matches!(
            field,
            Field::Time
                | Field::Source
                | Field::User
                | Field::Message
                | Field::Line
                | Field::Other(_)
        );
        if !tells {
            return Err(item.error(format!(
                "a filter of fail2ban tells no {field}, so nothing would ever be counted; track \
                 \"source\", \"user\", or a group of its failregex as \"field.NAME\""
            )));
        }
        Ok(())
    }

    /// A fan-out of nothing, or of what cannot fan out.
    fn check_fan_out(&self) -> Result<(), ConfigError> {
        let DetectorKind::FanOut(settings) = self.kind else {
            return Ok(());
        };
        if let Some(item) = self.section.get("track")
            && settings.by == Field::Source
        {
            return Err(item.error(
                "a source has one address, so nothing would ever be found; track what many sources can \
                 have, such as \"key\"",
            ));
        }
        let counted = [settings.sources, settings.keys, settings.identical];
        match self.section.get("clients") {
            Some(item) if counted == [None; 3] => Err(item.error(
                "with `keys` and `identical` 0 as well, it looks for nothing; give one of the three a \
                 number",
            )),
            _ => Ok(()),
        }
    }
}

/// Who can send a value.
enum Shared {
    /// Whoever says that he is that user.
    User,
    /// Everybody.
    Anybody,
}

/// Whether a value can be sent by others than its owner; `None` if it is a secret, or nobody can tell.
fn shared(field: &Field) -> Option<Shared> {
    match field {
        Field::Source | Field::Key | Field::Other(_) => None,
        Field::Header(name) if is_secret(name) => None,
        Field::User => Some(Shared::User),
        _ => Some(Shared::Anybody),
    }
}

/// Whether a header has what only one client knows, as far as its name says.
fn is_secret(header: &str) -> bool {
    ["auth", "cookie", "key", "secret", "session", "token"]
        .iter()
        .any(|secret| header.contains(secret))
}

impl DetectorKind {
    /// The field that it counts by, if it is one.
    fn tracked(&self) -> Option<&Field> {
        match self {
            Self::Threshold(settings) => settings.track.field(),
            Self::Baseline(settings) => settings.track.field(),
            Self::Enumeration(settings) => match &settings.track {
                enumeration::Track::Field(field) => Some(field),
                enumeration::Track::Source | enumeration::Track::Path => None,
            },
            Self::FanOut(settings) => Some(&settings.by),
            Self::Stuffing(_)
            | Self::MissingHeaders(_)
            | Self::Signup(_)
            | Self::Distributed(_) => None,
        }
    }
}
