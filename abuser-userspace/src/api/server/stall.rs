//! Connections whose reader has stopped reading: they hold an answer in memory and a place that
//! others wait for, so after a while they are hung up on. Readers of events may rest, and miss
//! some.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use axum::{Extension, extract::Request, middleware::Next, response::Response};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Duration, Sleep, sleep},
};

/// Whether the reader of a connection may rest.
#[derive(Debug, Clone, Default)]
pub(super) struct MayRest(Arc<AtomicBool>);

impl MayRest {
    /// From now on it may.
    pub(super) fn allow(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn forbid(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    fn is_allowed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Has every request begin without leave to rest, which one of before may have had: a connection
/// goes on after the head of a stream of events.
pub(super) async fn forbid_rest(
    Extension(may_rest): Extension<MayRest>,
    request: Request,
    next: Next,
) -> Response {
    may_rest.forbid();
    next.run(request).await
}

/// A stream that fails when nothing of what is written to it is read for too long.
pub(super) struct Watched<S> {
    stream: S,
    may_rest: MayRest,
    patience: Duration,
    /// Runs while the stream takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    /// Waits so long for a stream's reader; the second part is for whoever lets it rest.
    pub(super) fn new(stream: S, patience: Duration) -> (Self, MayRest) {
        let may_rest = MayRest::default();
        let watched = Self {
            stream,
            may_rest: may_rest.clone(),
            patience,
            stalled: None,
        };
        (watched, may_rest)
    }

    /// Passes on what came of writing, unless nothing has for too long.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() || self.may_rest.is_allowed() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watch(context, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn a_reader_that_stops_reading_is_hung_up_on() {
        let (near, _far) = duplex(16);
        let (mut watched, _) = Watched::new(near, PATIENCE);
        let error = watched.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_slow_reader_is_waited_for_as_long_as_it_reads() {
        let (near, mut far) = duplex(16);
        let (mut watched, _) = Watched::new(near, PATIENCE);
        let reader = tokio::spawn(async move {
            let mut all = [0; 64];
            for part in all.chunks_mut(8) {
                sleep(PATIENCE / 4).await;
                far.read_exact(part).await.unwrap();
            }
            all
        });
        watched.write_all(&[7; 64]).await.unwrap();
        assert_eq!(reader.await.unwrap(), [7; 64]);
    }

    #[tokio::test]
    async fn one_that_may_rest_is_waited_for() {
        let (near, mut far) = duplex(16);
        let (mut watched, may_rest) = Watched::new(near, PATIENCE);
        may_rest.allow();
        let reader = tokio::spawn(async move {
            sleep(PATIENCE * 2).await;
            let mut all = [0; 64];
            far.read_exact(&mut all).await.unwrap();
        });
        watched.write_all(&[7; 64]).await.unwrap();
        reader.await.unwrap();
    }
}
