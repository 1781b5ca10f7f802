//! Credential stuffing: leaked pairs of users and passwords, tried one after the other.
//!
//! People mistype their passwords, and an office of hundreds behind one address mistypes hundreds of them. What
//! tells a stuffer from an office is that nearly all of his logins fail, and from a person or a script with an old
//! password that they are for many users. So it takes three things at once, within a time that slides:
//! `count` failures, which are at least `ratio` of all logins, for at least `users` users. If a log names no users, the
//! third cannot be asked for.
//!
//! Worse than stuffing is stuffing that worked. A success is found by itself when half of that came
//! before it: `success_after` failures, with the same ratio, for as many users. It is worth an alarm even if the
//! source was found already, since the user has lost his account.
//!
//! After it was found, a source is found again when it has failed `count` times more; a success, when
//! `success_after` failures have come since the last that was found.
//!
//! It is given logins only: a condition of the detector chooses them. An answer that is neither a failure nor a
//! success (too many requests, a broken server) tells nothing and does not count.
//!
//! Per source two counts are kept in 64ths of the window, which forget up to 5 % too early, and the users who
//! failed, exact up to 64: nobody is found who stayed below the settings.

use std::time::Duration;

use super::{
    Detector, Finding, Occupancy,
    table::{TextKey, TextKeys, Weigh, WeighedTable},
    window::{Span, Window},
    words,
};
use crate::{
    record::Record,
    source::{Masks, Source},
    time::Time,
};

/// Bytes on the heap for each source there is room for.
const HEAP_PER_SOURCE: usize = 256;
/// Ticks in a window.
const TICKS: u16 = 64;
/// The most users that a source can be asked to have tried.
pub const MAX_USERS: u32 = 512;
/// Users that are told apart at least, and at most.
const USERS: (u32, u32) = (64, MAX_USERS);

/// What stuffing is.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Statuses of failed logins. Others from 200 to 399 are successes.
    pub statuses: Vec<u16>,
    /// How many failures it takes; 0 is 1.
    pub count: u32,
    /// Which part of the logins must have failed: 0 to 1.
    pub ratio: f64,
    /// For how many different users, if the log names them: up to [`MAX_USERS`].
    pub users: u32,
    /// After how many failures a success is found; 0 is 1.
    pub success_after: u32,
    /// Within which time.
    pub within: Duration,
    /// How much of an address is a source.
    pub masks: Masks,
    /// Sources that are remembered.
    pub capacity: usize,
}

impl Default for Settings {
    /// Twenty answers of 401 or 403 within an hour, which are four of five and for five users; a success after ten. Room
    /// for a quarter of a million sources.
    fn default() -> Self {
        Self {
            statuses: vec![401, 403],
            count: 20,
            ratio: 0.8,
            users: 5,
            success_after: 10,
            within: Duration::from_secs(3600),
            masks: Masks::default(),
            capacity: 250_000,
        }
    }
}

/// Finds who tries other people's passwords, and for whom it worked.
pub struct Stuffing {
    settings: Settings,
    span: Span,
    texts: TextKeys,
    sources: WeighedTable<Source, Logins>,
}

/// What a record says of a login.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Failure,
    Success,
}

/// The logins of one source.
#[derive(Default)]
struct Logins {
    failures: Window,
    successes: Window,
    /// Those who failed, with the time of the last failure; who failed last comes last.
    users: Vec<(TextKey, Time)>,
    /// Failures since the source was found.
    since_found: u32,
    /// Failures since a success was found.
    since_success: u32,
}

impl Weigh for Logins {
    fn heap_bytes(&self) -> usize {
        self.failures.heap_bytes()
            + self.successes.heap_bytes()
            + self.users.capacity() * size_of::<(TextKey, Time)>()
    }
}

/// What the logins of a source amount to.
struct Amount {
    failures: u32,
    successes: u32,
    /// 0 if the log does not name them.
    users: u32,
}

