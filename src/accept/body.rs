//! Frames of a request to one contiguous body, under the limits of bytes, memory and time.
//!
//! ```text
//! socket -> frames (hyper's buffers) -> received (pooled) -> inflated (pooled) -> decoder
//!                                    1 copy              1 copy if compressed
//! ```
//!
//! Buffers are taken from a pool of the shard and put back, so that a steady load allocates
//! nothing. What a body may hold is admitted by the engine before it is read, with an estimate of
//! what it will come to; what goes beyond that is admitted as it comes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Incoming};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout, timeout_at};

use super::peers::Request;
use crate::engine::{Admission, Engine, Tenant};
use crate::error::{BusyReason, ClientError, WriteError};
use crate::limits::Timeouts;

/// Capacity, of all buffers together, that a shard keeps when nobody uses them.
const POOL_BYTES_MAX: usize = 8 << 20;
/// Capacity above which a buffer is given back to the allocator.
const POOLED_BYTES_MAX: usize = 4 << 20;
/// Capacity that any body may have, however small it is; larger ones twice what they need.
const SPARE_BYTES_MAX: usize = 64 << 10;
/// Buffers of the pool that are looked at for one that suits.
const LOOKED_AT_MAX: usize = 8;
/// Read of one body before others of the shard are gone on with.
const STEP_BYTES: usize = 64 << 10;
/// Allocated at once for a body that says how long it is; more only as it arrives.
const DECLARED_BYTES_MAX: usize = 8 << 20;
/// Admitted at least, at once and when a body grows.
const ADMITTED_BYTES_MIN: usize = 16 << 10;
/// What small bodies come to at most; they have room of their own.
const SMALL_BYTES_MAX: usize = 64 << 10;
/// What a byte on the wire is expected to come to: itself and the rows made of it.
const PLAIN_PRICE: usize = 2;
/// As above, where it is one of eight, as agents compress: itself, eight, and the rows of eight.
const COMPRESSED_PRICE: usize = 17;
/// How long the rest of a refused body is read and dropped.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(5);
/// Bodies below this are never worth keeping.
const KEPT_BYTES_MIN: u64 = 64 << 10;
/// Room behind a body for the slack that decoders want.
const SLACK: usize = 128;

/// Buffers that nobody uses, with whatever they held last.
#[derive(Debug, Default)]
pub(super) struct Pool {
    buffers: RefCell<Vec<Vec<u8>>>,
    /// Their capacity.
    bytes: Cell<usize>,
}

impl Pool {
    /// An empty buffer for a body of `expected` bytes; its drop puts it back. What it has beyond
    /// that is not accounted, so that a small body does not get a large one.
    pub(super) fn take(self: &Rc<Self>, expected: u64) -> Pooled {
        let mut pooled = self.take_used(expected);
        pooled.bytes.clear();
        pooled
    }

    /// As [`Self::take`], with what it held last: for who replaces that.
    pub(super) fn take_used(self: &Rc<Self>, expected: u64) -> Pooled {
        let expected = usize::try_from(expected).unwrap_or(usize::MAX);
        let max = expected.saturating_mul(2).max(SPARE_BYTES_MAX);
        let mut buffers = self.buffers.borrow_mut();
        let mut last = buffers.iter().rev().take(LOOKED_AT_MAX);
        let found = last.position(|it| it.capacity() <= max).map(|at| buffers.len() - 1 - at);
        let bytes = found.map(|at| buffers.swap_remove(at)).unwrap_or_default();
        self.bytes.set(self.bytes.get() - bytes.capacity());
        Pooled { bytes, pool: Rc::clone(self) }
    }

    /// As [`Self::take`], for a body that may be kept beyond its request: a large one gets a
    /// buffer of its own, because none of the pool is of its size.
    pub(super) fn take_kept(self: &Rc<Self>, expected: u64) -> Pooled {
        if expected < KEPT_BYTES_MIN {
            return self.take(expected);
        }
        Pooled { bytes: Vec::new(), pool: Rc::clone(self) }
    }
}

/// A buffer of a [`Pool`].
#[derive(Debug)]
pub(super) struct Pooled {
    /// The buffer.
    pub(super) bytes: Vec<u8>,
    pool: Rc<Pool>,
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let sum = self.pool.bytes.get() + bytes.capacity();
        if (1..=POOLED_BYTES_MAX).contains(&bytes.capacity()) && sum <= POOL_BYTES_MAX {
            self.pool.bytes.set(sum);
            self.pool.buffers.borrow_mut().push(bytes);
        }
    }
}

/// The buffer if a pool will have it; frees another here and now, on the thread of whoever calls.
pub(super) fn poolable(bytes: Vec<u8>) -> Vec<u8> {
    if bytes.capacity() <= POOLED_BYTES_MAX { bytes } else { Vec::new() }
}

/// What one request holds of the engine's memory budget; its drop gives all of it back.
pub(super) struct Account<'a> {
    engine: &'a Engine,
    /// Who waits for room; `None`: a form, which does not wait.
    tenant: Option<Tenant<'a>>,
    /// What a byte on the wire is expected to come to.
    price: usize,
    admission: Option<Admission>,
}

impl<'a> Account<'a> {
    /// Of a body of rows, which may be compressed.
    pub(super) fn of_rows(engine: &'a Engine, tenant: Tenant<'a>, is_compressed: bool) -> Self {
        let price = if is_compressed { COMPRESSED_PRICE } else { PLAIN_PRICE };
        Self { engine, tenant: Some(tenant), price, admission: None }
    }

