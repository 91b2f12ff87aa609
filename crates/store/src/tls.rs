//! TLS towards a state server: certificates are always verified.

use crate::error::Fault;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;

/// What a connection is to trust: the certificates in `roots`, else the system's.
pub(crate) fn client(roots: Option<&Path>) -> Result<Arc<ClientConfig>, Fault> {
    let mut trusted = RootCertStore::empty();
    match roots {
        Some(path) => {
            let unread =
                |problem: String| Fault::State(format!("the certificates in `{}` cannot be used: {problem}", path.display()));
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unread(error.to_string()))? {
                let certificate = certificate.map_err(|error| unread(error.to_string()))?;
                trusted.add(certificate).map_err(|error| unread(error.to_string()))?;
            }
            if trusted.is_empty() {
                return Err(unread("it holds none".to_owned()));
            }
        }
        None => {
            trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if trusted.is_empty() {
                return Err(Fault::State(
                    "this system has no root certificates; install `ca-certificates`, or name the server's own".to_owned(),
                ));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.map_err(|error| Fault::State(format!("TLS cannot be used: {error}")))?;
    Ok(Arc::new(builder.with_root_certificates(trusted).with_no_client_auth()))
}
