//! TLS: who we are to clients, and whom we believe among servers.
//!
//! Everything is read from PEM files, with rustls and ring. A listener's certificate is taken up anew when its files change, as
//! the policy is: found by content once a second, and a pair that cannot be used changes nothing. So is the certificate that we
//! show to servers; whether that has changed is looked at when a connection is made, at most once a second.
//!
//! This module knows nothing of HTTP; connections and configuration files are handed what it has read.

use ring::digest::{SHA256, digest};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};
use std::error::Error;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tracing::{error, info, warn};

/// A certificate and its private key, each in a PEM file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, the certificate itself first.
    pub certificate: PathBuf,
    /// The key, not encrypted.
    pub key: PathBuf,
}

/// What a listener shows of itself, and asks of its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerFiles {
    /// Who it is.
    pub certificate: CertificateFiles,
    /// Whose certificates clients may show; `None`: they are not asked for any.
    pub clients: Option<ClientAuthorities>,
}

/// Whose certificates clients may show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuthorities {
    /// The authorities' own certificates.
    pub authorities: PathBuf,
    /// Whether a client without one is turned away.
    pub required: bool,
}

impl From<CertificateFiles> for ListenerFiles {
    fn from(certificate: CertificateFiles) -> ListenerFiles {
        ListenerFiles { certificate, clients: None }
    }
}

/// How an `https` server is told from an impostor, and who we are to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Certificates of the authorities that are believed, in place of the system's. `None`: the system's.
    ///
    /// In place of them and not besides, because a server with an authority of its own needs no other; who wants both writes
    /// both into the file.
    pub authorities: Option<PathBuf>,
    /// What we show to a server that asks who we are.
    pub certificate: Option<CertificateFiles>,
}

impl UpstreamTls {
    /// Whether anything differs from what every `https` address gets.
    pub fn is_default(&self) -> bool {
        self.authorities.is_none() && self.certificate.is_none()
    }
}

/// Why files of certificates or keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("`{}` cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file holds something else than it should.
    #[error("`{}` {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what it should be.
        what: String,
    },
    /// A key and a certificate that are not each other's.
    #[error(
        "the key in `{}` does not belong to the certificate in `{}`; the certificate itself must stand first, those that signed it after it",
        key.display(),
        certificate.display()
    )]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The system has no certificates of authorities.
    #[error("the system's certificate authorities cannot be read ({0}); install `ca-certificates`, or name a file of them")]
    NoSystemAuthorities(String),
}

/// The certificate of a listener, and the authorities of its clients, as their files hold them now.
#[derive(Debug)]
pub struct ListenerTls {
    files: ListenerFiles,
    config: watch::Sender<Arc<ServerConfig>>,
    seen: Seen,
}

/// What files held.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen(Vec<Option<[u8; 32]>>);

impl ListenerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// When they are not a chain and its key, or hold no authorities.
    pub fn read(files: impl Into<ListenerFiles>) -> Result<ListenerTls, TlsError> {
        let files = files.into();
        let seen = Seen::of(&files.all());
        let config = server_config(&files)?;
        Ok(ListenerTls { files, config: watch::Sender::new(config), seen })
    }

    /// Accepts connections with the certificate that is in force when each begins.
    pub(crate) fn acceptor(&self) -> impl Fn() -> TlsAcceptor + Clone + Send + Sync + 'static {
        let config = self.config.subscribe();
        move || TlsAcceptor::from(config.borrow().clone())
    }

    /// Takes up what the files come to hold, for as long as it is polled.
    pub(crate) async fn watch(self) {
        let ListenerTls { files, config, mut seen } = self;
        // Two files are not replaced at one moment: what is wrong is reported once it has stayed so for a second.
        let mut doubted = None;
        loop {
            tokio::time::sleep(INTERVAL).await;
            let now = Seen::of(&files.all());
            if now == seen {
                continue;
            }
            match server_config(&files) {
                Ok(another) => {
                    info!(path = %files.certificate.certificate.display(), "another certificate is in use");
                    config.send_replace(another);
                    seen = now;
                    doubted = None;
                }
                Err(bad) if doubted.as_ref() == Some(&now) => {
                    error!(error = %bad, "the certificate stays as it is");
                    seen = now;
                }
                Err(_) => doubted = Some(now),
            }
        }
    }
}

