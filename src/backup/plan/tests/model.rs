//! The model test: random trees, random changes, random things in the store; every plan is executed on the model, cut
//! and replayed after every step, and planned again.

use proptest::prelude::*;

use super::commit::Case;
use super::world::{Area, Node, World, meta};
use crate::backup::relpath::RelPath;

/// One change to a tree. The numbers choose among what there is.
#[derive(Clone, Debug)]
enum Op {
    Put {
        dir: usize,
        name: u8,
        what: u8,
        meta: u8,
    },
    Link {
        of: usize,
        dir: usize,
        name: u8,
    },
    /// A new directory with files and a directory with more.
    Fill {
        dir: usize,
        name: u8,
        seed: u8,
    },
    LinkElsewhere {
        of: usize,
    },
    Remove {
        what: usize,
    },
    Rename {
        what: usize,
        dir: usize,
        name: u8,
    },
    RenameDir {
        what: usize,
        dir: usize,
        name: u8,
    },
    /// A directory moves into a new one; something new in it, perhaps.
    Wrap {
        what: usize,
        dir: usize,
        name: u8,
        new: Option<u8>,
    },
    Swap {
        a: usize,
        b: usize,
    },
    /// The three names take each other's places as far as they are free: a -> b -> c.
    Chain {
        a: usize,
        b: usize,
        dir: usize,
        name: u8,
    },
    Rewrite {
        what: usize,
        content: u8,
        in_place: bool,
    },
    Meta {
        what: usize,
        meta: u8,
    },
    ChangeType {
        what: usize,
        to: u8,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let n = || 0usize..1000;
    let name = || 0u8..4;
    prop_oneof![
        6 => (n(), name(), 0u8..14, 0u8..6).prop_map(|(dir, name, what, meta)| Op::Put { dir, name, what, meta }),
        2 => (n(), name(), any::<u8>()).prop_map(|(dir, name, seed)| Op::Fill { dir, name, seed }),
        2 => (n(), n(), name()).prop_map(|(of, dir, name)| Op::Link { of, dir, name }),
        1 => n().prop_map(|of| Op::LinkElsewhere { of }),
        2 => n().prop_map(|what| Op::Remove { what }),
        4 => (n(), n(), name()).prop_map(|(what, dir, name)| Op::Rename { what, dir, name }),
        4 => (n(), n(), name()).prop_map(|(what, dir, name)| Op::RenameDir { what, dir, name }),
        2 => (n(), n(), name(), prop::option::of(0u8..9))
            .prop_map(|(what, dir, name, new)| Op::Wrap { what, dir, name, new }),
        2 => (n(), n()).prop_map(|(a, b)| Op::Swap { a, b }),
        2 => (n(), n(), n(), name()).prop_map(|(a, b, dir, name)| Op::Chain { a, b, dir, name }),
        2 => (n(), 0u8..5, any::<bool>()).prop_map(|(what, content, in_place)| Op::Rewrite { what, content, in_place }),
        1 => (n(), 0u8..6).prop_map(|(what, meta)| Op::Meta { what, meta }),
        1 => (n(), 0u8..14).prop_map(|(what, to)| Op::ChangeType { what, to }),
    ]
}

fn node(what: u8) -> Node {
    match what {
        0..=4 => Node::File(what),
        5..=9 => Node::Dir,
        10 => Node::Symlink(1),
        11 => Node::Fifo,
        12 => Node::Device,
        _ => Node::Other,
    }
}

/// Paths of the tree that fit, root excluded unless it is a directory that is asked for.
fn pick(world: &World, n: usize, fits: impl Fn(&RelPath, &Node) -> bool) -> Option<RelPath> {
    let all = world.within(Area::Copy, &RelPath::root());
    let fit: Vec<_> = all.into_iter().filter(|(path, ino)| fits(path, &world.inodes[ino].node)).collect();
    (!fit.is_empty()).then(|| fit[n % fit.len()].0.clone())
}

fn any_path(world: &World, n: usize) -> Option<RelPath> {
    pick(world, n, |path, _| !path.is_root())
}

fn spot(world: &World, dir: usize, name: u8) -> Option<RelPath> {
    let dir = pick(world, dir, |path, node| *node == Node::Dir && path.depth() < 4)?;
    Some(dir.join(&[b'a' + name]).unwrap())
}

fn rename(world: &mut World, from: &RelPath, to: &RelPath) {
    if !to.is_within(from) && !from.is_within(to) {
        world.remove_tree(Area::Copy, to);
        world.rename((Area::Copy, from), (Area::Copy, to));
    }
}

fn fill(world: &mut World, path: &RelPath, seed: u8) {
    world.remove_tree(Area::Copy, path);
    let sub = path.join(b"d").unwrap();
    world.add(Area::Copy, path, Node::Dir, meta(0));
    world.add(Area::Copy, &sub, Node::Dir, meta(seed % 6));
    for (i, name) in [b"a", b"b", b"c"].into_iter().enumerate() {
        world.add(Area::Copy, &path.join(name).unwrap(), Node::File((seed >> i) % 16), meta(0));
        world.add(Area::Copy, &sub.join(name).unwrap(), Node::File((seed >> i >> 2) % 16), meta(0));
    }
}

fn wrap(world: &mut World, from: &RelPath, wrap: &RelPath, new: Option<u8>) {
    if wrap.is_within(from) || from.is_within(wrap) {
        return;
    }
    world.remove_tree(Area::Copy, wrap);
    world.add(Area::Copy, wrap, Node::Dir, meta(0));
    let to = wrap.join(from.name().unwrap()).unwrap();
    rename(world, from, &to);
    if let Some(new) = new {
        let path = to.join(b"new").unwrap();
        world.remove_tree(Area::Copy, &path);
        world.add(Area::Copy, &path, Node::File(new), meta(2));
    }
}

fn swap(world: &mut World, a: &RelPath, b: &RelPath) {
    let aside = RelPath::new(b"aside").unwrap();
    if !a.is_within(b) && !b.is_within(a) {
        rename(world, a, &aside);
        rename(world, b, a);
        rename(world, &aside, b);
    }
}

fn apply(world: &mut World, op: &Op) -> Option<()> {
    let file = |_: &RelPath, node: &Node| matches!(node, Node::File(_));
    match *op {
        Op::Put { dir, name, what, meta: m } => {
            let path = spot(world, dir, name)?;
            world.remove_tree(Area::Copy, &path);
            world.add(Area::Copy, &path, node(what), meta(m));
        }
        Op::Fill { dir, name, seed } => fill(world, &spot(world, dir, name)?, seed),
        Op::Link { of, dir, name } => {
            let (of, path) = (pick(world, of, file)?, spot(world, dir, name)?);
            if of != path {
                let ino = world.at(Area::Copy, &of)?;
                world.remove_tree(Area::Copy, &path);
                world.link(ino, Area::Copy, &path);
            }
        }
        Op::LinkElsewhere { of } => {
            let of = pick(world, of, file)?;
            let ino = world.at(Area::Copy, &of)?;
            let name = RelPath::new(format!("x{ino}").as_bytes()).unwrap();
            if world.at(Area::Elsewhere, &name).is_none() {
                world.link(ino, Area::Elsewhere, &name);
            }
        }
        Op::Remove { what } => {
            let path = any_path(world, what)?;
            world.remove_tree(Area::Copy, &path);
        }
        Op::Rename { what, dir, name } => {
            let (from, to) = (any_path(world, what)?, spot(world, dir, name)?);
            rename(world, &from, &to);
        }
        Op::RenameDir { what, dir, name } => {
            let from = pick(world, what, |path, node| *node == Node::Dir && !path.is_root())?;
            rename(world, &from, &spot(world, dir, name)?);
        }
        Op::Wrap { what, dir, name, new } => {
            let from = pick(world, what, |path, node| *node == Node::Dir && !path.is_root())?;
            wrap(world, &from, &spot(world, dir, name)?, new);
        }
        Op::Swap { a, b } => swap(world, &any_path(world, a)?, &any_path(world, b)?),
        Op::Chain { a, b, dir, name } => {
            let (a, b, c) = (any_path(world, a)?, any_path(world, b)?, spot(world, dir, name)?);
            if !a.is_within(&b) && !b.is_within(&a) && !c.is_within(&a) && !a.is_within(&c) {
                rename(world, &b, &c);
                if world.at(Area::Copy, &b).is_none() {
                    rename(world, &a, &b);
                }
            }
        }
        Op::Rewrite { what, content, in_place } => {
            let path = pick(world, what, file)?;
            if in_place {
                let ino = world.at(Area::Copy, &path)?;
                world.inodes.get_mut(&ino)?.node = Node::File(content);
            } else {
                let meta = world.node(Area::Copy, &path)?.meta.clone();
                world.remove_tree(Area::Copy, &path);
                world.add(Area::Copy, &path, Node::File(content), meta);
            }
        }
        Op::Meta { what, meta: m } => {
            let path = any_path(world, what).unwrap_or_default();
            let ino = world.at(Area::Copy, &path)?;
            world.inodes.get_mut(&ino)?.meta = meta(m);
        }
        Op::ChangeType { what, to } => {
            let path = any_path(world, what)?;
            world.remove_tree(Area::Copy, &path);
            world.add(Area::Copy, &path, node(to), meta(0));
        }
    }
    Some(())
}

fn remove_kind(world: &mut World, node: &Node) {
    for (path, ino) in world.within(Area::Copy, &RelPath::root()) {
        if world.inodes[&ino].node == *node {
            world.remove_tree(Area::Copy, &path);
        }
    }
}

prop_compose! {
    fn case()(
        before in prop::collection::vec(op(), 0..20),
        changes in prop::collection::vec(op(), 0..12),
        unseen in prop::collection::vec((any::<bool>(), 0usize..1000), 0..3),
        (use_unseen, delete) in (0u8..3, prop::bool::weighted(0.75)),
        (staged, retired) in (any::<u64>(), 0u8..32),
    ) -> Case {
        let mut source = World::with_root();
        for op in &before {
            apply(&mut source, op);
        }
        let mut copy = source.clone();
        remove_kind(&mut copy, &Node::Device);
        remove_kind(&mut source, &Node::Other);
        for op in &changes {
            apply(&mut source, op);
        }
        remove_kind(&mut source, &Node::Other);
        let mut tops = Vec::new();
        for (of_copy, n) in unseen.iter().filter(|_| use_unseen == 0) {
            tops.extend(any_path(if *of_copy { &copy } else { &source }, *n));
        }
        for top in &tops {
            source.remove_tree(Area::Copy, top);
        }
        let wanted = source.wanted();
        let files = wanted.values().filter_map(|w| Some((w, w.entry.file()?)));
        let staged = files
            .enumerate()
            .filter(|(i, (_, f))| staged >> (i % 64) & 3 == 0 && f.link != crate::backup::entry::Link::Single
                || staged >> (i % 64) & 1 == 0)
            .filter(|(_, (_, f))| !matches!(f.link, crate::backup::entry::Link::Follower(_)))
            .map(|(_, (w, f))| (w.entry.path.clone(), u8::try_from(f.size).unwrap()))
            .collect();
        let retired = (0..16).filter(|n| retired >> (n % 5) & 1 == 1).collect();
        Case { copy, wanted, unseen: tops, delete, staged, retired }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000.max(ProptestConfig::default().cases),
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_commit_makes_the_copy_what_is_wanted_whenever_it_is_cut(mut case in case()) {
        case.check();
    }
}
