//! A disk in memory that loses power, fills up and fails.
//!
//! It promises what `disk` promises and nothing more. Each file has bytes as programs see them
//! and bytes as the platter has them, sector by sector; each directory likewise has names. Syncs
//! copy the one to the other. When the power is cut, every sector and every change of a name that
//! was not synced survives or not, by a seed.

#![expect(clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use peristyle::disk::{BlockFile, DirectoryEntry, Disk, DiskFile, Lock};

/// What a disk writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// Numbers by a seed: splitmix64.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        it ^ (it >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap()
    }
}

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// It fails; a sync loses what it should have written, and the next one says nothing of it.
    Io,
    /// There is no space.
    Full,
    /// A write writes a part only.
    Short,
}

/// Which calls fail until it is changed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Space {
    #[default]
    Free,
    /// No file can grow, and none can be made.
    NoGrowth,
    /// Nothing can be written, as where each write takes new blocks.
    NoWrite,
}

/// A lie about syncs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sabotage {
    Data,
    Directory,
}

#[derive(Clone, Debug, Default)]
struct File {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors that a sync has to write.
    dirty: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
enum Node {
    Directory,
    File(File),
}

/// A change of names that was not synced.
#[derive(Clone, Debug)]
struct Change {
    removed: Option<PathBuf>,
    added: Option<(PathBuf, u64)>,
}

#[derive(Clone, Debug, Default)]
struct World {
    nodes: HashMap<u64, Node>,
    next_node: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    changes: Vec<Change>,
    calls: u64,
    cut_at: Option<u64>,
    is_off: bool,
    fault: Option<(u64, Fault)>,
    space: Space,
    /// How many removals of directories will fail.
    stubborn: u32,
    sabotage: Option<Sabotage>,
}

/// A disk; clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk(Arc<Mutex<World>>);

impl SimDisk {
    /// A disk with nothing but the directories `/` and `/data`.
    pub fn new() -> Self {
        let mut world = World::default();
        world.nodes.insert(0, Node::Directory);
        world.nodes.insert(1, Node::Directory);
        world.next_node = 2;
        world.names.insert(PathBuf::from("/"), 0);
        world.names.insert(PathBuf::from("/data"), 1);
        world.durable_names = world.names.clone();
        Self(Arc::new(Mutex::new(world)))
    }

    /// As journal and persist take it.
    pub fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.world().calls
    }

    /// The power goes off at call `count` from here.
    pub fn cut_after(&self, count: u64) {
        let mut world = self.world();
        world.cut_at = Some(world.calls + count);
    }

    /// Call `count` from here goes wrong.
    pub fn fail_after(&self, count: u64, fault: Fault) {
        let mut world = self.world();
        world.fault = Some((world.calls + count, fault));
    }

    pub fn set_space(&self, space: Space) {
        self.world().space = space;
    }

    /// The next `count` removals of directories fail.
    pub fn refuse_removals(&self, count: u32) {
        self.world().stubborn = count;
    }

    pub fn sabotage(&self, sabotage: Sabotage) {
        self.world().sabotage = Some(sabotage);
    }

    /// The disk as it is when the power comes back: of what was not synced none, all or any part.
    pub fn crash(&self, seed: u64) -> Self {
        let mut random = Random(seed);
        let share = [0, 50, 50, 90, 100][random.index(5)];
        self.after(|| random.below(100) < share)
    }

    /// The disk after a power cut that took all that was not synced.
    pub fn forget(&self) -> Self {
        self.after(|| false)
    }

    /// The disk as a process finds it that is started after another was killed.
    pub fn kill(&self) -> Self {
        let copy = self.copy();
        self.world().is_off = true;
        copy
    }

    /// The same disk, which goes its own way from here.
    pub fn copy(&self) -> Self {
        let world = self.world().clone();
        let world = World { cut_at: None, fault: None, is_off: false, ..world };
        Self(Arc::new(Mutex::new(world)))
    }

    fn after(&self, mut survives: impl FnMut() -> bool) -> Self {
        let mut old = self.world();
        old.is_off = true;
        let mut world = World { sabotage: old.sabotage, ..World::default() };
        let mut names = old.durable_names.clone();
        for change in &old.changes {
            if survives() {
                change.apply(&mut names);
            }
        }
        let directories: BTreeSet<PathBuf> = names
            .iter()
            .filter(|(_, node)| matches!(old.nodes[node], Node::Directory))
            .map(|(path, _)| path.clone())
            .collect();
        names.retain(|path, _| path.ancestors().skip(1).all(|it| directories.contains(it)));
        for node in names.values().copied() {
            let entry = world.nodes.entry(node);
            entry.or_insert_with(|| match &old.nodes[&node] {
                Node::Directory => Node::Directory,
                Node::File(file) => Node::File(file.after(&mut survives)),
            });
        }
        world.next_node = old.next_node;
        world.durable_names.clone_from(&names);
        world.names = names;
        Self(Arc::new(Mutex::new(world)))
    }

