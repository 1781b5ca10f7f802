//! One node in the fleet: what happens here goes out, what others say comes in.
//!
//! What a node says is heard twice. Every node listens to the subjects of the bucket, so a ban is in all
//! kernels as soon as it was said, whether or not the servers have agreed yet to keep it; while they
//! choose another leader because one was lost, that takes seconds. And every node reads the bucket: from
//! its beginning whenever the connection is new, and then on. Whoever has said something says it again
//! until the bucket has it, so what somebody has missed meanwhile comes again, too.
//!
//! Nothing here holds up the engine: it is told what has changed when it takes it, and until then
//! changes wait by their prefixes.

use std::{
    collections::{HashMap, HashSet},
    future::pending,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use abuser_common::{
    layout::{AllowOrigin, BanCause},
    prefix::PrefixKey,
};
use async_nats::{
    Client, Event, Message, Subscriber,
    jetstream::{self, consumer::push},
};
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{Notify, broadcast, mpsc, oneshot},
    time::{MissedTickBehavior, interval, sleep_until, timeout},
};

use super::{
    connection::{self, FleetError, Login},
    publish::{Own, Write},
    state::{Caps, Counts as Banned, Heard, Refusal, State},
    status::{self, Board, Counts, Link},
    wire::{self, Key, Kind, Presence, Said, Topic, Written, millis, presence_key, topic_key},
};
use crate::{
    api::types::{EventKind, EventRecord},
    config::FleetConfig,
    daemon::{
        clock,
        engine::{
            Command,
            lists::{Listed, MAX_CHANGE, Outside, Update},
        },
    },
    store::rows::BanNote,
    words::counted,
};

/// How often this node says that it is there.
const PRESENCE: Duration = Duration::from_secs(20);
/// How often time is told to pass.
const TICK: Duration = Duration::from_millis(500);
/// Writes that may be under way.
const MAX_WRITING: usize = 1024;
/// How long the bucket may take to say that it has something before it is said again.
const ACKNOWLEDGED: Duration = Duration::from_millis(400);
/// Messages that are looked at before anything else has its turn.
const BATCH: usize = 256;
/// From one attempt to open the bucket to the next, at first and at most.
const REOPEN: Duration = Duration::from_millis(250);
const LONGEST_REOPEN: Duration = Duration::from_secs(5);
/// How long a snapshot may stand still: this node's own word comes at the latest after [`PRESENCE`].
const STALLED: Duration = Duration::from_secs(30);
/// From one snapshot because something was missed to the next.
const AGAIN: Duration = Duration::from_secs(10);
/// How often what lasts is looked through for what is to be said again.
const RENEW: Duration = Duration::from_secs(30);
/// By how much a node's clock may be off before the log tells.
const CLOCK_OFF: u64 = 5_000;

/// What a node needs besides its configuration.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) events: broadcast::WeakSender<Arc<EventRecord>>,
    /// Told when somebody has allowed a source, or does not any more.
    pub(super) allowed: Arc<Notify>,
    pub(super) board: Arc<Board>,
}

/// The bucket, open, and where its contents come from.
struct Opened {
    watch: push::Ordered,
    /// How long the bucket keeps anything; `None`: for good.
    max_age: Option<Duration>,
}

/// What the engine was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Nothing yet: what an earlier run has left is in force.
    Nothing,
    /// It is to be told all there is.
    AllIsDue,
    /// All but what has changed since.
    All,
}

/// A node in the fleet.
pub(super) struct Member {
    config: FleetConfig,
    around: Surroundings,
    instance: u64,
    state: State,
    own: Own,
    link: Link,
    counts: Counts,
    told: Told,
    /// Nodes whose clocks are off and of which the log was told.
    clocks_off: HashSet<String>,
    /// Why bans of this node may not be shared: another one has its name.
    twin: Option<Instant>,
    /// What was told of an outage, so that each is told once.
    told_lost: bool,
    told_error: Option<(String, Instant)>,
    /// Whether the engine could not tell all that is to be said.
    untold: bool,
}

