//! The way in: connections accepted, served to their end, and those that cost too much turned away.
//!
//! An accept that fails for want of a file descriptor ends some connections that can be spared
//! (`peers`); where none can, a descriptor held in reserve takes a connection in and
//! turns it away, so that its client need not wait. Then the server pauses; it never ends.
//!
//! hyper times the heads of HTTP/1; the handshake, the bytes that tell HTTP/1 and HTTP/2 apart, the
//! first request and the time between two of them are timed here.

use std::fs::File;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout};

use super::BACKLOG;
use super::connection::{self, Context};
use super::peers::{Entry, Peers, Seat};
use super::placement::{Handed, Place, Placed, Placement};
use super::stream::Stream;
use super::tls::Tls;
use crate::limits::{ConnectionLimits, Timeouts};

/// First pause after an accept that failed; doubled up to the second one.
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(10);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// For a connection that was asked to end to do so.
const ENDING: Duration = Duration::from_secs(1);
/// A flood of connections is told once in this time.
const TOLD_EVERY: Duration = Duration::from_secs(10);

pub(super) type HttpServer = auto::Builder<LocalExecutor>;

/// What a shard lets connections in with.
pub(super) struct Door {
    context: Rc<Context>,
    peers: Rc<Peers>,
    placement: Arc<Placement>,
    /// What other shards have accepted for this one.
    handed: mpsc::Receiver<Handed>,
    http: HttpServer,
    tls: Option<Arc<Tls>>,
    stopped: watch::Receiver<bool>,
    /// A file descriptor for when there is no other.
    reserve: Option<File>,
    pause: Duration,
    told: Option<Instant>,
}

impl Door {
    pub(super) fn new(
        context: Rc<Context>,
        peers: Rc<Peers>,
        ways: (Arc<Placement>, mpsc::Receiver<Handed>),
        limits: &ConnectionLimits,
        tls: Option<Arc<Tls>>,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        let http = http_server(limits, &context.timeouts);
        let (reserve, pause) = (reserve(), ACCEPT_PAUSE_MIN);
        let (placement, handed) = ways;
        Self { context, peers, placement, handed, http, tls, stopped, reserve, pause, told: None }
    }

    /// Accepts until the server stops, then what the kernel had accepted before.
    pub(super) async fn accept_all(mut self, listener: TcpListener) {
        let mut left_after_stop = BACKLOG;
        while left_after_stop > 0 {
            left_after_stop -= i32::from(*self.stopped.borrow());
            match self.next(&listener).await {
                None => break,
                Some(Ok(Some(placed))) => {
                    self.pause = ACCEPT_PAUSE_MIN;
                    self.let_in(placed).await;
                }
                // Another shard has it.
                Some(Ok(None)) => self.pause = ACCEPT_PAUSE_MIN,
                Some(Err(error)) if is_of_one_connection(&error) => {
                    self.context.engine.stats().accept_errors.add(1);
                }
                Some(Err(error)) => self.recover(&listener, &error).await,
            }
        }
        self.handed.close();
        while let Ok(handed) = self.handed.try_recv() {
            match handed.take() {
                Ok(placed) => self.let_in(placed).await,
                Err(_) => self.context.engine.stats().accept_errors.add(1),
            }
        }
    }

    /// The next connection, if it is this shard's; `None` when the server stops.
    async fn next(&mut self, listener: &TcpListener) -> Option<io::Result<Option<Placed>>> {
        // A sender that is gone stops the server too.
        let mut stop = pin!(self.stopped.wait_for(|is_stopped| *is_stopped));
        let accepted = poll_fn(|cx| {
            if let Poll::Ready(Some(handed)) = self.handed.poll_recv(cx) {
                return Poll::Ready(Some(handed.take().map(Some)));
            }
            match listener.poll_accept(cx) {
                Poll::Ready(Ok((stream, address))) => {
                    let own = self.context.shard_index;
                    Poll::Ready(Some(self.placement.place(own, stream, address)))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
                Poll::Pending => stop.as_mut().poll(cx).map(|_| None),
            }
        });
        accepted.await
    }

    async fn let_in(&mut self, Placed { stream, address, place }: Placed) {
        let stats = self.context.engine.stats();
        stats.connections.add(1);
        let seat = match self.peers.enter(address.ip()) {
            Entry::In(seat) => seat,
            Entry::Instead(seat) => {
                stats.connections_shed.add(1);
                self.tell("as many connections as allowed; those that wait longest give way");
                // It ends before the next one is accepted.
                yield_now().await;
                seat
            }
            Entry::Refused => {
                stats.connections_refused.add(1);
                self.tell("as many connections as allowed, all of them busy; others are refused");
                return;
            }
        };
        let connection = Connection {
            context: Rc::clone(&self.context),
            http: self.http.clone(),
            tls: self.tls.clone(),
            seat: Rc::new(seat),
            stopped: self.stopped.clone(),
        };
        tokio::task::spawn_local(connection.serve(stream, place));
    }

    /// After an accept that failed: makes room, or pauses.
    async fn recover(&mut self, listener: &TcpListener, error: &io::Error) {
        self.context.engine.stats().accept_errors.add(1);
        self.tell(&format!("accept failed: {error}; connections that wait longest give way"));
        let is_short = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
        // More than one: the engine needs descriptors for files.
        let shed = if is_short { self.peers.shed_some() } else { 0 };
        if shed > 0 {
            self.context.engine.stats().connections_shed.add(shed as u64);
            yield_now().await;
            return;
        }
        if is_short && self.reserve.take().is_some() {
            let turned_away = timeout(Duration::ZERO, listener.accept()).await;
            if let Ok(Ok(_)) = turned_away {
                self.context.engine.stats().connections_refused.add(1);
            }
        }
        let stop = self.stopped.wait_for(|is_stopped| *is_stopped);
        // The loop sees whether it was the stop.
        let _ = timeout(self.pause, stop).await;
        self.pause = (self.pause * 2).min(ACCEPT_PAUSE_MAX);
        self.reserve = self.reserve.take().or_else(reserve);
    }

    fn tell(&mut self, what: &str) {
        let is_due = self.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY);
        if is_due {
            self.told = Some(Instant::now());
            tracing::warn!("{what}");
        }
    }
}

