//! A connection, and what is under way on it.

use std::{
    future::pending,
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::{Client, Event, Message, Subscriber, jetstream};
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{broadcast, mpsc},
    time::{Interval, MissedTickBehavior, interval},
};

use super::{Member, Stopped, Told, inbox, now};
use crate::{
    api::types::EventRecord,
    config::FleetConfig,
    fleet::{
        connection::{self, Files, FleetError},
        link::Turn,
        reader::{Opened, Opening, Read, Reader},
        state::Heard,
        until,
        wire::{self, Topic},
    },
};

/// How often this node says that it is there.
const PRESENCE: Duration = Duration::from_secs(20);
/// How often time is told to pass.
const TICK: Duration = Duration::from_millis(500);
/// Writes that may be under way.
const MAX_WRITING: usize = 1024;
/// Messages that are looked at before anything else has its turn.
const BATCH: usize = 256;
/// From one look at why there is no connection to the next.
const DIAGNOSE: Duration = Duration::from_secs(5);
/// How often what lasts is looked through for what is to be said again.
const RENEW: Duration = Duration::from_secs(30);

/// Why there is no more to do with a connection.
pub(super) enum End {
    Stopped,
    /// The servers do not know this node by what it said; a file may say something else by now.
    NotKnown {
        /// Whether they did at first.
        was_known: bool,
    },
}

impl From<Stopped> for End {
    fn from(Stopped: Stopped) -> Self {
        Self::Stopped
    }
}

/// A connection, and what is under way on it.
pub(super) struct Session {
    client: Client,
    context: jetstream::Context,
    happenings: mpsc::Receiver<Event>,
    /// What happens here; `None` if nothing can happen any more.
    events: Option<broadcast::Receiver<Arc<EventRecord>>>,
    /// All that nodes write, as they do.
    subjects: String,
    live: Option<Subscriber>,
    reader: Reader,
    writes: FuturesUnordered<BoxFuture<'static, (Topic, Result<(), String>)>>,
    /// Finds out why there is no connection, and when that was begun last.
    diagnosis: Option<BoxFuture<'static, Option<FleetError>>>,
    diagnosed: Option<Instant>,
    tick: Interval,
    /// When this node has said last that it is there, and looked for what is to be said again.
    greeted: Instant,
    renewed: Instant,
    /// How long what is said counts: for others, and for the bucket.
    lasts: Duration,
    was_known: bool,
}

impl Session {
    pub(super) fn new(
        client: Client,
        happenings: mpsc::Receiver<Event>,
        config: &FleetConfig,
    ) -> Self {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            context: connection::context(client.clone()),
            client,
            happenings,
            events: None,
            subjects: format!("$KV.{}.>", config.bucket),
            live: None,
            reader: Reader::new(),
            writes: FuturesUnordered::new(),
            diagnosis: None,
            diagnosed: None,
            tick,
            greeted: Instant::now(),
            renewed: Instant::now(),
            lasts: config.max_bantime,
            was_known: false,
        }
    }
}

impl Member {
    pub(super) async fn take_part(&mut self, mut session: Session) -> End {
        match self.go_on(&mut session).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn go_on(&mut self, session: &mut Session) -> Result<std::convert::Infallible, End> {
        // What an earlier connection took with it.
        self.own.interrupted(now());
        session.events = self.subscribe();
        self.say_all().await?;
        loop {
            let retry = self.write_next(session);
            tokio::select! {
                happening = session.happenings.recv() => {
                    let happening = happening.ok_or(End::Stopped)?;
                    self.happened(session, happening).await?;
                }
                read = session.reader.next() => self.read(session, read),
                message = next_message(&mut session.live) => self.hear_batch(session, message),
                permit = self.around.commands.clone().reserve_owned(), if self.has_news() => {
                    permit.map_err(|_| End::Stopped)?.send(self.news().await);
                }
                Some((topic, result)) = session.writes.next(), if !session.writes.is_empty() => {
                    let is_kept = self.has_written(result);
                    self.own.written(topic, is_kept, now());
                }
                event = next_event(&mut session.events) => match event {
                    Ok(event) => self.say(&event),
                    // Compare all instead.
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        session.events = self.subscribe();
                        self.say_all().await?;
                    }
                    Err(broadcast::error::RecvError::Closed) => return Err(End::Stopped),
                },
                why = some(&mut session.diagnosis) => {
                    session.diagnosis = None;
                    if let Some(why) = why && self.link.server.is_none() {
                        self.fail(why.to_string());
                    }
                }
                () = self.around.allowed.notified() => self.say_allowed().await?,
                () = until(retry) => {}
                _ = session.tick.tick() => self.pass_time(session).await?,
            }
        }
    }

    /// From now on, what happens here.
    fn subscribe(&self) -> Option<broadcast::Receiver<Arc<EventRecord>>> {
        Some(self.around.events.upgrade()?.subscribe())
    }

    /// What is new goes out before anything else is waited for; when to look again for what is to be
    /// written again.
    fn write_next(&mut self, session: &Session) -> Option<Instant> {
        self.link.server.as_ref()?;
        let now = now();
        while self.own.writing() < MAX_WRITING
            && let Some(write) = self.own.next(now)
        {
            let writing = self.write(&session.context, write, now);
            session.writes.push(writing.boxed());
        }
        if self.own.writing() >= MAX_WRITING {
            // One that ends makes room.
            return None;
        }
        let due = self.own.due()?;
        Some(Instant::now() + Duration::from_millis(due.saturating_sub(now)))
    }

