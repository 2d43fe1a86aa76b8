//! A whole server inside the test: engine, shards, data directory; and what it wrote, read back.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use peristyle::accept::{RunningServer, Server};
use peristyle::access::Guard;
use peristyle::disk::LocalDisk;
use peristyle::durability::Durability;
use peristyle::engine::{Engine, Options, REJECTED, RetryOptions};
use peristyle::limits::Limits;
use peristyle::schema::Unsigned;
use tempfile::TempDir;

use crate::http_client::{Answer, Client};
use crate::processes::none_starts;
use crate::support::{Row, rows_of};

/// A server on a port of its own. Its drop stops it and removes its data.
pub struct Live {
    pub directory: TempDir,
    pub engine: Arc<Engine>,
    server: Option<RunningServer>,
}

/// Options whose flushes come only when asked for.
pub fn options(data_dir: &Path) -> Options {
    Options {
        data_dir: data_dir.to_owned(),
        disk: Arc::new(LocalDisk),
        log_store: None,
        durability: Durability::Fsync,
        wal_segment_bytes: 1 << 20,
        wal_salvage: false,
        retries: RetryOptions {
            // Tests send the same bytes again and mean it.
            knows_bodies: false,
            knows_keys: true,
            window: Duration::from_secs(300),
        },
        shards: 4,
        flush_interval: Duration::from_secs(3600),
        flush_bytes: 256 << 20,
        memory_limit: 1 << 30,
        resident: None,
        trim: None,
        put_last: None,
        close_timeout: Duration::from_secs(30),
        limits: Limits::DEFAULT,
        unsigned: Unsigned::Int64,
        pins: Vec::new(),
        sabotage: None,
    }
}

impl Live {
    pub fn start() -> Self {
        Self::start_with(|_| {})
    }

    pub fn start_with(change: impl FnOnce(&mut Options)) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut options = options(directory.path());
        change(&mut options);
        let (engine, server) = serve(&mut options);
        Self { directory, engine, server }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.as_ref().expect("it runs").local_addr()
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address())
    }

    pub fn post(&self, target: &str, body: impl AsRef<[u8]>) -> Answer {
        self.client().post(target, body)
    }

    /// Flushes by request and reads everything back, in the order of measurement and time.
    pub fn rows(&self, database: &str) -> Vec<Row> {
        let answer = self.post("/api/v1/flush", "");
        assert_eq!(answer.status, 200, "{}", answer.body);
        read_rows(self.directory.path(), database)
    }

    /// Stops, and starts again on the same directory.
    pub fn restart(&mut self, change: impl FnOnce(&mut Options)) {
        self.stop();
        let mut options = options(self.directory.path());
        change(&mut options);
        (self.engine, self.server) = serve(&mut options);
    }

    /// Stops the way the binary does.
    pub fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown();
            server.join().expect("the shards end well");
            self.engine.close().expect("everything is written");
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

fn serve(options: &mut Options) -> (Arc<Engine>, Option<RunningServer>) {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let bound = Server::bind(address, options.shards.div_ceil(2)).expect("a free port");
    options.shards = bound.shard_count();
    let alone = none_starts();
    let engine = Engine::open(options).expect("a data directory");
    drop(alone);
    let guard = Guard::open(&options.data_dir).expect("tokens, or none");
    let server = bound.with_guard(guard).run(&engine).expect("threads");
    (engine, Some(server))
}

/// The Parquet files of a data directory, sorted by path.
pub fn files(data_dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![data_dir.join("tables")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|it| it == "parquet") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// All rows of a database in the files of a data directory, in the order of measurement and time;
/// without those of `_rejected`.
pub fn read_rows(data_dir: &Path, database: &str) -> Vec<Row> {
    let mut rows = read_all_rows(data_dir, database);
    rows.retain(|row| row.measurement != REJECTED);
    rows
}

/// [`read_rows`], with those of `_rejected`.
pub fn read_all_rows(data_dir: &Path, database: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for path in files(data_dir) {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).expect("a file"))
            .expect("a Parquet file");
        let metadata = reader.metadata().file_metadata().key_value_metadata().cloned();
        let value = |key: &str| {
            let found = metadata.iter().flatten().find(|it| it.key == key);
            found.and_then(|it| it.value.clone()).expect("segments name their table")
        };
        if value("peristyle.database") != database {
            continue;
        }
        let measurement = value("peristyle.measurement");
        for batch in reader.build().expect("a reader") {
            rows.extend(rows_of(&measurement, &batch.expect("a batch")));
        }
    }
    rows.sort_by(|a, b| (&a.measurement, a.time_ns).cmp(&(&b.measurement, b.time_ns)));
    rows
}
