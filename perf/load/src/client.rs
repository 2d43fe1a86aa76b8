//! One connection of HTTP/1.1, kept alive, that blocks.
//!
//! A library's client would do. This one costs two system calls a request and no copy of the body,
//! because the sender shares its processors with what it measures.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Headers of an answer.
const HEADERS_MAX: usize = 64;
/// A server that says nothing for so long has failed.
const SILENCE: Duration = Duration::from_secs(120);

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// `Retry-After`, where it is a count of seconds.
    pub retry_after: Option<u64>,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Whether the request was taken.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Status and the beginning of the body, for a person.
    pub fn describe(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let text: String = text.chars().take(200).collect();
        format!("{} {}", self.status, text.trim())
    }
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    /// What was read and not used.
    unread: Vec<u8>,
}

/// How long an answer's body is.
enum Length {
    Bytes(usize),
    Chunked,
    UntilClosed,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        Ok(Self { stream, unread: Vec::new() })
    }

    /// Sends a request, whose head says how long its body is, and reads the answer.
    ///
    /// # Errors
    /// What the operating system says, or that the answer is no HTTP. The connection is then of no
    /// more use, and whether the request was carried out is unknown.
    pub fn send(&mut self, head: &[u8], body: &[u8]) -> io::Result<Answer> {
        let mut slices = [IoSlice::new(head), IoSlice::new(body)];
        let mut slices = &mut slices[..];
        while !slices.is_empty() {
            match self.stream.write_vectored(slices) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => IoSlice::advance_slices(&mut slices, count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.answer()
    }

    /// Sends a request with a small body.
    ///
    /// # Errors
    /// Those of [`Client::send`].
    pub fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &str,
        body: &[u8],
    ) -> io::Result<Answer> {
        let head = head(method, target, headers, body.len());
        self.send(head.as_bytes(), body)
    }

    fn answer(&mut self) -> io::Result<Answer> {
        loop {
            if let Some((used, status, retry_after, length)) = parse(&self.unread)? {
                self.unread.drain(..used);
                let body = match length {
                    Length::Bytes(count) => self.take(count)?,
                    Length::Chunked => self.chunks()?,
                    Length::UntilClosed => {
                        while self.read_more()? > 0 {}
                        std::mem::take(&mut self.unread)
                    }
                };
                return Ok(Answer { status, retry_after, body });
            }
            if self.unread.len() > HEAD_BYTES_MAX {
                return Err(io::Error::other("expected an answer, found an endless head"));
            }
            if self.read_more()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.unread.len() < count {
            if self.read_more()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.unread.drain(..count).collect())
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let (used, size) = loop {
                match httparse::parse_chunk_size(&self.unread) {
                    Ok(httparse::Status::Complete(it)) => break it,
                    Ok(httparse::Status::Partial) if self.read_more()? > 0 => {}
                    _ => return Err(io::Error::other("expected a chunk of an answer")),
                }
            };
            self.take(used)?;
            let size = usize::try_from(size).map_err(io::Error::other)?;
            let chunk = self.take(size + 2)?;
            if size == 0 {
                return Ok(body);
            }
            body.extend(chunk.into_iter().take(size));
        }
    }

    fn read_more(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 4096];
        let count = loop {
            match self.stream.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.unread.extend(buffer.iter().take(count));
        Ok(count)
    }
}

/// The head of a request; `headers` are whole lines.
pub fn head(method: &str, target: &str, headers: &str, length: usize) -> String {
    format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{headers}\r\n"
    )
}

/// Bytes of a whole head, status, `Retry-After` and length of the body; none if it is not whole.
type Head = (usize, u16, Option<u64>, Length);

fn parse(bytes: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(used) = answer.parse(bytes).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let status = answer.code.unwrap_or_default();
    let value = |name: &str| {
        let found = answer.headers.iter().find(|it| it.name.eq_ignore_ascii_case(name));
        found.and_then(|it| std::str::from_utf8(it.value).ok())
    };
    let length = if status == 204 || status == 304 {
        Length::Bytes(0)
    } else if value("transfer-encoding").is_some_and(|it| it.eq_ignore_ascii_case("chunked")) {
        Length::Chunked
    } else if let Some(count) = value("content-length").and_then(|it| it.parse().ok()) {
        Length::Bytes(count)
    } else {
        Length::UntilClosed
    };
    Ok(Some((used, status, value("retry-after").and_then(|it| it.parse().ok()), length)))
}