    /// The files of a directory, in order of their names.
    pub fn files(&self, directory: &Path) -> Vec<PathBuf> {
        let world = self.world();
        let is_in = |(path, node): &(&PathBuf, &u64)| {
            path.parent() == Some(directory) && matches!(world.nodes[node], Node::File(_))
        };
        world.names.iter().filter(is_in).map(|(path, _)| path.clone()).collect()
    }

    /// Changes the bytes of a file behind everybody's back, on the platter too.
    pub fn change(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut world = self.world();
        let file = world.file(path).unwrap();
        change(&mut file.bytes);
        file.durable.clone_from(&file.bytes);
    }

    /// All files below a directory.
    pub fn all_files(&self, directory: &Path) -> BTreeSet<PathBuf> {
        let world = self.world();
        let is_in = |(path, node): &(&PathBuf, &u64)| {
            path.starts_with(directory) && matches!(world.nodes[node], Node::File(_))
        };
        world.names.iter().filter(is_in).map(|(path, _)| path.clone()).collect()
    }

    /// The bytes of a file, if there is one.
    pub fn try_bytes(&self, path: &Path) -> Option<Vec<u8>> {
        self.world().file(path).ok().map(|file| file.bytes.clone())
    }

    pub fn bytes(&self, path: &Path) -> Vec<u8> {
        self.world().file(path).unwrap().bytes.clone()
    }

    /// Removes a file behind everybody's back, on the platter too.
    pub fn lose(&self, path: &Path) {
        let mut world = self.world();
        world.names.remove(path);
        world.durable_names.remove(path);
    }
}

impl File {
    fn after(&self, survives: &mut impl FnMut() -> bool) -> Self {
        let is_resized = self.bytes.len() != self.durable.len() && survives();
        let mut bytes = self.durable.clone();
        if is_resized {
            bytes.resize(self.bytes.len(), 0);
        }
        for sector in &self.dirty {
            let begin = sector * SECTOR_BYTES;
            let end = self.bytes.len().min(bytes.len()).min(begin + SECTOR_BYTES);
            if begin < end && survives() {
                bytes[begin..end].copy_from_slice(&self.bytes[begin..end]);
            }
        }
        Self { durable: bytes.clone(), bytes, dirty: BTreeSet::new() }
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[at..end].copy_from_slice(bytes);
        self.dirty.extend(at / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
    }

    fn sync(&mut self) {
        self.durable.resize(self.bytes.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            let begin = sector * SECTOR_BYTES;
            let end = self.bytes.len().min(begin + SECTOR_BYTES);
            if begin < end {
                self.durable[begin..end].copy_from_slice(&self.bytes[begin..end]);
            }
        }
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        if let Some(removed) = &self.removed {
            names.remove(removed);
        }
        if let Some((added, node)) = &self.added {
            names.insert(added.clone(), *node);
        }
    }

    fn is_in(&self, directory: &Path) -> bool {
        let paths = self.removed.iter().chain(self.added.iter().map(|(path, _)| path));
        paths.into_iter().any(|path| path.parent() == Some(directory))
    }
}

impl World {
    /// Counts a call; says what is wrong with it.
    fn call(&mut self) -> io::Result<Option<Fault>> {
        self.calls += 1;
        if self.is_off || self.cut_at.is_some_and(|at| self.calls >= at) {
            self.is_off = true;
            return Err(io::Error::other("the power is off"));
        }
        match self.fault {
            Some((at, fault)) if at == self.calls => match fault {
                Fault::Io => Err(io::Error::from_raw_os_error(5)),
                Fault::Full => Err(io::ErrorKind::StorageFull.into()),
                Fault::Short => Ok(Some(fault)),
            },
            _ => Ok(None),
        }
    }

