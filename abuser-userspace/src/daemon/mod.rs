//! `abuser run`: load, attach, listen, and on a signal leave everything as it was.
//!
//! One task, the [`engine`], owns the maps and all that is known of bans; everyone else
//! sends it commands. Readers of events hang on a broadcast channel: one that is too slow
//! misses some and is told so, and never holds up enforcement.

pub mod apart;
mod blocklists;
pub mod clock;
pub mod detection;
pub mod engine;
pub mod events;
pub mod names;
pub mod reload;
pub mod service;
pub mod socket;
mod start;
mod tcp;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Mutex, broadcast, mpsc, oneshot},
    task::JoinHandle,
};

use self::{
    detection::DetectionHandle,
    engine::{Engine, Stop},
    names::Resolver,
    reload::Load,
    service::ServiceManager,
    socket::SocketError,
    start::{Around, Beside, Prepared},
};
use crate::{
    api::{
        server::{self, Token, TokenError, missed},
        types::{EventRecord, SecurityStatus},
    },
    config::{Config, Dispatcher},
    dataplane::{Dataplane, attach::mode_name, program},
    detection::DetectionError,
    notify::NotifyHandle,
    sandbox::{self, Plan},
    store::StoreError,
};

/// Events that a slow reader may be behind before it misses some.
const EVENT_BACKLOG: usize = 8192;
/// Commands that may wait for the engine.
const COMMAND_BACKLOG: usize = 64;

/// How long answers under way may take when the daemon stops.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// How long a signal may take from the kernel to here.
const SIGNAL_DELIVERY: Duration = Duration::from_millis(20);

/// What `abuser run` was asked for.
pub struct Options {
    /// The configuration, with what the command line overrides.
    pub config: Config,
    /// Where the configuration came from, for the log.
    pub config_path: Option<PathBuf>,
    /// Drop nothing, only count and report.
    pub observe: bool,
    /// Print events to standard output.
    pub print: Option<fn(&EventRecord) -> std::io::Result<()>>,
    /// What the XDP program itself logs: 0 nothing to 5 traces.
    pub program_log_level: u8,
    /// How the configuration is read again.
    pub reload: Load,
    /// Detach after this time unless somebody confirms.
    pub confirm: Option<Duration>,
}

/// Runs until a signal or `abuser detach`.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let Options {
        config,
        config_path,
        observe,
        print,
        program_log_level,
        reload,
        confirm,
    } = options;
    let (mut terminate, mut interrupt, hang_ups) = signals()?;
    let manager = ServiceManager::from_environment();
    // A configuration that cannot be is refused before anything is touched.
    let detection = DetectionHandle::prepare(&config)?;
    let token = Token::of(&config.api)?;
    program::check_system()?;
    raise_descriptor_limit();
    let mut resolver = Resolver::new(config.allow.clone());
    let allow = resolver.resolve().await;
    let (events, _) = broadcast::channel(EVENT_BACKLOG);
    let loaded = load(&config, program_log_level, &mut terminate, &mut interrupt);
    let Some(mut dataplane) = loaded.await? else {
        return Ok(());
    };
    // From here to `attach` nothing that is in force changes, so a start that fails leaves
    // what an earlier daemon left.
    let Prepared {
        interfaces,
        links,
        reader,
        host,
        essential,
        store,
        mut snapshot,
        listeners,
    } = match start::prepare(&mut dataplane, &config, token).await {
        Ok(prepared) => prepared,
        Err(error) => {
            dataplane.abandon();
            return Err(error);
        }
    };
    let _socket = socket::Guard::new(&listeners.unix);
    let positions = std::mem::take(&mut snapshot.positions);
    let (commands, mut inbox) = mpsc::channel(COMMAND_BACKLOG);
    let mut engine = Engine::new(dataplane, store, &config, observe, events.clone());
    let attached = engine.attach(&interfaces, &config, &allow, essential.clone(), snapshot);
    let detection = attached.map_err(anyhow::Error::from).and_then(|()| {
        DetectionHandle::start(detection, positions, &commands)
            .context("cannot start the thread that reads logs")
    });
    let resolver = Arc::new(Mutex::new(resolver));
    let beside = detection.and_then(|detection| {
        let around = Around::new(&engine, &manager, &resolver, observe, &events, &commands);
        start::go_on_beside(reload, &config, detection, hang_ups, around)
    });
    let beside = match beside {
        Ok(beside) => beside,
        Err(error) => {
            engine.abandon();
            return Err(error);
        }
    };
    events::log_program(engine.dataplane_mut());
    let security = give_up(&mut engine, &config);
    announce(
        engine.dataplane_mut(),
        &config,
        config_path.as_deref(),
        observe,
    );

    engine.expect_confirmation(confirm);
    start::keep_allowing(resolver, host, essential, &commands);
    let logs = Arc::clone(&beside.detection);
    engine.when_revived(move || logs.keep_all());
    if let Some(print) = print {
        print_events(events.subscribe(), print);
    }
    let (stop_server, stopped) = oneshot::channel();
    let api = beside.api(commands, events.downgrade(), security);
    // The engine holds the only sender from here on: with it the streams of events end.
    drop(events);
    let server = tokio::spawn(server::serve(listeners, api, stopped));
    let stop = signalled(&mut terminate, &mut interrupt);
    engine.report_to(&manager);
    // Whoever is banned stays so until there is a daemon again that can run.
    let stop = engine.run(&mut inbox, reader, links, stop).await;
    manager.stopping();
    // It waits for the engine, which is here.
    let Beside {
        detection, notify, ..
    } = beside;
    let reading = tokio::task::spawn_blocking(move || detection.stop());
    engine.finish(inbox, async { drop(reading.await) }).await;
    let stop = stop.with_context(|| unreadable(&config))?;
    let confirmed = end(engine, stop);
    drop(stop_server);
    last_words(server, &notify).await;
    confirmed
}

