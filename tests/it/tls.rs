//! TLS: who is let in with which certificate, and certificates that change under a running server.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use peristyle::accept::{RunningServer, Server, Tls, TlsFiles};
use peristyle::engine::Engine;
use peristyle::limits::Timeouts;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::http_client::Client;
use crate::live;
use crate::processes::{Running, output, spawn};

/// A root that signs.
struct Root(CertifiedIssuer<'static, KeyPair>);

impl Root {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a root"))
    }

    /// A certificate for `name`, and its key.
    fn signs(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        (params.signed_by(&key, &self.0).expect("a certificate"), key)
    }
}

/// A server with TLS; its drop stops it.
struct Fixture {
    engine: Arc<Engine>,
    server: Option<RunningServer>,
    tls: Arc<Tls>,
    directory: TempDir,
}

/// Where a test keeps its certificates.
fn paths(directory: &Path) -> [PathBuf; 3] {
    ["server.pem", "server.key", "clients.pem"].map(|name| directory.join(name))
}

fn put(directory: &Path, root: &Root, name: &str) {
    let (certificate, key) = root.signs(name);
    let [certificates, secret, _] = paths(directory);
    fs::write(certificates, certificate.pem()).expect("a file");
    fs::write(secret, key.serialize_pem()).expect("a file");
}

impl Fixture {
    /// Clients need a certificate of `clients`, if there is one.
    fn start(root: &Root, clients: Option<&Root>, timeouts: Timeouts) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        put(directory.path(), root, "localhost");
        let [certificates, key, roots] = paths(directory.path());
        let client_roots = clients.map(|clients| {
            fs::write(&roots, clients.0.pem()).expect("a file");
            roots
        });
        let tls = Tls::open(TlsFiles { certificates, key, client_roots }).expect("certificates");
        let tls = Arc::new(tls);
        let options = live::options(&directory.path().join("data"));
        let engine = Engine::open(&options).expect("an empty directory");
        let bound = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1).expect("a port");
        let bound = bound.with_timeouts(timeouts).with_tls(Arc::clone(&tls));
        let server = bound.run(&engine).expect("the threads start");
        Self { engine, server: Some(server), tls, directory }
    }

    fn address(&self) -> SocketAddr {
        self.server.as_ref().expect("it runs").local_addr()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown();
            let _ = server.join();
            let _ = self.engine.close();
        }
    }
}

/// What a client believes in, and shows.
#[derive(Clone, Copy)]
struct Trust<'a> {
    root: &'a Root,
    shows: Option<&'a (rcgen::Certificate, KeyPair)>,
    protocols: &'a [&'a [u8]],
}

impl<'a> Trust<'a> {
    fn of(root: &'a Root) -> Self {
        Self { root, shows: None, protocols: &[] }
    }

    fn config(self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.0.der().clone()).expect("a root");
        let builder = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match self.shows {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
                builder.with_client_auth_cert(vec![certificate.der().clone()], key).expect("both")
            }
        };
        config.alpn_protocols = self.protocols.iter().map(|it| it.to_vec()).collect();
        Arc::new(config)
    }

    /// Asks for `/ping`; the first line of the answer, or why there is none.
    fn ping(self, address: SocketAddr) -> Result<String, String> {
        self.exchange(address, b"GET /ping HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    }

    fn exchange(self, address: SocketAddr, request: &[u8]) -> Result<String, String> {
        let name = ServerName::try_from("localhost").expect("a name");
        let connection = ClientConnection::new(self.config(), name).expect("a client");
        let stream = TcpStream::connect(address).expect("the server listens");
        // Not a pause: a server that does not answer fails the test instead of hanging it.
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
        let mut stream = StreamOwned::new(connection, stream);
        stream.write_all(request).map_err(|error| error.to_string())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&answer);
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }
}

const GOOD: &str = "HTTP/1.1 204 No Content";

#[test]
fn a_client_that_trusts_the_root_is_served() {
    let root = Root::new();
    let fixture = Fixture::start(&root, None, Timeouts::DEFAULT);
    assert_eq!(Trust::of(&root).ping(fixture.address()).as_deref(), Ok(GOOD));
    let request = b"POST /write?db=d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
        Content-Length: 6\r\n\r\nm v=1i";
    let written = Trust::of(&root).exchange(fixture.address(), request);
    assert_eq!(written.as_deref(), Ok(GOOD));
    let offers_h1 = Trust { protocols: &[b"http/1.1"], ..Trust::of(&root) };
    assert_eq!(offers_h1.ping(fixture.address()).as_deref(), Ok(GOOD));
    let stats = fixture.engine.stats();
    assert_eq!(stats.line_protocol.rows_accepted.get(), 1);
    assert_eq!(stats.handshake_errors.get(), 0);
}

