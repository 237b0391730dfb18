//! Answers that come in parts: as much in a message as fits its frame, the last one marked.

use crate::engine::error::EngineError;
use crate::net::link::Link;
use crate::net::message::Message;

/// Roughly the most bytes of one part; far below a control frame's limit, one more item always fits.
const PART_BYTES_TARGET: usize = 384 * 1024;
/// Most items of one part.
const PART_COUNT_MAX: usize = 1024;

/// Gathers items and sends them.
pub(in crate::engine) struct Parts<'a, T, F: FnMut(Vec<T>, bool) -> Message> {
    link: &'a Link,
    items: Vec<T>,
    bytes: usize,
    make: F,
}

impl<'a, T, F: FnMut(Vec<T>, bool) -> Message> Parts<'a, T, F> {
    /// `make`: the message of some items, and whether more come.
    pub(in crate::engine) fn new(link: &'a Link, make: F) -> Self {
        Self { link, items: Vec::new(), bytes: 0, make }
    }

    /// Adds an item of about so many bytes.
    pub(in crate::engine) fn push(&mut self, item: T, bytes: usize) -> Result<(), EngineError> {
        if !self.items.is_empty() && (self.bytes + bytes > PART_BYTES_TARGET || self.items.len() >= PART_COUNT_MAX) {
            let items = std::mem::take(&mut self.items);
            self.bytes = 0;
            self.link.send((self.make)(items, true))?;
        }
        self.bytes += bytes;
        self.items.push(item);
        Ok(())
    }

    /// Sends what is left.
    pub(in crate::engine) fn finish(mut self) -> Result<(), EngineError> {
        Ok(self.link.send((self.make)(self.items, false))?)
    }
}