impl Stuffing {
    /// A detector that has seen nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            span: Span::coarse(settings.within, TICKS),
            texts: TextKeys::default(),
            sources: WeighedTable::with_heap_per_key(settings.capacity, HEAP_PER_SOURCE),
            settings,
        }
    }

    /// What it looks for.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn outcome(&self, status: u16) -> Option<Outcome> {
        if self.settings.statuses.contains(&status) {
            return Some(Outcome::Failure);
        }
        (200..400).contains(&status).then_some(Outcome::Success)
    }

    fn reason(&self, outcome: Outcome, user: Option<&str>, amount: &Amount) -> String {
        let within = words::duration(self.settings.within);
        let users = match amount.users {
            0 => String::new(),
            users if users >= told_apart(&self.settings) => format!(" for {users} or more users"),
            users => format!(" for {}", words::many(users, "user")),
        };
        let failures = words::many(amount.failures, "failure");
        match (outcome, user) {
            (Outcome::Failure, _) => {
                let logins = amount.failures.saturating_add(amount.successes);
                format!(
                    "{failures} in {}{users} within {within}",
                    words::many(logins, "login")
                )
            }
            (Outcome::Success, Some(user)) => {
                let user = words::quoted(user);
                format!("success as {user} after {failures}{users} within {within}")
            }
            (Outcome::Success, None) => format!("success after {failures}{users} within {within}"),
        }
    }
}

impl Detector for Stuffing {
    fn observe(&mut self, record: &Record<'_>, at: Time) -> Option<Finding> {
        let source = Source::new(record.source?, self.settings.masks);
        let outcome = self.outcome(record.status?)?;
        let user = record.user.as_deref().filter(|user| !user.is_empty());
        let (settings, span, texts) = (&self.settings, &self.span, &self.texts);
        let amount = self
            .sources
            .update(source, Logins::default, |logins| match outcome {
                Outcome::Failure => {
                    logins.fail(user.map(|user| texts.key(user)), at, settings, span)
                }
                Outcome::Success => logins.succeed(at, settings, span),
            })?;
        Some(Finding {
            sources: vec![source.net(self.settings.masks)],
            subject: None,
            at,
            count: amount.failures,
            reason: self.reason(outcome, user, &amount),
        })
    }

    fn occupancy(&self) -> Occupancy {
        self.sources.occupancy()
    }
}

impl Logins {
    /// Takes note of a failure; what there is if it gives the source away.
    fn fail(
        &mut self,
        user: Option<TextKey>,
        at: Time,
        settings: &Settings,
        span: &Span,
    ) -> Option<Amount> {
        let failures = self.failures.add(at, span);
        if failures == 1 {
            // Whatever was before is too long ago.
            (self.since_found, self.since_success) = (0, 0);
            self.users = Vec::new();
        }
        self.since_found = self.since_found.saturating_add(1);
        self.since_success = self.since_success.saturating_add(1);
        self.forget_users(at, settings.within);
        if let Some(user) = user {
            self.remember_user(user, at, settings);
        }
        let count = settings.count.max(1);
        if failures < count || self.since_found < count {
            return None;
        }
        let successes = self.successes.total(at, span);
        let amount = self.amount(failures, successes, settings)?;
        self.since_found = 0;
        Some(amount)
    }

    /// Takes note of a success; what came before if that gives it away.
    fn succeed(&mut self, at: Time, settings: &Settings, span: &Span) -> Option<Amount> {
        let before = self.successes.total(at, span);
        self.successes.add(at, span);
        let failures = self.failures.total(at, span);
        let count = settings.success_after.max(1);
        if failures < count || self.since_success < count {
            return None;
        }
        self.forget_users(at, settings.within);
        let amount = self.amount(failures, before, settings)?;
        self.since_success = 0;
        Some(amount)
    }

    /// What there is, if it is so one-sided that it is no office and no single user.
    fn amount(&self, failures: u32, successes: u32, settings: &Settings) -> Option<Amount> {
        let users = u32::try_from(self.users.len()).unwrap_or(u32::MAX);
        let logins = f64::from(failures) + f64::from(successes);
        let one_sided = f64::from(failures) >= settings.ratio * logins;
        let many_users = users == 0 || users >= settings.users.min(USERS.1);
        (one_sided && many_users).then_some(Amount {
            failures,
            successes,
            users,
        })
    }

    fn remember_user(&mut self, user: TextKey, at: Time, settings: &Settings) {
        let known = self.users.iter().rposition(|(known, _)| *known == user);
        let at = match known {
            Some(known) => self.users.remove(known).1.max(at),
            None => at,
        };
        if self.users.len() >= told_apart(settings) as usize {
            self.users.remove(0);
        }
        self.users.push((user, at));
    }

    fn forget_users(&mut self, at: Time, within: Duration) {
        self.users.retain(|(_, seen)| at.since(*seen) <= within);
    }
}

/// How many users of a source are told apart.
fn told_apart(settings: &Settings) -> u32 {
    settings.users.clamp(USERS.0, USERS.1)
}

#[cfg(test)]
mod tests;
