//! Inflation, and which thread a body is decoded by.
//!
//! ```text
//! small ---------------------------------------------------------> the shard decodes
//! other -- turn, by tenant -- inflated ---------------------------> the shard decodes, next turn
//!   \                            \ it comes to more
//!    large --------------------- turn of bulk, by tenant -- inflated there -> bulk decodes
//! ```

use super::body::{self, Account, Pooled};
use super::bulk::{self, Bulk};
use super::connection::Context;
use super::turns::Turn;
use crate::engine::{Encoding, Format, Inflater, Tenant};
use crate::error::{ClientError, WriteError};
use crate::limits::Limits;

/// Inflated by the shard, for each byte received: more than agents compress by. What says that it
/// comes to more goes to the bulk thread, and what comes to more than it said begins again there.
const INFLATED_HERE_RATIO: usize = 16;
const INFLATED_HERE_MIN: usize = 256 << 10;
/// What a compressed byte is taken for, where the body does not say.
const INFLATED_GUESS: usize = 8;

/// A body that may be decoded.
pub(super) struct Ready {
    /// How it was compressed.
    pub(super) encoding: Encoding,
    /// Empty where it was not.
    pub(super) inflated: Pooled,
    /// Its turn among those of its tenant and of others.
    pub(super) turn: Option<Turn>,
    /// Whether that is a turn of the bulk thread.
    pub(super) is_bulk: bool,
}

/// Inflates what was received, if its head, by `named`, or its first bytes ask for it, in its turn
/// among those of `tenant` and of others.
///
/// # Errors
/// As [`Inflater::inflate`].
pub(super) async fn inflate(
    context: &Context,
    tenant: Tenant<'_>,
    format: Format,
    named: Option<Encoding>,
    received: &mut Pooled,
    account: &mut Account<'_>,
) -> Result<Ready, WriteError> {
    let encoding = match named.unwrap_or_else(|| Encoding::sniff(&received.bytes)) {
        _ if received.bytes.is_empty() => Encoding::Identity,
        encoding => encoding,
    };
    let (is_plain, held) = (encoding == Encoding::Identity, received.bytes.len());
    let limits = context.engine.limits();
    let declared = encoding.declared(&received.bytes);
    let comes_to = declared.unwrap_or_else(|| held.saturating_mul(INFLATED_GUESS));
    let max = held
        .saturating_mul(INFLATED_HERE_RATIO)
        .max(INFLATED_HERE_MIN)
        .min(bulk::bytes_max(format));
    if comes_to <= max {
        let turn = context.turns.take(tenant.clone(), encoding, held).await;
        if is_plain {
            let inflated = context.pool.take(0);
            return Ok(Ready { encoding, inflated, turn, is_bulk: false });
        }
        let mut inflated = context.pool.take_used(comes_to as u64);
        let here = Limits { inflated_bytes_max: max.min(limits.inflated_bytes_max), ..*limits };
        let done = context.inflater.borrow_mut().inflate(
            encoding,
            &received.bytes,
            &mut inflated.bytes,
            &here,
            &mut |bytes| account.hold(held_by(held, bytes)),
        );
        let is_larger =
            matches!(done, Err(WriteError::Client(ClientError::InflatedTooLarge { .. })));
        if !is_larger || here.inflated_bytes_max == limits.inflated_bytes_max {
            done?;
            return Ok(Ready { encoding, inflated, turn, is_bulk: false });
        }
    }
    let turn = context.bulk.turns.take(tenant, encoding, held).await;
    let inflated = if is_plain {
        context.pool.take(0)
    } else {
        let mut inflated = context.pool.take_used(comes_to as u64);
        beside(&context.bulk, *limits, encoding, received, &mut inflated, account).await?;
        inflated
    };
    Ok(Ready { encoding, inflated, turn, is_bulk: true })
}

/// What a body of `received` bytes that comes to `inflated` holds: itself, these, and the rows made
/// of them, or, while it grows, what it grew out of.
fn held_by(received: usize, inflated: usize) -> usize {
    received.saturating_add(inflated.saturating_mul(2))
}

/// Inflates on the bulk thread. It goes on there when the client goes away, with what it holds.
async fn beside(
    bulk: &Bulk,
    limits: Limits,
    encoding: Encoding,
    received: &mut Pooled,
    inflated: &mut Pooled,
    account: &mut Account<'_>,
) -> Result<(), WriteError> {
    let input = std::mem::take(&mut received.bytes);
    let mut output = std::mem::take(&mut inflated.bytes);
    let mut admission = account.admission().take();
    let done = bulk.run(move |_| {
        let done =
            Inflater::default().inflate(encoding, &input, &mut output, &limits, &mut |bytes| {
                body::hold(&mut admission, held_by(input.len(), bytes))
            });
        let output = if done.is_ok() { output } else { body::poolable(output) };
        (done, input, output, admission)
    });
    let (done, input, output, admission) = done.await?;
    *account.admission() = admission;
    received.bytes = input;
    inflated.bytes = output;
    done
}
