//! Lists that others keep: block lists, the decisions of `CrowdSec`, the bans of a fleet. Whom they name
//! is banned for as long as they do.
//!
//! The engine is told what the lists say now and brings the bans in line with that in small
//! steps, so that a list of a million holds up nothing; what an [outside list](Outside) changes is
//! acted on at once. A list bans only who is not banned
//! otherwise, and takes over a second before such a ban ends: so whatever comes and goes, who
//! is named is banned without a gap, and who is banned for another reason stays so when a list
//! drops him.

mod outside;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use abuser_common::{
    layout::{Ban, BanCause},
    prefix::PrefixKey,
};

use self::outside::OutsideList;
pub use self::outside::{Entries, MAX_CHANGE, Outside, Update};
use super::{Changed, Engine, EngineError, bans::NewBan, books::Ending, clocks::after_sleep, net};
use crate::{
    api::types::BlocklistStatus,
    daemon::apart::drop_apart,
    dataplane::kernel_now,
    policy::ends::{in_order, outlasts, same_kernel_end},
    store::rows::BanNote,
};

/// From one step to the next.
const STEP: Duration = Duration::from_millis(2);
/// Entries that a step looks at.
const STEP_SIZE: usize = 512;
/// Bans that end and are looked at in one go.
const RENEWED_AT_ONCE: usize = 2048;
/// How soon to begin again when something could not be done.
const RETRY: Duration = Duration::from_secs(30);
/// How long before a ban ends a list takes it over: more than a sweep takes to come round.
const AHEAD: Duration = Duration::from_secs(1);

/// Somebody whom a list names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Whom.
    pub source: PrefixKey,
    /// As in the map: kernel time in nanoseconds, 0 for never.
    pub expires_ns: u64,
    /// The list, and what it says of the source.
    pub note: Arc<BanNote>,
}

/// A block list as it stands.
#[derive(Debug, Clone)]
pub struct Blocklist {
    /// What is told of it.
    pub status: BlocklistStatus,
    /// Whom it names, in the order of their keys; `None` if it could not be read yet: then its
    /// bans stay as they are.
    pub entries: Option<Arc<[Listed]>>,
}

impl Blocklist {
    fn get(&self, key: &PrefixKey) -> Option<&Listed> {
        let entries = self.entries.as_ref()?;
        let place = entries.binary_search_by_key(key, |listed| listed.source);
        entries.get(place.ok()?)
    }

    /// At most `count` of whom it names, from after `after` on.
    fn page(&self, after: Option<PrefixKey>, count: usize) -> Vec<Listed> {
        let entries = self.entries.as_deref().unwrap_or_default();
        let from = after.map_or(0, |after| {
            entries.partition_point(|listed| listed.source <= after)
        });
        entries.iter().skip(from).take(count).cloned().collect()
    }
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Ban whom the list with this number names, from after this source on.
    Add {
        list: usize,
        after: Option<PrefixKey>,
    },
    /// Go through the bans after this one, and lift those that no list calls for any more.
    Lift(Option<PrefixKey>),
}

/// What a round begins with: nobody who is named is free while others are lifted.
const BEGINNING: Work = Work::Add {
    list: 0,
    after: None,
};

/// All lists, and how far the bans are in line with them.
#[derive(Debug, Default)]
pub(super) struct Lists {
    blocklists: Vec<Blocklist>,
    /// Those of [`Outside::ALL`], in that order.
    outside: [OutsideList; Outside::ALL.len()],
    /// What is to be done, and when.
    work: Option<(Work, Instant)>,
    /// Whether to begin again when all is done: the lists have changed meanwhile.
    again: bool,
    /// Why not all of it could be done at the last attempt.
    error: Option<String>,
    /// Up to where lists have taken over bans that end.
    renewed: Option<Ending>,
    counts: Counts,
}

/// What a round of work has done.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    banned: usize,
    lifted: usize,
}

impl Lists {
    /// When the next step is due, if there is one.
    pub(super) fn due(&self) -> Option<Instant> {
        self.work.map(|(_, due)| due)
    }

    pub(super) fn blocklist_status(&self) -> Vec<BlocklistStatus> {
        let status = self.blocklists.iter().map(|list| {
            let status = list.status.clone();
            let error = status.error.or_else(|| self.error.clone());
            BlocklistStatus { error, ..status }
        });
        status.collect()
    }

