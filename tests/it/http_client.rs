//! A small HTTP/1.1 client over a plain socket, so that tests can send what no library would.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    /// The value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }
}

/// One connection.
pub struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        // Not a pause: a server that does not answer fails the test instead of hanging it.
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
        stream.set_nodelay(true).expect("the option can be set");
        Self { stream, unread: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the connection is open");
    }

    /// Sends what the server may not want to read; false when the connection has ended.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends a request with a `Content-Length` and reads the answer.
    pub fn request(&mut self, method: &str, target: &str, headers: &str, body: &[u8]) -> Answer {
        self.send(&head(method, target, headers, body.len()));
        self.send(body);
        if method == "HEAD" { self.answer_to_head() } else { self.answer() }
    }

    pub fn get(&mut self, target: &str) -> Answer {
        self.request("GET", target, "", b"")
    }

    pub fn post(&mut self, target: &str, body: impl AsRef<[u8]>) -> Answer {
        self.request("POST", target, "", body.as_ref())
    }

    /// Reads one answer with its body.
    pub fn answer(&mut self) -> Answer {
        let mut answer = self.answer_to_head();
        let length = answer.header("content-length").map_or(0, |it| it.parse().expect("a number"));
        while self.unread.len() < length {
            assert!(self.read_more() > 0, "the connection ended inside an answer");
        }
        let body = self.unread.drain(..length).collect();
        answer.body = String::from_utf8(body).expect("answers are text");
        answer
    }

    /// Reads one answer up to its blank line.
    pub fn answer_to_head(&mut self) -> Answer {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|it| it == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.read_more() > 0, "the connection ended before an answer");
        };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        let head = String::from_utf8(head).expect("heads are text");
        let mut lines = head.lines();
        let status = lines.next().and_then(|it| it.split(' ').nth(1)).expect("a status line");
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Answer { status: status.parse().expect("a status"), headers, body: String::new() }
    }

    /// True when the server has closed the connection and nothing is unread.
    pub fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && self.read_more() == 0
    }

    /// True when no byte of an answer is here.
    pub fn has_nothing_yet(&mut self) -> bool {
        self.stream.set_nonblocking(true).expect("the option can be set");
        let read = self.stream.read(&mut [0]);
        self.stream.set_nonblocking(false).expect("the option can be set");
        self.unread.is_empty()
            && read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Exactly `count` bytes, whatever they are.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            assert!(self.read_more() > 0, "the connection ended");
        }
        self.unread.drain(..count).collect()
    }

    fn read_more(&mut self) -> usize {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.unread.extend(buffer.iter().take(count));
                count
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("the server did not answer: {error}"),
        }
    }
}

/// A request's head; `headers` are whole lines.
pub fn head(method: &str, target: &str, headers: &str, length: usize) -> Vec<u8> {
    format!("{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{headers}\r\n")
        .into_bytes()
}
