//! Reading the configuration again, for `abuser reload` and SIGHUP.

use std::sync::Arc;

use tokio::{
    signal::unix::Signal,
    sync::{Mutex, mpsc, watch},
};

use super::{
    detection::DetectionHandle,
    engine::{Command, EngineError, ask_again},
    names::Resolver,
    service::ServiceManager,
};
use crate::{api::types::Reloaded, config::Config, sandbox::Plan};

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
        let load = Arc::clone(&self.load);
        // Files are read, expressions compiled and templates tried: bans do not wait for it.
        let loaded = tokio::task::spawn_blocking(move || -> Result<_, String> {
            let config = load()?;
            let prepared = DetectionHandle::prepare(&config).map_err(|error| error.to_string())?;
            Ok((config, prepared))
        });
        let loaded = loaded.await.unwrap_or_else(|error| {
            Err(format!(
                "reading the configuration has failed half-way: {error}"
            ))
        });
        let (config, prepared) = loaded.map_err(EngineError::Refused)?;
        self.detection.check().map_err(EngineError::Refused)?;
        let mut fresh = resolver.with_entries(config.allow.clone());
        let allow = fresh.resolve().await;
        let needs_restart = needs_restart(&self.started_with, &config);
        let settings = changed_settings(&in_force, &config);
        let reloaded = ask_again(&self.commands, |reply| {
            Command::Reload(Box::new(config.clone()), allow.clone(), reply)
        });
        let stopping = || EngineError::Refused("the daemon is stopping".to_owned());
        let reloaded = reloaded.await.ok_or_else(stopping)??;
        super::warn_of_doubts(&config);
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
pub fn needs_restart(before: &Config, after: &Config) -> Vec<String> {
    let store = |config: &Config| {
        let store = &config.store;
        (store.path.clone(), store.history, store.history_max)
    };
    let security = Plan::of(before).outgrown_by(after);
    let mut named = named([
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
    ]);
    named.extend(self::named(security));
    named
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

    /// One that reads with `load`, what the engine hears, and what followers do.
    fn reloader(
        before: Config,
        load: Load,
    ) -> (
        Arc<Reloader>,
        mpsc::Receiver<Command>,
        watch::Receiver<Arc<Config>>,
    ) {
        let (commands, engine) = mpsc::channel(64);
        let (followers, followed) = watch::channel(Arc::new(before.clone()));
        let prepared = DetectionHandle::prepare(&before).expect("detectors");
        let detection = DetectionHandle::start(prepared, Vec::new(), &commands).expect("a thread");
        let reloader = Reloader::new(
            load,
            ServiceManager::default(),
            before,
            Arc::new(Mutex::new(Resolver::new(Vec::new()))),
            followers,
            Arc::new(detection),
            commands,
        );
        (Arc::new(reloader), engine, followed)
    }

    #[tokio::test]
    async fn while_the_configuration_is_read_others_go_on() {
        let (others, gone_on) = std::sync::mpsc::channel();
        let gone_on = std::sync::Mutex::new(gone_on);
        // It takes as long as it takes others on the daemon's thread to do something.
        let load: Load = Arc::new(move || {
            let gone_on = gone_on.lock().expect("no panic");
            gone_on
                .recv_timeout(PATIENCE)
                .map_err(|_| "nobody went on".to_owned())?;
            Err("read to the end".to_owned())
        });
        let (reloader, _engine, _followed) = reloader(config(""), load);
        let reload = tokio::spawn(async move { reloader.reload().await });
        tokio::time::sleep(Duration::from_millis(1)).await;
        others.send(()).expect("somebody who reads");
        let error = reload
            .await
            .expect("no panic")
            .expect_err("nothing to reload");
        assert_eq!(error.to_string(), "read to the end");
    }

    #[tokio::test]
    async fn a_reload_goes_on_to_its_end_if_whoever_asked_for_it_is_gone() {
        let before = config("[api]\nsocket = \"/run/test.sock\"\n");
        let after = config(
            "[[blocklist]]\nname = \"bad\"\npath = \"/bad.txt\"\n\
             [[source]]\nname = \"web\"\nfiles = [\"/nonexistent/a.log\"]\nparser = \"json\"\n",
        );
        let load: Load = Arc::new({
            let after = after.clone();
            move || Ok(after.clone())
        });
        let (reloader, mut engine, mut followed) = reloader(before, load);
        let detection = Arc::clone(&reloader.detection);
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