    /// Goes through all of it, but for what is under way not from the beginning: lists that change
    /// all the time are to be followed to their ends, too.
    fn begin(&mut self) {
        self.renewed = None;
        if self.work.is_some() {
            self.again = true;
        } else {
            self.work = Some((BEGINNING, Instant::now()));
        }
    }

    /// Goes on with what is next, or has done all there is.
    fn go_on(&mut self, next: Option<Work>) {
        if next.is_some() {
            self.work = next.map(|work| (work, Instant::now() + STEP));
            return;
        }
        let Counts { banned, lifted } = std::mem::take(&mut self.counts);
        if banned + lifted > 0 {
            tracing::info!("lists: {banned} banned, {lifted} lifted");
        }
        self.work = std::mem::take(&mut self.again).then(|| (BEGINNING, Instant::now()));
        if self.work.is_none() {
            self.error = None;
        }
    }

    /// What to do after something could not be done: those that are lifted may make room; else
    /// wait for it.
    fn recover(&mut self, failed: Work, error: String) {
        let had_failed = self.error.replace(error).is_some();
        self.again = true;
        self.work = Some(match failed {
            Work::Add { .. } if !had_failed => (Work::Lift(None), Instant::now()),
            _ => (BEGINNING, Instant::now() + RETRY),
        });
    }

    /// Takes note that what has changed could not be put in force, and tries again in a while.
    fn fail(&mut self, error: String) {
        self.error = Some(error);
        if self.work.is_some() {
            self.again = true;
        } else {
            self.work = Some((BEGINNING, Instant::now() + RETRY));
        }
    }

    /// At most `count` of whom the list with this number names, from after `after` on; `None` if there
    /// is no such list.
    fn page(&self, list: usize, after: Option<PrefixKey>, count: usize) -> Option<Vec<Listed>> {
        let outside = || self.outside.get(list - self.blocklists.len());
        match self.blocklists.get(list) {
            Some(blocklist) => Some(blocklist.page(after, count)),
            None => outside().map(|list| list.page(after, count)),
        }
    }

    /// Has all that lists say end this much earlier, by the kernel's clock.
    pub(super) fn after_sleep(&mut self, slept_ns: u64) {
        self.renewed = None;
        for list in &mut self.outside {
            list.after_sleep(slept_ns);
        }
        for list in &mut self.blocklists {
            let entries = list.entries.iter_mut().filter(|entries| {
                let mut entries = entries.iter();
                entries.any(|listed| listed.expires_ns != 0)
            });
            for entries in entries {
                let moved = entries.iter().map(|listed| Listed {
                    expires_ns: after_sleep(listed.expires_ns, slept_ns),
                    ..listed.clone()
                });
                *entries = moved.collect();
            }
        }
    }

    /// Whether none names anybody.
    fn is_empty(&self) -> bool {
        self.blocklists.is_empty() && self.outside.iter().all(OutsideList::is_empty)
    }

    /// Why `key` is to be banned, if a list says so.
    fn get(&self, key: &PrefixKey) -> Option<&Listed> {
        let now = kernel_now().0;
        let blocklists = self.blocklists.iter().filter_map(|list| list.get(key));
        let outside = self.outside.iter().filter_map(|list| list.get(key));
        blocklists
            .chain(outside)
            .filter(|listed| !Ban::expired(listed.expires_ns, now))
            .max_by_key(|listed| in_order(listed.expires_ns))
    }

    /// Whether the bans of the list that made this one are to stay as they are.
    fn is_unread(&self, note: &BanNote) -> bool {
        let name = note.subject.as_deref().unwrap_or_default();
        if let Some(list) = Outside::of(note.cause) {
            return !self.outside[list as usize].is_read();
        }
        let mut lists = self.blocklists.iter();
        lists.any(|list| list.status.name == name && list.entries.is_none())
    }
}

/// Whether both are bans of the same list.
fn is_of_same_list(one: &BanNote, other: &BanNote) -> bool {
    one.cause.is_listed()
        && one.cause == other.cause
        // Of block lists there are several.
        && (one.cause != BanCause::Blocklist || one.subject == other.subject)
}

