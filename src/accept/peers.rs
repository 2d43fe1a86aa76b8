//! Who is connected: how many in all and of one address, and who gives way when that is too many.
//!
//! ```text
//!  census: counts of all shards            peers: the connections of one shard
//!  all 3, by address {a: 2, b: 1}          number, when last heard, waiting for its client or not
//! ```
//!
//! Where there is no room, the connection that waits for its client gives way: first those that
//! were never answered, then those that were, each time the one that was heard least recently. One
//! whose request is worked on never does. So whoever only holds connections loses them to those who
//! use theirs, and a client that was idle connects again.
//!
//! Cost: one lock and, at a limit, one pass over the shard's connections for each that is accepted;
//! nothing for a request but a few cells.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::limits::ConnectionLimits;

/// Connections of all shards.
#[derive(Debug)]
pub(super) struct Census {
    limits: ConnectionLimits,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Where there is no room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Full {
    All,
    Address,
}

impl Census {
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        Self { limits, counts: Mutex::default() }
    }

    /// Counts one in; says where there was no room for it.
    fn enter(&self, address: IpAddr) -> Option<Full> {
        // Counts are whole whenever the lock is free.
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all += 1;
        let of_address = counts.by_address.entry(address).or_insert(0);
        *of_address += 1;
        if *of_address > self.limits.connections_per_address_max {
            Some(Full::Address)
        } else if counts.all > self.limits.connections_max {
            Some(Full::All)
        } else {
            None
        }
    }

    fn leave(&self, address: IpAddr) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        let left = counts.by_address.get_mut(&address).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            counts.by_address.remove(&address);
        }
    }
}

/// The address that is counted: all of a /64 network is one client's.
fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

/// The connections of one shard.
#[derive(Debug)]
pub(super) struct Peers {
    census: Arc<Census>,
    here: RefCell<BTreeMap<u64, Rc<Peer>>>,
    /// Counts what is heard; its value is when.
    ticks: Cell<u64>,
    /// Told when the last one has gone.
    emptied: Notify,
}

/// What became of a connection that asked to be let in.
#[derive(Debug)]
pub(super) enum Entry {
    /// There is room.
    In(Seat),
    /// There is, because another one gives way.
    Instead(Seat),
    /// There is none.
    Refused,
}

impl Peers {
    pub(super) fn new(census: Arc<Census>) -> Rc<Self> {
        let (here, emptied) = (RefCell::default(), Notify::new());
        Rc::new(Self { census, here, ticks: Cell::new(0), emptied })
    }

    /// Lets a connection in, or not.
    pub(super) fn enter(self: &Rc<Self>, address: IpAddr) -> Entry {
        let address = counted(address);
        let has_given_way = match self.census.enter(address) {
            None => None,
            Some(Full::All) => Some(self.shed(|_| true)),
            Some(Full::Address) => Some(self.shed(|peer| peer.address == address)),
        };
        if has_given_way == Some(false) {
            self.census.leave(address);
            return Entry::Refused;
        }
        let number = self.tick();
        let peer = Rc::new(Peer {
            address,
            heard: Cell::new(number),
            is_answered: Cell::new(false),
            requests: Cell::new(0),
            reading: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
            is_shed: Cell::new(false),
            shed: Notify::new(),
        });
        self.here.borrow_mut().insert(number, Rc::clone(&peer));
        let seat = Seat { peers: Rc::clone(self), number, peer };
        if has_given_way.is_some() { Entry::Instead(seat) } else { Entry::In(seat) }
    }

    /// Ends an eighth of the connections, those that can best be spared; says how many there were.
    pub(super) fn shed_some(&self) -> usize {
        let count = self.here.borrow().len().div_ceil(8);
        (0..count).take_while(|_| self.shed(|_| true)).count()
    }

    fn shed(&self, may_go: impl Fn(&Peer) -> bool) -> bool {
        let here = self.here.borrow();
        let waiting = here.values().filter(|peer| peer.waits_for_client() && may_go(peer));
        let spared = waiting.min_by_key(|peer| (peer.is_answered.get(), peer.heard.get()));
        if let Some(peer) = spared {
            peer.is_shed.set(true);
            peer.shed.notify_one();
        }
        spared.is_some()
    }

    fn tick(&self) -> u64 {
        self.ticks.set(self.ticks.get() + 1);
        self.ticks.get()
    }

    /// Waits until nobody is connected.
    pub(super) async fn gone(&self) {
        while !self.here.borrow().is_empty() {
            self.emptied.notified().await;
        }
    }
}

/// A connection's place; its drop makes room.
#[derive(Debug)]
pub(super) struct Seat {
    peers: Rc<Peers>,
    number: u64,
    peer: Rc<Peer>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut here = self.peers.here.borrow_mut();
        here.remove(&self.number);
        self.peers.census.leave(self.peer.address);
        if here.is_empty() {
            self.peers.emptied.notify_one();
        }
    }
}

impl Seat {
    /// A request has begun; its drop ends it.
    pub(super) fn request(self: &Rc<Self>) -> Request {
        self.peer.requests.set(self.peer.requests.get() + 1);
        self.hear();
        Request { seat: Rc::clone(self) }
    }

    /// Waits until the connection has to give way.
    pub(super) async fn shed(&self) {
        self.peer.shed.notified().await;
    }

    /// Since when there is no request; `None`: there is one.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.peer.requests.get() == 0).then(|| self.peer.idle_since.get())
    }

    fn hear(&self) {
        self.peer.heard.set(self.peers.tick());
    }
}

/// What a shard knows of a connection.
#[derive(Debug)]
struct Peer {
    address: IpAddr,
    /// When its client was last heard, in ticks.
    heard: Cell<u64>,
    /// Whether a request of it was answered.
    is_answered: Cell<bool>,
    /// Requests that are not answered; `reading <= requests`.
    requests: Cell<u32>,
    /// Those of them that wait for their bodies.
    reading: Cell<u32>,
    /// When the last request was answered, or the connection accepted.
    idle_since: Cell<Instant>,
    is_shed: Cell<bool>,
    shed: Notify,
}

impl Peer {
    fn waits_for_client(&self) -> bool {
        self.requests == self.reading && !self.is_shed.get()
    }
}

/// A request that is not answered.
#[derive(Debug)]
pub(super) struct Request {
    seat: Rc<Seat>,
}

impl Request {
    /// Its body is waited for; the drop of this ends it.
    pub(super) fn reading(&self) -> Reading<'_> {
        let Seat { peer, .. } = &*self.seat;
        peer.reading.set(peer.reading.get() + 1);
        Reading { seat: &self.seat }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let Seat { peer, .. } = &*self.seat;
        peer.requests.set(peer.requests.get() - 1);
        peer.is_answered.set(true);
        peer.idle_since.set(Instant::now());
        self.seat.hear();
    }
}

/// A body that is waited for.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    seat: &'a Seat,
}

impl Reading<'_> {
    /// Some of it has come.
    pub(super) fn hear(&self) {
        self.seat.hear();
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let Seat { peer, .. } = self.seat;
        peer.reading.set(peer.reading.get() - 1);
    }
}
