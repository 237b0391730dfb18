//! [`Spool`]: a list that is only appended to and read from its front, in memory as long as it is short.
//!
//! A first backup has a step for each of its files, and there may be millions. What grows with them is kept in spools:
//! up to a number of items they are plain vectors; a longer one goes, whole, to a file that its owner's [`Spill`] makes.
//!
//! ```text
//! file     block*                   each one zstd frame of bincode items; where each begins is in memory
//! memory   the last few items, which are no block yet
//! ```
//! The file is nobody's but the spool's: it has no header and no seal, and is gone with the program.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Raw bytes after which a block is closed.
const BLOCK_BYTES_TARGET: usize = 256 * 1024;
/// Items that wait to become a block, once the list has a file.
const ITEMS_WAITING: usize = 1024;
/// Paths shrink at any level, and nothing else does.
const ZSTD_LEVEL: i32 = 1;

/// Where a long list goes.
pub trait Overflow: Send + Sync {
    /// Writes at the end.
    ///
    /// # Errors
    /// The medium fails or is full.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Reads what was written `at` this offset; may be called from several threads.
    ///
    /// # Errors
    /// The medium fails, or there is less.
    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()>;
}

type Make = dyn Fn() -> io::Result<Box<dyn Overflow>> + Send + Sync;

/// When a list leaves memory, and for where. By default: never.
#[derive(Clone, Default)]
pub struct Spill {
    items_max: usize,
    make: Option<Arc<Make>>,
}

impl Spill {
    /// A list of `items_max` items goes to what `make` makes.
    pub fn after(items_max: usize, make: impl Fn() -> io::Result<Box<dyn Overflow>> + Send + Sync + 'static) -> Self {
        Self { items_max, make: Some(Arc::new(make)) }
    }
}

struct Block {
    at: u64,
    stored: usize,
    raw: usize,
    count: usize,
}

struct Written {
    file: Box<dyn Overflow>,
    end: u64,
    blocks: Vec<Block>,
    count: usize,
}

impl Written {
    fn create(make: &Make) -> io::Result<Self> {
        Ok(Self { file: make()?, end: 0, blocks: Vec::new(), count: 0 })
    }

    fn write<T: Serialize>(&mut self, items: &[T]) -> io::Result<()> {
        let (mut raw, mut count) = (Vec::with_capacity(BLOCK_BYTES_TARGET), 0);
        for (i, item) in items.iter().enumerate() {
            bincode::serde::encode_into_std_write(item, &mut raw, bincode::config::standard())
                .map_err(io::Error::other)?;
            count += 1;
            if raw.len() >= BLOCK_BYTES_TARGET || i + 1 == items.len() {
                let stored = zstd::bulk::compress(&raw, ZSTD_LEVEL)?;
                self.file.append(&stored)?;
                self.blocks.push(Block { at: self.end, stored: stored.len(), raw: raw.len(), count });
                self.end += stored.len() as u64;
                self.count += count;
                raw.clear();
                count = 0;
            }
        }
        Ok(())
    }

    fn read<T: DeserializeOwned>(&self, block: usize) -> Option<io::Result<Vec<T>>> {
        let block = self.blocks.get(block)?;
        Some(self.decode(block))
    }

    fn decode<T: DeserializeOwned>(&self, block: &Block) -> io::Result<Vec<T>> {
        let mut stored = vec![0; block.stored];
        self.file.read_exact_at(&mut stored, block.at)?;
        let raw = zstd::bulk::decompress(&stored, block.raw)?;
        let mut items = Vec::with_capacity(block.count);
        let mut rest = raw.as_slice();
        for _ in 0..block.count {
            let (item, used) = bincode::serde::decode_from_slice(rest, bincode::config::standard())
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
            items.push(item);
            rest = rest.get(used..).unwrap_or_default();
        }
        Ok(items)
    }
}

/// See the module.
pub struct Spool<T> {
    /// The last items; all of them while there is no file.
    recent: Vec<T>,
    written: Option<Written>,
    spill: Spill,
}

impl<T> Default for Spool<T> {
    fn default() -> Self {
        Self::new(Spill::default())
    }
}

impl<T> Spool<T> {
    /// An empty one.
    pub fn new(spill: Spill) -> Self {
        Self { recent: Vec::new(), written: None, spill }
    }

