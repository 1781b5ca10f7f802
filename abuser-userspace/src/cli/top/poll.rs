//! Asking the daemon: every second how it stands, and at once what a key asks for; and starting over
//! when it has gone away.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use tokio::{sync::mpsc, time::Instant};

use super::{snapshot::Snapshot, state::Request, text};
use crate::{
    api::{
        client::{Client, ClientError},
        types::{
            AllowInfo, AllowRequest, BanDuration, BanInfo, BanRequest, EventFilter, EventKind,
            EventRecord, Explanation, ObserveRequest, Observing, RemoveRequest,
        },
    },
    cli::{bans::check_own_session, explain},
};

/// Events that are followed. Drops are not: a flood of them would be read for nothing, since it is
/// told who is busiest.
const FOLLOWED: [EventKind; 3] = [EventKind::Ban, EventKind::Unban, EventKind::Detect];

/// Why somebody is banned or allowed.
const REASON: &str = "abuser top";

/// How long to wait before the daemon is asked again that was not there.
const AGAIN: Duration = Duration::from_secs(1);

/// What comes of it.
#[derive(Debug)]
pub(super) enum Update {
    /// How it stands.
    Snapshot(Box<Snapshot>),
    /// The daemon does not answer.
    Lost(String),
    /// What was asked for is done.
    Done(String),
    /// What was asked for failed.
    Failed(String),
    /// What a packet from an address would meet.
    Explained(String, Vec<String>),
    /// Something happened.
    Event(Box<EventRecord>),
}

/// Who asks.
pub(super) struct Poller {
    socket: PathBuf,
    interval: Duration,
    updates: mpsc::Sender<Update>,
    client: Option<Client>,
    address: Option<IpAddr>,
    paused: bool,
}

impl Poller {
    pub(super) fn new(socket: &Path, interval: Duration, updates: mpsc::Sender<Update>) -> Self {
        Self {
            socket: socket.to_owned(),
            interval,
            updates,
            client: None,
            address: None,
            paused: false,
        }
    }

    /// Asks until nobody listens any more.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        for kind in FOLLOWED {
            tokio::spawn(follow(self.socket.clone(), kind, self.updates.clone()));
        }
        let mut due = Instant::now();
        loop {
            let update = tokio::select! {
                biased;
                request = requests.recv() => match request {
                    Some(request) => {
                        // What it changed is shown at once.
                        due = Instant::now();
                        let waiting = Waiting::of(&self);
                        waiting.on(self.ask(request)).await
                    }
                    None => return,
                },
                () = tokio::time::sleep_until(due), if !self.paused => {
                    let waiting = Waiting::of(&self);
                    let update = waiting.on(self.refresh()).await;
                    let wait = match update {
                        Update::Lost(_) => self.interval.max(AGAIN),
                        _ => self.interval,
                    };
                    due = Instant::now() + wait;
                    Some(update)
                }
            };
            if let Some(update) = update
                && self.updates.send(update).await.is_err()
            {
                return;
            }
        }
    }

    async fn connected(&mut self) -> Result<&mut Client, ClientError> {
        let client = match self.client.take() {
            Some(client) => client,
            None => Client::connect(&self.socket).await?,
        };
        Ok(self.client.insert(client))
    }

    async fn refresh(&mut self) -> Update {
        let address = self.address;
        let fetched = match self.connected().await {
            Ok(client) => Snapshot::fetch(client, address).await,
            Err(error) => Err(error),
        };
        match fetched {
            Ok(snapshot) => Update::Snapshot(Box::new(snapshot)),
            Err(ClientError::Refused { error, .. }) => Update::Failed(error),
            Err(error) => {
                self.doubt(&error);
                Update::Lost(error.to_string())
            }
        }
    }

    async fn ask(&mut self, request: Request) -> Option<Update> {
        match request {
            Request::Pause(paused) => {
                self.paused = paused;
                return None;
            }
            Request::Find(address) => {
                self.address = address;
                return None;
            }
            _ => {}
        }
        // Who bans himself would not see what came of it.
        if let Request::Ban(source, _) = &request
            && let Err(error) = check_own_session(&[*source], false)
        {
            return Some(Update::Failed(error.to_string()));
        }
        let asked = match request {
            Request::Ban(source, duration) => self.ban(source, duration).await.map(Update::Done),
            request => match self.connected().await {
                Ok(client) => perform(client, request).await,
                Err(error) => Err(error),
            },
        };
        Some(asked.unwrap_or_else(|error| {
            self.doubt(&error);
            Update::Failed(error.to_string())
        }))
    }

    /// Has the next question ask over a connection of its own, if this one may be broken.
    fn doubt(&mut self, error: &ClientError) {
        if !matches!(error, ClientError::Refused { .. }) {
            self.client = None;
        }
    }

    /// Bans, and says for how long, and whether it helps.
    async fn ban(&mut self, source: IpNet, duration: BanDuration) -> Result<String, ClientError> {
        let request = BanRequest {
            sources: vec![source],
            duration,
            reason: Some(REASON.to_owned()),
            force: false,
        };
        let client = self.connected().await?;
        let bans: Vec<BanInfo> = client.post("/v1/bans", &request).await?;
        // It is banned from here on, whatever becomes of the next question.
        let allowed: Result<Vec<AllowInfo>, _> = client.get("/v1/allow").await;
        let name = text::source(&source);
        let banned = match bans.first().and_then(|ban| ban.remaining_seconds) {
            // What is left was rounded down a moment after it was whole.
            Some(seconds) => format!("banned {name} for {}", text::left(Some(seconds + 1))),
            None => format!("banned {name} for good"),
        };
        Ok(match allowed {
            Ok(allowed) => match allowed.iter().find(|entry| entry.source.contains(&source)) {
                Some(entry) => format!(
                    "banned {name}, which passes all the same as long as {} is allowed",
                    entry.source
                ),
                None => banned,
            },
            Err(error) => {
                self.doubt(&error);
                format!("{banned}; whether it is allowed, too, is not known: {error}")
            }
        })
    }
}

