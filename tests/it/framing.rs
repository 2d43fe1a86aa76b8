//! Where a request ends: heads and bodies that a proxy in front may understand in another way.
//!
//! Two that disagree about the end of a request let one client's bytes be taken for another's
//! request. Every vector is followed by a write to a database of its own: if anything but a request
//! that both would see made it, that database exists.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::live::Live;

/// Bytes of one connection, before a last request that asks to close.
struct Vector {
    name: &'static str,
    /// Header lines of a write, each with its end.
    headers: &'static str,
    body: &'static str,
    /// What is answered, the last request included where it is read.
    statuses: &'static [u16],
    /// Whether the row of the body is stored.
    is_stored: bool,
}

/// A row, in one chunk.
const CHUNKED: &str = "5\r\nm v=1\r\n0\r\n\r\n";
/// What is smuggled: of five bytes of a body, or behind the end of one.
const HIDDEN: &str = "0\r\n\r\n\
    POST /write?db=hidden HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n\
    m v=2";

/// Both see the end in the same place, and the connection goes on.
const PLAIN: Vector =
    Vector { name: "", headers: "", body: CHUNKED, statuses: &[204, 204], is_stored: true };
/// It is read by its chunks, and nothing behind it is.
const LAST: Vector = Vector { statuses: &[204], ..PLAIN };
/// It is refused, and nothing behind it is read.
const REFUSED: Vector = Vector { statuses: &[400], is_stored: false, ..PLAIN };

const CHUNKS: &str = "Transfer-Encoding: chunked\r\n";

const VECTORS: &[Vector] = &[
    Vector { name: "chunks", headers: CHUNKS, ..PLAIN },
    Vector { name: "a length", headers: "Content-Length: 5\r\n", body: "m v=1", ..PLAIN },
    Vector {
        name: "a length, then chunks",
        headers: "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        ..LAST
    },
    Vector {
        name: "chunks, then a length",
        headers: "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        ..LAST
    },
    Vector {
        name: "a length that hides a request, then chunks",
        headers: "Content-Length: 73\r\nTransfer-Encoding: chunked\r\n",
        body: HIDDEN,
        is_stored: false,
        ..LAST
    },
    Vector {
        name: "chunks that hide a request from a length",
        headers: "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        ..LAST
    },
    Vector {
        name: "chunks kept alive beside a length",
        headers: "Connection: keep-alive\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        ..LAST
    },
    Vector {
        name: "chunks behind a bare line feed",
        headers: "Content-Length: 5\r\nX: y\nTransfer-Encoding: chunked\r\n",
        ..LAST
    },
    Vector { name: "not chunks", headers: "Transfer-Encoding: xchunked\r\n", ..REFUSED },
    Vector { name: "no transfer coding", headers: "Transfer-Encoding: identity\r\n", ..REFUSED },
    Vector { name: "an empty coding", headers: "Transfer-Encoding:\r\n", ..REFUSED },
    Vector { name: "chunks in quotes", headers: "Transfer-Encoding: \"chunked\"\r\n", ..REFUSED },
    Vector {
        name: "chunks that are not last",
        headers: "Transfer-Encoding: chunked, identity\r\n",
        ..REFUSED
    },
    Vector {
        name: "chunks undone by a second line",
        headers: "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        ..REFUSED
    },
    Vector {
        name: "a space before the colon",
        headers: "Content-Length: 5\r\nTransfer-Encoding : chunked\r\n",
        ..REFUSED
    },
    Vector {
        name: "a line that is folded",
        headers: "Content-Length: 5\r\nX: y\r\n Transfer-Encoding: chunked\r\n",
        ..REFUSED
    },
    Vector {
        name: "a vertical tab",
        headers: "Content-Length: 5\r\nTransfer-Encoding: \x0bchunked\r\n",
        ..REFUSED
    },
    Vector {
        name: "a bare carriage return",
        headers: "Content-Length: 5\r\nX: y\rTransfer-Encoding: chunked\r\n",
        ..REFUSED
    },
    Vector {
        name: "two lengths",
        headers: "Content-Length: 5\r\nContent-Length: 6\r\n",
        body: "m v=1",
        ..REFUSED
    },
    Vector {
        name: "one length twice",
        headers: "Content-Length: 5\r\nContent-Length: 5\r\n",
        body: "m v=1",
        ..PLAIN
    },
    Vector {
        name: "lengths in a list",
        headers: "Content-Length: 5, 5\r\n",
        body: "m v=1",
        ..REFUSED
    },
    Vector { name: "a signed length", headers: "Content-Length: +5\r\n", body: "m v=1", ..REFUSED },
    Vector { name: "below zero", headers: "Content-Length: -5\r\n", body: "m v=1", ..REFUSED },
    Vector { name: "in hex", headers: "Content-Length: 0x5\r\n", body: "m v=1", ..REFUSED },
    Vector { name: "two numbers", headers: "Content-Length: 5 5\r\n", body: "m v=1", ..REFUSED },
    Vector { name: "no number", headers: "Content-Length: \r\n", body: "m v=1", ..REFUSED },
    Vector {
        name: "more than 64 bits",
        headers: "Content-Length: 18446744073709551621\r\n",
        body: "m v=1",
        ..REFUSED
    },
    Vector {
        name: "spaces around a length",
        headers: "Content-Length: \t 5 \t\r\n",
        body: "m v=1",
        ..PLAIN
    },
    Vector {
        name: "an extension of a chunk",
        headers: CHUNKS,
        body: "5;a=\"b\"\r\nm v=1\r\n0\r\n\r\n",
        ..PLAIN
    },
    Vector {
        name: "a line feed in an extension",
        headers: CHUNKS,
        body: "5;a\nm v=1\r\n0\r\n\r\n",
        ..REFUSED
    },
    Vector {
        name: "a chunk whose length ends in a line feed",
        headers: CHUNKS,
        body: "5\nm v=1\r\n0\r\n\r\n",
        ..REFUSED
    },
    Vector {
        name: "a chunk that is longer than it says",
        headers: CHUNKS,
        body: "5\r\nm v=11\r\n0\r\n\r\n",
        ..REFUSED
    },
    Vector {
        name: "a chunk that ends in a line feed",
        headers: CHUNKS,
        body: "5\r\nm v=1\n0\r\n\r\n",
        ..REFUSED
    },
    Vector { name: "a signed chunk", headers: CHUNKS, body: "+5\r\nm v=1\r\n0\r\n\r\n", ..REFUSED },
    Vector {
        name: "a chunk in hex, said twice",
        headers: CHUNKS,
        body: "0x5\r\nm v=1\r\n0\r\n\r\n",
        ..REFUSED
    },
    Vector {
        name: "a chunk of more than 64 bits",
        headers: CHUNKS,
        body: "10000000000000005\r\nm v=1\r\n0\r\n\r\n",
        ..REFUSED
    },
];

