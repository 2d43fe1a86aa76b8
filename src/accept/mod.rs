//! HTTP in, HTTP out: listeners, connections, and the shard threads they run on.
//!
//! ```text
//!                 port 8086
//!     SO_REUSEPORT |      |            one listener for each shard; the kernel spreads connections
//!              shard 0   shard 1       one thread each: runtime, connections, table builders
//!                  |      |            bodies that would hold up others
//!               bulk 0   bulk 1        one thread each: table builders
//! ```
//!
//! A connection and the columns its rows go to live on one thread, or those of its large bodies on
//! the one beside it (`bulk`), so nothing on the way of a row takes a lock. `route` has the table
//! of endpoints, `response` all status codes.
//!
//! Bounded: how many connections, how large a head, how long for each part of a request; see
//! `ConnectionLimits` and `Timeouts` of `limits`. The server never ends because of what comes in.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::runtime::{Builder as RuntimeBuilder, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::access::Guard;
use crate::engine::{Engine, Shard};
use crate::limits::{ConnectionLimits, Timeouts};

mod asked;

mod body;

mod bulk;

mod connection;

mod credentials;

mod databases;

mod denied;

mod door;

mod handed;

mod inflation;

mod metrics;

pub mod observed;

pub mod page;

mod peers;

mod placement;

mod precedence;

mod query;

mod questdb;

mod refusals;

mod response;

pub mod route;

mod status;

mod stream;

mod tls;

mod turns;

pub use handed::HandedConnections;
pub use tls::{Tls, TlsError, TlsFiles};

use bulk::Bulk;
use connection::Context;
use door::Door;
use observed::Observed;
use peers::{Census, Peers};
use placement::{Handed, Placement};

/// At each so many tasks that a shard goes on with, those that another thread has woken come first:
/// bodies that were admitted, rows that are stored. At one of 31, as by default, answers wait for a
/// tenth of a second where a hundred connections keep the shard busy, and tenants that send little
/// wait as long as those that send much.
const WOKEN_ELSEWHERE_EVERY: u32 = 1;
/// Connections the kernel may hold for each listener before they are accepted.
const BACKLOG: i32 = 1024;
/// Requests that take as long make a line of the log, unless a setting says otherwise.
const SLOW_REQUEST: Duration = Duration::from_secs(1);

/// The HTTP server.
#[derive(Clone, Copy, Debug)]
pub struct Server;

impl Server {
    /// Binds one listener for each of `shards` (at least one) to `address`. Port 0 picks a port.
    ///
    /// Where listeners cannot share a port there is one listener, and so one shard.
    ///
    /// # Errors
    /// The address is taken, by another instance of this server too, or may not be bound.
    pub fn bind(address: SocketAddr, shards: usize) -> io::Result<BoundServer> {
        let is_shared = cfg!(unix) && shards > 1;
        if is_shared && address.port() != 0 {
            // Sockets that share a port would let a second instance take half of the connections.
            drop(listen(address, false)?);
        }
        let first = listen(address, is_shared)?;
        let address = first.local_addr()?;
        let mut listeners = vec![first];
        while is_shared && listeners.len() < shards {
            listeners.push(listen(address, true)?);
        }
        let (limits, timeouts) = (ConnectionLimits::DEFAULT, Timeouts::DEFAULT);
        let (guard, slow_request) = (Guard::default(), SLOW_REQUEST);
        Ok(BoundServer { listeners, address, limits, timeouts, tls: None, guard, slow_request })
    }
}

fn listen(address: SocketAddr, is_shared: bool) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // On Windows this option means what SO_REUSEPORT means elsewhere.
    #[cfg(unix)]
    {
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(is_shared)?;
    }
    #[cfg(not(unix))]
    let _ = is_shared;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Listeners that do not accept yet.
#[derive(Debug)]
pub struct BoundServer {
    listeners: Vec<StdListener>,
    address: SocketAddr,
    limits: ConnectionLimits,
    timeouts: Timeouts,
    tls: Option<Arc<Tls>>,
    guard: Guard,
    slow_request: Duration,
}

impl BoundServer {
    /// The address bound, with the port that was picked.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// How many shards the server will have: two for each thread that accepts, its own and that of
    /// its large bodies.
    pub fn shard_count(&self) -> usize {
        2 * self.listeners.len()
    }

