//! [`Router`]: which message of the source goes to which target, and one answer made of theirs. Pure: messages in,
//! messages out.
//!
//! ```text
//! Offer, ChunkOffer, FileOpen with a base   to all, as a question; each answers; reply() makes one answer of them:
//!                                           Need: what anybody needs. FileReady: known if all know it
//! Files, Chunks                             to those who need them, by digest or in the order of the reply
//! everything else                           to all
//! ```
//! What was not asked about goes to all. A target that is told of less than it needs (it answered late, it joined in the
//! middle) will say so: its verdict on the manifest names what it misses.
//!
//! Memory: what is needed and has not come yet, as a digest and a shared set each: at most `PROMISED_COUNT_MAX` small files
//! (what is beyond goes to all) and as many chunks (a source that owes more breaks the protocol). Questions that are open
//! are bounded by whoever listens to the source ([`Router::questions`]), and each by `BATCH_COUNT_MAX`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::backup::digest::Digest;
use crate::backup::fanout::{Question, TargetId};
use crate::backup::limits::{BATCH_COUNT_MAX, FILES_OPEN_MAX, PROMISED_COUNT_MAX};
use crate::engine::wire::{Bits, WireError, unexpected};
use crate::net::message::{
    ChunkOffer, Chunks, FileOpen, FileReady, Files, Message, Need, Offer, WireChunk, WireEntry, WireKind,
};

/// Sets that are remembered to be the same ones, as long as they are in use.
const SETS_MAX: usize = 4096;

/// Targets; the same ones are one allocation.
type Set = Arc<[TargetId]>;

/// What becomes of a message.
#[derive(Debug, Default)]
pub(super) struct Routed {
    /// To whom it goes, as what.
    pub(super) sends: Vec<(TargetId, Message)>,
    /// It is a question, which each of `sends` answers.
    pub(super) question: Option<Question>,
    /// They take part, and are not asked: the file was opened before they came.
    pub(super) unasked: Vec<TargetId>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Router {
    live: BTreeSet<TargetId>,
    sets: HashSet<Set>,
    questions: BTreeMap<Question, Asked>,
    asked: u64,
    /// What each has not answered, in the order in which it was asked.
    owed: BTreeMap<TargetId, VecDeque<Question>>,
    batches: HashMap<u32, Question>,
    bases: HashMap<u32, Question>,
    /// Small files that are needed and have not come.
    needed: HashMap<Digest, Set>,
    open: HashMap<u32, Open>,
}

/// A question under way.
struct Asked {
    about: About,
    answers: BTreeMap<TargetId, Answer>,
    /// Who has not answered.
    owing: BTreeSet<TargetId>,
    replied: bool,
}

enum About {
    Small { batch: u32, count: usize, digests: Vec<Digest> },
    Chunks { batch: u32, file: u32, count: usize },
    Base { file: u32 },
}

enum Answer {
    Bits(Bits),
    Known(bool),
}

/// A large file between its opening and its end.
struct Open {
    members: Vec<TargetId>,
    /// Who needs each of the chunks that come next; none: nobody was asked.
    next: VecDeque<Set>,
    was_asked: bool,
}

impl Router {
    /// It takes part from now on. Content that somebody needs already, and files that are open, do not reach it.
    pub(super) fn join(&mut self, target: TargetId) {
        self.live.insert(target);
    }

    /// It takes no part any more, and owes no answers.
    pub(super) fn leave(&mut self, target: TargetId) {
        self.live.remove(&target);
        self.owed.remove(&target);
        for open in self.open.values_mut() {
            open.members.retain(|member| *member != target);
        }
        for asked in self.questions.values_mut() {
            asked.owing.remove(&target);
            asked.answers.remove(&target);
        }
        let open: Vec<_> = self.questions.keys().copied().collect();
        open.into_iter().for_each(|question| self.forget_if_settled(question));
    }

    /// Another round of content begins: what was needed before and has not come does not come.
    pub(super) fn new_round(&mut self) {
        self.needed.clear();
        self.open.clear();
        self.sets.clear();
    }

    /// Questions that are open.
    pub(super) fn questions(&self) -> usize {
        self.questions.len()
    }