/// The statuses of all answers of a connection, up to its end.
fn statuses(live: &Live, bytes: &[u8]) -> Vec<u16> {
    let mut stream = TcpStream::connect(live.address()).expect("the server listens");
    // Not a pause: a server that neither answers nor closes fails the test.
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
    // At once, so that the server has read all of it when it closes: else it resets.
    stream.write_all(bytes).expect("the connection is open");
    let mut answers = Vec::new();
    stream.read_to_end(&mut answers).expect("answers and an end");
    let answers = String::from_utf8(answers).expect("answers are text");
    let starts = answers.split("HTTP/1.1 ").skip(1);
    starts.map(|it| it.get(..3).and_then(|it| it.parse().ok()).expect("a status")).collect()
}

#[test]
fn a_request_ends_where_everybody_sees_it_end() {
    let live = Live::start();
    for (at, vector) in VECTORS.iter().enumerate() {
        let Vector { name, headers, body, .. } = vector;
        let request = format!("POST /write?db=v{at} HTTP/1.1\r\nHost: a\r\n{headers}\r\n{body}");
        let last = "GET /ping HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let found = statuses(&live, (request + last).as_bytes());
        assert_eq!(found, vector.statuses, "{name}");
        let rows = live.rows(&format!("v{at}")).len();
        assert_eq!(rows, usize::from(vector.is_stored), "{name}");
    }
    assert!(live.engine.databases().iter().all(|name| name.starts_with('v')), "a hidden request");
}

#[test]
fn chunks_are_not_of_http_1_0() {
    let live = Live::start();
    let request = format!("POST /write?db=a HTTP/1.0\r\nHost: a\r\n{CHUNKS}\r\n{CHUNKED}");
    assert_eq!(statuses(&live, request.as_bytes()), [400]);
    assert!(live.engine.databases().is_empty());
}
