//! `peristyle serve`: the server from its settings to its end.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use peristyle::accept::{Server, Tls, TlsFiles};
use peristyle::access::{self, Guard};
use peristyle::config::{Config, KnownRetries, Network};
use peristyle::disk::LocalDisk;
use peristyle::engine::{Engine, Options, RetryOptions, resident_bytes};
use peristyle::schema::pinned;
use tokio::signal::unix::{SignalKind, signal};

use crate::{supervised, system};

/// How long the last flush may take before the process gives up and says so.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the engine may take to answer the watchdog.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves until a signal, then writes everything out.
pub(crate) fn serve(config: &Config) -> Result<(), Box<dyn Error>> {
    config.check()?;
    let tls = tls(config)?;
    let guard = guard(config)?;
    let server = Server::bind(config.listen, config.shard_count())
        .map_err(|error| format!("cannot listen on {}: {error}", config.listen))?;
    let starting = supervised::starting();
    let engine = Engine::open(&options(config, server.shard_count())?)?;
    drop(starting);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut terminate = runtime.block_on(async { signal(SignalKind::terminate()) })?;
    let mut interrupt = runtime.block_on(async { signal(SignalKind::interrupt()) })?;
    let mut hangup = runtime.block_on(async { signal(SignalKind::hangup()) })?;
    let server = match &tls {
        None => server,
        Some(tls) => server.with_tls(Arc::clone(tls)),
    };
    let server = server
        .with_guard(guard)
        .with_limits(config.network.limits(config.memory_limit_bytes()))
        .with_timeouts(config.network.timeouts())
        .with_slow_request(config.slow_request)
        .run(&engine)?;
    let address = server.local_addr();
    let scheme = if tls.is_some() { "https" } else { "http" };
    tracing::info!(data_dir = %config.data_dir.display(), "listening on {scheme}://{address}");
    supervised::ready();
    let watched = Arc::clone(&engine);
    let watchdog = supervised::watchdog(move || watched.answers(ANSWER_TIMEOUT));
    let failure = runtime.block_on(async {
        loop {
            tokio::select! {
                _ = terminate.recv() => break None,
                _ = interrupt.recv() => break None,
                _ = hangup.recv() => read_again(tls.as_deref()),
                cause = engine.journal_failed() => break Some(cause),
            }
        }
    });
    if let Some(cause) = failure {
        tracing::error!(%cause, "the journal failed: what was acknowledged is on disk; stopping");
        std::process::exit(74); // EX_IOERR of sysexits.h
    }
    drop(watchdog);
    let _stopping = supervised::stopping();
    tracing::info!("stopping: finishing requests, then writing what is left");
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        });
        tracing::warn!("stopped by a second signal: the next start replays the journal");
        std::process::exit(130); // as shells report an interrupt
    });
    server.shutdown();
    let joined = server.join();
    engine.close()?;
    joined?;
    tracing::info!("stopped");
    Ok(())
}

/// Who is let in. Where more than this machine can reach the server and no token was ever defined,
/// one is made, so that nobody can come first.
fn guard(config: &Config) -> Result<Guard, Box<dyn Error>> {
    let guard = Guard::open(&config.data_dir)?;
    if guard.is_guarded() || !config.is_exposed() {
        return Ok(guard);
    }
    if config.insecure_http {
        tracing::warn!("no access token is defined: whoever reaches this server may do everything");
        return Ok(guard);
    }
    #[expect(clippy::disallowed_methods, reason = "no engine runs yet, which tells the time")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if let Some(file) = access::create_first(&config.data_dir, now.as_secs())? {
        let file = file.display();
        tracing::warn!(%file, "no access token was defined: made one that may do everything; its \
            secret is in this file, which you may remove once you have it");
    }
    Ok(Guard::open(&config.data_dir)?)
}

/// The certificates, if any are set.
fn tls(config: &Config) -> Result<Option<Arc<Tls>>, Box<dyn Error>> {
    let Network { tls_cert, tls_key, tls_client_ca, .. } = &config.network;
    let (Some(certificates), Some(key)) = (tls_cert.clone(), tls_key.clone()) else {
        return Ok(None);
    };
    let client_roots = tls_client_ca.clone();
    Ok(Some(Arc::new(Tls::open(TlsFiles { certificates, key, client_roots })?)))
}

/// What SIGHUP asks for.
fn read_again(tls: Option<&Tls>) {
    match tls.map(Tls::reload) {
        None => tracing::info!("nothing to read again: there is no certificate"),
        Some(Ok(())) => tracing::info!("the certificate was read again"),
        Some(Err(error)) => tracing::error!(%error, "the certificate of before stays"),
    }
}

/// What the settings mean to the engine.
fn options(config: &Config, shards: usize) -> Result<Options, Box<dyn Error>> {
    Ok(Options {
        data_dir: config.data_dir.clone(),
        disk: Arc::new(LocalDisk),
        log_store: None,
        durability: config.durability,
        wal_segment_bytes: config.wal_segment_bytes.0 as u64,
        wal_salvage: config.wal_salvage,
        retries: RetryOptions {
            knows_bodies: config.retries == KnownRetries::Bodies,
            knows_keys: config.retries != KnownRetries::Off,
            window: config.retry_window,
        },
        shards,
        flush_interval: config.flush_interval,
        flush_bytes: config.flush_bytes_max(),
        memory_limit: config.memory_limit_bytes(),
        resident: Some(resident_bytes),
        trim: Some(system::trim),
        put_last: Some(system::put_last),
        close_timeout: CLOSE_TIMEOUT,
        limits: config.limits(),
        unsigned: config.unsigned,
        pins: pinned::load(&config.schemas)?,
        sabotage: None,
    })
}
