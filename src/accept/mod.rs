//! HTTP in, HTTP out: listeners, connections, and the shard threads they run on.
//!
//! ```text
//!                 port 8086
//!     SO_REUSEPORT |      |            one listener for each shard; the kernel spreads connections
//!              shard 0   shard 1       one thread each: runtime, connections, table builders
//! ```
//!
//! A connection and the columns its rows go to live on one thread, so nothing on the way of a row
//! takes a lock. `route` has the table of endpoints, `response` all status codes.
//!
//! Bounded: 30 s for the first request of a connection and for each head, 10 s between frames of a
//! body, 5 min for a whole body, 64 KiB for a head. An accept that fails (no file descriptor left)
//! is tried again after a pause; the server never ends because of it.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime::{Builder as RuntimeBuilder, Runtime};
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::timeout;

use crate::access::Guard;
use crate::engine::{Engine, Shard};

mod body;

mod connection;

mod credentials;

mod databases;

mod denied;

mod handed;

mod metrics;

pub mod observed;

pub mod page;

mod query;

mod questdb;

mod refusals;

mod response;

pub mod route;

mod status;

use connection::Context;
pub use handed::HandedConnections;
use observed::{Lines, Observed};

/// Connections the kernel may hold for each listener before they are accepted.
const BACKLOG: i32 = 1024;
/// Largest head of an HTTP/1 request.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Largest head of an HTTP/2 request.
const HEADER_LIST_BYTES_MAX: u32 = 16 << 10;
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 200;
/// First pause after an accept that failed; doubled up to the second one.
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(10);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Requests that take as long make a line of the log, unless a setting says otherwise.
const SLOW_REQUEST: Duration = Duration::from_secs(1);

/// How long the server waits for clients.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For the first request of a connection, and for the head of every request.
    pub head: Duration,
    /// For the next frame of a body.
    pub body_idle: Duration,
    /// For a whole body.
    pub body: Duration,
    /// For requests in flight when the server stops.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(30),
            body_idle: Duration::from_secs(10),
            body: Duration::from_secs(300),
            drain: Duration::from_secs(30),
        }
    }
}

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
        let (timeouts, guard) = (Timeouts::default(), Guard::default());
        Ok(BoundServer { listeners, address, timeouts, guard, slow_request: SLOW_REQUEST })
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
    timeouts: Timeouts,
    guard: Guard,
    slow_request: Duration,
}

impl BoundServer {
    /// The address bound, with the port that was picked.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// How many shards the server will have.
    pub fn shard_count(&self) -> usize {
        self.listeners.len()
    }

    /// Replaces the default timeouts.
    #[must_use]
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
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
        for (index, listener) in self.listeners.into_iter().enumerate() {
            let thread = ShardThread {
                listener,
                engine: Arc::clone(engine),
                index,
                stopped: stopped.clone(),
                timeouts: self.timeouts,
                guard: self.guard.clone(),
                observed: Arc::clone(&observed),
                slow_request: self.slow_request,
            };
            let runtime = RuntimeBuilder::new_current_thread().enable_all().build()?;
            let builder = std::thread::Builder::new().name(format!("shard-{index}"));
            server.threads.push(builder.spawn(move || thread.run(&runtime))?);
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
    stopped: watch::Receiver<bool>,
    timeouts: Timeouts,
    guard: Guard,
    observed: Arc<Observed>,
    slow_request: Duration,
}

impl ShardThread {
    fn run(self, runtime: &Runtime) -> io::Result<()> {
        LocalSet::new().block_on(runtime, self.serve())
    }