impl ListenerFiles {
    fn all(&self) -> Vec<&Path> {
        let clients = self.clients.as_ref().map(|clients| clients.authorities.as_path());
        self.certificate.all().into_iter().chain(clients).collect()
    }
}

impl CertificateFiles {
    fn all(&self) -> Vec<&Path> {
        vec![&self.certificate, &self.key]
    }
}

impl Seen {
    fn of(files: &[&Path]) -> Seen {
        let hash = |path: &&Path| {
            let hash = digest(&SHA256, &read(path).ok()?);
            hash.as_ref().try_into().ok()
        };
        Seen(files.iter().map(hash).collect())
    }
}

fn server_config(files: &ListenerFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, key) = pair(&files.certificate)?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of TLS 1.2 and 1.3");
    let builder = match &files.clients {
        None => builder.with_no_client_auth(),
        Some(ClientAuthorities { authorities: path, required }) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities(path)?), provider());
            let verifier = if *required { verifier } else { verifier.allow_unauthenticated() };
            let verifier = verifier.build();
            builder.with_client_cert_verifier(verifier.map_err(|error| no_authority(path, &error))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| unusable(&files.certificate, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// What connections to `https` servers are made with.
pub(crate) fn client_config(tls: &UpstreamTls) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of TLS 1.2 and 1.3");
    let roots = match &tls.authorities {
        Some(path) => authorities(path)?,
        None => system_authorities()?,
    };
    let builder = builder.with_root_certificates(roots);
    match &tls.certificate {
        None => Ok(builder.with_no_client_auth()),
        Some(files) => {
            let mut config = builder.with_client_cert_resolver(Arc::new(OurCertificate::read(files)?));
            // What is resumed goes on under the certificate with which it began.
            config.resumption = Resumption::disabled();
            Ok(config)
        }
    }
}

/// What we show to a server that asks who we are, as its files hold it now.
#[derive(Debug)]
struct OurCertificate {
    files: CertificateFiles,
    state: Mutex<Shown>,
}

#[derive(Debug)]
struct Shown {
    key: Arc<CertifiedKey>,
    seen: Seen,
    looked: Instant,
}

impl OurCertificate {
    fn read(files: &CertificateFiles) -> Result<OurCertificate, TlsError> {
        let seen = Seen::of(&files.all());
        let shown = Shown { key: certified(files)?, seen, looked: Instant::now() };
        Ok(OurCertificate { files: files.clone(), state: Mutex::new(shown) })
    }

    /// What is to be shown now. Files that cannot be used change nothing.
    fn now(&self) -> Arc<CertifiedKey> {
        let mut shown = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.looked.elapsed() < INTERVAL {
            return shown.key.clone();
        }
        shown.looked = Instant::now();
        let now = Seen::of(&self.files.all());
        if now != shown.seen {
            match certified(&self.files) {
                Ok(key) => {
                    info!(path = %self.files.certificate.display(), "another certificate is shown to the server");
                    (shown.key, shown.seen) = (key, now);
                }
                Err(bad) => error!(error = %bad, "the certificate that is shown to the server stays as it is"),
            }
        }
        shown.key.clone()
    }
}

impl ResolvesClientCert for OurCertificate {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let key = self.now();
        key.key.choose_scheme(schemes)?;
        Some(key)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn certified(files: &CertificateFiles) -> Result<Arc<CertifiedKey>, TlsError> {
    let (chain, key) = pair(files)?;
    CertifiedKey::from_der(chain, key, &provider()).map(Arc::new).map_err(|error| unusable(files, &error))
}

/// What plain `http` addresses are given: nobody is believed.
pub(crate) fn no_client_config() -> ClientConfig {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of TLS 1.2 and 1.3")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}

/// What an error holds. The source of an `io::Error` is that of what it holds, which is thus left out.
fn cause<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(held) => Some(held),
        None => error.source(),
    }
}

/// What of TLS is behind a failed request, and what might help; `None` where it failed for another reason.
pub(crate) fn complaint(error: &(dyn Error + 'static)) -> Option<(String, &'static str)> {
    use rustls::{AlertDescription, CertificateError};
    let found =
        std::iter::successors(Some(error), |&error| cause(error)).find_map(|error| error.downcast_ref::<rustls::Error>())?;
    Some(match found.clone() {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => (
            "the server's certificate is signed by no authority that is trusted".to_owned(),
            "name its authority with --upstream-ca, if you trust it",
        ),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => ("the server's certificate is for another name".to_owned(), "write the address by a name in the certificate"),
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            ("the server's certificate has expired".to_owned(), "it is the server's to renew")
        }
        rustls::Error::InvalidCertificate(error) => {
            (format!("the server's certificate is not accepted: {error}"), "it is the server's to mend")
        }
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied,
        ) => ("the server does not accept who we are".to_owned(), "name a certificate with --upstream-cert and --upstream-key"),
        rustls::Error::InvalidMessage(_) => {
            ("the server does not speak TLS".to_owned(), "write http:// if it is meant to be reached in the clear")
        }
        other => (format!("TLS with the server failed: {other}"), "see what the server says of it"),
    })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn system_authorities() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or("there are none".to_owned(), ToString::to_string);
        return Err(TlsError::NoSystemAuthorities(why));
    }
    Ok(roots)
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| content(path, format!("holds a certificate that cannot be read: {error}")))?;
    }
    // An authority that cannot be one is found now, not with the first call.
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots.clone()), provider())
        .build()
        .map_err(|error| no_authority(path, &error))?;
    Ok(roots)
}