    /// Of a form of some kilobytes.
    pub(super) fn of_form(engine: &'a Engine) -> Self {
        Self { engine, tenant: None, price: 1, admission: None }
    }

    /// Makes room for a body of which `bytes` are declared; waits for it, but for a form.
    ///
    /// # Errors
    /// [`BusyReason::MemoryFull`].
    async fn begin(&mut self, bytes: usize) -> Result<(), WriteError> {
        let bytes = bytes.max(ADMITTED_BYTES_MIN);
        let comes_to = bytes.saturating_mul(self.price);
        if self.tenant.is_some() && comes_to <= SMALL_BYTES_MAX {
            self.admission = self.engine.admit_small(comes_to);
            if self.admission.is_some() {
                return Ok(());
            }
        }
        self.admission = Some(match self.tenant.take() {
            Some(tenant) => self.engine.admit(tenant, bytes, self.price).await?,
            None => self.engine.admit_form(bytes)?,
        });
        Ok(())
    }

    /// Holds at least `bytes` in all; does not wait.
    ///
    /// # Errors
    /// [`BusyReason::MemoryFull`].
    pub(super) fn hold(&mut self, bytes: usize) -> Result<(), WriteError> {
        hold(&mut self.admission, bytes)
    }

    /// Takes over what was held on another thread.
    pub(super) fn admission(&mut self) -> &mut Option<Admission> {
        &mut self.admission
    }

    /// Holds `bytes` at most: the rows are accounted where they are.
    pub(super) fn keep(&mut self, bytes: usize) {
        if let Some(admission) = &mut self.admission {
            admission.shrink(bytes);
        }
    }
}

/// As [`Account::hold`].
pub(super) fn hold(admission: &mut Option<Admission>, bytes: usize) -> Result<(), WriteError> {
    match admission {
        Some(admission) if bytes > admission.bytes() => {
            admission.grow(bytes.max(admission.bytes() + ADMITTED_BYTES_MIN))
        }
        _ => Ok(()),
    }
}

/// The body of a request on its way.
pub(super) struct Arrival {
    pub(super) incoming: Incoming,
    pub(super) request: Request,
    pub(super) timeouts: Timeouts,
}

impl Arrival {
    /// Appends the whole body, of at most `max` bytes, to `received`.
    ///
    /// # Errors
    /// [`ClientError::BodyTooLarge`] before anything is read when the request says so itself,
    /// [`ClientError::BodyIncomplete`], [`BusyReason::BodyTimeout`], and what the engine's
    /// admission returns. What is not read then stays there.
    pub(super) async fn gather(
        &mut self,
        received: &mut Vec<u8>,
        max: usize,
        account: &mut Account<'_>,
    ) -> Result<(), WriteError> {
        let declared = self.incoming.size_hint().lower();
        let declared = usize::try_from(declared).unwrap_or(usize::MAX);
        if declared > max {
            return Err(ClientError::BodyTooLarge { max }.into());
        }
        account.begin(declared).await?;
        received.reserve(declared.min(DECLARED_BYTES_MAX) + SLACK);
        let began = Instant::now();
        let reading = self.request.reading();
        let mut step = STEP_BYTES;
        loop {
            let deadline = deadline(began, received.len(), &self.timeouts);
            let frame = timeout_at(deadline, self.incoming.frame()).await;
            let Some(frame) = frame.map_err(|_| BusyReason::BodyTimeout)? else { return Ok(()) };
            reading.hear();
            let frame = frame.map_err(|_| ClientError::BodyIncomplete)?;
            // Trailers say nothing that we need.
            let Some(data) = frame.data_ref() else { continue };
            if data.len() > max - received.len() {
                return Err(ClientError::BodyTooLarge { max }.into());
            }
            account.hold(received.len() + data.len())?;
            let room = received.capacity();
            if received.len() + data.len() > room && declared > room {
                // So much has arrived that the rest is believed in: growing step by step would copy
                // the body again and again.
                received.reserve_exact(declared.saturating_sub(received.len()) + SLACK);
            }
            received.extend_from_slice(data);
            step = step.saturating_sub(data.len());
            // Its memory is what hyper reads the next one into.
            drop(frame);
            if step == 0 {
                step = STEP_BYTES;
                yield_now().await;
            }
        }
    }
}

/// Until when a body that began at `began`, and of which `bytes` are here, must go on.
fn deadline(began: Instant, bytes: usize, timeouts: &Timeouts) -> Instant {
    let rate = u64::from(timeouts.body_rate_min).max(1);
    let paid_for = Duration::from_millis((bytes as u64).saturating_mul(1000) / rate);
    let whole = paid_for.max(timeouts.body_grace).min(timeouts.body);
    (began + whole).min(Instant::now() + timeouts.body_idle)
}

/// Reads and drops what is left of a refused body, beside the answer.
///
/// A socket closed with unread bytes is reset, and the reset can overtake the answer: the client
/// would see a broken connection instead of the reason. Bounded by `bytes_max` and time, after
/// which the connection is closed all the same.
pub(super) fn discard(mut incoming: Incoming, bytes_max: usize) {
    let discarding = async move {
        let mut left = bytes_max;
        while let Some(Ok(frame)) = incoming.frame().await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else {
                return;
            };
            left = rest;
            drop(frame);
            yield_now().await;
        }
    };
    tokio::task::spawn_local(timeout(DISCARD_TIME_MAX, discarding));
}
