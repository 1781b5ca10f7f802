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
    service::ServiceManager,
};
use crate::{api::types::Reloaded, config::Config};

/// Reads and checks the configuration as the start did, with what the command line overrides.
pub type Load = Arc<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// Reads the configuration again and has it put in force.
pub struct Reloader {
    load: Load,
    /// Who is told that it happens.
    manager: ServiceManager,
    /// What is in force of what only a restart can change.
    started_with: Config,
    /// What is in force of the rest.
    in_force: Mutex<Config>,
    /// What names resolve to.
    resolver: Arc<Mutex<Resolver>>,
    /// Who goes on beside the engine hears here of what is in force.
    followers: watch::Sender<Arc<Config>>,
    /// Who reads logs.
    detection: Arc<DetectionHandle>,
    commands: mpsc::Sender<Command>,
}

impl Reloader {
    pub(super) fn new(
        load: Load,
        manager: ServiceManager,
        started_with: Config,
        resolver: Arc<Mutex<Resolver>>,
        followers: watch::Sender<Arc<Config>>,
        detection: Arc<DetectionHandle>,
        commands: mpsc::Sender<Command>,
    ) -> Self {
        Self {
            load,
            manager,
            in_force: Mutex::new(started_with.clone()),
            started_with,
            resolver,
            followers,
            detection,
            commands,
        }
    }

    /// Puts what the files say now in force, and says what that changed. If anything is wrong
    /// with them, nothing is.
    ///
    /// It goes on to its end if whoever asked for it is gone: a client that is cut off must not
    /// leave the engine with one configuration and who reads logs with another.
    pub async fn reload(self: &Arc<Self>) -> Result<Reloaded, EngineError> {
        let this = Arc::clone(self);
        let reloaded = tokio::spawn(async move { this.reload_to_the_end().await });
        let reloaded = reloaded.await.unwrap_or_else(|error| {
            let why = format!("the reload has failed half-way: {error}; restart the daemon");
            Err(EngineError::Refused(why))
        });
        if reloaded.is_ok() {
            self.detection.followed().await;
        }
        reloaded
    }

    async fn reload_to_the_end(&self) -> Result<Reloaded, EngineError> {
        // Held to the end: of two reloads, the one that has read last is in force.
        let mut in_force = self.in_force.lock().await;
        let _told = self.manager.reloading();
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
        self.followers.send_replace(Arc::new(config.clone()));
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
        ("[crowdsec]", before.crowdsec != after.crowdsec),
        ("[[source]]", before.sources != after.sources),
        ("[[detector]]", before.detectors != after.detectors),
        ("[fleet]", before.fleet != after.fleet),
        ("[[notify]]", before.notify != after.notify),
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
        (
            "[metrics] listen",
            before.metrics.listen != after.metrics.listen,
        ),
        ("[api] page", before.api.page != after.api.page),
        ("[xdp] mode", before.xdp.mode != after.xdp.mode),
        (
            "[xdp] dispatcher",
            before.xdp.dispatcher != after.xdp.dispatcher,
        ),
        ("[xdp] priority", before.xdp.priority != after.xdp.priority),
        ("[xdp] pin_dir", before.xdp.pin_dir != after.xdp.pin_dir),
        ("[store]", store(before) != store(after)),
    ])
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use super::*;
    use crate::config;

    /// How long what takes microseconds may take.
    const PATIENCE: Duration = Duration::from_secs(10);

    fn config(text: &str) -> Config {
        config::parse(text, Path::new("test.toml")).expect("a configuration")
    }

    #[tokio::test]
    async fn a_reload_goes_on_to_its_end_if_whoever_asked_for_it_is_gone() {
        let before = config("[api]\nsocket = \"/run/test.sock\"\n");
        let after = config(
            "[[blocklist]]\nname = \"bad\"\npath = \"/bad.txt\"\n\
             [[source]]\nname = \"web\"\nfiles = [\"/nonexistent/a.log\"]\nparser = \"json\"\n",
        );
        let (commands, mut engine) = mpsc::channel(64);
        let (followers, mut followed) = watch::channel(Arc::new(before.clone()));
        let prepared = DetectionHandle::prepare(&before).expect("detectors");
        let detection = DetectionHandle::start(prepared, Vec::new(), &commands).expect("a thread");
        let detection = Arc::new(detection);
        let load: Load = Arc::new({
            let after = after.clone();
            move || Ok(after.clone())
        });
        let reloader = Arc::new(Reloader::new(
            load,
            ServiceManager::default(),
            before,
            Arc::new(Mutex::new(Resolver::new(Vec::new()))),
            followers,
            Arc::clone(&detection),
            commands,
        ));
        // The client is cut off when the engine has the new configuration.
        let asked = {
            let reload = reloader.reload();
            tokio::pin!(reload);
            tokio::select! {
                command = engine.recv() => command,
                _ = &mut reload => panic!("nobody has answered it"),
            }
        };
        let Some(Command::Reload(sent, _, reply)) = asked else {
            panic!("not reloaded");
        };
        assert_eq!(*sent, after);
        // Without anybody who waits for it the reload ends all the same.
        let _gone = reply.send(Ok(Reloaded::default()));
        let changed = tokio::time::timeout(PATIENCE, followed.changed()).await;
        changed.expect("the reload to go on").expect("a reloader");
        assert_eq!(**followed.borrow(), after);
        let in_force = tokio::time::timeout(PATIENCE, reloader.in_force.lock()).await;
        assert_eq!(*in_force.expect("the reload to end"), after);
        let read = || detection.status().sources.len();
        for _ in 0..1000 {
            if read() == 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(read(), 1, "nobody reads the new source");
    }
}