impl Engine {
    /// Takes note of what the block lists say, and acts on it step by step.
    pub(super) fn set_blocklists(&mut self, lists: Vec<Blocklist>) {
        drop_apart(std::mem::replace(&mut self.lists.blocklists, lists));
        self.lists.begin();
    }

    /// Does some of what is to be done. To be called when [`Lists::due`].
    pub(super) fn follow_lists(&mut self) {
        let Some((work, _)) = self.lists.work else {
            return;
        };
        let result = match work {
            Work::Add { list, after } => self.add_listed(list, after),
            Work::Lift(after) => self.lift_unlisted(after),
        };
        match result {
            Ok(Changed { value, changes }) => {
                self.lists.go_on(value);
                self.keep(changes);
            }
            Err(error) => {
                tracing::error!(%error, "cannot ban whom the lists name");
                self.lists.recover(work, error.to_string());
            }
        }
    }

    fn add_listed(
        &mut self,
        list: usize,
        after: Option<PrefixKey>,
    ) -> Result<Changed<Option<Work>>, EngineError> {
        let Some(entries) = self.lists.page(list, after, STEP_SIZE) else {
            return Ok(next(Work::Lift(None)));
        };
        let Some(reached) = entries.last().map(|listed| listed.source) else {
            return Ok(next(Work::Add {
                list: list + 1,
                after: None,
            }));
        };
        let Changed { value, changes } = self.ban_listed(&entries)?;
        self.lists.counts.banned += value;
        Ok(Changed {
            value: Some(Work::Add {
                list,
                after: Some(reached),
            }),
            changes,
        })
    }

    /// Bans those of them who are not banned otherwise; how many.
    fn ban_listed(&mut self, entries: &[Listed]) -> Result<Changed<usize>, EngineError> {
        let now = kernel_now().0;
        let mut new = Vec::new();
        for listed in entries {
            let there = self.bans.get(&listed.source);
            let there = there.filter(|record| !Ban::expired(record.expires_ns, now));
            let wanted = match there {
                None => true,
                // The list's own, as it was before. Who is told how much is left must not renew all bans
                // each time; one that ends a little early is taken over before.
                Some(record) => {
                    is_of_same_list(&record.note, &listed.note)
                        && (!same_kernel_end(record.expires_ns, listed.expires_ns)
                            || record.note != listed.note)
                }
            };
            if wanted && !Ban::expired(listed.expires_ns, now) && !self.is_spared_from(listed) {
                new.push(listed.ban());
            }
        }
        if new.is_empty() {
            return Ok(Changed::default());
        }
        self.ban_many(new)
    }

    fn lift_unlisted(
        &mut self,
        after: Option<PrefixKey>,
    ) -> Result<Changed<Option<Work>>, EngineError> {
        let mut last = None;
        let mut unlisted = Vec::new();
        for (key, record) in self.bans.page(after, STEP_SIZE) {
            last = Some(*key);
            let note = &record.note;
            if note.cause.is_listed() && !self.lists.is_unread(note) {
                let named = self.lists.get(key);
                let named = named.filter(|listed| !self.is_spared_from(listed));
                if named.is_none_or(|listed| !is_of_same_list(&listed.note, note)) {
                    unlisted.push(*key);
                }
            }
        }
        let Changed { value, changes } = self.hand_over(&unlisted)?;
        self.lists.counts.lifted += value;
        Ok(Changed {
            value: last.map(|last| Work::Lift(Some(last))),
            changes,
        })
    }

    /// Ends bans of lists that do not call for them any more, or has other lists go on with them; how
    /// many have ended.
    fn hand_over(&mut self, keys: &[PrefixKey]) -> Result<Changed<usize>, EngineError> {
        let mut changed = Changed::default();
        let mut handed_over = Vec::new();
        for key in keys {
            if let Some(heir) = self.listed(key) {
                handed_over.push(heir);
                continue;
            }
            let cause = self.bans.get(key).map(|record| record.note.cause);
            let unbanned = self.end_ban(key, dropped(cause), false)?;
            changed.changes.extend(unbanned.changes);
            changed.value += 1;
        }
        if !handed_over.is_empty() {
            changed.changes.extend(self.ban_many(handed_over)?.changes);
        }
        Ok(changed)
    }