/// Does what was asked for, and says so.
async fn perform(client: &mut Client, request: Request) -> Result<Update, ClientError> {
    let reason = Some(REASON.to_owned());
    let removed = |source| RemoveRequest {
        sources: vec![source],
        all: false,
    };
    let said = match request {
        Request::Unban(source) => {
            let _lifted: Vec<BanInfo> = client.delete("/v1/bans", &removed(source)).await?;
            format!("unbanned {}", text::source(&source))
        }
        Request::Allow(source) => {
            let request = AllowRequest {
                sources: vec![source],
                reason,
                force: false,
            };
            let _allowed: Vec<AllowInfo> = client.post("/v1/allow", &request).await?;
            format!("allowed {}", text::source(&source))
        }
        Request::Disallow(source) => {
            let _removed: Vec<AllowInfo> = client.delete("/v1/allow", &removed(source)).await?;
            format!("{} is no longer allowed", text::source(&source))
        }
        Request::Observe(observe) => {
            let request = ObserveRequest { observe };
            let _now: Observing = client.post("/v1/observe", &request).await?;
            if observe {
                "observing only: nothing is dropped"
            } else {
                "enforcing again"
            }
            .to_owned()
        }
        Request::Explain(address) => {
            let path = format!("/v1/explain/{address}");
            let explanation: Explanation = client.get(&path).await?;
            let lines = explain::lines(&explanation);
            return Ok(Update::Explained(address.to_string(), lines));
        }
        Request::Ban(..) | Request::Find(_) | Request::Pause(_) => String::new(),
    };
    Ok(Update::Done(said))
}

/// Who waits for an answer, and says so when it takes too long.
struct Waiting {
    patience: Duration,
    updates: mpsc::Sender<Update>,
}

impl Waiting {
    fn of(poller: &Poller) -> Self {
        Self {
            // Two answers that were due.
            patience: (poller.interval * 2).max(AGAIN),
            updates: poller.updates.clone(),
        }
    }

    /// Waits. A daemon that stands still keeps its connections, so that nothing breaks.
    async fn on<T>(&self, answer: impl Future<Output = T>) -> T {
        let mut answer = std::pin::pin!(answer);
        let mut pause = self.patience;
        loop {
            tokio::select! {
                answer = &mut answer => return answer,
                () = tokio::time::sleep(pause) => {
                    let lost = Update::Lost("it does not answer what it was asked".to_owned());
                    // Who shows it may be busy; it is said again.
                    let _full = self.updates.try_send(lost);
                    pause = AGAIN;
                }
            }
        }
    }
}

/// Follows the events of a kind for as long as somebody listens, whatever becomes of the daemon.
async fn follow(socket: PathBuf, kind: EventKind, updates: mpsc::Sender<Update>) {
    let filter = EventFilter {
        kind: Some(kind),
        ..EventFilter::default()
    };
    while !updates.is_closed() {
        // That the daemon is not there is told by who asks how it stands.
        if let Ok(client) = Client::connect(&socket).await
            && let Ok(mut events) = client.events(&filter).await
        {
            while let Ok(Some((event, _))) = events.next_event().await {
                let update = Update::Event(Box::new(event));
                if updates.send(update).await.is_err() {
                    return;
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        Json, Router,
        http::StatusCode,
        routing::{get, post},
    };
    use serde_json::json;
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn a_daemon_that_stands_still_is_told_as_one_that_does_not_answer() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        // It takes connections, as the kernel does for whoever is stopped.
        let _stopped = UnixListener::bind(&socket).unwrap();
        let (updates, mut told) = mpsc::channel(8);
        let (_asks, requests) = mpsc::channel(1);
        let poller = Poller::new(&socket, Duration::from_millis(100), updates);
        tokio::spawn(poller.run(requests));
        for _ in 0..2 {
            let Some(Update::Lost(error)) = told.recv().await else {
                panic!("told as if it had answered");
            };
            assert!(error.contains("does not answer"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_ban_is_told_although_the_next_question_fails() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let ban = json!([{
            "id": 1, "source": "203.0.113.7/32", "created": null, "expires": "2026-01-01T00:00:00Z",
            "remaining_seconds": 599, "hits": 0, "cause": "manual", "limit": null, "detector": null,
            "blocklist": null, "crowdsec": null, "node": null, "policy": null, "offences": null,
            "reason": "abuser top", "by": "root", "last_hit": null,
        }]);
        let refusal = || async {
            (
                StatusCode::SERVICE_UNAVAILABLE,
                Json(json!({ "error": "busy" })),
            )
        };
        let router = Router::new()
            .route("/v1/bans", post(|| async { Json(ban) }))
            .route("/v1/allow", get(refusal));
        tokio::spawn(async { axum::serve(listener, router).await });
        let (updates, _told) = mpsc::channel(8);
        let mut poller = Poller::new(&socket, Duration::from_secs(1), updates);
        let ban = Request::Ban("203.0.113.7/32".parse().unwrap(), BanDuration::Policy);
        let Some(Update::Done(said)) = poller.ask(ban).await else {
            panic!("told as if it had failed");
        };
        for phrase in ["banned 203.0.113.7 for 10m", "not known: busy"] {
            assert!(said.contains(phrase), "no {phrase} in {said}");
        }
    }
}
