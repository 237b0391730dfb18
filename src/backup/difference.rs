//! What changed between two snapshots, in the words of a person: created, changed, moved, deleted, touched.
//!
//! A file that is gone here and there with the same content is *moved*; a folder that is gone, while another came that
//! holds exactly the same, is moved as a whole and what is in it is not named again. That a folder's time changed, because
//! something in it did, is no difference. Pure: the caller pairs the entries and hands over what [`Raw::of`] made of them.

use std::collections::HashMap;

use super::digest::Digest;
use super::entry::{Entry, Kind};
use super::relpath::RelPath;

/// Things of equal content that are looked at to find where one came from.
const CANDIDATES_MAX: usize = 64;

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It was not there.
    Created,
    /// Another content, or another kind of thing.
    Changed,
    /// The same was elsewhere.
    Moved,
    /// It is not there any more.
    Deleted,
    /// Mode, owner, time or attributes.
    Touched,
}

/// What a thing is, as far as a difference shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    /// A directory.
    Dir,
    /// A regular file, its size and content.
    File(u64, Digest),
    /// Anything else.
    Other,
}

impl Thing {
    fn of(entry: &Entry) -> Self {
        match &entry.kind {
            Kind::Dir => Self::Dir,
            Kind::File(content) => Self::File(content.size, content.digest),
            _ => Self::Other,
        }
    }

    /// Bytes of a file.
    pub fn size(&self) -> Option<u64> {
        match self {
            Self::File(size, _) => Some(*size),
            _ => None,
        }
    }
}

/// A path that differs, moves not looked for yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    path: RelPath,
    before: Option<Thing>,
    after: Option<Thing>,
    touched: bool,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where it is, or was.
    pub path: RelPath,
    /// What happened.
    pub action: Action,
    /// Where a moved one was.
    pub from: Option<RelPath>,
    /// What it was.
    pub before: Option<Thing>,
    /// What it is.
    pub after: Option<Thing>,
}

impl Raw {
    /// What differs at `path`; none: nothing.
    pub fn of(path: &RelPath, before: Option<&Entry>, after: Option<&Entry>) -> Option<Self> {
        let touched = match (before, after) {
            (None, None) => return None,
            (Some(before), Some(after)) if same_content(&before.kind, &after.kind) => {
                let (old, new) = (&before.meta, &after.meta);
                let time = !before.is_dir() && old.mtime != new.mtime;
                if !time && (old.mode, old.uid, old.gid, &old.xattrs) == (new.mode, new.uid, new.gid, &new.xattrs) {
                    return None;
                }
                true
            }
            _ => false,
        };
        Some(Self { path: path.clone(), before: before.map(Thing::of), after: after.map(Thing::of), touched })
    }

    fn created(&self) -> Option<&Thing> {
        if self.before.is_none() { self.after.as_ref() } else { None }
    }

    fn deleted(&self) -> Option<&Thing> {
        if self.after.is_none() { self.before.as_ref() } else { None }
    }
}

/// Hard links and how a file is cut are no content.
fn same_content(before: &Kind, after: &Kind) -> bool {
    match (before, after) {
        (Kind::File(before), Kind::File(after)) => (before.size, before.digest) == (after.size, after.digest),
        (before, after) => before == after,
    }
}

/// The differences, moves found; `raws` in canonical order, and so are they.
pub fn differences(raws: Vec<Raw>) -> Vec<Difference> {
    let mut moves = Moves::new(&raws);
    moves.folders();
    moves.files();
    let Moves { from, gone, .. } = moves;
    let mut out = Vec::with_capacity(raws.len());
    let paths: Vec<Option<RelPath>> = from.iter().map(|from| Some(raws.get((*from)?)?.path.clone())).collect();
    for ((raw, from), gone) in raws.into_iter().zip(paths).zip(gone) {
        if gone {
            continue;
        }
        let action = match (&raw.before, &raw.after, &from) {
            (_, _, Some(_)) => Action::Moved,
            (None, _, _) => Action::Created,
            (_, None, _) => Action::Deleted,
            _ if raw.touched => Action::Touched,
            _ => Action::Changed,
        };
        let before = if from.is_some() { raw.after } else { raw.before };
        out.push(Difference { path: raw.path, action, from, before, after: raw.after });
    }
    out
}

