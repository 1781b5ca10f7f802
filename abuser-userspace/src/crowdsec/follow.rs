//! Following a local API: all decisions at first, then what has changed, again and again.
//!
//! It tells a bouncer of changes since the bouncer asked last, whether or not the answer has arrived. So
//! after every failure all decisions are asked for, and every now and then without one.

use std::{sync::Arc, time::Duration};

use abuser_common::layout::MAX_BANS;
use tokio::{
    sync::{broadcast, mpsc, watch},
    time::Instant,
};

use super::{
    backoff::Backoff,
    client::{Lapi, LapiError},
    decisions::{Changes, Decision, DecisionKey, Decisions},
    filter::Filter,
    push::{self, Memory, Own},
    status::Monitor,
    usage::Usage,
    wire::{Answer, MAX_DECISIONS, Reading},
};
use crate::{
    api::types::EventRecord,
    config::{Config, CrowdsecAddress, CrowdsecConfig},
    daemon::{
        apart::{apart, drop_apart},
        engine::{
            Command,
            lists::{Entries, MAX_CHANGE, Outside, Update},
        },
    },
    words::counted,
};

/// How often to ask for all decisions without a need that is known of: a decision that was made while
/// another question was answered may be told of in no change.
const RESYNC: Duration = Duration::from_secs(1800);
/// How long decisions wait at first until it is known which are our own.
const OWN_PATIENCE: Duration = Duration::from_secs(5);
/// What may wait between following and pushing.
const BACKLOG: usize = 64;

/// Who else there is.
#[derive(Clone)]
pub struct Surroundings {
    /// The engine.
    pub commands: mpsc::Sender<Command>,
    /// What happens there; weak, so that streams of it end when the engine does.
    pub events: broadcast::WeakSender<Arc<EventRecord>>,
    /// Where it is told how it stands.
    pub monitor: Monitor,
    /// Whether nothing is dropped, so that nobody else is to drop anything either.
    pub observe: bool,
}

impl Surroundings {
    /// These, and a monitor that nobody has told anything yet.
    pub fn new(
        commands: &mpsc::Sender<Command>,
        events: broadcast::WeakSender<Arc<EventRecord>>,
        observe: bool,
    ) -> Self {
        Self {
            commands: commands.clone(),
            events,
            monitor: Monitor::default(),
            observe,
        }
    }
}

/// The engine has gone.
pub(super) struct Gone;