    /// Has lists take over some bans of whom they name, before those end; whether there may be
    /// more of them. Each ban is looked at once, however many end together.
    pub(super) fn renew_listed(&mut self) -> Result<Changed<bool>, EngineError> {
        if self.lists.is_empty() {
            return Ok(Changed::default());
        }
        let soon = kernel_now()
            .0
            .saturating_add(u64::try_from(AHEAD.as_nanos()).unwrap_or(u64::MAX));
        let place = self.lists.renewed;
        let ending = self.bans.ending_page(place, soon, RENEWED_AT_ONCE);
        let ending: Vec<_> = ending.copied().collect();
        let named = ending.iter();
        let named = named.filter_map(|(_, key)| self.lists.get(key));
        let new = named
            .filter(|listed| outlasts(listed.expires_ns, soon) && !self.is_spared_from(listed));
        let new: Vec<_> = new.map(Listed::ban).collect();
        let mut changed = Changed {
            value: ending.len() == RENEWED_AT_ONCE,
            changes: Vec::new(),
        };
        if !new.is_empty() {
            changed.changes = self.ban_many(new)?.changes;
        }
        self.lists.renewed = ending.last().copied().or(place);
        Ok(changed)
    }

    /// The ban that takes the place of one that is lifted, if a list calls for it.
    pub(super) fn listed(&self, key: &PrefixKey) -> Option<NewBan> {
        let listed = self.lists.get(key)?;
        (!self.is_spared_from(listed)).then(|| listed.ban())
    }

    /// Whether nobody elsewhere can have this one banned here: other nodes do not know whom this host must
    /// not lose.
    fn is_spared_from(&self, listed: &Listed) -> bool {
        listed.note.cause == BanCause::Fleet && self.is_spared(&listed.source)
    }

    /// Others are spared than before: whom the fleet bans is looked at again.
    pub(super) fn reconsider_fleet(&mut self) {
        if !self.lists.outside[Outside::Fleet as usize].is_empty() {
            self.lists.begin();
        }
    }

    /// Refuses to lift a ban that a list calls for.
    pub(super) fn check_not_listed(&self, key: &PrefixKey) -> Result<(), EngineError> {
        let Some(record) = self.bans.get(key) else {
            return Ok(());
        };
        let source = net(key);
        let name = record.note.subject.as_deref().unwrap_or_default();
        let refusal = match record.note.cause {
            BanCause::Blocklist => {
                format!("{source} is on the block list {name}; take it out there")
            }
            BanCause::Crowdsec => format!(
                "{source} is banned by CrowdSec ({name}); delete that decision there, with `cscli \
                 decisions delete`"
            ),
            BanCause::Fleet => {
                format!("{source} is banned by {name}, another node of the fleet; unban it there")
            }
            _ => return Ok(()),
        };
        Err(EngineError::Refused(format!(
            "{refusal}, or allow it with `abuser allow add {source}`"
        )))
    }
}

impl Listed {
    fn ban(&self) -> NewBan {
        NewBan::new(self.source, self.expires_ns, &self.note)
    }
}

/// How a ban has ended whose list does not name its source any more.
fn dropped(cause: Option<BanCause>) -> &'static str {
    match cause {
        Some(BanCause::Crowdsec) => "no longer decided by CrowdSec",
        Some(BanCause::Fleet) => "no longer banned in the fleet",
        _ => "no longer on the block list",
    }
}

fn next(work: Work) -> Changed<Option<Work>> {
    Changed {
        value: Some(work),
        changes: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(lists: &Lists) -> Work {
        lists.work.unwrap().0
    }

    #[test]
    fn what_does_not_fit_is_tried_again_after_the_lifting_and_then_in_a_while() {
        let full = || "the ban table is full".to_owned();
        let mut lists = Lists::default();
        let failed = Work::Add {
            list: 1,
            after: None,
        };
        lists.recover(failed, full());
        assert_eq!(work(&lists), Work::Lift(None));
        lists.go_on(None);
        assert_eq!(work(&lists), BEGINNING, "once more");
        assert!(lists.error.is_some(), "nothing is known to fit yet");
        lists.recover(BEGINNING, full());
        assert_eq!(work(&lists), BEGINNING);
        let (_, due) = lists.work.unwrap();
        assert!(due > Instant::now() + RETRY / 2, "not at once");
        lists.again = false;
        lists.go_on(None);
        assert!(lists.work.is_none() && lists.error.is_none());
    }
}