    fn node(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn file(&mut self, path: &Path) -> io::Result<&mut File> {
        let node = self.node(path)?;
        self.opened(node)
    }

    fn opened(&mut self, node: u64) -> io::Result<&mut File> {
        match self.nodes.get_mut(&node) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn parent(&self, path: &Path) -> io::Result<()> {
        let node = self.node(path.parent().unwrap_or(path))?;
        match self.nodes[&node] {
            Node::Directory => Ok(()),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn change(&mut self, removed: Option<&Path>, added: Option<(&Path, u64)>) {
        let added = added.map(|(path, node)| (path.to_owned(), node));
        let change = Change { removed: removed.map(Path::to_owned), added };
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<u64> {
        self.parent(path)?;
        if self.space != Space::Free {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let number = self.next_node;
        self.next_node += 1;
        self.nodes.insert(number, node);
        self.change(None, Some((path, number)));
        Ok(number)
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut world = self.world();
        world.call()?;
        if let Ok(file) = world.file(path) {
            file.bytes.clear();
        } else {
            world.add(path, Node::File(File::default()))?;
        }
        let node = world.node(path)?;
        Ok(Box::new(SimFile { disk: self.clone(), node, position: 0 }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut world = self.world();
        world.call()?;
        world.file(path)?;
        let node = world.node(path)?;
        Ok(Box::new(SimFile { disk: self.clone(), node, position: 0 }))
    }

    fn open_synced(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut world = self.world();
        world.call()?;
        world.file(path)?;
        let node = world.node(path)?;
        let file = SimFile { disk: self.clone(), node, position: 0 };
        Ok(Box::new(BlockFile::new(file)))
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.call()?;
        if world.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        world.add(path, Node::Directory).map(drop)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let mut world = self.world();
        world.call()?;
        world.node(directory)?;
        let entries = world.names.iter().filter(|(path, _)| path.parent() == Some(directory));
        let entry = |(path, node): (&PathBuf, &u64)| DirectoryEntry {
            name: path.file_name().unwrap().to_owned(),
            is_directory: matches!(world.nodes[node], Node::Directory),
        };
        Ok(entries.map(entry).collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let mut world = self.world();
        world.call()?;
        Ok(world.names.contains_key(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.call()?;
        let node = world.node(from)?;
        world.parent(to)?;
        world.change(Some(from), Some((to, node)));
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.call()?;
        let node = world.node(from)?;
        world.parent(to)?;
        if world.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        world.change(None, Some((to, node)));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.call()?;
        world.file(path)?;
        world.change(Some(path), None);
        Ok(())
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.call()?;
        world.node(path)?;
        if world.stubborn > 0 {
            world.stubborn -= 1;
            return Err(io::Error::from_raw_os_error(5));
        }
        let below: Vec<_> = world.names.keys().filter(|it| it.starts_with(path)).cloned().collect();
        for path in below.iter().rev() {
            world.change(Some(path), None);
        }
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.call()?;
        world.node(path)?;
        if world.sabotage != Some(Sabotage::Directory) {
            let World { changes, durable_names, .. } = &mut *world;
            changes.retain(|change| {
                let is_in = change.is_in(path);
                if is_in {
                    change.apply(durable_names);
                }
                !is_in
            });
        }
        Ok(())
    }

    fn lock(&self, _path: &Path) -> io::Result<Box<dyn Lock>> {
        Ok(Box::new(Unlocked))
    }
}

/// A disk in memory has one owner.
#[derive(Debug)]
struct Unlocked;

impl Lock for Unlocked {}

/// An open file.
#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    node: u64,
    position: usize,
}

impl SimFile {
    fn sync(&self) -> io::Result<()> {
        let mut world = self.disk.world();
        let result = world.call();
        let is_honest = world.sabotage != Some(Sabotage::Data);
        let is_off = world.is_off;
        let file = world.opened(self.node)?;
        match result {
            // What Linux does: the pages are clean, and the next sync has nothing to write.
            Err(error) if !is_off => {
                file.dirty.clear();
                Err(error)
            }
            Err(error) => Err(error),
            Ok(_) if is_honest => {
                file.sync();
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }
}

impl Read for SimFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut world = self.disk.world();
        world.call()?;
        let file = world.opened(self.node)?;
        let rest = file.bytes.get(self.position..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.position += count;
        Ok(count)
    }
}

impl Write for SimFile {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buffer)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        assert!(slices.len() <= 1024, "writev takes 1024 slices");
        let mut world = self.disk.world();
        let fault = world.call()?;
        let mut bytes: Vec<u8> = slices.iter().flat_map(|it| it.iter().copied()).collect();
        if fault == Some(Fault::Short) {
            bytes.truncate(bytes.len().div_ceil(2));
        }
        let space = world.space;
        let file = world.opened(self.node)?;
        let is_growth = self.position + bytes.len() > file.bytes.len();
        if space == Space::NoWrite || (space == Space::NoGrowth && is_growth) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write(self.position, &bytes);
        self.position += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for SimFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let length = self.byte_count()?;
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => length.checked_add_signed(offset),
            SeekFrom::Current(offset) => (self.position as u64).checked_add_signed(offset),
        };
        let position = position.ok_or(io::ErrorKind::InvalidInput)?;
        self.position = usize::try_from(position).unwrap();
        Ok(position)
    }
}

impl DiskFile for SimFile {
    fn sync_data(&mut self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&mut self) -> io::Result<()> {
        self.sync()
    }

    fn byte_count(&self) -> io::Result<u64> {
        let mut world = self.disk.world();
        Ok(world.opened(self.node)?.bytes.len() as u64)
    }

    /// Time stands still.
    fn modified_ms(&self) -> io::Result<i64> {
        Ok(0)
    }
}