/// The engine is gone: the daemon stops.
pub(super) struct Stopped;

/// Why there is no more to do with a connection.
enum End {
    Stopped,
    /// The servers do not know this node by what it said; a file may say something else by now.
    NotKnown,
}

impl Member {
    pub(super) fn new(config: FleetConfig, around: Surroundings) -> Self {
        Self {
            state: State::new(Caps::new(&config)),
            config,
            around,
            instance: fastrand::u64(..),
            own: Own::default(),
            link: Link::default(),
            counts: Counts::default(),
            told: Told::Nothing,
            clocks_off: HashSet::new(),
            twin: None,
            told_lost: false,
            told_error: None,
            untold: false,
        }
    }

    /// Takes part until the engine is gone.
    pub(super) async fn run(&mut self) -> Stopped {
        self.tell_status();
        loop {
            let (tell, happenings) = mpsc::channel(256);
            let connected = async {
                let login = Login::read(&self.config.login)?;
                let inbox = inbox(&self.config.node);
                connection::connect(&self.config, login, &inbox, tell).await
            };
            match connected.await {
                Ok(client) => {
                    let context = connection::context(client.clone());
                    if let End::Stopped = self.take_part(client, context, happenings).await {
                        return Stopped;
                    }
                }
                // Nothing but another configuration or another file will do.
                Err(error) => self.fail(error.to_string()),
            }
            self.tell_status();
            tokio::time::sleep(LONGEST_REOPEN).await;
        }
    }

