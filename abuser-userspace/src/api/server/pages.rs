//! Answers about all bans: streamed a page at a time, so that a million of them take no memory
//! and hold up nobody.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use abuser_common::prefix::PrefixKey;
use axum::{
    Json,
    body::Body,
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::mpsc;

use super::{Api, answer::Failure};
use crate::{
    api::types::{BanInfo, ThrottleInfo},
    daemon::engine::{Command, Page, Reply, listing::BanEntry},
    exchange::{Format, Writer},
};

/// Pages that may wait for a client that reads slowly.
const AHEAD: usize = 2;

/// How pages become text.
pub(super) trait Listing<T>: Send + 'static {
    /// What it is.
    const CONTENT_TYPE: &'static str;

    /// The text of a page, with what comes before the first one.
    fn page(&mut self, items: Vec<T>) -> Vec<u8>;

    /// What comes after the last one.
    fn end(self) -> Vec<u8>;
}

/// A JSON array with an element a line.
#[derive(Debug, Default)]
pub(super) struct JsonLines {
    begun: bool,
}

impl JsonLines {
    fn element(&mut self, text: &mut Vec<u8>, info: &impl Serialize) {
        text.extend_from_slice(if self.begun { b",\n" } else { b"[\n" });
        self.begun = true;
        // Writing to memory does not fail, and all of it can be JSON.
        let _infallible = serde_json::to_writer(text, info);
    }

    fn elements(&mut self, items: &[impl Serialize]) -> Vec<u8> {
        let mut text = Vec::new();
        for item in items {
            self.element(&mut text, item);
        }
        text
    }

    fn finish(&self) -> Vec<u8> {
        if self.begun {
            b"\n]\n"
        } else {
            b"[]\n".as_slice()
        }
        .to_vec()
    }
}

impl Listing<BanEntry> for JsonLines {
    const CONTENT_TYPE: &'static str = "application/json";

    fn page(&mut self, items: Vec<BanEntry>) -> Vec<u8> {
        let mut text = Vec::new();
        for item in items {
            self.element(&mut text, &item.info());
        }
        text
    }

    fn end(self) -> Vec<u8> {
        self.finish()
    }
}

impl Listing<BanInfo> for JsonLines {
    const CONTENT_TYPE: &'static str = "application/json";

    fn page(&mut self, items: Vec<BanInfo>) -> Vec<u8> {
        self.elements(&items)
    }

    fn end(self) -> Vec<u8> {
        self.finish()
    }
}

impl Listing<ThrottleInfo> for JsonLines {
    const CONTENT_TYPE: &'static str = "application/json";

    fn page(&mut self, items: Vec<ThrottleInfo>) -> Vec<u8> {
        self.elements(&items)
    }

    fn end(self) -> Vec<u8> {
        self.finish()
    }
}

/// Bans in a format that others read.
pub(super) struct Exported {
    writer: Writer<Buffer>,
    written: Buffer,
    with_hits: bool,
}

impl Exported {
    pub(super) fn new(format: Format) -> io::Result<Self> {
        let written = Buffer::default();
        let writer = Writer::new(format, written.clone(), SystemTime::now())?;
        Ok(Self {
            writer,
            written,
            with_hits: matches!(format, Format::Csv | Format::Json),
        })
    }
}

/// Memory that is written to here and taken from there.
#[derive(Debug, Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl io::Write for Buffer {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Listing<BanEntry> for Exported {
    const CONTENT_TYPE: &'static str = "text/plain; charset=utf-8";

    fn page(&mut self, items: Vec<BanEntry>) -> Vec<u8> {
        for item in items {
            // Writing to memory does not fail.
            let _infallible = self.writer.record(&item.exported(self.with_hits));
        }
        self.written.take()
    }

    fn end(self) -> Vec<u8> {
        let Self {
            writer, written, ..
        } = self;
        let _infallible = writer.finish();
        written.take()
    }
}

/// What goes from who fetches pages to who writes them.
enum Part<T> {
    Page(Vec<T>),
    End,
}

/// Streams all pages; `command` asks for the one after a source. An error on the first page is
/// the answer, one on a later page breaks it off.
pub(super) async fn stream<T, L, C>(api: Api, command: C, listing: L) -> Result<Response, Failure>
where
    T: Send + 'static,
    L: Listing<T>,
    C: Fn(Option<PrefixKey>, Reply<Page<T>>) -> Command + Send + Sync + 'static,
{
    let first = api
        .clone()
        .ask(|reply| command(None, reply))
        .await
        .map(|Json(page)| page)?;
    let (sender, pages) = mpsc::channel(AHEAD);
    // The next page is fetched while this one is written.
    tokio::spawn(async move {
        let mut page = first;
        loop {
            let next = page.next;
            if sender.send(Part::Page(page.items)).await.is_err() {
                return;
            }
            if next.is_none() {
                let _gone = sender.send(Part::End).await;
                return;
            }
            page = match api.clone().ask(|reply| command(next, reply)).await {
                Ok(Json(page)) => page,
                Err(failure) => {
                    tracing::error!(?failure, "an answer broke off");
                    return;
                }
            };
        }
    });
    let content = (header::CONTENT_TYPE, L::CONTENT_TYPE);
    Ok(([content], body(pages, listing)).into_response())
}

/// The text of pages, as they come. Without an end to them, it breaks off.
fn body<T, L>(pages: mpsc::Receiver<Part<T>>, listing: L) -> Body
where
    T: Send + 'static,
    L: Listing<T>,
{
    let text = stream::unfold((pages, Some(listing)), |(mut pages, listing)| async move {
        let mut listing = listing?;
        match pages.recv().await {
            Some(Part::Page(items)) => {
                // Bans do not wait for it.
                let written = tokio::task::spawn_blocking(move || {
                    let text = listing.page(items);
                    (listing, text)
                });
                match written.await {
                    Ok((listing, text)) => Some((Ok(text), (pages, Some(listing)))),
                    Err(error) => Some((Err(io::Error::other(error)), (pages, None))),
                }
            }
            Some(Part::End) => Some((Ok(listing.end()), (pages, None))),
            // Not the end: whoever reads must not take it for one.
            None => Some((Err(io::Error::other("an answer broke off")), (pages, None))),
        }
    });
    Body::from_stream(text)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    struct Numbers;

    impl Listing<u8> for Numbers {
        const CONTENT_TYPE: &'static str = "text/plain";

        fn page(&mut self, items: Vec<u8>) -> Vec<u8> {
            items
        }

        fn end(self) -> Vec<u8> {
            vec![0]
        }
    }

    /// What comes of these parts, and whether it came to its end.
    async fn told(parts: Vec<Part<u8>>) -> (Vec<u8>, bool) {
        let (sender, pages) = mpsc::channel(parts.len());
        for part in parts {
            sender.try_send(part).ok().unwrap();
        }
        drop(sender);
        let (mut body, mut text) = (body(pages, Numbers), Vec::new());
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => text.extend(frame.into_data().unwrap()),
                Err(_) => return (text, false),
            }
        }
        (text, true)
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_not_taken_for_a_whole_one() {
        let pages = || vec![Part::Page(vec![1, 2]), Part::Page(vec![3])];
        let whole = pages().into_iter().chain([Part::End]).collect();
        assert_eq!(told(whole).await, (vec![1, 2, 3, 0], true));
        assert_eq!(told(pages()).await, (vec![1, 2, 3], false));
    }
}
