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
    decisions::{Changes, DecisionKey, Decisions},
    push::{self, Own},
    status::Monitor,
    usage::Usage,
    wire::{Answer, MAX_DECISIONS, Reading},
};
use crate::{
    api::types::EventRecord,
    config::{Config, CrowdsecAddress, CrowdsecConfig},
    daemon::engine::{
        Command,
        lists::{MAX_CHANGE, Outside, Update},
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
    loop {
        let config = configured.borrow_and_update().crowdsec.clone();
        let Some(config) = config else {
            surroundings.monitor.clear();
            // Bans of an earlier configuration are lifted.
            let nobody = Command::Outside(Outside::Crowdsec, Update::All(Vec::new()));
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
            Gone = keep_following(&config, &surroundings, pushes) => return,
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
) -> Gone {
    let (tell_own, own) = mpsc::channel(BACKLOG);
    // One task sends and receives, so it cannot wait for room; there are no more than own bans.
    let (tell_over, over) = mpsc::unbounded_channel();
    let mut following = Following {
        config,
        surroundings,
        decisions: Decisions::default(),
        own,
        is_own_known: !pushes,
        over: tell_over,
        backoff: Backoff::default(),
    };
    let pushing = async {
        if let Some(push) = config.push.as_ref().filter(|_| pushes) {
            return push::keep_pushing(config, push, surroundings, tell_own, over).await;
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
    decisions: Decisions,
    /// Which decisions we have pushed is told here.
    own: mpsc::Receiver<Own>,
    /// Whether that was told.
    is_own_known: bool,
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
            let whole = asked_for_all.is_none_or(|asked| asked.elapsed() >= RESYNC);
            let reading = Reading {
                force: self.config.force,
                whole,
            };
            let mut answer = lapi.decisions(self.config, reading).await?;
            self.complain(&answer);
            let told = if whole {
                self.take_all(&mut answer).await?
            } else {
                self.take_changes(&mut answer).await?
            };
            if told.is_err() {
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
            usage
                .tell(&lapi, &self.decisions, &self.surroundings.commands)
                .await;
            if self
                .wait(Instant::now() + self.config.interval)
                .await
                .is_err()
            {
                return Ok(Gone);
            }
        }
    }

    async fn take_all(&mut self, answer: &mut Answer) -> Result<Result<(), Gone>, LapiError> {
        self.decisions.replace(std::mem::take(&mut answer.new));
        let all = self.decisions.all();
        if all.len() > MAX_BANS as usize {
            return Err(LapiError::Malformed(format!(
                "its decisions name {} sources, and {MAX_BANS} can be banned; leave some out with origins in \
                 [crowdsec]",
                all.len()
            )));
        }
        Ok(self.send(Update::All(all)).await)
    }

    async fn take_changes(&mut self, answer: &mut Answer) -> Result<Result<(), Gone>, LapiError> {
        // What was told while the answer was on its way.
        while let Ok(own) = self.own.try_recv() {
            if self.take_own(own).await.is_err() {
                return Ok(Err(Gone));
            }
        }
        let over = std::mem::take(&mut answer.over);
        for (source, id) in &over {
            if self.decisions.is_own(*id) {
                // Who pushes may have gone.
                let _gone = self.over.send((*source, *id));
            }
        }
        let changes = self
            .decisions
            .change(std::mem::take(&mut answer.new), &over);
        if self.decisions.len() > MAX_DECISIONS {
            return Err(LapiError::Malformed(format!(
                "it has more than {MAX_DECISIONS} decisions"
            )));
        }
        Ok(self.tell(changes).await)
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
        let changes = match own {
            Own::All(own) => self.decisions.set_own(own),
            Own::More(own) => self.decisions.add_own(&own),
            Own::Unknown => return Ok(()),
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
        for named in named.chunks(MAX_CHANGE) {
            let named = named.to_vec();
            self.send(Update::Change {
                named,
                dropped: Vec::new(),
            })
            .await?;
        }
        for dropped in dropped.chunks(MAX_CHANGE) {
            let dropped = dropped.to_vec();
            self.send(Update::Change {
                named: Vec::new(),
                dropped,
            })
            .await?;
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
