//! Connections that no listener accepted: a fuzzer's, with no socket in between.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::SLOW_REQUEST;
use super::bulk::Bulk;
use super::connection::Context;
use super::door::{Connection, HttpServer, http_server};
use super::observed::Observed;
use super::peers::{Census, Entry, Peers};
use crate::access::Guard;
use crate::engine::{Engine, Shard};
use crate::limits::{ConnectionLimits, Timeouts};

/// One shard of an engine and the whole way through HTTP, for connections of any make.
#[expect(missing_debug_implementations, reason = "connections and decoders have none")]
pub struct HandedConnections {
    context: Rc<Context>,
    peers: Rc<Peers>,
    http: HttpServer,
    stop: watch::Sender<bool>,
    commands: JoinHandle<()>,
}

impl HandedConnections {
    /// The shards `index`, and for large bodies `bulk_index`, of `engine`, open to anybody, within
    /// the default limits and time-outs. To be made inside of a `LocalSet`, on whose thread it
    /// stays.
    ///
    /// # Errors
    /// The thread for large bodies could not be made.
    pub fn new(engine: &Arc<Engine>, index: usize, bulk_index: usize) -> io::Result<Self> {
        let (limits, timeouts) = (ConnectionLimits::DEFAULT, Timeouts::DEFAULT);
        let (guard, observed) = (Guard::default(), Arc::new(Observed::default()));
        let bulk = Bulk::start(engine, bulk_index, format!("bulk-{index}"))?;
        let context = Context::new(engine, index, bulk, timeouts, guard, observed, SLOW_REQUEST);
        let context = Rc::new(context);
        let commands = tokio::task::spawn_local(Shard::commands(Rc::clone(&context.shard)));
        let peers = Peers::new(Arc::new(Census::new(limits)));
        let (http, stop) = (http_server(&limits, &timeouts), watch::Sender::new(false));
        Ok(Self { context, peers, http, stop, commands })
    }

    /// Serves `stream` to its end.
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin + 'static>(&self, stream: S) {
        let entry = self.peers.enter(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let (Entry::In(seat) | Entry::Instead(seat)) = entry else { return };
        let mut connection = Connection {
            context: Rc::clone(&self.context),
            http: self.http.clone(),
            tls: None,
            seat: Rc::new(seat),
            stopped: self.stop.subscribe(),
        };
        connection.serve_http(stream).await;
    }
}

impl Drop for HandedConnections {
    fn drop(&mut self) {
        self.commands.abort();
    }
}
