//! A body that is ready to be sent, again and again, each time at another time.

use std::io;
use std::thread;

use crate::clock::{Clock, SLOT_US};
use crate::compress::{Encoding, Patch, compress};
use crate::encode::{Encoded, Format};
use crate::shape::{Name, Shape};

/// A request's body.
#[derive(Clone, Debug)]
pub struct Body {
    /// What is sent.
    pub bytes: Vec<u8>,
    /// Bytes before compression.
    pub raw_bytes: u64,
    /// Rows of each measurement.
    pub counts: Vec<(Name, u64)>,
    /// The measurement and its tags, where the format has no place for them.
    pub about: Option<(Name, Vec<Name>)>,
    patch: Patch,
    clock: Clock,
    start_us: u64,
}

/// Which bodies to make.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// What rows look like.
    pub shape: Shape,
    /// How they are written.
    pub format: Format,
    /// How they are compressed.
    pub encoding: Encoding,
    /// Rows of a body, above 0.
    pub rows: usize,
    /// Bodies that differ, above 0.
    pub bodies: usize,
    /// The same seed gives the same rows.
    pub seed: u64,
    /// The first time, in microseconds since 1970: a multiple of `clock::ALIGNMENT_US`.
    pub start_us: u64,
    /// What all times are later, as far as the slot has room: two runs of one seed then send other
    /// bytes. A server that knows retries by their bytes takes those of the second run for some.
    pub nonce_us: u32,
}

impl Recipe {
    /// Makes the bodies, on as many threads as the machine has.
    ///
    /// # Errors
    /// What compressor or Arrow writer say.
    pub fn bodies(&self) -> io::Result<Vec<Body>> {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let parts = thread::scope(|scope| {
            let make = |first| move || self.every(first, threads);
            let parts: Vec<_> = (0..threads).map(|first| scope.spawn(make(first))).collect();
            parts
                .into_iter()
                .map(|it| it.join().unwrap_or_else(|_| Err(io::Error::other("a maker ended"))))
                .collect::<io::Result<Vec<_>>>()
        })?;
        let mut bodies: Vec<(usize, Vec<Body>)> = parts.into_iter().flatten().collect();
        bodies.sort_by_key(|(index, _)| *index);
        Ok(bodies.into_iter().flat_map(|(_, bodies)| bodies).collect())
    }

    fn every(&self, first: usize, step: usize) -> io::Result<Vec<(usize, Vec<Body>)>> {
        let indexes = (first..self.bodies).step_by(step);
        indexes.map(|index| Ok((index, self.body(index)?))).collect()
    }

    /// Body `index`; several where one of the format holds one measurement only.
    fn body(&self, index: usize) -> io::Result<Vec<Body>> {
        let mut rows = self.shape.rows(self.seed, index, self.rows);
        let last = rows.iter().map(|row| row.offset_us).max().unwrap_or_default();
        let nonce_us = self.nonce_us % (SLOT_US - last);
        for row in &mut rows {
            row.offset_us += nonce_us;
        }
        let encoded = self.format.encode(&rows, self.start_us, self.shape.names_tags());
        let encoded = encoded.map_err(io::Error::other)?;
        encoded.into_iter().map(|it| self.compressed(it)).collect()
    }

    fn compressed(&self, encoded: Encoded) -> io::Result<Body> {
        let Encoded { bytes: text, places, clock, measurement, tags, counts } = encoded;
        let (bytes, patch) = compress(self.encoding, &text, &places, clock)?;
        let mut body = Body {
            bytes,
            raw_bytes: text.len() as u64,
            counts,
            about: measurement.map(|name| (name, tags)),
            patch,
            clock,
            start_us: self.start_us,
        };
        body.move_to(0);
        Ok(body)
    }
}

impl Body {
    /// Moves all its rows to a slot of time. Costs a copy of a few bytes for each row of a plain
    /// body, and for the whole of a compressed one.
    pub fn move_to(&mut self, slot: u64) {
        let prefix = self.clock.prefix(self.start_us, slot);
        let prefix = prefix.get(..self.clock.prefix_bytes()).unwrap_or_default();
        self.patch.apply(&mut self.bytes, prefix);
    }

    /// Its rows.
    pub fn rows(&self) -> u64 {
        self.counts.iter().map(|(_, rows)| rows).sum()
    }

    /// Microseconds from its first slot to another one.
    pub fn slot_us(&self, slot: u64) -> u64 {
        self.clock.slot_us(slot)
    }
}
