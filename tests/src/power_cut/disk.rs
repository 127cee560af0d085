//! A disk that remembers what is sure to be on it and what is not, and can be cut off at any moment.
//!
//! - A write is sure once its file was synchronised after it. Until then each 4 KiB page of it is there, is not, or is torn:
//!   any of its 512-byte sectors may be old or new.
//! - A name (made, moved, removed) is sure once its directory was synchronised after it. Until then, it took place or not,
//!   each by itself, or, as a journalling file system does it, in order up to some point.
//! - A file's length grows with the pages that are there, or with all, zeros where a page is not.

use super::recording::Call;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

const PAGE_BYTES: usize = 4096;
const SECTOR_BYTES: usize = 512;

type Node = usize;

#[derive(Default)]
struct File {
    sure: Vec<u8>,
    unsure: Vec<Change>,
}

enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

#[derive(Clone)]
enum Name {
    Made { parent: Node, name: String, child: Node },
    Moved { from: (Node, String), to: (Node, String) },
    Removed { parent: Node, name: String },
}

type Tree = HashMap<Node, BTreeMap<String, Node>>;

/// The disk under the recorded directory.
pub struct Disk {
    root: PathBuf,
    /// Directories as the running program sees them.
    seen: Tree,
    /// Directories as they surely are, before `names`.
    sure: Tree,
    /// What happened to names since, and whether it is sure by now.
    names: Vec<(Name, bool)>,
    files: HashMap<Node, File>,
    nodes: usize,
}

impl Disk {
    /// A disk with an empty directory `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        let tree: Tree = HashMap::from([(0, BTreeMap::new())]);
        Self {
            root: root.to_owned(),
            seen: tree.clone(),
            sure: tree,
            names: Vec::new(),
            files: HashMap::new(),
            nodes: 1,
        }
    }

    /// Follows the program.
    pub fn apply(&mut self, call: &Call) {
        match call {
            Call::Create(path) => self.make(path, false),
            Call::MakeDir(path) => self.make(path, true),
            Call::Write(path, offset, bytes) => {
                let offset = usize::try_from(*offset).expect("a small file");
                self.change(path, Change::Write(offset, bytes.clone()));
            }
            Call::Truncate(path, length) => {
                self.change(path, Change::Truncate(usize::try_from(*length).expect("a small file")));
            }
            Call::Sync(path) => self.sync(path),
            Call::Rename(from, to) => {
                let (Some(from), Some(to)) = (self.place(from), self.place(to)) else { return };
                self.name(Name::Moved { from, to });
            }
            Call::Remove(path) => {
                if let Some((parent, name)) = self.place(path) {
                    self.name(Name::Removed { parent, name });
                }
            }
            Call::Mark(_) => {}
        }
    }

    fn make(&mut self, path: &Path, directory: bool) {
        let Some((parent, name)) = self.place(path) else { return };
        let child = self.nodes;
        self.nodes += 1;
        if directory {
            self.seen.insert(child, BTreeMap::new());
            self.sure.insert(child, BTreeMap::new());
        } else {
            self.files.insert(child, File::default());
        }
        self.name(Name::Made { parent, name, child });
    }

    fn name(&mut self, name: Name) {
        apply_name(&mut self.seen, &name);
        self.names.push((name, false));
    }

    fn change(&mut self, path: &Path, change: Change) {
        // A file whose name is gone may still be written; nobody will ever see it.
        if let Some(node) = self.node(path) {
            self.files.entry(node).or_default().unsure.push(change);
        }
    }

    fn sync(&mut self, path: &Path) {
        let Some(node) = self.node(path) else { return };
        if let Some(file) = self.files.get_mut(&node) {
            for change in std::mem::take(&mut file.unsure) {
                match change {
                    Change::Write(offset, bytes) => put(&mut file.sure, offset, &bytes),
                    Change::Truncate(length) => file.sure.resize(length, 0),
                }
            }
            return;
        }
        for (name, sure) in &mut self.names {
            *sure |= match name {
                Name::Made { parent, .. } | Name::Removed { parent, .. } => *parent == node,
                // A move is one change of the journal: with either directory all of it is there.
                Name::Moved { from, to } => from.0 == node || to.0 == node,
            };
        }
        // What is sure and has nothing unsure before it needs not be kept apart.
        let sure = self.names.iter().take_while(|(_, sure)| *sure).count();
        for (name, _) in self.names.drain(..sure) {
            apply_name(&mut self.sure, &name);
        }
    }

    fn node(&self, path: &Path) -> Option<Node> {
        let mut node = 0;
        for part in path.strip_prefix(&self.root).ok()?.components() {
            node = *self.seen.get(&node)?.get(part.as_os_str().to_str()?)?;
        }
        Some(node)
    }

    fn place(&self, path: &Path) -> Option<(Node, String)> {
        Some((self.node(path.parent()?)?, path.file_name()?.to_str()?.to_owned()))
    }

    /// Writes into `target` what a power cut at this moment could leave.
    pub fn cut(&self, target: &Path, random: &mut fastrand::Rng) {
        let mut tree = self.sure.clone();
        let in_order = random.bool();
        let journal = random.usize(0..=self.names.len());
        for (position, (name, sure)) in self.names.iter().enumerate() {
            let there = *sure || if in_order { position < journal } else { random.bool() };
            if there {
                apply_name(&mut tree, name);
            }
        }
        // How much of the unsure data reached the disk: sometimes nearly nothing, sometimes nearly all.
        let share = random.f64();
        self.write_out(&tree, 0, target, share, random);
    }

    fn write_out(&self, tree: &Tree, node: Node, target: &Path, share: f64, random: &mut fastrand::Rng) {
        std::fs::create_dir_all(target).expect("the image can be written");
        for (name, child) in tree.get(&node).into_iter().flatten() {
            let path = target.join(name);
            match self.files.get(child) {
                None => self.write_out(tree, *child, &path, share, random),
                Some(file) => std::fs::write(&path, file.cut(share, random)).expect("the image can be written"),
            }
        }
    }
}