struct Moves<'a> {
    raws: &'a [Raw],
    /// Created files, by content.
    created: HashMap<Digest, Vec<usize>>,
    /// For what was moved here: where it was.
    from: Vec<Option<usize>>,
    /// Is told with another one.
    gone: Vec<bool>,
}

impl<'a> Moves<'a> {
    fn new(raws: &'a [Raw]) -> Self {
        let mut created: HashMap<Digest, Vec<usize>> = HashMap::new();
        for (i, raw) in raws.iter().enumerate() {
            // Empty files are all the same: that says nothing.
            if let Some(Thing::File(1.., digest)) = raw.created() {
                created.entry(*digest).or_default().push(i);
            }
        }
        Self { raws, created, from: vec![None; raws.len()], gone: vec![false; raws.len()] }
    }

    fn taken(&self, i: usize) -> bool {
        self.gone.get(i).copied().unwrap_or(true) || self.from.get(i).is_none_or(Option::is_some)
    }

    /// One past the last that is at or below the path at `i`.
    fn end_of(&self, i: usize) -> usize {
        let Some(top) = self.raws.get(i) else { return i };
        let below = self.raws.get(i..).unwrap_or_default();
        i + below.partition_point(|raw| raw.path.is_within(&top.path))
    }

    fn folders(&mut self) {
        let mut at = 0;
        while let Some(raw) = self.raws.get(at) {
            let moved = if raw.deleted() == Some(&Thing::Dir) { self.folder_from(at) } else { None };
            let Some(to) = moved else {
                at += 1;
                continue;
            };
            let (end, end_to) = (self.end_of(at), self.end_of(to));
            self.gone.iter_mut().take(end).skip(at).for_each(|gone| *gone = true);
            self.gone.iter_mut().take(end_to).skip(to + 1).for_each(|gone| *gone = true);
            if let Some(from) = self.from.get_mut(to) {
                *from = Some(at);
            }
            at = end;
        }
    }

    /// Where the deleted folder at `i` went, all of it.
    fn folder_from(&self, i: usize) -> Option<usize> {
        let top = &self.raws.get(i)?.path;
        let inside = self.raws.get(i..self.end_of(i))?;
        let (file, digest) = inside.iter().find_map(|raw| match raw.deleted() {
            Some(Thing::File(1.., digest)) => Some((raw, digest)),
            _ => None,
        })?;
        let suffix = file.path.strip_prefix(top)?;
        let depth = suffix.depth();
        self.created.get(digest)?.iter().take(CANDIDATES_MAX).find_map(|candidate| {
            let mut target = self.raws.get(*candidate)?.path.clone();
            for _ in 0..depth {
                target = target.parent()?;
            }
            let to = self.raws.binary_search_by(|raw| raw.path.cmp(&target)).ok()?;
            let there = self.raws.get(to..self.end_of(to))?;
            let same = |(old, new): (&Raw, &Raw)| {
                let below = old.path.strip_prefix(top) == new.path.strip_prefix(&target);
                below && old.deleted().is_some() && old.deleted() == new.created()
            };
            let free = !self.taken(to) && there.len() == inside.len();
            (free && inside.iter().zip(there).all(same)).then_some(to)
        })
    }

    /// Single files, each to the place whose path ends most alike.
    fn files(&mut self) {
        for (i, raw) in self.raws.iter().enumerate() {
            let Some(Thing::File(1.., digest)) = raw.deleted() else { continue };
            if self.taken(i) {
                continue;
            }
            let candidates = self.created.get(digest).map_or(&[][..], Vec::as_slice);
            let free = candidates.iter().filter(|to| !self.taken(**to)).take(CANDIDATES_MAX);
            // Of equals the first.
            let alike = |to: &usize| self.raws.get(*to).map_or(0, |there| alike(&raw.path, &there.path));
            let best = free.copied().map(|to| (alike(&to), std::cmp::Reverse(to))).max();
            if let Some((_, std::cmp::Reverse(to))) = best
                && let (Some(from), Some(gone)) = (self.from.get_mut(to), self.gone.get_mut(i))
            {
                *from = Some(i);
                *gone = true;
            }
        }
    }
}