    /// Something has become of the connection.
    async fn happened(&mut self, session: &mut Session, happening: Event) -> Result<(), End> {
        match happening {
            Event::Connected | Event::Disconnected | Event::Closed => self.look(session).await,
            // What did not fit is in the bucket.
            Event::SlowConsumer(_) => session.reader.begin(),
            Event::ServerError(_) | Event::ClientError(_) => {
                let error = happening.to_string();
                let is_lost = self.link.server.is_none();
                if is_lost && error.contains("authorization violation") {
                    self.fail(error);
                    let was_known = session.was_known;
                    return Err(End::NotKnown { was_known });
                }
                // Of what keeps it from connecting, the client tells only the kind.
                if is_lost && matches!(happening, Event::ClientError(_)) {
                    self.diagnose(session);
                } else {
                    self.fail(connection::explain(error, &self.config.bucket));
                }
            }
            Event::LameDuckMode | Event::Draining => {}
        }
        Ok(())
    }

    /// Finds out why there is no connection, unless that was done a moment ago: by making one that is not
    /// kept.
    fn diagnose(&self, session: &mut Session) {
        let time = Instant::now();
        let recent = session.diagnosed.is_some_and(|at| at + DIAGNOSE > time);
        if recent || session.diagnosis.is_some() {
            return;
        }
        session.diagnosed = Some(time);
        let config = self.config.clone();
        let diagnosis = async move {
            let login = match Files::read(&config) {
                Ok(files) => files.login,
                Err(error) => return Some(error),
            };
            let (tell, _nobody) = mpsc::channel(1);
            let inbox = inbox(&config.node);
            let connected = connection::connect_once(&config, login, &inbox, tell);
            connected.await.err()
        };
        session.diagnosis = Some(diagnosis.boxed());
    }

    /// Looks whether the connection is another one.
    async fn look(&mut self, session: &mut Session) {
        match self.link.look(&session.client) {
            Turn::None => {}
            Turn::Connected => {
                if std::mem::replace(&mut self.was_connected, true) {
                    self.counts.reconnects += 1;
                }
                tracing::info!(server = self.link.server, "fleet: connected");
                (self.told_lost, self.told_error) = (false, None);
                self.own.hurry();
                if session.live.is_none() {
                    session.live = session
                        .client
                        .subscribe(session.subjects.clone())
                        .await
                        .ok();
                }
                session.was_known = true;
                session.reader.stop();
                session.reader.begin();
            }
            Turn::Lost => {
                session.reader.stop();
                if !std::mem::replace(&mut self.told_lost, true) {
                    tracing::warn!(
                        "fleet: the connection is lost; what was heard stays in force, and what happens here \
                         is told as soon as a server is there again"
                    );
                }
            }
        }
    }

    /// What the bucket has, or why it cannot be read.
    fn read(&mut self, session: &mut Session, read: Read) {
        match read {
            Read::Due => {
                self.link.complete = false;
                let opening = self.open(session);
                session.reader.open(opening);
                session.greeted = Instant::now();
            }
            Read::Failed(error) => self.fail(error.to_string()),
            Read::Begun(max_age) => {
                let longest = self.config.max_bantime;
                session.lasts = max_age.map_or(longest, |age| age.min(longest));
                self.state.begin_snapshot();
                self.own.begin_snapshot();
            }
            Read::Entry(entry) => {
                let is_last = self.hear_entry(&entry);
                if is_last && session.reader.is_snapshot() {
                    session.reader.complete();
                    self.complete();
                }
            }
        }
    }

    /// Opens the bucket, makes it if need be, and says that this node is there: then it is not empty, and
    /// tells where its end is.
    fn open(&self, session: &Session) -> Opening {
        let greet = self.greet(&session.context);
        let (client, context) = (session.client.clone(), session.context.clone());
        let config = self.config.clone();
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

    /// What others say at this moment, and what waits behind it; `None`: the subscription has ended.
    fn hear_batch(&mut self, session: &mut Session, message: Option<Message>) {
        let Some(message) = message else {
            session.live = None;
            return;
        };
        self.hear(&message, Heard::Live);
        for _ in 0..BATCH {
            let more = next_message(&mut session.live).now_or_never();
            let Some(Some(message)) = more else { break };
            self.hear(&message, Heard::Live);
        }
    }

    async fn pass_time(&mut self, session: &mut Session) -> Result<(), End> {
        let time = Instant::now();
        // Of what has become of it, nobody may have told.
        self.look(session).await;
        self.state.pass_time(now());
        if std::mem::take(&mut self.untold) {
            self.say_all().await?;
        }
        self.tell_allowed().await?;
        if self.link.server.is_some() && time >= session.greeted + PRESENCE {
            session.greeted = time;
            // Nobody waits for that.
            drop(tokio::spawn(self.greet(&session.context).map(drop)));
        }
        if time >= session.renewed + RENEW {
            session.renewed = time;
            let now = now();
            let half = wire::span(session.lasts) / 2;
            self.own
                .renew(now.saturating_sub(half), now.saturating_add(half));
        }
        let reader = &mut session.reader;
        let missed = self.state.wants_snapshot() && reader.is_following();
        if missed || reader.is_stalled(time) {
            reader.begin();
        }
        self.tell_status();
        Ok(())
    }
}

async fn some<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

async fn next_message(live: &mut Option<Subscriber>) -> Option<Message> {
    match live {
        Some(live) => live.next().await,
        None => pending().await,
    }
}

async fn next_event(
    events: &mut Option<broadcast::Receiver<Arc<EventRecord>>>,
) -> Result<Arc<EventRecord>, broadcast::error::RecvError> {
    match events {
        Some(events) => events.recv().await,
        None => Err(broadcast::error::RecvError::Closed),
    }
}