fn no_authority(path: &Path, error: &dyn Error) -> TlsError {
    content(path, format!("holds no certificate authority that can be used: {error}"))
}

fn pair(files: &CertificateFiles) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = certificates(&files.certificate)?;
    let text = contents(&files.key)?;
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| content(&files.key, no_key(&text, &error)))?;
    // A path that can be read a moment ago has metadata.
    let mode = std::fs::metadata(&files.key).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o077 != 0 {
        let path = files.key.display();
        warn!(%path, "others on this machine may read this private key; mend it with `chmod 600`");
    }
    Ok((chain, key))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = contents(path)?;
    let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.map_err(|error| content(path, format!("is not PEM: {error}")))?;
    if chain.is_empty() {
        return Err(content(path, "holds no certificate; it must be PEM, with `-----BEGIN CERTIFICATE-----`".to_owned()));
    }
    Ok(chain)
}

fn no_key(text: &[u8], error: &pem::Error) -> String {
    let is_encrypted = text.windows(ENCRYPTED.len()).any(|bytes| bytes == ENCRYPTED);
    match error {
        _ if is_encrypted => "holds an encrypted private key; decrypt it with `openssl pkey -in FILE -out FILE`".to_owned(),
        pem::Error::NoItemsFound => "holds no private key; it must be PEM, with `-----BEGIN PRIVATE KEY-----`".to_owned(),
        error => format!("is not PEM: {error}"),
    }
}

fn unusable(files: &CertificateFiles, error: &rustls::Error) -> TlsError {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::Mismatch { certificate: files.certificate.clone(), key: files.key.clone() }
        }
        rustls::Error::General(_) => content(&files.key, format!("holds a private key of a kind that is not supported: {error}")),
        error => content(&files.certificate, format!("holds a certificate that cannot be used: {error}")),
    }
}

fn content(path: &Path, what: String) -> TlsError {
    TlsError::Content { path: path.to_owned(), what }
}

fn contents(path: &Path) -> Result<Vec<u8>, TlsError> {
    read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than 4 MiB"));
    }
    Ok(text)
}

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// All authorities of a system are less than 1 MiB.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;
const ENCRYPTED: &[u8] = b"ENCRYPTED";
