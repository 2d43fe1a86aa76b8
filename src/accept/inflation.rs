//! Bodies that take long: one at a time on each shard, and inflated beside it where they grow.
//!
//! ```text
//! small and plain ------------------------------------------------> decode
//! large or compressed -- turn -- to 2 MiB here, else on a thread --> decode, and the next one
//! ```
//!
//! A shard is one thread. Whoever waits for a turn is not in its queue of what is ready to run, so
//! that a small body waits for one of these at most, however many there are; and the thread that
//! inflates a large one has the scheduler of the system to share the processor.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use super::body::{self, Account, Pooled};
use super::connection::Context;
use crate::engine::{Encoding, Inflater};
use crate::error::{BusyReason, ClientError, WriteError};
use crate::limits::Limits;

/// Plain bodies of more bytes take turns.
const LONG_BYTES: usize = 64 << 10;
/// Inflated by the shard; what comes to more begins again on a thread.
const INFLATED_HERE_MAX: usize = 2 << 20;

/// The turns of one shard. A body that takes long holds one until its rows are in the columns.
#[derive(Debug)]
pub(super) struct Turns(Arc<Semaphore>);

/// The turn of one body; `None`: it needs none.
pub(super) type Turn = Option<Arc<OwnedSemaphorePermit>>;

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Turns {
    /// Waits for the turn of a body of `bytes`.
    async fn take(&self, encoding: Encoding, bytes: usize) -> Turn {
        if encoding == Encoding::Identity && bytes <= LONG_BYTES {
            return None;
        }
        // It is never closed.
        Arc::clone(&self.0).acquire_owned().await.ok().map(Arc::new)
    }
}

/// Inflates what was received, if its head, by `named`, or its first bytes ask for it. Returns how
/// it is compressed, and its turn, which it has until it is decoded.
///
/// # Errors
/// As [`Inflater::inflate`].
pub(super) async fn inflate(
    context: &Context,
    named: Option<Encoding>,
    received: &mut Pooled,
    inflated: &mut Pooled,
    account: &mut Account<'_>,
) -> Result<(Encoding, Turn), WriteError> {
    let encoding = match named.unwrap_or_else(|| Encoding::sniff(&received.bytes)) {
        _ if received.bytes.is_empty() => Encoding::Identity,
        encoding => encoding,
    };
    let held = received.bytes.len();
    let turn = context.turns.take(encoding, held).await;
    if encoding == Encoding::Identity {
        return Ok((encoding, turn));
    }
    let limits = context.engine.limits();
    let here =
        Limits { inflated_bytes_max: INFLATED_HERE_MAX.min(limits.inflated_bytes_max), ..*limits };
    let done = context.inflater.borrow_mut().inflate(
        encoding,
        &received.bytes,
        &mut inflated.bytes,
        &here,
        &mut |bytes| account.hold(held + bytes),
    );
    let is_larger = matches!(done, Err(WriteError::Client(ClientError::InflatedTooLarge { .. })));
    if is_larger && here.inflated_bytes_max < limits.inflated_bytes_max {
        inflated.bytes.clear();
        beside(*limits, encoding, received, inflated, account, turn.clone()).await?;
    } else {
        done?;
    }
    Ok((encoding, turn))
}

/// Inflates on a thread. It goes on there, with its turn, when the client goes away.
async fn beside(
    limits: Limits,
    encoding: Encoding,
    received: &mut Pooled,
    inflated: &mut Pooled,
    account: &mut Account<'_>,
    turn: Turn,
) -> Result<(), WriteError> {
    let input = std::mem::take(&mut received.bytes);
    let mut output = std::mem::take(&mut inflated.bytes);
    let mut admission = account.admission().take();
    let work = spawn_blocking(move || {
        let done =
            Inflater::default().inflate(encoding, &input, &mut output, &limits, &mut |bytes| {
                body::hold(&mut admission, input.len() + bytes)
            });
        drop(turn);
        (done, input, output, admission)
    });
    match work.await {
        Ok((done, input, output, admission)) => {
            *account.admission() = admission;
            received.bytes = input;
            inflated.bytes = output;
            done
        }
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(BusyReason::ShuttingDown.into()),
        },
    }
}
