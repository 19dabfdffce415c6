//! What a disk may hold after the power failed: the images of one moment.
//!
//! What was synced is there. Of the rest, anything may be: all of it, none, all but one change, a write up to the edge
//! of a sector or from there on, zeros or garbage where a write was going on, a name without the contents, contents
//! without the name. The images here take each change alone through all of that, and a few random mixtures of all
//! changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use libmq::storage::Mark;

use super::platter::{Change, NameChange, Platter};
use super::rng::Rng;
use super::trace::Inode;

/// What a disk writes whole.
const SECTOR_BYTES: u64 = 512;

/// Random mixtures of a moment.
const MIXTURES: usize = 12;

/// At how many edges a long write is torn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tearing {
    /// At all.
    EveryEdge,
    /// At the first ones, the last ones and some between; writes of a few sectors at all.
    SomeEdges,
}

/// One thing a disk may hold.
#[derive(Clone, Debug)]
pub struct Image {
    /// What became of the changes that no sync covered.
    pub name: String,
    /// The power did not fail, the process died: what it had written is all there, and still not durable.
    pub killed: bool,
    /// The disk.
    pub platter: Platter,
}

/// What becomes of one change.
#[derive(Clone, Debug)]
enum Fate {
    Kept,
    Dropped,
    /// A write keeps these ranges of its bytes.
    Torn(Vec<std::ops::Range<usize>>),
    /// Something else stands where the write was going on.
    Instead(Arc<[u8]>),
}

impl Fate {
    fn torn(range: std::ops::Range<usize>) -> Self {
        Self::Torn(std::iter::once(range).collect())
    }
}

impl Platter {
    /// The images of this moment, no two alike. `seed` decides what is random in them.
    #[must_use]
    pub fn images(&self, seed: u64, tearing: Tearing) -> Vec<Image> {
        let mut rng = Rng::new(seed);
        let (seen, marks) = (BTreeSet::new(), Vec::new());
        let mut images = Images { platter: self, seen, images: Vec::new(), marks };
        let killed = Image { name: "killed".into(), killed: true, platter: self.clone() };
        images.images.push(killed);
        images.add("all kept", |_, _| Fate::Kept, |_| true);
        images.add("none kept", |_, _| Fate::Dropped, |_| false);
        for (which, marks) in [("", &self.marks), ("past ", &self.past_marks)] {
            images.marks.clone_from(marks);
            images.add(&format!("all and {which}marks kept"), |_, _| Fate::Kept, |_| true);
            images.add(&format!("none but {which}marks kept"), |_, _| Fate::Dropped, |_| false);
        }
        images.marks.clear();
        images.add("only names kept", |_, _| Fate::Dropped, |_| true);
        images.add("only contents kept", |_, _| Fate::Kept, |_| false);
        for number in 0..self.pending_names.len() {
            images.add(&format!("name change {number} lost"), |_, _| Fate::Kept, |n| n != number);
        }
        for (inode, file) in &self.files {
            for (number, change) in file.pending.iter().enumerate() {
                images.one(*inode, number, change, &mut rng, tearing);
            }
        }
        for mixture in 0..MIXTURES {
            let mut names = rng.clone();
            images.add(
                &format!("mixture {mixture}"),
                |change, _| mixed(change, &mut rng),
                |_| names.coin(),
            );
        }
        images.images
    }
}

struct Images<'a> {
    platter: &'a Platter,
    seen: BTreeSet<u64>,
    images: Vec<Image>,
    /// The marks of the images to come.
    marks: Vec<Mark>,
}