/// How many components two paths have in common at their end.
fn alike(a: &RelPath, b: &RelPath) -> usize {
    let (a, b) = (a.as_bytes().rsplit(|b| *b == b'/'), b.as_bytes().rsplit(|b| *b == b'/'));
    a.zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::super::manifest::tests::file;
    use super::*;
    use std::collections::BTreeMap;

    /// `name=content`, `name/`, `name@` (a link), `name=content*` (other metadata).
    fn tree(spec: &str) -> BTreeMap<RelPath, Entry> {
        let entry = |word: &str| {
            let (name, what) = word.split_once('=').unwrap_or((word.trim_end_matches(['/', '@']), ""));
            let mut entry = file(name, what.trim_end_matches('*').len() as u64);
            entry.path = RelPath::new(name.as_bytes()).unwrap();
            match &mut entry.kind {
                Kind::File(content) => content.digest = Digest::of(what.trim_end_matches('*').as_bytes()),
                _ => unreachable!(),
            }
            if word.ends_with('*') {
                entry.meta.mode = 0o600;
            } else if word.ends_with('/') {
                entry.kind = Kind::Dir;
            } else if word.ends_with('@') {
                entry.kind = Kind::Symlink { target: b"x"[..].into() };
            }
            (entry.path.clone(), entry)
        };
        spec.split_whitespace().map(entry).collect()
    }

    fn told(before: &str, after: &str) -> Vec<String> {
        let (before, after) = (tree(before), tree(after));
        let paths: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let raws = paths.into_iter().filter_map(|path| Raw::of(path, before.get(path), after.get(path))).collect();
        let shown = |d: Difference| {
            let from = d.from.map(|from| format!("{from}->")).unwrap_or_default();
            format!("{:?} {from}{}", d.action, d.path).to_lowercase()
        };
        differences(raws).into_iter().map(shown).collect()
    }

    #[test]
    fn each_thing_that_can_happen() {
        let before = "a=1 b=2 c=3 d/ d/x=4 l@ same=5 z=6";
        let after = "a=one b=2* c@ d/ d/x=4 e=6 new=7 same=5";
        let told = told(before, after);
        assert_eq!(told, ["changed a", "touched b", "changed c", "moved z->e", "deleted l", "created new"]);
    }

    #[test]
    fn a_folder_that_moved_is_told_once() {
        let before = "a/ a/b/ a/b/x=1 a/empty= a/l@ a/y=2 k=3";
        assert_eq!(told(before, "k=3 z/ z/b/ z/b/x=1 z/empty= z/l@ z/y=2"), ["moved a->z"]);
        // With something else in it, its files are moved one by one.
        let told = told(before, "k=3 z/ z/b/ z/b/x=1 z/empty= z/more=9 z/y=2");
        let expected = ["deleted a", "deleted a/empty", "deleted a/l", "created z", "moved a/b->z/b"];
        assert_eq!(told[..5], expected);
        assert_eq!(told[5..], ["created z/empty", "created z/more", "moved a/y->z/y"]);
    }

    #[test]
    fn equal_contents_go_to_where_they_look_alike() {
        let told = told("one/ one/a=x one/b=x two/ two/a=x", "one/ one/n=x two/ two/m/ two/m/a=x two/m/b=x");
        assert_eq!(told.iter().filter(|line| line.starts_with("moved")).count(), 3, "{told:?}");
        assert!(told.contains(&"moved one/b->two/m/b".to_owned()), "{told:?}");
    }

    #[test]
    fn a_copy_is_no_move_and_an_empty_file_neither() {
        assert_eq!(told("a=1 e=", "a=1 b=1 f="), ["created b", "deleted e", "created f"]);
        assert_eq!(told("a/ b/", "a/ b/"), Vec::<String>::new());
    }
}