    /// A message of the source's content and manifest phases.
    ///
    /// # Errors
    /// It has no place there, or contradicts what came before.
    pub(super) fn source(&mut self, message: Message) -> Result<Routed, WireError> {
        match message {
            Message::Offer(offer) => self.offer(offer),
            Message::FileOpen(open) => self.file_open(open),
            Message::ChunkOffer(offer) => self.chunk_offer(offer),
            Message::Files(files, payload) => self.files(files, payload),
            Message::Chunks(chunks, payload) => self.chunks(&chunks, &payload),
            Message::FileDone(done) => {
                let members = self.open.remove(&done.file).ok_or(NOT_OPEN)?.members;
                Ok(Routed {
                    sends: members.into_iter().map(|to| (to, done.clone().into())).collect(),
                    ..Routed::default()
                })
            }
            // Each target has another past: they are sent whole content.
            Message::Bases(_) => Ok(Routed::default()),
            Message::Manifest(_) | Message::Changes(_) | Message::ManifestEnd(_) | Message::Progress(_) => {
                Ok(Routed { sends: to_all(&self.live, &message), ..Routed::default() })
            }
            other => Err(unexpected(&other, "sending content to several")),
        }
    }

    /// What a target says to a question. It answers in order: chunks are put together in the order of the replies, and a
    /// reply that overtook another because of one target would damage the file on all of them.
    ///
    /// # Errors
    /// It was not asked, or asked something else before, or that is no answer to it.
    pub(super) fn answer(&mut self, from: TargetId, message: Message) -> Result<Question, WireError> {
        let (question, answer) = match message {
            Message::Need(need) => {
                let question = *self.batches.get(&need.batch).ok_or(NOT_ASKED)?;
                let count = match &self.questions.get(&question).ok_or(NOT_ASKED)?.about {
                    About::Small { count, .. } | About::Chunks { count, .. } => *count,
                    About::Base { .. } => return Err(NOT_ASKED),
                };
                (question, Answer::Bits(Bits::from_wire(need.bits, count)?))
            }
            Message::FileReady(ready) => {
                (*self.bases.get(&ready.file).ok_or(NOT_ASKED)?, Answer::Known(ready.base_known))
            }
            other => return Err(unexpected(&other, "answering a question")),
        };
        let asked = self.questions.get_mut(&question).ok_or(NOT_ASKED)?;
        if !asked.owing.contains(&from) {
            return Err(NOT_ASKED);
        }
        let owed = self.owed.get_mut(&from).ok_or(NOT_ASKED)?;
        if owed.front() != Some(&question) {
            return Err(OUT_OF_TURN);
        }
        owed.pop_front();
        asked.owing.remove(&from);
        if !asked.replied {
            asked.answers.insert(from, answer);
        }
        self.forget_if_settled(question);
        Ok(question)
    }

    /// One answer of those that have come, for the source; what follows is routed by it. None: there was one already.
    pub(super) fn reply(&mut self, question: Question) -> Option<Message> {
        let asked = self.questions.get_mut(&question).filter(|asked| !asked.replied)?;
        asked.replied = true;
        let answers = std::mem::take(&mut asked.answers);
        let message = match &mut asked.about {
            About::Base { file } => {
                let base_known = answers.values().all(|answer| matches!(answer, Answer::Known(true)));
                FileReady { file: *file, base_known }.into()
            }
            About::Small { batch, digests, .. } => {
                let (batch, digests) = (*batch, std::mem::take(digests));
                let mut bits = Bits::default();
                for (i, digest) in digests.into_iter().enumerate() {
                    let needing = needing(&answers, i);
                    bits.push(!needing.is_empty());
                    if !needing.is_empty() && self.needed.len() < PROMISED_COUNT_MAX {
                        let before = self.needed.remove(&digest);
                        let all = needing.into_iter().chain(before.iter().flat_map(|set| set.iter().copied()));
                        let set = intern(&mut self.sets, all.collect());
                        self.needed.insert(digest, set);
                    }
                }
                Need { batch, bits: bits.into_wire() }.into()
            }
            About::Chunks { batch, file, count } => {
                let (batch, file, count) = (*batch, *file, *count);
                let mut bits = Bits::default();
                let mut open = self.open.get_mut(&file);
                for i in 0..count {
                    let needing = needing(&answers, i);
                    bits.push(!needing.is_empty());
                    if let Some(open) = open.as_mut().filter(|_| !needing.is_empty()) {
                        open.next.push_back(intern(&mut self.sets, needing));
                    }
                }
                Need { batch, bits: bits.into_wire() }.into()
            }
        };
        self.forget_if_settled(question);
        Some(message)
    }