    #[expect(clippy::too_many_lines, reason = "each arm is a line or two")]
    async fn take_part(
        &mut self,
        client: Client,
        context: jetstream::Context,
        mut happenings: mpsc::Receiver<Event>,
    ) -> End {
        // What an earlier connection took with it.
        self.own.interrupted(now());
        let mut events = self.subscribe();
        if self.say_all().await.is_err() {
            return End::Stopped;
        }
        let subjects = format!("$KV.{}.>", self.config.bucket);
        let mut live: Option<Subscriber> = None;
        let mut opening: Option<BoxFuture<'static, Result<Opened, FleetError>>> = None;
        let mut watch: Option<push::Ordered> = None;
        let mut reading: Option<Instant> = None;
        let mut reopen: Option<Instant> = None;
        let mut failures: u32 = 0;
        let mut snapshots = Instant::now();
        let mut writes = FuturesUnordered::new();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut greeted, mut renewed) = (Instant::now(), Instant::now());
        let mut lasts = self.config.max_bantime;
        loop {
            // What is new goes out before anything else is waited for.
            if self.link.server.is_some() {
                let now = now();
                while self.own.writing() < MAX_WRITING
                    && let Some(write) = self.own.next(now)
                {
                    writes.push(self.write(&context, write, now));
                }
            }
            let retry = self.own.due().filter(|_| self.link.server.is_some());
            let retry = retry.map(|due| {
                let left = Duration::from_millis(due.saturating_sub(now()));
                Instant::now() + left
            });
            tokio::select! {
                happening = happenings.recv() => match happening {
                    Some(Event::Connected) => {
                        self.connected(&client);
                        if live.is_none() {
                            live = client.subscribe(subjects.clone()).await.ok();
                        }
                        (watch, reading, failures) = (None, None, 0);
                        opening = Some(self.open(&client, &context));
                        greeted = Instant::now();
                    }
                    Some(Event::Disconnected | Event::Closed) => {
                        self.disconnected();
                        (watch, reading, opening, reopen) = (None, None, None, None);
                    }
                    // What did not fit is in the bucket.
                    Some(Event::SlowConsumer(_)) => reopen = Some(Instant::now()),
                    Some(event @ (Event::ServerError(_) | Event::ClientError(_))) => {
                        let error = event.to_string();
                        let is_known = !error.contains("authorization violation");
                        self.fail(error);
                        if !is_known && self.link.server.is_none() {
                            return End::NotKnown;
                        }
                    }
                    Some(Event::LameDuckMode | Event::Draining) => {}
                    None => return End::Stopped,
                },
                opened = async { match &mut opening {
                    Some(opening) => opening.await,
                    None => pending().await,
                }} => {
                    opening = None;
                    match opened {
                        Ok(opened) => {
                            lasts = self.lasts(opened.max_age);
                            self.state.begin_snapshot();
                            self.own.begin_snapshot();
                            watch = Some(opened.watch);
                            reading = Some(Instant::now());
                            failures = 0;
                        }
                        Err(error) => {
                            self.fail(error.to_string());
                            let wait = (REOPEN * (1 << failures.min(6))).min(LONGEST_REOPEN);
                            failures += 1;
                            reopen = Some(Instant::now() + wait);
                        }
                    }
                }
                () = until(reopen) => {
                    (reopen, watch, reading) = (None, None, None);
                    if self.link.server.is_some() {
                        opening = Some(self.open(&client, &context));
                    }
                }
                entry = async { match &mut watch {
                    Some(watch) => watch.next().await,
                    None => pending().await,
                }} => if let Some(Ok(entry)) = entry {
                    let is_last = self.hear_entry(&entry);
                    if reading.is_some() {
                        reading = Some(Instant::now());
                        if is_last {
                            reading = None;
                            self.complete();
                            snapshots = Instant::now();
                        }
                    }
                } else {
                    // Whatever it was, a new beginning puts it right.
                    (watch, reading) = (None, None);
                    reopen = Some(Instant::now());
                },
                message = async { match &mut live {
                    Some(live) => live.next().await,
                    None => pending().await,
                }} => match message {
                    Some(message) => {
                        self.hear(&message, Heard::Live);
                        for _ in 0..BATCH {
                            let more = live.as_mut().and_then(|live| live.next().now_or_never());
                            let Some(Some(message)) = more else { break };
                            self.hear(&message, Heard::Live);
                        }
                    }
                    None => live = None,
                },
                permit = self.around.commands.clone().reserve_owned(),
                    if self.has_news() => {
                    let Ok(permit) = permit else { return End::Stopped };
                    permit.send(self.news());
                }
                Some((topic, result)) = writes.next(), if !writes.is_empty() => {
                    let is_kept = self.has_written(result);
                    self.own.written(topic, is_kept, now());
                }
                event = next(&mut events) => match event {
                    Ok(event) => self.say(&event),
                    // Compare all instead.
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        events = self.subscribe();
                        if self.say_all().await.is_err() {
                            return End::Stopped;
                        }
                    }
                    Err(broadcast::error::RecvError::Closed) => return End::Stopped,
                },
                () = self.around.allowed.notified() => if self.say_allowed().await.is_err() {
                    return End::Stopped;
                },
                () = until(retry) => {}
                _ = tick.tick() => {
                    let time = Instant::now();
                    self.state.pass_time(now());
                    if std::mem::take(&mut self.untold) && self.say_all().await.is_err() {
                        return End::Stopped;
                    }
                    if self.told == Told::All && self.tell_allowed().await.is_err() {
                        return End::Stopped;
                    }
                    if self.link.server.is_some() && time >= greeted + PRESENCE {
                        greeted = time;
                        drop(self.greet(&context));
                    }
                    if time >= renewed + RENEW {
                        renewed = time;
                        let now = now();
                        let half = wire::span(lasts) / 2;
                        self.own.renew(now.saturating_sub(half), now.saturating_add(half));
                    }
                    let stalled = reading.is_some_and(|last| last + STALLED < time);
                    let missed = self.state.wants_snapshot() && reading.is_none() && watch.is_some();
                    if stalled || (missed && snapshots + AGAIN < time) {
                        snapshots = time;
                        reopen = Some(time);
                    }
                    self.tell_status();
                }
            }
        }
    }

    /// From now on, what happens here.
    fn subscribe(&self) -> Option<broadcast::Receiver<Arc<EventRecord>>> {
        Some(self.around.events.upgrade()?.subscribe())
    }

    fn connected(&mut self, client: &Client) {
        if self.link.server.is_some() || self.link.since.is_some() {
            self.counts.reconnects += 1;
        }
        let info = client.server_info();
        tracing::info!(server = info.server_name, "fleet: connected");
        self.link.server = Some(info.server_name);
        self.link.since = Some(SystemTime::now());
        self.link.error = None;
        (self.told_lost, self.told_error) = (false, None);
        self.own.hurry();
    }

    fn disconnected(&mut self) {
        if self.link.server.take().is_some() {
            self.link.since = Some(SystemTime::now());
            self.link.complete = false;
            if !std::mem::replace(&mut self.told_lost, true) {
                tracing::warn!(
                    "fleet: the connection is lost; what was heard stays in force, and what happens here is \
                     told as soon as a server is there again"
                );
            }
        }
    }

    /// Takes note of what does not work, and tells the log, but not of all that follows from it.
    fn fail(&mut self, error: String) {
        let is_known = self
            .told_error
            .as_ref()
            .is_some_and(|(told, at)| *told == error || at.elapsed() < AGAIN);
        if !is_known {
            tracing::warn!("fleet: {error}");
            self.told_error = Some((error.clone(), Instant::now()));
        }
        self.link.error = Some(error);
    }

    /// Opens the bucket, makes it if need be, and says that this node is there: then it is not empty, and
    /// tells where its end is.
    fn open(
        &mut self,
        client: &Client,
        context: &jetstream::Context,
    ) -> BoxFuture<'static, Result<Opened, FleetError>> {
        self.link.complete = false;
        let greet = self.greet_now(context);
        let (client, context, config) = (client.clone(), context.clone(), self.config.clone());
        async move {
            let bucket = connection::bucket(&context, &config).await?;
            greet.await?;
            let max_age = bucket.cached_info().config.max_age;
            Ok(Opened {
                watch: connection::read(&client, &context, &config.bucket, ">").await?,
                max_age: (!max_age.is_zero()).then_some(max_age),
            })
        }
        .boxed()
    }

    /// How long what is said counts: for others, and for the bucket.
    fn lasts(&mut self, max_age: Option<Duration>) -> Duration {
        let longest = self.config.max_bantime;
        match max_age {
            Some(age) => age.min(longest),
            None => longest,
        }
    }

    fn presence(&self) -> (String, Vec<u8>) {
        let presence = Presence {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: self.instance,
        };
        let now = now();
        let value = Written::new(presence, now, now).to_bytes();
        let key = presence_key(&self.config.node);
        (format!("$KV.{}.{key}", self.config.bucket), value)
    }

    fn greet_now(
        &self,
        context: &jetstream::Context,
    ) -> BoxFuture<'static, Result<(), FleetError>> {
        let (subject, value) = self.presence();
        let context = context.clone();
        async move {
            let failed = |error: jetstream::context::PublishError| {
                FleetError::failed("write into the bucket", &error)
            };
            let sent = context
                .publish(subject, value.into())
                .await
                .map_err(failed)?;
            sent.await.map(drop).map_err(failed)
        }
        .boxed()
    }

    /// Says that this node is there, which nobody waits for.
    fn greet(&self, context: &jetstream::Context) -> tokio::task::JoinHandle<()> {
        tokio::spawn(self.greet_now(context).map(drop))
    }

    /// All that the bucket holds was heard.
    fn complete(&mut self) {
        self.state.end_snapshot(now());
        if self.twin.is_none_or(|since| since.elapsed() > 3 * PRESENCE) {
            self.own.end_snapshot();
        }
        self.link.complete = true;
        self.link.error = None;
        self.told_error = None;
        if self.told == Told::Nothing {
            self.told = Told::AllIsDue;
        }
        self.tell_status();
    }

    /// Whether there is something to tell the engine.
    fn has_news(&self) -> bool {
        match self.told {
            Told::Nothing => false,
            Told::AllIsDue => true,
            Told::All => self.state.has_changed(),
        }
    }

    /// What is to be told to the engine: what has changed since it was told last.
    fn news(&mut self) -> Command {
        if std::mem::replace(&mut self.told, Told::All) != Told::All {
            let bans = self.state.take_all();
            tracing::info!(
                "fleet: other nodes ban {}",
                counted(bans.len() as u64, "source", "sources")
            );
            let bans = bans.iter().map(|(source, banned)| listed(*source, banned));
            return Command::Outside(Outside::Fleet, Update::All(bans.collect()));
        }
        let (mut named, mut dropped) = (Vec::new(), Vec::new());
        for (source, banned) in self.state.take_changed(MAX_CHANGE) {
            match banned {
                Some(banned) => named.push(listed(source, &banned)),
                None => dropped.push(source),
            }
        }
        Command::Outside(Outside::Fleet, Update::Change { named, dropped })
    }

    async fn tell_allowed(&mut self) -> Result<(), Stopped> {
        let Some(allowed) = self.state.take_allowed() else {
            return Ok(());
        };
        let allowed = allowed.into_iter().map(|(source, counts)| {
            let Banned { node, said, .. } = counts;
            let note = match &said.reason {
                Some(reason) => format!("{node}: {reason}"),
                None => node.to_string(),
            };
            (source, note)
        });
        let told = self
            .around
            .commands
            .send(Command::FleetAllowed(allowed.collect()));
        told.await.map_err(|_| Stopped)
    }

    /// An entry of the bucket; whether it is the last one there is now.
    fn hear_entry(&mut self, entry: &jetstream::Message) -> bool {
        let Ok(info) = entry.info() else {
            return false;
        };
        let since = info.published.unix_timestamp_nanos() / 1_000_000;
        let (since, is_last) = (u64::try_from(since).unwrap_or(0), info.pending == 0);
        self.hear(&entry.message, Heard::Kept(since));
        is_last
    }

    /// A message: a value, or a deletion.
    fn hear(&mut self, message: &Message, heard: Heard) {
        let prefix = format!("$KV.{}.", self.config.bucket);
        let Some(key) = message.subject.as_str().strip_prefix(&prefix) else {
            return;
        };
        let deletes = wire::deletes(message.headers.as_ref());
        let value = deletes.is_none().then_some(&*message.payload);
        let seq = deletes.and_then(|deletion| deletion.seq);
        self.take(key, value, seq, heard);
    }

    fn take(&mut self, key: &str, value: Option<&[u8]>, seq: Option<u64>, heard: Heard) {
        let now = now();
        let is_own = Key::node_of(key) == self.config.node;
        if !is_own {
            self.counts.received += 1;
        }
        let result = match (Key::parse(key), value) {
            (Some(Key::Topic(_, topic)), value) if is_own => {
                self.hear_of_own(topic, value, heard);
                Ok(())
            }
            (Some(Key::Presence(_)), value) if is_own => {
                self.hear_of_twin(value, heard);
                Ok(())
            }
            (Some(Key::Topic(node, topic)), Some(value)) => match Written::<Said>::parse(value) {
                Some(written) => {
                    if heard == Heard::Live {
                        self.counts.took(now.saturating_sub(written.at));
                        self.check_clock(node, written.at, now);
                    }
                    self.state.put(node, topic, &written, heard, now)
                }
                None => Err(self.state.spoil(node, topic, heard, now)),
            },
            (Some(Key::Topic(node, topic)), None) => {
                self.state.delete(node, topic, seq, heard, now)
            }
            (Some(Key::Presence(node)), Some(value)) => match Written::<Presence>::parse(value) {
                Some(written) => {
                    if heard == Heard::Live {
                        self.check_clock(node, written.at, now);
                    }
                    self.state.greet(node, written, heard, now)
                }
                None => Err(Refusal::Unknown),
            },
            (Some(Key::Presence(node)), None) => {
                self.state.dismiss(node);
                Ok(())
            }
            (None, _) if is_own => Ok(()),
            (None, _) => Err(Refusal::Unknown),
        };
        if let Err(refusal) = result {
            self.counts.refuse(refusal);
        }
    }

    /// What the bucket has of this node's own.
    fn hear_of_own(&mut self, topic: Topic, value: Option<&[u8]>, heard: Heard) {
        if let Heard::Kept(since) = heard {
            let written = value.and_then(Written::parse);
            self.own.found(topic, written, since);
        }
    }

    /// Somebody with this node's name says that he is there; it may be this node, or one before.
    fn hear_of_twin(&mut self, value: Option<&[u8]>, heard: Heard) {
        let Some(written) = value.and_then(Written::<Presence>::parse) else {
            return;
        };
        // What another run has left was there before this one said anything.
        if heard == Heard::Live && written.said.instance != self.instance {
            self.twin = Some(Instant::now());
            self.fail(format!(
                "another node calls itself {}, too; give each a name of its own ([fleet] node)",
                self.config.node
            ));
        }
    }

    fn check_clock(&mut self, node: &str, at: u64, now: u64) {
        if at.abs_diff(now) > CLOCK_OFF {
            if self.clocks_off.len() < BATCH && self.clocks_off.insert(node.to_owned()) {
                let (off, way) = if at > now {
                    (at - now, "ahead")
                } else {
                    (now - at, "behind")
                };
                tracing::warn!(
                    "fleet: the clock of {node} is {} s {way} of this one's, or its messages take that long; its \
                     bans end by so much too late or too soon",
                    off / 1000
                );
            }
        } else {
            self.clocks_off.remove(node);
        }
    }

    /// Writes one change.
    fn write(
        &self,
        context: &jetstream::Context,
        write: Write,
        now: u64,
    ) -> impl Future<Output = (Topic, Result<(), String>)> + Send + use<> {
        let Write { topic, seq, said } = write;
        let key = topic_key(&self.config.node, &topic);
        let subject = format!("$KV.{}.{key}", self.config.bucket);
        let context = context.clone();
        async move {
            let written = async {
                let sent = if let Some(said) = said {
                    let value = Written::new(said, seq, now).to_bytes();
                    context.publish(subject, value.into()).await
                } else {
                    let headers = wire::deletion(Some(seq));
                    context
                        .publish_with_headers(subject, headers, "".into())
                        .await
                };
                sent?.await
            };
            let result = match timeout(ACKNOWLEDGED, written).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("no answer in time".to_owned()),
            };
            (topic, result)
        }
    }

    fn has_written(&mut self, result: Result<(), String>) -> bool {
        match result {
            Ok(()) => {
                self.counts.published += 1;
                self.link.write_error = None;
                true
            }
            Err(error) => {
                self.link.write_error = Some(format!("cannot write into the bucket: {error}"));
                false
            }
        }
    }

    /// Says what has happened to a ban here.
    fn say(&mut self, event: &EventRecord) {
        let source = || event.source.as_deref()?.parse::<ipnet::IpNet>().ok();
        let key = |net: ipnet::IpNet| PrefixKey::new(net.addr(), net.prefix_len());
        let Some(source) = matches!(event.kind, EventKind::Ban | EventKind::Unban)
            .then(source)
            .flatten()
            .and_then(key)
        else {
            return;
        };
        let topic = Topic {
            kind: Kind::Ban,
            source,
        };
        let cause = event.cause.as_deref().unwrap_or_default();
        let said = (event.kind == EventKind::Ban && self.shares(cause)).then(|| {
            let expires = event.expires.as_deref();
            let expires = expires.and_then(|time| humantime::parse_rfc3339(time).ok());
            Said::new(expires, cause, event.reason.as_deref())
        });
        self.own.want(topic, said);
    }

    fn shares(&self, cause: &str) -> bool {
        self.config
            .share
            .iter()
            .any(|shared| shared.name() == cause)
    }

    /// Says all that holds here.
    async fn say_all(&mut self) -> Result<(), Stopped> {
        let mut said = HashMap::new();
        let mut after = None;
        loop {
            let page = self.ask(|reply| Command::BanPage(after, reply)).await?;
            let Some(page) = page else {
                // Not all of them are known, so none is taken back; a moment later they may be.
                self.untold = true;
                return Ok(());
            };
            for entry in &page.items {
                let record = entry.exported(false);
                if self.shares(record.cause)
                    && let Some(source) =
                        PrefixKey::new(record.source.addr(), record.source.prefix_len())
                {
                    let topic = Topic {
                        kind: Kind::Ban,
                        source,
                    };
                    let value = Said::new(record.expires, record.cause, record.reason);
                    said.insert(topic, value);
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        self.own.want_all(Kind::Ban, said);
        self.say_allowed().await
    }

    /// Says whom somebody allows here.
    async fn say_allowed(&mut self) -> Result<(), Stopped> {
        let mut said = HashMap::new();
        if self.config.share_allow {
            let Some(entries) = self.ask(Command::AllowList).await? else {
                self.untold = true;
                return Ok(());
            };
            let command = AllowOrigin::Command.name();
            for entry in entries.iter().filter(|entry| entry.origin == command) {
                let (address, length) = (entry.source.addr(), entry.source.prefix_len());
                if let Some(source) = PrefixKey::new(address, length) {
                    let topic = Topic {
                        kind: Kind::Allow,
                        source,
                    };
                    said.insert(topic, Said::new(None, "allow", entry.note.as_deref()));
                }
            }
        }
        self.own.want_all(Kind::Allow, said);
        Ok(())
    }

    /// Asks the engine; `None` if it could not tell.
    async fn ask<T>(
        &self,
        command: impl FnOnce(crate::daemon::engine::Reply<T>) -> Command,
    ) -> Result<Option<T>, Stopped> {
        let (reply, answer) = oneshot::channel();
        let sent = self.around.commands.send(command(reply)).await;
        sent.map_err(|_| Stopped)?;
        match answer.await {
            Ok(Ok(answer)) => Ok(Some(answer)),
            Ok(Err(error)) => {
                tracing::error!(%error, "fleet: cannot compare what is shared with what is so here");
                Ok(None)
            }
            Err(_) => Err(Stopped),
        }
    }

    fn tell_status(&self) {
        let status = status::status(
            &self.config,
            &self.link,
            &self.counts,
            &self.own,
            &self.state,
        );
        self.around.board.write(Some(status));
    }
}

/// Where answers for a node go: permissions can give each its own.
pub(super) fn inbox(node: &str) -> String {
    format!("_INBOX_{node}")
}

/// The entry of the engine's list for what another node says.
fn listed(source: PrefixKey, banned: &Banned) -> Listed {
    let Banned { node, until, said } = banned;
    let left = Duration::from_millis(until.saturating_sub(now()));
    Listed {
        source,
        expires_ns: clock::kernel_deadline(left),
        note: Arc::new(BanNote {
            cause: BanCause::Fleet,
            subject: Some(node.to_string()),
            policy: None,
            reason: Some(said.reason.clone().unwrap_or_else(|| said.cause.clone())),
            by: None,
        }),
    }
}

/// The time in milliseconds since 1970.
fn now() -> u64 {
    millis(SystemTime::now())
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => pending().await,
    }
}

async fn next(
    events: &mut Option<broadcast::Receiver<Arc<EventRecord>>>,
) -> Result<Arc<EventRecord>, broadcast::error::RecvError> {
    match events {
        Some(events) => events.recv().await,
        None => Err(broadcast::error::RecvError::Closed),
    }
}