impl Images<'_> {
    /// Adds an image in which `fate` decides about every change of a file, told its inode and number, and `name`
    /// about every change of the directory.
    fn add(
        &mut self,
        what: &str,
        mut fate: impl FnMut(&Change, (Inode, usize)) -> Fate,
        mut name: impl FnMut(usize) -> bool,
    ) {
        let mut names = self.platter.names.clone();
        let kept = |(_, change): (usize, &NameChange)| change.apply(&mut names);
        self.platter.pending_names.iter().enumerate().filter(|(n, _)| name(*n)).for_each(kept);
        let files = self.platter.files.iter().map(|(inode, file)| {
            let changes: Vec<Change> = file
                .pending
                .iter()
                .enumerate()
                .flat_map(|(number, change)| outcome(change, fate(change, (*inode, number))))
                .collect();
            (*inode, file.with(&changes))
        });
        let mut platter = Platter::durable(names, files);
        platter.marks.clone_from(&self.marks);
        if self.seen.insert(platter.fingerprint()) {
            self.images.push(Image { name: what.into(), killed: false, platter });
        }
    }

    /// Takes one change through everything that can become of it while all others are kept, and a torn write also
    /// through the loss of all that came after it.
    fn one(
        &mut self,
        inode: Inode,
        number: usize,
        change: &Change,
        rng: &mut Rng,
        tearing: Tearing,
    ) {
        let place = (inode, number);
        let label = format!("file {inode} change {number}");
        let this =
            |fate: Fate| move |_: &Change, at| if at == place { fate.clone() } else { Fate::Kept };
        self.add(&format!("{label} dropped"), this(Fate::Dropped), |_| true);
        let before = |_: &Change, (file, other): (Inode, usize)| {
            if file == inode && other >= number { Fate::Dropped } else { Fate::Kept }
        };
        self.add(&format!("{label} and later ones dropped"), before, |_| true);
        let alone = |_: &Change, (file, other): (Inode, usize)| {
            if file == inode && other != number { Fate::Dropped } else { Fate::Kept }
        };
        self.add(&format!("{label} alone kept"), alone, |_| true);
        let Change::Write(offset, bytes) = change else { return };
        let last = number + 1 == self.platter.files[&inode].pending.len();
        for edge in edges(*offset, bytes.len(), tearing, rng) {
            let (head, tail) = (Fate::torn(0..edge), Fate::torn(edge..bytes.len()));
            if !last {
                let head = head.clone();
                let ends = move |_: &Change, at: (Inode, usize)| match at {
                    _ if at == place => head.clone(),
                    (file, later) if file == inode && later > number => Fate::Dropped,
                    _ => Fate::Kept,
                };
                self.add(&format!("{label} ends the file at {edge}"), ends, |_| true);
            }
            self.add(&format!("{label} kept to {edge}"), this(head), |_| true);
            self.add(&format!("{label} kept from {edge}"), this(tail), |_| true);
        }
        let zeros: Arc<[u8]> = vec![0; bytes.len()].into();
        self.add(&format!("{label} zeros"), this(Fate::Instead(zeros)), |_| true);
        let garbage: Arc<[u8]> = rng.bytes(bytes.len()).into();
        self.add(&format!("{label} garbage"), this(Fate::Instead(garbage)), |_| true);
    }
}

/// What is left of a change.
fn outcome(change: &Change, fate: Fate) -> Vec<Change> {
    match (fate, change) {
        (Fate::Kept, _) => vec![change.clone()],
        (Fate::Torn(ranges), Change::Write(offset, bytes)) => ranges
            .into_iter()
            .map(|range| Change::Write(offset + range.start as u64, bytes[range].into()))
            .collect(),
        (Fate::Instead(bytes), Change::Write(offset, _)) => vec![Change::Write(*offset, bytes)],
        _ => Vec::new(),
    }
}

