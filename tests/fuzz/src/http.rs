//! Bytes of a connection through the whole of HTTP, with a wire in memory for the socket.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use peristyle::accept::HandedConnections;
use peristyle::durability::Durability;
use peristyle::engine::{Engine, Options, RetryOptions};
use peristyle::limits::Limits;
use peristyle::schema::Unsigned;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

use crate::sim_disk::SimDisk;
use crate::sim_logs::SimLogs;

/// Small enough to be reached.
const LIMITS: Limits = Limits {
    body_bytes_max: 4 << 10,
    inflated_bytes_max: 64 << 10,
    tables_per_database_max: 32,
    databases_max: 8,
    columns_per_table_max: 64,
    ..Limits::DEFAULT
};
/// Connections after which all databases are dropped.
const CONNECTIONS_MAX: usize = 2_000;
/// Times that the end of the bytes is put off, for whoever is at work still.
const PATIENCE: u8 = 8;

/// A shard of a server on a disk in memory.
struct Server {
    engine: Arc<Engine>,
    runtime: Runtime,
    tasks: LocalSet,
    connections: HandedConnections,
    count: usize,
}

thread_local! {
    static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) };
}

fn start() -> Server {
    let disk = SimDisk::new();
    let options = Options {
        data_dir: "/data".into(),
        disk: disk.shared(),
        log_store: Some(SimLogs::on(&disk)),
        durability: Durability::Memory,
        wal_segment_bytes: 64 << 10,
        wal_salvage: false,
        retries: RetryOptions {
            knows_bodies: true,
            knows_keys: true,
            window: Duration::from_secs(60),
        },
        shards: 2,
        flush_interval: Duration::from_secs(3600),
        flush_bytes: 64 << 20,
        memory_limit: 256 << 20,
        resident: None,
        trim: None,
        put_last: None,
        close_timeout: Duration::from_secs(1),
        limits: LIMITS,
        unsigned: Unsigned::Decimal,
        pins: Vec::new(),
        sabotage: None,
    };
    let engine = Engine::open(&options).expect("an empty directory");
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let tasks = LocalSet::new();
    let made = async { HandedConnections::new(&engine, 0, 1).unwrap() };
    let connections = tasks.block_on(&runtime, made);
    Server { engine, runtime, tasks, connections, count: 0 }
}

/// The first byte says how many bytes come at a time; the rest are those of a client.
pub fn run(input: &[u8]) {
    let Some((control, bytes)) = input.split_first() else { return };
    SERVER.with_borrow_mut(|server| {
        let server = server.get_or_insert_with(start);
        server.count += 1;
        if server.count.is_multiple_of(CONNECTIONS_MAX) {
            server.drop_all();
        }
        let piece = if *control == 0 { usize::MAX } else { usize::from(*control) };
        let answer = server.answer(bytes, piece);
        // Bytes of a client are never the server's fault.
        let text = shown(&answer);
        assert!(!text.contains("HTTP/1.1 500"), "{text}");
        let is_http = answer.is_empty() || answer.starts_with(b"HTTP/1.");
        assert!(is_http || bytes.starts_with(b"PRI * HTTP/2.0"), "{text}");
    });
}

fn shown(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer).into_owned()
}

impl Server {
    /// What the server says to these bytes.
    fn answer(&self, bytes: &[u8], piece: usize) -> Vec<u8> {
        let said = Rc::default();
        let wire = Wire {
            bytes: io::Cursor::new(bytes.into()),
            piece,
            patience: PATIENCE,
            said: Rc::clone(&said),
        };
        self.tasks.block_on(&self.runtime, self.connections.serve(wire));
        said.take()
    }

    /// Drops every database, so that memory is always about as full.
    fn drop_all(&mut self) {
        for name in self.engine.databases() {
            let dropped = self.engine.drop_database(&name);
            self.tasks.block_on(&self.runtime, dropped).expect("a disk without faults");
        }
    }
}

/// A connection whose client has said all it will say.
struct Wire {
    bytes: io::Cursor<Box<[u8]>>,
    piece: usize,
    patience: u8,
    said: Rc<RefCell<Vec<u8>>>,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let at = usize::try_from(self.bytes.position()).expect("it is in memory");
        let rest = self.bytes.get_ref().get(at..).unwrap_or_default();
        let count = rest.len().min(self.piece).min(buffer.remaining());
        if count == 0 && self.patience > 0 {
            self.patience -= 1;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        buffer.put_slice(&rest[..count]);
        self.bytes.set_position((at + count) as u64);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.said.borrow_mut().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