    async fn serve(self) -> io::Result<()> {
        let listener = TcpListener::from_std(self.listener)?;
        let shard = Shard::new(&self.engine, self.index);
        let context = Rc::new(Context {
            engine: self.engine,
            shard: Rc::new(RefCell::new(shard)),
            shard_index: self.index,
            pool: Rc::default(),
            inflater: RefCell::default(),
            timeouts: self.timeouts,
            guard: RefCell::new(self.guard),
            request_count: Cell::new(0),
            observed: self.observed,
            slow_request: self.slow_request,
            lines: RefCell::new(Lines::default()),
        });
        let commands = tokio::task::spawn_local(Shard::commands(Rc::clone(&context.shard)));
        let connections = GracefulShutdown::new();
        accept_all(&listener, &context, &connections, self.stopped).await;
        drop(listener);
        // What has not finished by then is cut off.
        let _ = timeout(self.timeouts.drain, connections.shutdown()).await;
        commands.abort();
        Ok(())
    }
}

/// Accepts until the server stops, then what the kernel had accepted before.
async fn accept_all(
    listener: &TcpListener,
    context: &Rc<Context>,
    connections: &GracefulShutdown,
    mut stopped: watch::Receiver<bool>,
) {
    let server = http_server(&context.timeouts);
    let mut pause = ACCEPT_PAUSE_MIN;
    let mut left_after_stop = BACKLOG;
    while left_after_stop > 0 {
        left_after_stop -= i32::from(*stopped.borrow());
        let accepted = {
            // A sender that is gone stops the server too.
            let mut stop = pin!(stopped.wait_for(|is_stopped| *is_stopped));
            poll_fn(|cx| match listener.poll_accept(cx) {
                Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
                Poll::Pending => stop.as_mut().poll(cx).map(|_| None),
            })
            .await
        };
        match accepted {
            None => return,
            Some(Ok((stream, _))) => {
                pause = ACCEPT_PAUSE_MIN;
                context.engine.stats().connections.add(1);
                // Fails only on a connection that is gone.
                let _ = stream.set_nodelay(true);
                let connection = serve_connection(stream, &server, Rc::clone(context), connections);
                tokio::task::spawn_local(connection);
            }
            Some(Err(error)) => {
                context.engine.stats().accept_errors.add(1);
                if !is_of_one_connection(&error) {
                    tracing::warn!(%error, "accept failed; trying again after a pause");
                    let stop = stopped.wait_for(|is_stopped| *is_stopped);
                    if timeout(pause, stop).await.is_ok() {
                        return;
                    }
                    pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
                }
            }
        }
    }
}

/// Says whether an accept failed because its client had gone, so that the next one may succeed.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

type HttpServer = auto::Builder<LocalExecutor>;

fn http_server(timeouts: &Timeouts) -> HttpServer {
    let mut server = auto::Builder::new(LocalExecutor);
    // Without a timer hyper ignores its timeouts.
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(timeouts.head)
        .max_buf_size(HEAD_BYTES_MAX);
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(timeouts.head)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_concurrent_streams(STREAMS_MAX);
    server
}

/// Serves a connection to its end. A client must send a first request in time: hyper does not time
/// the bytes from which it tells HTTP/1 and HTTP/2 apart.
fn serve_connection<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    stream: S,
    server: &HttpServer,
    context: Rc<Context>,
    connections: &GracefulShutdown,
) -> impl Future<Output = ()> + use<S> {
    let head_timeout = context.timeouts.head;
    let has_request = Rc::new(Cell::new(false));
    let seen = Rc::clone(&has_request);
    let service = service_fn(move |request| {
        seen.set(true);
        connection::serve(Rc::clone(&context), request)
    });
    let connection = server.serve_connection(TokioIo::new(stream), service).into_owned();
    let connection = connections.watch(connection);
    async move {
        let mut connection = pin!(connection);
        let first_request = poll_fn(|cx| match connection.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if has_request.get() => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        });
        if let Ok(false) = timeout(head_timeout, first_request).await {
            // How a connection ends is its client's affair.
            let _ = connection.await;
        }
    }
}

/// Runs hyper's tasks on the shard's thread.
#[derive(Clone, Copy, Debug)]
struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        // A task's result goes nowhere; hyper hands over tasks without one.
        drop(tokio::task::spawn_local(async {
            future.await;
        }));
    }
}