    /// How many items.
    pub fn len(&self) -> usize {
        self.written.as_ref().map_or(0, |written| written.count) + self.recent.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Serialize + DeserializeOwned + Clone> Spool<T> {
    /// Appends one.
    ///
    /// # Errors
    /// Its file cannot be made or written; the list is of no use any more.
    pub fn push(&mut self, item: T) -> io::Result<()> {
        self.recent.push(item);
        let Some(make) = &self.spill.make else { return Ok(()) };
        let full = if self.written.is_some() { ITEMS_WAITING } else { self.spill.items_max };
        if self.recent.len() < full {
            return Ok(());
        }
        let written = match &mut self.written {
            Some(written) => written,
            none => none.insert(Written::create(&**make)?),
        };
        written.write(&self.recent)?;
        self.recent.clear();
        self.recent.shrink_to(ITEMS_WAITING);
        Ok(())
    }

    /// All items from the front. After an error there may be others.
    pub fn iter(&self) -> impl Iterator<Item = io::Result<Cow<'_, T>>> {
        let written = self.written.iter().flat_map(|written| {
            let blocks = (0..).map_while(|block| written.read(block));
            blocks.flat_map(|block| match block {
                Ok(items) => Items::Some(items.into_iter()),
                Err(error) => Items::Error(Some(error)),
            })
        });
        written.map(|item| item.map(Cow::Owned)).chain(self.recent.iter().map(|item| Ok(Cow::Borrowed(item))))
    }

    /// All items from the front, taken out.
    pub fn into_items(self) -> impl Iterator<Item = io::Result<T>> {
        let Self { recent, written, .. } = self;
        let written = written.into_iter().flat_map(|written| {
            let blocks = (0..).map_while(move |block| written.read(block));
            blocks.flat_map(|block| match block {
                Ok(items) => Items::Some(items.into_iter()),
                Err(error) => Items::Error(Some(error)),
            })
        });
        written.chain(recent.into_iter().map(Ok))
    }
}

/// What a block holds, or why it cannot be read.
enum Items<T> {
    Some(std::vec::IntoIter<T>),
    Error(Option<io::Error>),
}

impl<T> Iterator for Items<T> {
    type Item = io::Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Some(items) => items.next().map(Ok),
            Self::Error(error) => error.take().map(Err),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Spool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = self.written.as_ref().map_or(0, |written| written.count);
        f.debug_struct("Spool").field("written", &written).field("recent", &self.recent).finish()
    }
}

/// A file in memory, for tests.
#[cfg(test)]
impl Overflow for Vec<u8> {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        let from = self.get(at as usize..).and_then(|rest| rest.get(..buf.len()));
        buf.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

#[cfg(test)]
impl Spill {
    /// To memory after all.
    pub(crate) fn to_memory(items_max: usize) -> Self {
        Self::after(items_max, || Ok(Box::new(Vec::new())))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn text(i: usize) -> String {
        format!("{}{i}", "x".repeat(i % 700))
    }

    #[test]
    fn a_long_list_is_the_same_list() {
        for count in [0, 1, 4, 5, 6, 1028, 1029, 1030, 5000] {
            for spill in [Spill::default(), Spill::to_memory(5)] {
                let mut spool = Spool::new(spill);
                (0..count).for_each(|i| spool.push(text(i)).unwrap());
                assert_eq!((spool.len(), spool.is_empty()), (count, count == 0));
                let all: Vec<String> = (0..count).map(text).collect();
                for _ in 0..2 {
                    assert_eq!(spool.iter().map(|i| i.unwrap().into_owned()).collect::<Vec<_>>(), all);
                }
                assert_eq!(spool.into_items().map(Result::unwrap).collect::<Vec<_>>(), all);
            }
        }
    }

    #[test]
    fn a_long_list_leaves_memory() {
        let mut spool = Spool::new(Spill::to_memory(2000));
        for i in 0..100_000_u64 {
            spool.push(i).unwrap();
            assert!(spool.recent.len() < 2000 && (i < 2000 || spool.recent.len() < ITEMS_WAITING));
        }
        assert!(spool.written.unwrap().end < 300_000);
    }

    struct Failing(Arc<Mutex<u32>>);

    impl Overflow for Failing {
        fn append(&mut self, _: &[u8]) -> io::Result<()> {
            let mut left = self.0.lock().unwrap();
            *left = left.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
            Ok(())
        }

        fn read_exact_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    #[test]
    fn a_full_disk_is_told() {
        let left = Arc::new(Mutex::new(2));
        let make = {
            let left = Arc::clone(&left);
            move || Ok(Box::new(Failing(Arc::clone(&left))) as Box<dyn Overflow>)
        };
        let mut spool = Spool::new(Spill::after(3, make));
        let failed = (0..5000_usize).find_map(|i| spool.push(i).err().map(|e| (i, e.kind())));
        assert_eq!(failed, Some((2 + 2 * ITEMS_WAITING, io::ErrorKind::StorageFull)));
        assert!(spool.iter().next().unwrap().is_err() && spool.into_items().next().unwrap().is_err());
    }
}
