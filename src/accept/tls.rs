//! TLS: certificates from files, which are read again when they change.
//!
//! The files are looked at for each handshake (a `stat` each, nothing beside a handshake's cost),
//! so that a renewed certificate is used by the next connection, without a signal or a restart.
//! Files that cannot be used change nothing but for a line in the log: the certificate of before
//! stays, also between the renewal of one file and that of the other.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fmt, fs, io};

use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::disk::Stamp;

/// What a server offers to clients that ask which protocol to speak, the best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where certificates are, in PEM.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsFiles {
    /// The server's certificate, and those between it and its root.
    pub certificates: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The roots of those of clients, who need one then.
    pub client_roots: Option<PathBuf>,
}

/// The certificates of a server, as its files are.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Of the files that were read last.
    stamps: Vec<Option<Stamp>>,
    config: Arc<ServerConfig>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`], naming the file.
    pub fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let stamps = stamps(&files);
        let config = Arc::new(load(&files)?);
        Ok(Self { files, state: Mutex::new(State { stamps, config }) })
    }

    /// Reads the files again, changed or not.
    ///
    /// # Errors
    /// [`TlsError`]: the certificates are those of before.
    pub fn reload(&self) -> Result<(), TlsError> {
        // A state is whole whenever the lock is free.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the files are read: one that is replaced in between is read again.
        state.stamps = stamps(&self.files);
        state.config = Arc::new(load(&self.files)?);
        Ok(())
    }

    /// What the next handshake is made with.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = stamps(&self.files);
        if state.stamps != stamps {
            state.stamps = stamps;
            match load(&self.files) {
                Ok(config) => {
                    state.config = Arc::new(config);
                    tracing::info!("the certificate was read again");
                }
                Err(error) => {
                    tracing::error!(%error, "the certificate of before stays");
                }
            }
        }
        Arc::clone(&state.config)
    }
}

fn stamps(files: &TlsFiles) -> Vec<Option<Stamp>> {
    let TlsFiles { certificates, key, client_roots } = files;
    [Some(certificates), Some(key), client_roots.as_ref()]
        .into_iter()
        .flatten()
        .map(|path| Stamp::of(path))
        .collect()
}

fn load(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let TlsFiles { certificates, key, client_roots } = files;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let invalid = TlsError::of(certificates, "a certificate that rustls can use");
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(&invalid)?;
    let builder = match client_roots {
        None => builder.with_no_client_auth(),
        Some(path) => builder.with_client_cert_verifier(verifier(path, provider)?),
    };
    let chain = chain(certificates)?;
    let expected = "a private key in PEM, as PKCS #8, PKCS #1 or SEC 1";
    let secret = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(TlsError::of(key, expected))?;
    let mut config = builder.with_single_cert(chain, secret).map_err(invalid)?;
    config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

/// What asks clients for a certificate and checks it.
fn verifier(
    path: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn tokio_rustls::rustls::server::danger::ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(path)? {
        let expected = "certificates of roots";
        roots.add(certificate).map_err(TlsError::of(path, expected))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(TlsError::of(path, "roots that clients can be checked with"))
}

/// The certificates of a file, at least one.
fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let expected = "at least one certificate in PEM";
    let text = read(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.map_err(TlsError::of(path, expected))?;
    if chain.is_empty() { Err(TlsError::of(path, expected)("found none")) } else { Ok(chain) }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })
}

/// Why certificates cannot be used.
#[derive(Debug)]
pub enum TlsError {
    /// A file holds something else.
    Invalid {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What is wrong with it.
        cause: Box<str>,
    },
    /// A file cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
}

impl TlsError {
    /// Makes an error of what is wrong with the file at `path`.
    fn of<E: fmt::Display>(path: &Path, expected: &'static str) -> impl Fn(E) -> Self {
        move |cause| Self::Invalid {
            path: path.to_owned(),
            expected,
            cause: cause.to_string().into(),
        }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { path, expected, cause } => {
                write!(f, "{}: expected {expected}: {cause}", path.display())
            }
            Self::Unreadable { path, source } => {
                write!(f, "{}: cannot be read: {source}", path.display())
            }
        }
    }
}

impl Error for TlsError {}
