//! Connections that no listener accepted: a fuzzer's, with no socket in between.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

use super::connection::Context;
use super::observed::{Lines, Observed};
use super::{HttpServer, SLOW_REQUEST, Timeouts, http_server, serve_connection};
use crate::access::Guard;
use crate::engine::{Engine, Shard};

/// One shard of an engine and the whole way through HTTP, for connections of any make.
#[expect(missing_debug_implementations, reason = "connections and decoders have none")]
pub struct HandedConnections {
    context: Rc<Context>,
    server: HttpServer,
    connections: GracefulShutdown,
    commands: JoinHandle<()>,
}

impl HandedConnections {
    /// The shard `index` of `engine`, open to anybody, within the default time-outs. To be made
    /// inside of a `LocalSet`, on whose thread it stays.
    pub fn new(engine: &Arc<Engine>, index: usize) -> Self {
        let timeouts = Timeouts::default();
        let context = Rc::new(Context {
            engine: Arc::clone(engine),
            shard: Rc::new(RefCell::new(Shard::new(engine, index))),
            shard_index: index,
            pool: Rc::default(),
            inflater: RefCell::default(),
            timeouts,
            guard: RefCell::new(Guard::default()),
            request_count: Cell::new(0),
            observed: Arc::new(Observed::default()),
            slow_request: SLOW_REQUEST,
            lines: RefCell::new(Lines::default()),
        });
        let commands = tokio::task::spawn_local(Shard::commands(Rc::clone(&context.shard)));
        let server = http_server(&timeouts);
        Self { context, server, connections: GracefulShutdown::new(), commands }
    }

    /// Serves `stream` to its end.
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin + 'static>(&self, stream: S) {
        let context = Rc::clone(&self.context);
        serve_connection(stream, &self.server, context, &self.connections).await;
    }
}

impl Drop for HandedConnections {
    fn drop(&mut self) {
        self.commands.abort();
    }
}