/// Where in a write a sector ends, inside the write.
fn edges(offset: u64, len: usize, tearing: Tearing, rng: &mut Rng) -> Vec<usize> {
    const ENDS: usize = 3;
    const BETWEEN: usize = 4;
    let first = (offset / SECTOR_BYTES + 1) * SECTOR_BYTES - offset;
    let all: Vec<usize> = (first as usize..len).step_by(SECTOR_BYTES as usize).collect();
    if tearing == Tearing::EveryEdge || all.len() <= 2 * ENDS + BETWEEN {
        return all;
    }
    let between = (0..BETWEEN).map(|_| all[rng.below(all.len() as u64) as usize]);
    let ends = all[..ENDS].iter().chain(&all[all.len() - ENDS..]).copied();
    ends.chain(between).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Keeps a change, drops it, or keeps some of its sectors.
fn mixed(change: &Change, rng: &mut Rng) -> Fate {
    match change {
        Change::Write(offset, bytes) if rng.coin() => {
            let mut starts = vec![0];
            starts.extend(edges(*offset, bytes.len(), Tearing::EveryEdge, rng));
            let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
            Fate::Torn(
                starts
                    .iter()
                    .copied()
                    .zip(ends)
                    .map(|(a, b)| a..b)
                    .filter(|_| rng.coin())
                    .collect(),
            )
        }
        _ if rng.coin() => Fate::Kept,
        _ => Fate::Dropped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Op;

    fn write(inode: Inode, offset: u64, bytes: &[u8]) -> Op {
        Op::Write { inode, offset, bytes: bytes.into() }
    }

    fn names(platter: &Platter) -> Vec<String> {
        platter.contents().into_iter().map(|(name, _)| name).collect()
    }

    /// The contents that the file `a` has in the images of these calls; none where it has no name.
    fn contents(ops: &[Op]) -> BTreeSet<Option<Vec<u8>>> {
        let mut platter = Platter::default();
        ops.iter().for_each(|op| platter.apply(op));
        let content = |image: Image| {
            let files = image.platter.contents();
            files.into_iter().find(|(name, _)| name == "a").map(|(_, bytes)| bytes)
        };
        platter.images(1, Tearing::EveryEdge).into_iter().map(content).collect()
    }

    #[test]
    fn what_was_synced_is_in_every_image() {
        let create = Op::Create { name: "a".into(), inode: 0, bytes: 4096 };
        let ops = [create, write(0, 0, b"one"), Op::Sync { inode: 0 }, Op::SyncDir];
        assert_eq!(contents(&ops), [Some(b"one".to_vec())].into());
        let without_names = contents(&ops[..3]);
        assert_eq!(without_names, [None, Some(b"one".to_vec())].into());
    }

    #[test]
    fn an_unsynced_write_is_kept_lost_torn_zero_or_garbage() {
        let create = Op::Create { name: "a".into(), inode: 0, bytes: 4096 };
        let bytes = [b'x'; 600];
        let ops = [create, Op::Sync { inode: 0 }, Op::SyncDir, write(0, 100, &bytes)];
        let found = contents(&ops);
        let whole = [vec![0; 100], bytes.to_vec()].concat();
        assert!(found.contains(&Some(whole.clone())));
        assert!(found.contains(&Some(Vec::new())));
        assert!(found.contains(&Some(whole[..512].to_vec())), "torn at the sector's edge");
        let tail = [vec![0; 512], vec![b'x'; 188]].concat();
        assert!(found.contains(&Some(tail)), "the second sector without the first");
        let garbage = |bytes: &Vec<u8>| {
            bytes.get(100..).is_some_and(|rest| rest.iter().any(|byte| ![0, b'x'].contains(byte)))
        };
        assert!(found.iter().flatten().any(garbage));
    }

    #[test]
    fn each_of_two_writes_may_be_missing() {
        let create = Op::Create { name: "a".into(), inode: 0, bytes: 4096 };
        let ops =
            [create, Op::Sync { inode: 0 }, Op::SyncDir, write(0, 0, b"x"), write(0, 1, b"y")];
        let found = contents(&ops);
        for bytes in [&b"xy"[..], b"x", b"\0y", b""] {
            assert!(found.contains(&Some(bytes.to_vec())), "{bytes:?}");
        }
    }

    #[test]
    fn a_rename_is_there_or_not_and_what_it_replaced_with_it() {
        let mut platter = Platter::default();
        for op in [
            Op::Create { name: "a".into(), inode: 0, bytes: 1 },
            Op::Create { name: "b".into(), inode: 1, bytes: 2 },
            Op::Sync { inode: 0 },
            Op::Sync { inode: 1 },
            Op::SyncDir,
            Op::Rename { from: "b".into(), to: "a".into(), inode: 1 },
        ] {
            platter.apply(&op);
        }
        let images = platter.images(1, Tearing::EveryEdge);
        let all: BTreeSet<_> = images.iter().map(|image| names(&image.platter)).collect();
        assert_eq!(all, [vec!["a".to_owned()], vec!["a".into(), "b".into()]].into());
    }

    #[test]
    fn a_file_that_was_not_synced_may_be_shorter_than_it_was_made() {
        let mut platter = Platter::default();
        platter.apply(&Op::Create { name: "a".into(), inode: 0, bytes: 4096 });
        platter.apply(&Op::SyncDir);
        let lens: BTreeSet<u64> = platter
            .images(1, Tearing::EveryEdge)
            .iter()
            .map(|image| image.platter.files[&0].all().len())
            .collect();
        assert_eq!(lens, [0, 4096].into());
    }

    #[test]
    fn a_seed_makes_the_same_images() {
        let mut platter = Platter::default();
        platter.apply(&Op::Create { name: "a".into(), inode: 0, bytes: 4096 });
        platter.apply(&write(0, 0, &[7; 3000]));
        let prints = |seed| {
            let images = platter.images(seed, Tearing::SomeEdges);
            images.iter().map(|image| image.platter.fingerprint()).collect::<Vec<_>>()
        };
        assert_eq!(prints(5), prints(5));
        assert_ne!(prints(5), prints(6));
    }
}
