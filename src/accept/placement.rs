//! Which shard serves a connection: the one that has the fewest.
//!
//! ```text
//! kernel, by a hash of addresses --> listener of a shard -- none has fewer --> served there
//!                                                        \- one has ---------> handed to that one
//! ```
//!
//! Of eight connections the hash gives six to one of two shards as often as not four to each, and
//! a connection stays where it is: the other processor would have little to do.
//!
//! Cost: a look at a count of each shard for each connection, and a message for one that moves.

use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::BACKLOG;

/// Connections of each shard, and the way to it.
#[derive(Debug)]
pub(super) struct Placement {
    shards: Vec<Counted>,
}

#[derive(Debug)]
struct Counted {
    /// Connections that are there or on their way.
    connections: AtomicUsize,
    sender: mpsc::Sender<Handed>,
}

/// A connection on its way to the shard that serves it.
#[derive(Debug)]
pub(super) struct Handed {
    stream: StdStream,
    address: SocketAddr,
    place: Place,
}

/// A connection as one of its shard; its drop counts it out.
#[derive(Debug)]
pub(super) struct Place {
    placement: Arc<Placement>,
    shard: usize,
}

/// A connection where it is served.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) stream: TcpStream,
    pub(super) address: SocketAddr,
    pub(super) place: Place,
}

impl Placement {
    /// For `shards`, with the end of the way to each.
    pub(super) fn new(shards: usize) -> (Arc<Self>, Vec<mpsc::Receiver<Handed>>) {
        // As many as the kernel would hold for the shard.
        let capacity = usize::try_from(BACKLOG).unwrap_or(1);
        let (shards, receivers) = (0..shards)
            .map(|_| {
                let (sender, receiver) = mpsc::channel(capacity);
                (Counted { connections: AtomicUsize::new(0), sender }, receiver)
            })
            .unzip();
        (Arc::new(Self { shards }), receivers)
    }

    /// Gives a connection that shard `own` has accepted to the shard with the fewest; gives it back
    /// where that is `own`, or where the other one does not take it.
    ///
    /// # Errors
    /// The connection could not be moved, and is gone.
    pub(super) fn place(
        self: &Arc<Self>,
        own: usize,
        stream: TcpStream,
        address: SocketAddr,
    ) -> io::Result<Option<Placed>> {
        let count = |shard: &Counted| shard.connections.load(Ordering::Relaxed);
        let fewest = self.shards.iter().enumerate().min_by_key(|(at, it)| (count(it), *at != own));
        match fewest {
            Some((shard, there)) if shard != own => {
                let place = self.enter(shard);
                let handed = Handed { stream: stream.into_std()?, address, place };
                match there.sender.try_send(handed) {
                    Ok(()) => Ok(None),
                    Err(error) => {
                        let back = error.into_inner().take()?;
                        Ok(Some(Placed { place: self.enter(own), ..back }))
                    }
                }
            }
            _ => Ok(Some(Placed { stream, address, place: self.enter(own) })),
        }
    }

    fn enter(self: &Arc<Self>, shard: usize) -> Place {
        if let Some(shard) = self.shards.get(shard) {
            shard.connections.fetch_add(1, Ordering::Relaxed);
        }
        Place { placement: Arc::clone(self), shard }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(shard) = self.placement.shards.get(self.shard) {
            shard.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Handed {
    /// Takes it in, on the thread that serves it.
    ///
    /// # Errors
    /// It cannot be waited for there, and is gone.
    pub(super) fn take(self) -> io::Result<Placed> {
        let Self { stream, address, place } = self;
        Ok(Placed { stream: TcpStream::from_std(stream)?, address, place })
    }
}