    fn ask(&mut self, about: About, owing: BTreeSet<TargetId>) -> Question {
        let question = Question(self.asked);
        self.asked += 1;
        match &about {
            About::Small { batch, .. } | About::Chunks { batch, .. } => self.batches.insert(*batch, question),
            About::Base { file } => self.bases.insert(*file, question),
        };
        owing.iter().for_each(|target| self.owed.entry(*target).or_default().push_back(question));
        self.questions.insert(question, Asked { about, answers: BTreeMap::new(), owing, replied: false });
        question
    }

    /// A question that nobody will say anything to any more is none.
    fn forget_if_settled(&mut self, question: Question) {
        if !self.questions.get(&question).is_some_and(|asked| asked.replied && asked.owing.is_empty()) {
            return;
        }
        match self.questions.remove(&question).map(|asked| asked.about) {
            Some(About::Small { batch, .. } | About::Chunks { batch, .. }) => self.batches.remove(&batch),
            Some(About::Base { file }) => self.bases.remove(&file),
            None => None,
        };
    }

    fn check_offer(&self, batch: u32, count: usize) -> Result<(), WireError> {
        match count {
            0 => Err(WireError::Bounds("an offer has no items")),
            1..=BATCH_COUNT_MAX if self.batches.contains_key(&batch) => {
                Err(WireError::Bounds("two offers have one number"))
            }
            1..=BATCH_COUNT_MAX => Ok(()),
            _ => Err(WireError::Bounds("an offer has too many items")),
        }
    }

    fn offer(&mut self, offer: Offer) -> Result<Routed, WireError> {
        self.check_offer(offer.batch, offer.digests.len())?;
        let about = About::Small { batch: offer.batch, count: offer.digests.len(), digests: offer.digests.clone() };
        let question = Some(self.ask(about, self.live.clone()));
        Ok(Routed { sends: to_all(&self.live, &offer.into()), question, unasked: Vec::new() })
    }

    fn file_open(&mut self, open: FileOpen) -> Result<Routed, WireError> {
        if self.open.len() >= FILES_OPEN_MAX {
            return Err(WireError::Bounds("too many large files are open"));
        }
        if self.open.contains_key(&open.file) || self.bases.contains_key(&open.file) {
            return Err(WireError::Bounds("two large files have one number"));
        }
        let members = self.live.iter().copied().collect();
        self.open.insert(open.file, Open { members, next: VecDeque::new(), was_asked: false });
        let question = open.base.is_some().then(|| self.ask(About::Base { file: open.file }, self.live.clone()));
        Ok(Routed { sends: to_all(&self.live, &open.into()), question, unasked: Vec::new() })
    }

    fn chunk_offer(&mut self, offer: ChunkOffer) -> Result<Routed, WireError> {
        let mut count = 0_usize;
        for item in &offer.items {
            let more = if let WireChunk::Range { count, .. } = item { *count as usize } else { 1 };
            count = count.saturating_add(more);
        }
        self.check_offer(offer.batch, count)?;
        if self.open.values().map(|open| open.next.len()).sum::<usize>() > PROMISED_COUNT_MAX {
            return Err(WireError::Bounds("too many chunks are asked for and do not come"));
        }
        let open = self.open.get_mut(&offer.file).ok_or(NOT_OPEN)?;
        open.was_asked = true;
        let members: BTreeSet<TargetId> = open.members.iter().copied().collect();
        let unasked = self.live.difference(&members).copied().collect();
        let question = Some(self.ask(About::Chunks { batch: offer.batch, file: offer.file, count }, members.clone()));
        Ok(Routed { sends: to_all(&members, &offer.into()), question, unasked })
    }

