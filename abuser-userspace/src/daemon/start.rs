//! What a start needs that may fail, and what goes on beside the engine afterwards.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    signal::unix::Signal,
    sync::{Mutex, mpsc, watch},
};

use super::{
    blocklists,
    detection::DetectionHandle,
    engine::Command,
    events::EventReader,
    names::{self, Resolver},
    reload::{Load, Reloader},
    socket, tcp,
};
use crate::{
    api::server::Listeners,
    config::Config,
    crowdsec,
    dataplane::{Dataplane, interfaces::Interface, links::NetlinkChanges},
    host::{Essential, HostWatch},
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
) -> anyhow::Result<Prepared> {
    let interfaces = dataplane.find_interfaces(&config.interfaces).await?;
    let links = NetlinkChanges::of_links()?;
    let reader = EventReader::new(dataplane.take_events()?)
        .context("cannot wait for the XDP program's events")?;
    let mut host = HostWatch::follow()?;
    let essential = host.read().await;
    let (store, snapshot) = Store::open(&config.store)?;
    let tcp = tcp::listen(&config.api).await?;
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
        listeners: Listeners { unix, access, tcp },
    })
}

/// Follows what the configuration says: who reads it again, and who does what beside the engine.
pub(super) fn follow_configuration(
    load: Load,
    config: &Config,
    resolver: Arc<Mutex<Resolver>>,
    detection: &Arc<DetectionHandle>,
    hang_ups: Signal,
    around: crowdsec::Surroundings,
) -> Arc<Reloader> {
    let (followers, configured) = watch::channel(Arc::new(config.clone()));
    let commands = around.commands.clone();
    tokio::spawn(blocklists::follow(configured.clone(), commands.clone()));
    tokio::spawn(crowdsec::follow(configured, around));
    let detection = Arc::clone(detection);
    let reloader = Reloader::new(
        load,
        config.clone(),
        resolver,
        followers,
        detection,
        commands,
    );
    let reloader = Arc::new(reloader);
    reloader.follow(hang_ups);
    reloader
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