/// Follows the local API that the configuration names, if it names one, until the engine ends.
pub async fn follow(mut configured: watch::Receiver<Arc<Config>>, surroundings: Surroundings) {
    let mut memory = Memory::default();
    loop {
        let config = configured.borrow_and_update().crowdsec.clone();
        let Some(config) = config else {
            surroundings.monitor.clear();
            // Bans of an earlier configuration are lifted.
            let nobody = Command::Outside(Outside::Crowdsec, Update::All(Entries::default()));
            if surroundings.commands.send(nobody).await.is_err()
                || configured.changed().await.is_err()
            {
                return;
            }
            continue;
        };
        let pushes = config.push.is_some() && !surroundings.observe;
        if config.push.is_some() && surroundings.observe {
            tracing::warn!(
                "observing only: no bans are pushed to CrowdSec, which would enforce them"
            );
        }
        surroundings.monitor.begin(&config, pushes);
        warn_of_plain_http(&config);
        tokio::select! {
            Gone = keep_following(&config, &surroundings, pushes, &mut memory) => return,
            // Also when it is as it was: the files that it names may be others.
            changed = configured.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// A key on the way to another host can be read there.
fn warn_of_plain_http(config: &CrowdsecConfig) {
    if let CrowdsecAddress::Url(url) = &config.address
        && url.scheme() == "http"
        && let Some(host) = url.host_str()
    {
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        let is_local = address.map_or(host == "localhost", |address| {
            address.to_canonical().is_loopback()
        });
        if !is_local {
            tracing::warn!(
                "whoever is on the way to {host} can read the key of [crowdsec]: it is plain HTTP; write \
                 https:// if the local API has it"
            );
        }
    }
}

async fn keep_following(
    config: &CrowdsecConfig,
    surroundings: &Surroundings,
    pushes: bool,
    memory: &mut Memory,
) -> Gone {
    let (tell_own, own) = mpsc::channel(BACKLOG);
    // One task sends and receives, so it cannot wait for room; there are no more than own bans.
    let (tell_over, over) = mpsc::unbounded_channel();
    let mut following = Following {
        config,
        surroundings,
        filter: Filter::new(config, pushes),
        decisions: Decisions::default(),
        own,
        is_own_known: !pushes,
        misses: false,
        over: tell_over,
        backoff: Backoff::default(),
    };
    let pushing = async {
        if let Some(push) = config.push.as_ref().filter(|_| pushes) {
            return push::keep_pushing(config, push, surroundings, memory, tell_own, over).await;
        }
        let _kept_open = (tell_own, over);
        std::future::pending().await
    };
    // None of them waits for the other.
    tokio::select! {
        gone = following.keep_on() => gone,
        gone = pushing => gone,
    }
}

/// One local API that is followed.
struct Following<'a> {
    config: &'a CrowdsecConfig,
    surroundings: &'a Surroundings,
    filter: Filter,
    decisions: Decisions,
    /// Which decisions we have pushed is told here.
    own: mpsc::Receiver<Own>,
    /// Whether that was told.
    is_own_known: bool,
    /// Whether the next answer may leave changes out.
    misses: bool,
    /// Which of those are no more is told there.
    over: mpsc::UnboundedSender<DecisionKey>,
    backoff: Backoff,
}

impl Following<'_> {
    async fn keep_on(&mut self) -> Gone {
        loop {
            let error = match self.follow().await {
                Ok(Gone) => return Gone,
                Err(error) => error.to_string(),
            };
            let address = &self.config.address;
            if self.surroundings.monitor.failed(&error) {
                tracing::warn!("CrowdSec at {address}: {error}; its bans stay as they are");
            }
            let until = Instant::now() + self.backoff.next(fastrand::f64());
            if let Err(Gone) = self.wait(until).await {
                return Gone;
            }
        }
    }

    /// Asks until it fails.
    async fn follow(&mut self) -> Result<Gone, LapiError> {
        let lapi = Lapi::new(self.config)?;
        // What was lifted here while nobody followed is not to be in force for a moment because its
        // decision, which is about to be taken back, comes first.
        if !self.is_own_known
            && let Ok(Some(own)) = tokio::time::timeout(OWN_PATIENCE, self.own.recv()).await
            && self.take_own(own).await.is_err()
        {
            return Ok(Gone);
        }
        let mut usage = Usage::default();
        let mut asked_for_all: Option<Instant> = None;
        loop {
            let misses = std::mem::take(&mut self.misses);
            let whole = misses || asked_for_all.is_none_or(|asked| asked.elapsed() >= RESYNC);
            let reading = Reading {
                force: self.config.force,
                whole,
                filter: self.filter.clone(),
            };
            let mut answer = lapi.decisions(reading).await?;
            self.complain(&answer);
            if self.take(&mut answer, whole).await?.is_err() {
                return Ok(Gone);
            }
            let monitor = &self.surroundings.monitor;
            monitor.answered(&answer, whole, self.decisions.len());
            if asked_for_all.is_none() {
                self.backoff.reset();
                let decisions = counted(self.decisions.len() as u64, "decision", "decisions");
                tracing::info!("CrowdSec at {}: {decisions} in force", self.config.address);
            }
            if whole {
                asked_for_all = Some(Instant::now());
            }
            if usage.is_due() {
                let active = self.with_decisions(|decisions| decisions.active()).await;
                let commands = &self.surroundings.commands;
                usage.tell(&lapi, active, commands).await;
            }
            if self
                .wait(Instant::now() + self.config.interval)
                .await
                .is_err()
            {
                return Ok(Gone);
            }
        }
    }

    async fn take(
        &mut self,
        answer: &mut Answer,
        whole: bool,
    ) -> Result<Result<(), Gone>, LapiError> {
        // What was told while the answer was on its way.
        while let Ok(own) = self.own.try_recv() {
            if self.take_own(own).await.is_err() {
                return Ok(Err(Gone));
            }
        }
        let over = std::mem::take(&mut answer.over);
        let over = self.with_decisions(move |decisions| {
            let own = over.iter().filter(|key| decisions.is_own(key)).copied();
            (own.collect::<Vec<_>>(), over)
        });
        let (own, over) = over.await;
        for key in own {
            // Who pushes may have gone.
            let _gone = self.over.send(key);
        }
        let new = std::mem::take(&mut answer.new);
        if whole {
            self.take_all(new).await
        } else {
            self.take_changes(new, over).await
        }
    }

    async fn take_all(&mut self, new: Vec<Decision>) -> Result<Result<(), Gone>, LapiError> {
        let all = self.with_decisions(move |decisions| {
            decisions.replace(new);
            let all = decisions.all();
            let named = all.len();
            let fits = named <= MAX_BANS as usize;
            fits.then(|| all.into_iter().collect()).ok_or(named)
        });
        let all = all.await.map_err(|named| {
            LapiError::Malformed(format!(
                "its decisions name {named} sources, and {MAX_BANS} can be banned; leave some out with \
                 origins in [crowdsec]"
            ))
        })?;
        Ok(self.send(Update::All(all)).await)
    }

    async fn take_changes(
        &mut self,
        new: Vec<Decision>,
        over: Vec<DecisionKey>,
    ) -> Result<Result<(), Gone>, LapiError> {
        let changes = self.with_decisions(move |decisions| decisions.change(new, &over));
        let changes = changes.await;
        if self.decisions.len() > MAX_DECISIONS {
            return Err(LapiError::Malformed(format!(
                "it has more than {MAX_DECISIONS} decisions"
            )));
        }
        Ok(self.tell(changes).await)
    }

    /// Does something with all decisions where nobody waits for it: there may be millions.
    async fn with_decisions<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Decisions) -> T + Send + 'static,
    ) -> T {
        let mut decisions = std::mem::take(&mut self.decisions);
        let done = apart(move || {
            let value = work(&mut decisions);
            (decisions, value)
        });
        let value;
        (self.decisions, value) = done.await;
        value
    }

    /// Waits until then, and takes note of what is pushed meanwhile.
    async fn wait(&mut self, until: Instant) -> Result<(), Gone> {
        loop {
            let own = tokio::select! {
                () = tokio::time::sleep_until(until) => return Ok(()),
                Some(own) = self.own.recv() => own,
            };
            self.take_own(own).await?;
        }
    }

    async fn take_own(&mut self, own: Own) -> Result<(), Gone> {
        self.misses |= matches!(own, Own::Asked);
        let changes = self.with_decisions(move |decisions| match own {
            Own::All(own) => Some(decisions.set_own(own)),
            Own::More(own) => Some(decisions.add_own(&own)),
            Own::Unknown | Own::Asked => None,
        });
        let Some(changes) = changes.await else {
            return Ok(());
        };
        self.is_own_known = true;
        self.surroundings.monitor.decisions(self.decisions.len());
        self.tell(changes).await
    }

    async fn tell(&self, changes: Changes) -> Result<(), Gone> {
        let Changes { named, dropped } = changes;
        if !named.is_empty() || !dropped.is_empty() {
            tracing::info!(
                "CrowdSec: {} decided, {} no longer",
                named.len(),
                dropped.len()
            );
        }
        let (mut named, mut dropped) = (named.into_iter(), dropped.into_iter());
        while named.len() > 0 {
            let named = named.by_ref().take(MAX_CHANGE).collect();
            let dropped = Vec::new();
            self.send(Update::Change { named, dropped }).await?;
        }
        while dropped.len() > 0 {
            let dropped = dropped.by_ref().take(MAX_CHANGE).collect();
            let named = Vec::new();
            self.send(Update::Change { named, dropped }).await?;
        }
        Ok(())
    }

    async fn send(&self, update: Update) -> Result<(), Gone> {
        let command = Command::Outside(Outside::Crowdsec, update);
        self.surroundings
            .commands
            .send(command)
            .await
            .map_err(|_| Gone)
    }

    /// Says what of an answer could not be put in force, as far as the log has room for it.
    fn complain(&self, answer: &Answer) {
        for shown in &answer.shown {
            tracing::warn!("CrowdSec at {}: {shown}; left out", self.config.address);
        }
    }
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        drop_apart(std::mem::take(&mut self.decisions));
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, fs, net::Ipv4Addr};

    use abuser_common::{layout::BanCause, prefix::PrefixKey};

    use super::*;
    use crate::store::rows::BanNote;

    /// As many as can be banned at once.
    const MANY: u32 = 1_000_000;
    /// What of it may be done on the thread that all share. It is some twentieth of a millisecond; the
    /// rest, seconds in a binary that was not made to be fast, is done apart.
    const LITTLE: Duration = Duration::from_millis(100);

    fn key(number: u32) -> PrefixKey {
        PrefixKey::new(Ipv4Addr::from(0x0a00_0000 + number).into(), 32).unwrap()
    }

    fn decisions(ids: u32) -> Vec<Decision> {
        let note = Arc::new(BanNote {
            cause: BanCause::Crowdsec,
            subject: Some("CAPI".to_owned()),
            policy: None,
            reason: None,
            by: None,
        });
        let decisions = (0..MANY).map(|number| Decision {
            id: u64::from(ids + number),
            source: key(number),
            expires_ns: u64::from(ids + number),
            note: Arc::clone(&note),
        });
        decisions.collect()
    }

    /// How long this thread has been at work: what else the machine does has no part in it.
    fn worked() -> Duration {
        let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        let nanos = stat.split(' ').next().unwrap().parse().unwrap();
        Duration::from_nanos(nanos)
    }

    /// Asserts that little of this is done on this thread.
    #[track_caller]
    fn assert_apart(what: &str, since: (Instant, Duration)) {
        let (begin, before) = since;
        let (took, here) = (begin.elapsed(), worked().saturating_sub(before));
        eprintln!("{what}: {here:?} of {took:?} on the thread that all share");
        assert!(here < LITTLE, "{what}: {here:?} of {took:?}");
    }

    fn begin() -> (Instant, Duration) {
        (Instant::now(), worked())
    }

    #[tokio::test]
    async fn a_million_decisions_are_taken_in_on_a_thread_of_their_own() {
        let config = CrowdsecConfig::at("/nonexistent/socket");
        let (commands, mut told) = mpsc::channel(64);
        let (events, _) = broadcast::channel(1);
        let surroundings = Surroundings::new(&commands, events.downgrade(), false);
        let (_tell_own, own) = mpsc::channel(BACKLOG);
        let (over, _heard) = mpsc::unbounded_channel();
        let mut following = Following {
            config: &config,
            surroundings: &surroundings,
            filter: Filter::default(),
            decisions: Decisions::default(),
            own,
            is_own_known: true,
            misses: false,
            over,
            backoff: Backoff::default(),
        };
        for whole in ["the first", "another, which takes its place"] {
            let mut answer = Answer {
                new: decisions(1),
                ..Answer::default()
            };
            let begun = begin();
            let taken = following.take(&mut answer, true).await;
            assert!(matches!(taken, Ok(Ok(()))));
            assert_eq!(following.decisions.len(), MANY as usize);
            assert_apart(whole, begun);
            let told = told.recv().await;
            assert!(matches!(told, Some(Command::Outside(_, Update::All(_)))));
        }
        // Half of them are ours, which is told now.
        let own = (0..MANY / 2).map(|number| (key(number), u64::from(1 + number)));
        let own: HashSet<_> = own.collect();
        let begun = begin();
        let changes = following.with_decisions(move |decisions| decisions.set_own(own));
        let changes = changes.await;
        assert_apart("which are ours", begun);
        assert_eq!(changes.dropped.len(), MANY as usize / 2);
        assert_eq!(following.decisions.len(), MANY as usize / 2);
        let begun = begin();
        drop(following);
        assert_apart("letting go of them", begun);
    }
}