    /// Small files, to each target those that it needs.
    fn files(&mut self, files: Files, payload: Vec<u8>) -> Result<Routed, WireError> {
        let all = intern(&mut self.sets, self.live.iter().copied().collect());
        let mut sets: Vec<Set> = Vec::with_capacity(files.entries.len());
        for entry in &files.entries {
            let WireKind::File { digest, .. } = &entry.kind else {
                return Err(WireError::Bounds("a small file is no file"));
            };
            sets.push(self.needed.remove(digest).unwrap_or_else(|| Arc::clone(&all)));
        }
        let mut sends = Vec::new();
        for target in &self.live {
            if sets.iter().all(|set| set.contains(target)) {
                sends.push((*target, Message::Files(files.clone(), payload.clone())));
            } else if sets.iter().any(|set| set.contains(target)) {
                let (files, payload) =
                    some_files(&files.entries, &payload, |i| sets.get(i).is_some_and(|s| s.contains(target)))?;
                sends.push((*target, Message::Files(files, payload)));
            }
        }
        Ok(Routed { sends, ..Routed::default() })
    }

    /// Chunks of a large file, to each target those that it needs.
    fn chunks(&mut self, chunks: &Chunks, payload: &[u8]) -> Result<Routed, WireError> {
        let open = self.open.get_mut(&chunks.file).ok_or(NOT_OPEN)?;
        let sets = if open.was_asked {
            let count = chunks.lens.len();
            if open.next.len() < count {
                return Err(WireError::Bounds("chunks come that nobody needs"));
            }
            Some(open.next.drain(..count).collect::<Vec<Set>>())
        } else {
            None
        };
        let mut sends = Vec::new();
        for target in open.members.iter().filter(|member| self.live.contains(member)) {
            let needs = |i: usize| sets.as_ref().is_none_or(|sets| sets.get(i).is_some_and(|set| set.contains(target)));
            let (mut lens, mut bytes, mut rest) = (Vec::new(), Vec::new(), payload);
            for (i, len) in chunks.lens.iter().enumerate() {
                let (chunk, after) =
                    rest.split_at_checked(*len as usize).ok_or(WireError::Bounds("chunks are cut short"))?;
                if needs(i) {
                    lens.push(*len);
                    bytes.extend_from_slice(chunk);
                }
                rest = after;
            }
            if !lens.is_empty() {
                sends.push((*target, Message::Chunks(Chunks { file: chunks.file, lens }, bytes)));
            }
        }
        Ok(Routed { sends, ..Routed::default() })
    }
}

const NOT_OPEN: WireError = WireError::Bounds("chunks of a file that is not open");
const NOT_ASKED: WireError = WireError::Bounds("an answer to what was not asked");

const OUT_OF_TURN: WireError = WireError::Bounds("it broke the protocol: it answered out of turn");

fn to_all(targets: &BTreeSet<TargetId>, message: &Message) -> Vec<(TargetId, Message)> {
    targets.iter().map(|target| (*target, message.clone())).collect()
}

fn needing(answers: &BTreeMap<TargetId, Answer>, item: usize) -> Vec<TargetId> {
    let needs = |answer: &Answer| matches!(answer, Answer::Bits(bits) if bits.get(item));
    answers.iter().filter(|(_, answer)| needs(answer)).map(|(target, _)| *target).collect()
}

fn intern(sets: &mut HashSet<Set>, mut targets: Vec<TargetId>) -> Set {
    targets.sort_unstable();
    targets.dedup();
    if let Some(set) = sets.get(targets.as_slice()) {
        return Arc::clone(set);
    }
    let set: Set = targets.into();
    if sets.len() >= SETS_MAX {
        sets.retain(|set| Arc::strong_count(set) > 1);
    }
    if sets.len() >= SETS_MAX {
        return set;
    }
    sets.insert(Arc::clone(&set));
    set
}

fn some_files(
    entries: &[WireEntry],
    payload: &[u8],
    wanted: impl Fn(usize) -> bool,
) -> Result<(Files, Vec<u8>), WireError> {
    let (mut some, mut bytes, mut rest) = (Vec::new(), Vec::new(), payload);
    for (i, entry) in entries.iter().enumerate() {
        let WireKind::File { size, .. } = &entry.kind else { return Err(WireError::Bounds("a small file is no file")) };
        let len = usize::try_from(*size).unwrap_or(usize::MAX);
        let (content, after) = rest.split_at_checked(len).ok_or(WireError::Bounds("files are cut short"))?;
        if wanted(i) {
            some.push(entry.clone());
            bytes.extend_from_slice(content);
        }
        rest = after;
    }
    Ok((Files { entries: some }, bytes))
}

#[cfg(test)]
mod tests;