/// A descriptor of nothing; `None` when there is none to have, which the next pause tries again.
fn reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Says whether an accept failed because its client had gone, so that the next one may succeed.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

pub(super) fn http_server(limits: &ConnectionLimits, timeouts: &Timeouts) -> HttpServer {
    let mut server = auto::Builder::new(LocalExecutor);
    // Without a timer hyper ignores its timeouts.
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(timeouts.head)
        .max_buf_size(limits.head_bytes_max);
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(timeouts.head)
        .max_header_list_size(limits.header_list_bytes_max)
        .max_concurrent_streams(limits.streams_max)
        .max_pending_accept_reset_streams(limits.resets_max)
        .max_local_error_reset_streams(limits.resets_max);
    server
}

/// One connection.
pub(super) struct Connection {
    pub(super) context: Rc<Context>,
    pub(super) http: HttpServer,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) seat: Rc<Seat>,
    pub(super) stopped: watch::Receiver<bool>,
}

impl Connection {
    /// Serves it until it ends, has to give way, waits too long for its client, or the server
    /// stops.
    async fn serve(mut self, stream: TcpStream, _place: Place) {
        prepare(&stream, self.context.timeouts.answer);
        if let Some(stream) = self.shake_hands(stream).await {
            self.serve_http(stream).await;
        }
    }

    async fn shake_hands(&mut self, stream: TcpStream) -> Option<Stream> {
        let mut opening = pin!(Stream::open(stream, self.tls.as_deref()));
        let opened = tokio::select! {
            biased;
            opened = timeout(self.context.timeouts.handshake, &mut opening) => opened,
            () = self.seat.shed() => return None,
            _ = self.stopped.wait_for(|is_stopped| *is_stopped) => return None,
        };
        let stream = opened.ok().and_then(Result::ok);
        if stream.is_none() {
            self.context.engine.stats().handshake_errors.add(1);
        }
        stream
    }

    /// As [`Self::serve`], once the two have shaken hands.
    pub(super) async fn serve_http<S>(&mut self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let head_timeout = self.context.timeouts.head;
        let (context, seat) = (Rc::clone(&self.context), Rc::clone(&self.seat));
        let service = service_fn(move |request| {
            connection::serve(Rc::clone(&context), seat.request(), request)
        });
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let mut is_ending = false;
        let mut deadline = Instant::now() + head_timeout;
        loop {
            tokio::select! {
                biased;
                // How a connection ends is its client's affair.
                _ = connection.as_mut() => return,
                () = self.seat.shed() => return,
                // A sender that is gone stops the server too.
                _ = self.stopped.wait_for(|is_stopped| *is_stopped), if !is_ending => {
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = sleep_until(deadline) => match self.seat.idle_since() {
                    Some(since) if since + head_timeout <= deadline => {
                        if is_ending {
                            return;
                        }
                        is_ending = true;
                        connection.as_mut().graceful_shutdown();
                        deadline += ENDING;
                    }
                    since => deadline = since.unwrap_or_else(Instant::now) + head_timeout,
                },
            }
        }
    }
}

/// Sets what the kernel does for a connection; each fails only on one that is gone.
fn prepare(stream: &TcpStream, answer_timeout: Duration) {
    let _ = stream.set_nodelay(true);
    // Ends a connection whose client does not take what it is sent.
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(answer_timeout));
    #[cfg(not(target_os = "linux"))]
    let _ = answer_timeout;
}

/// Runs hyper's tasks on the shard's thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        // A task's result goes nowhere; hyper hands over tasks without one.
        drop(tokio::task::spawn_local(async {
            future.await;
        }));
    }
}