impl File {
    fn cut(&self, share: f64, random: &mut fastrand::Rng) -> Vec<u8> {
        let mut bytes = self.sure.clone();
        for change in &self.unsure {
            match change {
                Change::Truncate(length) => {
                    if random.f64() < share {
                        bytes.resize(*length, 0);
                    }
                }
                Change::Write(offset, data) => {
                    if random.f64() < share && bytes.len() < offset + data.len() {
                        bytes.resize(offset + data.len(), 0);
                    }
                    let mut at = *offset;
                    let end = offset + data.len();
                    while at < end {
                        let page_end = (at / PAGE_BYTES + 1) * PAGE_BYTES;
                        let part = &data[at - offset..page_end.min(end) - offset];
                        if random.f64() < share {
                            put(&mut bytes, at, part);
                        } else if random.u8(..) < 64 {
                            tear(&mut bytes, at, part, random);
                        }
                        at = page_end;
                    }
                }
            }
        }
        bytes
    }
}

/// Writes some sectors of a page and leaves the others.
fn tear(bytes: &mut Vec<u8>, at: usize, part: &[u8], random: &mut fastrand::Rng) {
    let (mut from, end) = (at, at + part.len());
    while from < end {
        let to = ((from / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
        if random.bool() {
            put(bytes, from, &part[from - at..to - at]);
        }
        from = to;
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, part: &[u8]) {
    let end = offset + part.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(part);
}

/// Does to a tree what happened to a name; what cannot be done there any more does not happen.
fn apply_name(tree: &mut Tree, name: &Name) {
    match name {
        Name::Made { parent, name, child } => {
            if let Some(parent) = tree.get_mut(parent) {
                parent.insert(name.clone(), *child);
            }
        }
        Name::Moved { from, to } => {
            let child = tree.get_mut(&from.0).and_then(|parent| parent.remove(&from.1));
            if let (Some(child), Some(parent)) = (child, tree.get_mut(&to.0)) {
                parent.insert(to.1.clone(), child);
            }
        }
        Name::Removed { parent, name } => {
            if let Some(parent) = tree.get_mut(parent) {
                parent.remove(name);
            }
        }
    }
}
