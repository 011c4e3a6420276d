//! TLS: who this node is, and whose clients it takes.
//!
//! Owns: the `[tls]` table, and turning its files into what accepts connections.
//! Does not know: connections, or what a client may do.
//! Invariants: a file that cannot be used is an error at the start that names it and its key,
//! never a connection that fails later; with `client_ca`, a client without a valid certificate
//! does not get as far as a request, unless certificates are optional.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

/// HTTP/2 for those who know it, among them every gRPC client.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The `[tls]` table. All files are PEM.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate of this node, those that vouch for it after it.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// Who vouches for clients. Without it no client is asked for a certificate.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
    /// Whether a client without a certificate is let in when there is a `client_ca`.
    #[serde(default)]
    pub client_certificate: ClientCertificate,
}

/// Whether clients need a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificate {
    /// No certificate, no request.
    #[default]
    Required,
    /// One that is shown has to be valid.
    Optional,
}

/// The `[tls]` table cannot be used. Fix the file that it names.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read, or holds nothing of what it should hold.
    #[error("[tls] {key} = \"{}\": {problem}", path.display())]
    File {
        /// Which value of the table names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong, and what should be there.
        problem: String,
    },
    /// The files can be read, and do not belong together.
    #[error("[tls]: certificate and key cannot be used together: {0}")]
    Unusable(#[from] rustls::Error),
}

impl TlsConfig {
    /// Reads the files.
    ///
    /// # Errors
    /// When one of them is missing, is no PEM, or does not fit the others.
    pub(super) fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let wrong = |problem: String| wrong("client_ca", path, problem);
                let mut roots = RootCertStore::empty();
                for certificate in certificates("client_ca", path)? {
                    let added = roots.add(certificate);
                    added.map_err(|error| wrong(error.to_string()))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = match self.client_certificate {
                    ClientCertificate::Required => verifier,
                    ClientCertificate::Optional => verifier.allow_unauthenticated(),
                };
                let built = verifier.build();
                let verifier =
                    built.map_err(|error: VerifierBuilderError| wrong(error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let chain = certificates("certificate", &self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| wrong("key", &self.key, describe(&error, "PRIVATE KEY")))?;
        let mut config = builder.with_single_cert(chain, key)?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found: Vec<_> = read.map_err(|error| wrong(key, path, describe(&error, "CERTIFICATE")))?;
    match found.is_empty() {
        true => Err(wrong(
            key,
            path,
            describe(&pem::Error::NoItemsFound, "CERTIFICATE"),
        )),
        false => Ok(found),
    }
}

fn wrong(key: &'static str, path: &Path, problem: String) -> TlsError {
    TlsError::File {
        key,
        path: path.to_owned(),
        problem,
    }
}

fn describe(error: &pem::Error, wanted: &str) -> String {
    match error {
        pem::Error::Io(error) => format!("{error}; give the path of a PEM file"),
        pem::Error::NoItemsFound => {
            format!("it holds no `-----BEGIN {wanted}-----`; give a PEM file that does")
        }
        other => format!("it is no valid PEM file: {other}"),
    }
}