/// Whether what ended [`run`] comes of what the configuration says, so that another start would end as well.
pub fn is_refusal(error: &anyhow::Error) -> bool {
    error.is::<DetectionError>()
        || error.is::<TokenError>()
        || matches!(
            error.downcast_ref(),
            Some(StoreError::TooNew { .. } | StoreError::Foreign { .. })
        )
        || error
            .downcast_ref::<SocketError>()
            .is_some_and(SocketError::is_refusal)
}

/// SIGTERM, SIGINT and SIGHUP.
fn signals() -> anyhow::Result<(Signal, Signal, Signal)> {
    Ok((
        signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?,
        signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?,
        signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?,
    ))
}

/// Lets whoever asked for the stop have its answer, and others their notifications. Nothing more
/// happens that they would have to be told.
async fn last_words(server: JoinHandle<()>, notify: &NotifyHandle) {
    let answered = tokio::time::timeout(LAST_ANSWERS, server);
    if let (Err(_), ()) = tokio::join!(answered, notify.finish()) {
        tracing::debug!("closed the API on those who still listened");
    }
}

/// Loads the program; `None` if a signal came meanwhile.
async fn load(
    config: &Config,
    program_log_level: u8,
    terminate: &mut Signal,
    interrupt: &mut Signal,
) -> anyhow::Result<Option<Dataplane>> {
    // A signal interrupts the verifier; then the load fails because it was asked to.
    let error = match Dataplane::load(&config.xdp.pin_dir, program_log_level) {
        Ok(dataplane) => return Ok(Some(dataplane)),
        Err(error) => error,
    };
    let signalled = signalled(terminate, interrupt);
    match tokio::time::timeout(SIGNAL_DELIVERY, signalled).await {
        Ok(_signal) => Ok(None),
        Err(_) => Err(error.into()),
    }
}

/// Waits for a signal that is to stop the daemon, and names it.
async fn signalled(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

/// Takes the program off, unless it is to stay for the next daemon.
fn end(engine: Engine, stop: Stop) -> anyhow::Result<()> {
    match stop {
        Stop::Unconfirmed => {
            let late = "nobody ran `abuser confirm` in time";
            engine.shut_down().context(late)?;
            anyhow::bail!("{late}; detached from all interfaces");
        }
        Stop::Signal(name) if engine.persists() => {
            tracing::info!("{name}, leaving the program on ([xdp] persist)");
            engine.leave();
        }
        Stop::Signal(name) => {
            tracing::info!("{name}, detaching");
            engine.shut_down()?;
        }
        Stop::Detached => {
            tracing::info!("asked to detach");
            engine.shut_down()?;
        }
    }
    Ok(())
}

/// What to do if there are no events any more.
fn unreadable(config: &Config) -> String {
    format!(
        "cannot read the XDP program's events; limits and bans stay in force: start abuser again, or \
         take them off with `abuser detach --pin-dir {}`",
        config.xdp.pin_dir.display()
    )
}

/// Gives up what only the start has needed.
fn give_up(engine: &mut Engine, config: &Config) -> SecurityStatus {
    let attachments = engine.dataplane_mut().protected().attachments();
    let is_component = attachments.iter().any(|one| one.chain().is_some());
    let found = sandbox::Found {
        is_joined: is_component || config.xdp.dispatcher == Dispatcher::Always,
        has_store: engine.has_store(),
    };
    sandbox::enter(&Plan::of(config), found)
}

/// Every client takes a descriptor, and the usual limit of 1,024 is soon reached.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
}

fn announce(
    dataplane: &Dataplane,
    config: &Config,
    config_path: Option<&std::path::Path>,
    observe: bool,
) {
    let interfaces: Vec<_> = dataplane
        .protected()
        .attachments()
        .iter()
        .map(|a| format!("{} ({})", a.name, mode_name(a.generic)))
        .collect();
    tracing::info!(
        config = %config_path.map_or_else(|| "built in".to_owned(), |path| path.display().to_string()),
        limits = config.limits.len(),
        socket = %config.api.socket.display(),
        "protecting {}{}{}",
        interfaces.join(", "),
        if observe { ", observing only" } else { "" },
        if dataplane.adopted() { ", with the bans of an earlier run" } else { "" },
    );
    warn_of_doubts(config);
}

/// Says what of the configuration is probably a mistake.
fn warn_of_doubts(config: &Config) {
    for doubt in config.doubts() {
        tracing::warn!("{doubt}");
    }
}

/// Prints events, on a thread of its own: a reader that stops reading blocks only this.
fn print_events(
    mut receiver: broadcast::Receiver<Arc<EventRecord>>,
    print: fn(&EventRecord) -> std::io::Result<()>,
) {
    std::thread::spawn(move || {
        loop {
            let printed = match receiver.blocking_recv() {
                Ok(event) => print(&event),
                Err(broadcast::error::RecvError::Lagged(count)) => print(&missed(count)),
                Err(broadcast::error::RecvError::Closed) => return,
            };
            // A reader that closed the pipe wants no more; enforcement goes on.
            if printed.is_err() {
                return;
            }
        }
    });
}