#[test]
fn http_2_is_offered_first() {
    let root = Root::new();
    let fixture = Fixture::start(&root, None, Timeouts::DEFAULT);
    let name = ServerName::try_from("localhost").expect("a name");
    let trust = Trust { protocols: &[b"http/1.1", b"h2"], ..Trust::of(&root) };
    let connection = ClientConnection::new(trust.config(), name).expect("a client");
    let stream = TcpStream::connect(fixture.address()).expect("the server listens");
    let mut stream = StreamOwned::new(connection, stream);
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").expect("it is open");
    let mut head = [0; 9];
    stream.read_exact(&mut head).expect("an answer");
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(head[3], 4, "settings");
}

#[test]
fn a_client_that_trusts_another_root_goes_away() {
    let (root, other) = (Root::new(), Root::new());
    let fixture = Fixture::start(&root, None, Timeouts::DEFAULT);
    let error = Trust::of(&other).ping(fixture.address()).expect_err("no trust");
    assert!(error.contains("UnknownIssuer") || error.contains("BadSignature"), "{error}");
    assert_eq!(Trust::of(&root).ping(fixture.address()).as_deref(), Ok(GOOD));
}

#[test]
fn clients_need_a_certificate_where_one_is_asked_for() {
    let (root, clients, others) = (Root::new(), Root::new(), Root::new());
    let fixture = Fixture::start(&root, Some(&clients), Timeouts::DEFAULT);
    let address = fixture.address();
    let error = Trust::of(&root).ping(address).expect_err("no certificate");
    assert!(error.contains("CertificateRequired"), "{error}");
    let wrong = others.signs("agent");
    let error = Trust { shows: Some(&wrong), ..Trust::of(&root) }.ping(address);
    assert!(error.is_err(), "{error:?}");
    let right = clients.signs("agent");
    let answer = Trust { shows: Some(&right), ..Trust::of(&root) }.ping(address);
    assert_eq!(answer.as_deref(), Ok(GOOD));
}

#[test]
fn plain_http_is_told_to_speak_tls() {
    let root = Root::new();
    let fixture = Fixture::start(&root, None, Timeouts::DEFAULT);
    let mut client = Client::connect(fixture.address());
    let answer = client.post("/write", "m v=1");
    // Agents keep their rows on 503, and drop them on any 4xx.
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("10")));
    assert_eq!(answer.body, "{\"error\":\"this port speaks TLS: expected https://\"}");
    assert!(client.is_closed());
}

#[test]
fn half_a_handshake_is_timed() {
    let root = Root::new();
    let handshake = Duration::from_millis(30);
    let fixture = Fixture::start(&root, None, Timeouts { handshake, ..Timeouts::DEFAULT });
    for beginning in [&b""[..], b"\x16", b"\x16\x03\x01\x02\0\x01\0"] {
        let mut client = Client::connect(fixture.address());
        client.send(beginning);
        while !client.is_closed() {
            client.bytes(1);
        }
    }
    assert_eq!(fixture.engine.stats().handshake_errors.get(), 3);
}

#[test]
fn a_certificate_that_changes_is_used_by_the_next_connection() {
    let (root, next) = (Root::new(), Root::new());
    let fixture = Fixture::start(&root, None, Timeouts::DEFAULT);
    let (address, directory) = (fixture.address(), fixture.directory.path());
    assert_eq!(Trust::of(&root).ping(address).as_deref(), Ok(GOOD));
    put(directory, &next, "localhost");
    assert_eq!(Trust::of(&next).ping(address).as_deref(), Ok(GOOD));
    assert!(Trust::of(&root).ping(address).is_err());
}

