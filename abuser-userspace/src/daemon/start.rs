//! What a start needs that may fail, and what goes on beside the engine afterwards.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    signal::unix::Signal,
    sync::{Mutex, Notify, broadcast, mpsc, watch},
};

use super::{
    blocklists,
    detection::DetectionHandle,
    engine::{Command, Engine},
    events::EventReader,
    names::{self, Resolver},
    reload::{Load, Reloader},
    service::ServiceManager,
    socket, tcp,
};
use crate::{
    api::{
        server::{Api, Listeners, Token},
        types::{EventRecord, SecurityStatus},
    },
    config::Config,
    crowdsec,
    dataplane::{Dataplane, interfaces::Interface, links::NetlinkChanges},
    fleet::FleetHandle,
    host::{Essential, HostWatch},
    metrics::Latencies,
    notify::NotifyHandle,
    store::{Snapshot, Store},
};

/// All of it, gathered before anything that is in force changes.
pub(super) struct Prepared {
    pub(super) interfaces: Vec<Interface>,
    pub(super) links: NetlinkChanges,
    pub(super) reader: EventReader,
    pub(super) host: HostWatch,
    pub(super) essential: Essential,
    pub(super) store: Store,
    pub(super) snapshot: Snapshot,
    pub(super) listeners: Listeners,
}

/// Gathers it.
pub(super) async fn prepare(
    dataplane: &mut Dataplane,
    config: &Config,
    token: Option<Token>,
) -> anyhow::Result<Prepared> {
    let interfaces = dataplane
        .find_interfaces(&config.interfaces, config.xdp.how())
        .await?;
    let links = NetlinkChanges::of_links()?;
    let reader = EventReader::new(dataplane.take_events()?)
        .context("cannot wait for the XDP program's events")?;
    let mut host = HostWatch::follow()?;
    let essential = host.read().await;
    let (store, snapshot) = Store::open(&config.store)?;
    let tcp = tcp::listen(&config.api, token).await?;
    let metrics = tcp::listen_for_metrics(&config.metrics).await?;
    // The last, because it leaves a file.
    let (unix, access) = socket::listen(&config.api)?;
    Ok(Prepared {
        interfaces,
        links,
        reader,
        host,
        essential,
        store,
        snapshot,
        listeners: Listeners {
            unix,
            access,
            tcp,
            metrics,
        },
    })
}

/// Who goes on beside the engine, and follows the configuration.
pub(super) struct Beside {
    pub(super) detection: Arc<DetectionHandle>,
    reloader: Arc<Reloader>,
    pub(super) notify: Arc<NotifyHandle>,
    fleet: Arc<FleetHandle>,
    crowdsec: crowdsec::Monitor,
    latencies: Arc<Latencies>,
}

impl Beside {
    /// What answers requests needs.
    pub(super) fn api(
        &self,
        commands: mpsc::Sender<Command>,
        events: broadcast::WeakSender<Arc<EventRecord>>,
        security: SecurityStatus,
    ) -> Api {
        Api {
            commands,
            reloader: Arc::clone(&self.reloader),
            events,
            detection: Arc::clone(&self.detection),
            notify: Arc::clone(&self.notify),
            fleet: Arc::clone(&self.fleet),
            crowdsec: self.crowdsec.clone(),
            latencies: Arc::clone(&self.latencies),
            security: Arc::new(security),
        }
    }
}

/// What those who go on beside the engine deal with.
pub(super) struct Around<'a> {
    pub(super) manager: ServiceManager,
    pub(super) resolver: Arc<Mutex<Resolver>>,
    /// Whether nothing is dropped.
    pub(super) observe: bool,
    pub(super) events: &'a broadcast::Sender<Arc<EventRecord>>,
    /// The bans that this host has made itself, and their ends.
    pub(super) own_bans: broadcast::WeakSender<Arc<EventRecord>>,
    pub(super) commands: &'a mpsc::Sender<Command>,
    /// Where the engine tells that a command has changed the allow list.
    pub(super) allowed: Arc<Notify>,
    pub(super) latencies: Arc<Latencies>,
}

impl<'a> Around<'a> {
    pub(super) fn new(
        engine: &Engine,
        manager: &ServiceManager,
        resolver: &Arc<Mutex<Resolver>>,
        observe: bool,
        events: &'a broadcast::Sender<Arc<EventRecord>>,
        commands: &'a mpsc::Sender<Command>,
    ) -> Self {
        Self {
            manager: manager.clone(),
            resolver: Arc::clone(resolver),
            observe,
            events,
            own_bans: engine.own_bans(),
            commands,
            allowed: engine.when_allowed(),
            latencies: engine.latencies(),
        }
    }
}

/// Follows what the configuration says: who reads it again, and who does what beside the engine.
pub(super) fn go_on_beside(
    load: Load,
    config: &Config,
    detection: DetectionHandle,
    hang_ups: Signal,
    around: Around<'_>,
) -> anyhow::Result<Beside> {
    let Around {
        manager,
        resolver,
        observe,
        events,
        own_bans,
        commands,
        allowed,
        latencies,
    } = around;
    let (followers, configured) = watch::channel(Arc::new(config.clone()));
    let notify = NotifyHandle::start(configured.clone(), events.downgrade())
        .context("cannot start the thread that notifies")?;
    tokio::spawn(blocklists::follow(configured.clone(), commands.clone()));
    let around = crowdsec::Surroundings::new(commands, own_bans.clone(), observe);
    let monitor = around.monitor.clone();
    tokio::spawn(crowdsec::follow(configured.clone(), around));
    let fleet = FleetHandle::start(configured, commands.clone(), own_bans, allowed);
    let detection = Arc::new(detection);
    let reloader = Arc::new(Reloader::new(
        load,
        manager,
        config.clone(),
        resolver,
        followers,
        Arc::clone(&detection),
        commands.clone(),
    ));
    reloader.follow(hang_ups);
    Ok(Beside {
        detection,
        reloader,
        notify: Arc::new(notify),
        fleet: Arc::new(fleet),
        crowdsec: monitor,
        latencies,
    })
}

/// Keeps the allow list up with what names resolve to, and with who is essential.
pub(super) fn keep_allowing(
    resolver: Arc<Mutex<Resolver>>,
    host: HostWatch,
    essential: Essential,
    commands: &mpsc::Sender<Command>,
) {
    tokio::spawn(keep_resolving(resolver, commands.clone()));
    tokio::spawn(keep_following(host, essential, commands.clone()));
}

async fn keep_resolving(resolver: Arc<Mutex<Resolver>>, commands: mpsc::Sender<Command>) {
    loop {
        tokio::time::sleep(names::AGAIN).await;
        // Held until the engine has the answer: a reload comes before or after.
        let mut resolver = resolver.lock().await;
        if !resolver.has_names() {
            continue;
        }
        let allow = resolver.resolve().await;
        if commands.send(Command::Configured(allow)).await.is_err() {
            return;
        }
    }
}

async fn keep_following(
    mut host: HostWatch,
    mut known: Essential,
    commands: mpsc::Sender<Command>,
) {
    /// On a router routes change all the time, and reading them all takes a while.
    const PACE: Duration = Duration::from_secs(1);
    loop {
        host.changed().await;
        tokio::time::sleep(PACE).await;
        let essential = host.read().await;
        if essential == known {
            continue;
        }
        known.clone_from(&essential);
        if commands.send(Command::Essential(essential)).await.is_err() {
            return;
        }
    }
}
