//! Reading the configuration again, for `abuser reload` and SIGHUP.

use std::sync::Arc;

use tokio::{
    signal::unix::Signal,
    sync::{Mutex, mpsc, oneshot, watch},
};

use super::{
    detection::DetectionHandle,
    engine::{Command, EngineError},
    names::Resolver,
};
use crate::{
    api::types::Reloaded,
    config::{BlocklistConfig, Config},
};

/// Reads and checks the configuration as the start did, with what the command line overrides.
pub type Load = Arc<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// Reads the configuration again and has it put in force.
pub struct Reloader {
    load: Load,
    /// What is in force of what only a restart can change.
    started_with: Config,
    /// What is in force of the rest.
    in_force: Mutex<Config>,
    /// What names resolve to.
    resolver: Arc<Mutex<Resolver>>,
    /// Who follows block lists hears of them here.
    blocklists: watch::Sender<Vec<BlocklistConfig>>,
    /// Who reads logs.
    detection: Arc<DetectionHandle>,
    commands: mpsc::Sender<Command>,
}

impl Reloader {
    pub(super) fn new(
        load: Load,
        started_with: Config,
        resolver: Arc<Mutex<Resolver>>,
        blocklists: watch::Sender<Vec<BlocklistConfig>>,
        detection: Arc<DetectionHandle>,
        commands: mpsc::Sender<Command>,
    ) -> Self {
        Self {
            load,
            in_force: Mutex::new(started_with.clone()),
            started_with,
            resolver,
            blocklists,
            detection,
            commands,
        }
    }

    /// Puts what the files say now in force, and says what that changed. If anything is wrong
    /// with them, nothing is.
    pub async fn reload(&self) -> Result<Reloaded, EngineError> {
        // Held to the end: of two reloads, the one that has read last is in force.
        let mut in_force = self.in_force.lock().await;
        let mut resolver = self.resolver.lock().await;
        let config = (self.load)().map_err(EngineError::Refused)?;
        self.detection.check().map_err(EngineError::Refused)?;
        let prepared = DetectionHandle::prepare(&config)
            .map_err(|error| EngineError::Refused(error.to_string()))?;
        let mut fresh = resolver.with_entries(config.allow.clone());
        let allow = fresh.resolve().await;
        let needs_restart = needs_restart(&self.started_with, &config);
        let settings = changed_settings(&in_force, &config);
        let (reply, answer) = oneshot::channel();
        let stopping = || EngineError::Refused("the daemon is stopping".to_owned());
        self.commands
            .send(Command::Reload(Box::new(config.clone()), allow, reply))
            .await
            .map_err(|_| stopping())?;
        let reloaded = answer.await.map_err(|_| stopping())??;
        *resolver = fresh;
        self.detection.replace(prepared);
        self.detection.followed().await;
        self.blocklists.send_replace(config.blocklists.clone());
        *in_force = config;
        Ok(Reloaded {
            settings,
            needs_restart,
            ..reloaded
        })
    }

    /// Reloads at each SIGHUP.
    pub(super) fn follow(self: &Arc<Self>, mut hang_ups: Signal) {
        let this = Arc::clone(self);
        tokio::spawn(async move {
            while hang_ups.recv().await.is_some() {
                match this.reload().await {
                    Ok(changes) => tracing::info!("SIGHUP: {changes}"),
                    Err(error) => {
                        tracing::error!("SIGHUP: nothing is reloaded: {error}");
                    }
                }
            }
        });
    }
}

/// What differs besides interfaces and limits and is in force at once.
fn changed_settings(before: &Config, after: &Config) -> Vec<String> {
    let allow = |config: &Config| (config.allow.clone(), config.allow_automatic);
    named([
        ("[xdp] persist", before.xdp.persist != after.xdp.persist),
        ("[allow]", allow(before) != allow(after)),
        ("[ban]", before.ban != after.ban),
        ("[[policy]]", before.policies != after.policies),
        ("[[blocklist]]", before.blocklists != after.blocklists),
        ("[[source]]", before.sources != after.sources),
        ("[[detector]]", before.detectors != after.detectors),
        (
            "[store] evidence",
            before.store.evidence != after.store.evidence,
        ),
    ])
}

/// The names of those that are so.
fn named<const N: usize>(settings: [(&str, bool); N]) -> Vec<String> {
    let named = settings.into_iter().filter(|(_, is_so)| *is_so);
    named.map(|(name, _)| name.to_owned()).collect()
}

/// What differs that cannot change while the daemon runs.
fn needs_restart(before: &Config, after: &Config) -> Vec<String> {
    let store = |config: &Config| {
        let store = &config.store;
        (store.path.clone(), store.history, store.history_max)
    };
    named([
        ("[api] socket", before.api.socket != after.api.socket),
        ("[api] group", before.api.group != after.api.group),
        (
            "[api] read_only",
            before.api.read_only != after.api.read_only,
        ),
        ("[api] listen", before.api.listen != after.api.listen),
        (
            "[api] token_file",
            before.api.token_file != after.api.token_file,
        ),
        ("[xdp] mode", before.xdp.mode != after.xdp.mode),
        ("[xdp] pin_dir", before.xdp.pin_dir != after.xdp.pin_dir),
        ("[store]", store(before) != store(after)),
    ])
}