    /// Replaces the default limits.
    #[must_use]
    pub fn with_limits(mut self, limits: ConnectionLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Replaces the default timeouts.
    #[must_use]
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Speaks TLS with the certificates of `tls`; without this, nothing else but HTTP.
    #[must_use]
    pub fn with_tls(mut self, tls: Arc<Tls>) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Serves only those whom `guard` recognises; without this, anybody.
    #[must_use]
    pub fn with_guard(mut self, guard: Guard) -> Self {
        self.guard = guard;
        self
    }

    /// Logs requests that take at least as long.
    #[must_use]
    pub fn with_slow_request(mut self, slow_request: Duration) -> Self {
        self.slow_request = slow_request;
        self
    }

    /// Starts the shard threads, which accept from here on.
    ///
    /// # Errors
    /// A thread or its runtime could not be made; those started before are stopped.
    pub fn run(self, engine: &Arc<Engine>) -> io::Result<RunningServer> {
        let (stop, stopped) = watch::channel(false);
        let mut server = RunningServer { address: self.address, stop, threads: Vec::new() };
        let observed = Arc::new(Observed::default());
        let census = Arc::new(Census::new(self.limits));
        let count = self.listeners.len();
        let (placement, handed) = Placement::new(count);
        for (index, (listener, handed)) in self.listeners.into_iter().zip(handed).enumerate() {
            let thread = ShardThread {
                listener,
                engine: Arc::clone(engine),
                index,
                bulk_index: count + index,
                placement: Arc::clone(&placement),
                handed,
                stopped: stopped.clone(),
                census: Arc::clone(&census),
                limits: self.limits,
                timeouts: self.timeouts,
                tls: self.tls.clone(),
                guard: self.guard.clone(),
                observed: Arc::clone(&observed),
                slow_request: self.slow_request,
            };
            let builder = std::thread::Builder::new().name(format!("shard-{index}"));
            let (started, starts) = std::sync::mpsc::channel();
            server.threads.push(builder.spawn(move || thread.run(&started))?);
            starts.recv().map_err(|_| io::Error::other("a shard thread panicked"))??;
        }
        Ok(server)
    }
}

/// A server that accepts. Its drop stops it, without waiting.
#[derive(Debug)]
pub struct RunningServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl RunningServer {
    /// The address bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting; requests in flight are finished, then the shard threads end.
    pub fn shutdown(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until the shard threads have ended.
    ///
    /// # Errors
    /// A listener could not be used, or a shard thread panicked.
    pub fn join(mut self) -> io::Result<()> {
        let mut outcome = Ok(());
        for thread in self.threads.drain(..) {
            let ended =
                thread.join().unwrap_or_else(|_| Err(io::Error::other("a shard thread panicked")));
            outcome = outcome.and(ended);
        }
        outcome
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// What a shard thread starts with; the shard itself is made on the thread and never leaves it.
struct ShardThread {
    listener: StdListener,
    engine: Arc<Engine>,
    index: usize,
    bulk_index: usize,
    placement: Arc<Placement>,
    handed: mpsc::Receiver<Handed>,
    stopped: watch::Receiver<bool>,
    census: Arc<Census>,
    limits: ConnectionLimits,
    timeouts: Timeouts,
    tls: Option<Arc<Tls>>,
    guard: Guard,
    observed: Arc<Observed>,
    slow_request: Duration,
}

impl ShardThread {
    /// Serves until it is told to stop; says by `started` whether it can.
    fn run(self, started: &std::sync::mpsc::Sender<io::Result<()>>) -> io::Result<()> {
        let runtime = RuntimeBuilder::new_current_thread()
            .enable_all()
            .global_queue_interval(WOKEN_ELSEWHERE_EVERY)
            .build_local(LocalOptions::default());
        let name = format!("bulk-{}", self.index);
        let made = runtime.and_then(|runtime| {
            let bulk = Bulk::start(&self.engine, self.bulk_index, name)?;
            Ok((runtime, bulk))
        });
        let (made, is_made) = match made {
            Ok(made) => (Some(made), Ok(())),
            Err(error) => (None, Err(error)),
        };
        // Whoever starts it waits for this.
        let _ = started.send(is_made);
        made.map_or(Ok(()), |(runtime, bulk)| runtime.block_on(self.serve(bulk)))
    }

    async fn serve(self, bulk: Bulk) -> io::Result<()> {
        let listener = TcpListener::from_std(self.listener)?;
        let context = Rc::new(Context::new(
            &self.engine,
            self.index,
            bulk,
            self.timeouts,
            self.guard,
            self.observed,
            self.slow_request,
        ));
        let commands = tokio::task::spawn_local(Shard::commands(Rc::clone(&context.shard)));
        let peers = Peers::new(self.census);
        let ways = (self.placement, self.handed);
        let here = Rc::clone(&peers);
        let door = Door::new(context, here, ways, &self.limits, self.tls, self.stopped);
        door.accept_all(listener).await;
        // What has not finished by then is cut off.
        let _ = timeout(self.timeouts.drain, peers.gone()).await;
        commands.abort();
        Ok(())
    }
}