#[test]
fn a_certificate_that_cannot_be_used_changes_nothing() {
    let (root, next) = (Root::new(), Root::new());
    let fixture = Fixture::start(&root, None, Timeouts::DEFAULT);
    let (address, directory) = (fixture.address(), fixture.directory.path());
    let [certificates, key, _] = paths(directory);
    let (certificate, secret) = next.signs("localhost");
    fs::write(&certificates, "no certificate").expect("a file");
    assert_eq!(Trust::of(&root).ping(address).as_deref(), Ok(GOOD));
    // One file is renewed, the other not yet.
    fs::write(&certificates, certificate.pem()).expect("a file");
    assert_eq!(Trust::of(&root).ping(address).as_deref(), Ok(GOOD));
    let error = fixture.tls.reload().expect_err("another key").to_string();
    assert!(error.contains("server.pem: expected a certificate"), "{error}");
    assert_eq!(Trust::of(&root).ping(address).as_deref(), Ok(GOOD));
    fs::remove_file(&key).expect("it is there");
    assert_eq!(Trust::of(&root).ping(address).as_deref(), Ok(GOOD));
    fs::write(&key, secret.serialize_pem()).expect("a file");
    assert_eq!(Trust::of(&next).ping(address).as_deref(), Ok(GOOD));
}

#[test]
fn the_roots_of_clients_change_too() {
    let (root, clients, next) = (Root::new(), Root::new(), Root::new());
    let fixture = Fixture::start(&root, Some(&clients), Timeouts::DEFAULT);
    let [_, _, roots] = paths(fixture.directory.path());
    let (old, new) = (clients.signs("agent"), next.signs("agent"));
    fs::write(&roots, next.0.pem()).expect("a file");
    let ping = |shows| Trust { shows: Some(shows), ..Trust::of(&root) }.ping(fixture.address());
    assert_eq!(ping(&new).as_deref(), Ok(GOOD));
    assert!(ping(&old).is_err());
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let root = Root::new();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let [certificates, key, roots] = paths(directory.path());
    let open = |client_roots: Option<&PathBuf>| {
        let (certificates, key) = (certificates.clone(), key.clone());
        let client_roots = client_roots.cloned();
        let opened = Tls::open(TlsFiles { certificates, key, client_roots });
        opened.map(drop).map_err(|error| error.to_string())
    };
    let fails = |client_roots, contains: &str| {
        let error = open(client_roots).expect_err(contains);
        assert!(error.contains(contains), "{error}");
    };
    fails(None, "server.pem: cannot be read: ");
    put(directory.path(), &root, "localhost");
    assert_eq!(open(None), Ok(()));
    fails(Some(&roots), "clients.pem: cannot be read: ");
    fs::write(&roots, "").expect("a file");
    fails(Some(&roots), "clients.pem: expected at least one certificate in PEM: found none");
    let pem = fs::read(&key).expect("a key");
    fs::write(&key, "no key").expect("a file");
    fails(None, "server.key: expected a private key in PEM");
    fs::write(&key, pem).expect("a file");
    fs::write(&certificates, "-----BEGIN CERTIFICATE-----\nAA").expect("a file");
    fails(None, "server.pem: expected at least one certificate in PEM");
}

#[test]
fn the_binary_speaks_tls_and_reads_its_certificate_again_on_sighup() {
    let (root, next) = (Root::new(), Root::new());
    let directory = tempfile::tempdir().expect("a temporary directory");
    put(directory.path(), &root, "localhost");
    let [certificates, key, _] = paths(directory.path());
    let data_dir = directory.path().join("data");
    let serve = |listen: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_peristyle"));
        command.args(["--listen", listen, "--data-dir"]).arg(&data_dir);
        command.arg("--tls-cert").arg(&certificates).arg("--tls-key").arg(&key);
        command
    };
    let mut server = Running(spawn(serve("127.0.0.1:0").stderr(Stdio::piped())));
    let mut log = BufReader::new(server.0.stderr.take().expect("a pipe")).lines();
    let mut line_with = |text: &str| {
        let found = log.find_map(|line| line.ok().filter(|line| line.contains(text)));
        found.unwrap_or_else(|| panic!("the server ended before {text:?}"))
    };
    let line = line_with("listening on https://");
    let address = line.rsplit("https://").next().and_then(|it| it.split_whitespace().next());
    let address: SocketAddr = address.and_then(|it| it.parse().ok()).expect("an address");
    assert_eq!(Trust::of(&root).ping(address).as_deref(), Ok(GOOD));
    let hangup = format!("kill -HUP {}", server.0.id());
    fs::write(&certificates, "broken").expect("a file");
    assert!(output(Command::new("sh").args(["-c", &hangup])).status.success());
    line_with("the certificate of before stays");
    assert_eq!(Trust::of(&root).ping(address).as_deref(), Ok(GOOD));
    put(directory.path(), &next, "localhost");
    assert!(output(Command::new("sh").args(["-c", &hangup])).status.success());
    line_with("the certificate was read again");
    assert_eq!(Trust::of(&next).ping(address).as_deref(), Ok(GOOD));
}
