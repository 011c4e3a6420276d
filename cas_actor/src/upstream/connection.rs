//! How servers behind this one are spoken to: who we say we are, and whom we believe.
//!
//! Owns: credentials, and TLS as a client.
//! Does not know: which server is meant, or what is said to it.
//! Invariants: a server's certificate is always checked; credentials are never printed.
#![forbid(unsafe_code)]

use std::path::Path;

use hyper::body::Body;
use hyper::header::HeaderValue;
use hyper_rustls::builderstates::WantsProtocols1;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio_rustls::rustls::client::WantsClientCert;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, ConfigBuilder, RootCertStore};

use super::config::UpstreamConfigError;

/// Credentials and TLS for the servers behind a store. The default has no credentials and speaks
/// no TLS.
#[derive(Clone, Default)]
pub struct Connection {
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) tls: Option<ClientConfig>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("authorization", &self.authorization.is_some())
            .field("tls", &self.tls.is_some())
            .finish()
    }
}

impl Connection {
    /// One that speaks TLS and says nothing of us. It believes whom the file `ca` (PEM) vouches for, or else whom
    /// the system does.
    ///
    /// # Errors
    /// When nobody is to be believed.
    pub fn secure(ca: Option<&Path>) -> Result<Self, UpstreamConfigError> {
        Ok(Self {
            authorization: None,
            tls: Some(tls(ca, None)?),
        })
    }

    /// A client of plain HTTP, and of TLS where that is spoken.
    pub fn client<B>(&self) -> Client<HttpsConnector<HttpConnector>, B>
    where
        B: Body + Send + Unpin + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let connector = self.connector().enable_http1().build();
        Client::builder(TokioExecutor::new()).build(connector)
    }

    /// Speaks TLS over what `connector` connects with.
    pub fn over<C>(&self, connector: C) -> HttpsConnector<C> {
        self.connector().enable_http1().wrap_connector(connector)
    }

    /// What connects for gRPC.
    pub(crate) fn http2(&self) -> HttpsConnector<HttpConnector> {
        self.connector().enable_http2().build()
    }

    fn connector(&self) -> HttpsConnectorBuilder<WantsProtocols1> {
        // Without TLS nobody asks for an address that needs it.
        let tls = self.tls.clone();
        let tls = tls.unwrap_or_else(|| {
            let trusted = trusting(RootCertStore::empty());
            trusted.with_no_client_auth()
        });
        HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
    }
}

fn trusting(roots: RootCertStore) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots)
}

/// TLS that believes whom the file `ca` vouches for, or else whom the system does, and shows a
/// certificate of ours if there is one.
pub(super) fn tls(
    ca: Option<&Path>,
    own: Option<(&Path, &Path)>,
) -> Result<ClientConfig, UpstreamConfigError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            for certificate in certificates("ca", path)? {
                let added = roots.add(certificate);
                added.map_err(|error| file("ca", path, &error))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            if roots.add_parsable_certificates(found.certs).0 == 0 {
                let problem = "this system has no list of certificate authorities; \
                    name a PEM file with `ca`";
                return Err(UpstreamConfigError::new("ca", problem));
            }
        }
    }
    let builder = trusting(roots);
    let Some((certificate, key)) = own else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates("certificate", certificate)?;
    let read = PrivateKeyDer::from_pem_file(key).map_err(|error| file("key", key, &error))?;
    builder
        .with_client_auth_cert(chain, read)
        .map_err(|error| file("certificate", certificate, &error))
}

fn certificates(
    key: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, UpstreamConfigError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found: Vec<_> = read.map_err(|error| file(key, path, &error))?;
    match found.is_empty() {
        true => Err(file(key, path, &"it holds no certificate")),
        false => Ok(found),
    }
}

fn file(key: &'static str, path: &Path, problem: &dyn std::fmt::Display) -> UpstreamConfigError {
    let problem = format!(
        "\"{}\": {problem}; give the path of a PEM file",
        path.display()
    );
    UpstreamConfigError::new(key, problem)
}
