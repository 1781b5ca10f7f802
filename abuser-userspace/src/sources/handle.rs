//! The thread as others see it.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{
    Sink, SourceConfig, SourceStatus,
    reader::{Message, Reader},
    status::Gauge,
};
use crate::store::{Change, PositionRow};

/// Keeps positions: called with what has changed, at most once a second, and at the end.
pub type Keep = Box<dyn FnMut(Vec<Change>) + Send>;

/// What both the thread and its users know.
#[derive(Debug, Default)]
pub(super) struct Shared {
    gauges: Mutex<Vec<Arc<Gauge>>>,
}

impl Shared {
    pub(super) fn set(&self, gauges: Vec<Arc<Gauge>>) {
        *self.gauges.lock().unwrap_or_else(PoisonError::into_inner) = gauges;
    }
}

/// The thread that reads sources into a sink. It ends when this is dropped.
#[derive(Debug)]
pub struct Handle<S: Sink> {
    messages: mpsc::Sender<Message<S>>,
    bell: Arc<EventFd>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl<S: Sink> Handle<S> {
    /// Starts the thread. `positions` are those of the store, whose changes `keep` takes.
    ///
    /// A source that cannot be read is no error: its status says why, and it is tried again.
    pub fn start(
        sources: Vec<SourceConfig>,
        positions: Vec<PositionRow>,
        sink: S,
        keep: Keep,
    ) -> io::Result<Self> {
        let (messages, inbox) = mpsc::channel();
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let bell = Arc::new(EventFd::from_flags(flags)?);
        let shared = Arc::new(Shared::default());
        let (for_thread, rings) = (Arc::clone(&shared), Arc::clone(&bell));
        let thread = std::thread::Builder::new()
            .name("abuser-detect".to_owned())
            .spawn(move || {
                let mut reader = Reader::new(sink, keep, positions, for_thread);
                reader.configure(sources);
                reader.work(&inbox, &rings);
            })?;
        Ok(Self {
            messages,
            bell,
            shared,
            thread: Some(thread),
        })
    }

    /// Reads these sources from now on, and returns at once. A source that is as it was goes on as if nothing
    /// had happened; one of the same name goes on where it was with the files that it still has.
    /// `change` is called between the last line of the old ones and the first of the new, whose
    /// numbers count from then on.
    pub fn replace(
        &self,
        sources: Vec<SourceConfig>,
        change: impl FnOnce(&mut S) + Send + 'static,
    ) {
        self.send(Message::Replace(sources, Box::new(change)));
    }

    /// Has the thread do something with its sink, between two rounds, and returns at once.
    pub fn with(&self, work: impl FnOnce(&mut S) + Send + 'static) {
        self.send(Message::With(Box::new(work)));
    }

    /// Hands all positions to `keep` again: for a store that was lost and is back.
    pub fn keep_all(&self) {
        self.send(Message::KeepAll);
    }

    /// How it stands with each source, in the order of their configuration.
    pub fn status(&self) -> Vec<SourceStatus> {
        let gauges = self.shared.gauges.lock();
        let gauges = gauges.unwrap_or_else(PoisonError::into_inner);
        gauges.iter().map(|gauge| gauge.status()).collect()
    }

    /// Whether the thread goes on. It ends before its time only if the sink panics.
    pub fn is_alive(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }

    /// Ends the thread, once its positions are handed to `keep`.
    pub fn stop(self) {
        drop(self);
    }

    fn send(&self, message: Message<S>) {
        // A thread that has ended does nothing any more, which `is_alive` tells.
        if self.messages.send(message).is_ok() {
            let _full = self.bell.write(1);
        }
    }
}

impl<S: Sink> Drop for Handle<S> {
    fn drop(&mut self) {
        self.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}
