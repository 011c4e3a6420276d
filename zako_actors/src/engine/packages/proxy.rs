//! Servers that requests go through: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in small letters, too.
//!
//! Owns who is connected with instead of a server, and how: by a tunnel for https, so that the proxy sees nothing but
//! the name, and by asking the proxy itself for http. Does not know what is asked for.
//! Invariant: a proxy that cannot be used is an error, never a reason to go past it.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

type Failure = Box<dyn Error + Send + Sync>;

/// Who stands between us and which servers.
#[derive(Clone, Debug)]
pub struct Proxies(Arc<Matcher>);

impl Proxies {
    /// What the environment says.
    ///
    /// # Errors
    /// Which variable names no proxy. It is not shown: there may be a password in it.
    pub fn of_environment() -> Result<Self, String> {
        let proxy = |names| match said(names) {
            None => Ok(String::new()),
            Some((_, value)) if is_proxy(&value) => Ok(value),
            Some((name, _)) => Err(format!(
                "{name} of the environment names no proxy; it is written http://HOST:PORT or http://NAME:PASSWORD@HOST:PORT"
            )),
        };
        let matcher = Matcher::builder()
            .all(proxy(["ALL_PROXY", "all_proxy"])?)
            .http(proxy(["HTTP_PROXY", "http_proxy"])?)
            .https(proxy(["HTTPS_PROXY", "https_proxy"])?)
            .no(said(["NO_PROXY", "no_proxy"]).map_or(String::new(), |(_, value)| value));
        Ok(Self(Arc::new(matcher.build())))
    }

    /// What a request for `to` itself has to say to the proxy that it goes to.
    pub fn authorization(&self, to: &Uri) -> Option<HeaderValue> {
        let proxy = self.0.intercept(to).filter(|_| !is_secure(to))?;
        proxy.basic_auth().cloned()
    }
}

/// The first of these variables that says something.
fn said(names: [&'static str; 2]) -> Option<(&'static str, String)> {
    let values = names.map(|name| (name, std::env::var_os(name).unwrap_or_default()));
    let mut values = values.into_iter().filter(|(_, value)| !value.is_empty());
    let (name, value) = values.next()?;
    Some((name, value.to_string_lossy().into_owned()))
}

/// Whether `text` is read as a proxy: a matcher leaves out what is not.
fn is_proxy(text: &str) -> bool {
    let matcher = Matcher::builder().all(text.to_owned()).build();
    matcher.intercept(&Uri::from_static("http://x")).is_some()
}

fn is_secure(to: &Uri) -> bool {
    to.scheme_str() == Some("https")
}

/// Connects with servers, or with who stands between.
#[derive(Clone, Debug)]
pub struct Connector {
    direct: HttpConnector,
    proxies: Proxies,
}

impl Connector {
    /// One that goes through `proxies`.
    pub fn new(proxies: Proxies) -> Self {
        let mut direct = HttpConnector::new();
        // TLS is spoken over what this connects with.
        direct.enforce_http(false);
        Self { direct, proxies }
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, Failure>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.direct.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let mut direct = self.direct.clone();
        let proxy = self.proxies.0.intercept(&to);
        Box::pin(async move {
            let Some(proxy) = proxy else {
                return Ok(Stream {
                    tcp: direct.call(to).await?,
                    is_asked_itself: false,
                });
            };
            let through = |error: Failure| -> Failure {
                format!(
                    "through the proxy {}: {}",
                    shown(proxy.uri()),
                    whole(&*error)
                )
                .into()
            };
            Ok(Stream {
                is_asked_itself: !is_secure(&to),
                tcp: connect(direct, &proxy, to).await.map_err(through)?,
            })
        })
    }
}

/// Connects with `proxy`; where `to` is https, with that behind it.
async fn connect(
    mut direct: HttpConnector,
    proxy: &Intercept,
    to: Uri,
) -> Result<TokioIo<TcpStream>, Failure> {
    if proxy.uri().scheme_str() != Some("http") {
        return Err("only http:// is spoken with a proxy".into());
    }
    if !is_secure(&to) {
        return Ok(direct.call(proxy.uri().clone()).await?);
    }
    let mut tunnel = Tunnel::new(proxy.uri().clone(), direct);
    if let Some(authorization) = proxy.basic_auth() {
        tunnel = tunnel.with_auth(authorization.clone());
    }
    Ok(tunnel.call(to).await?)
}

/// Without name and password.
fn shown(proxy: &Uri) -> String {
    let port = proxy
        .port()
        .map_or(String::new(), |port| format!(":{port}"));
    format!("{}{port}", proxy.host().unwrap_or_default())
}

/// An error with what caused it: by itself it says only that something went wrong.
pub fn whole(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// A connection with a server, or with a proxy that is asked itself.
#[derive(Debug)]
pub struct Stream {
    tcp: TokioIo<TcpStream>,
    is_asked_itself: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.is_asked_itself)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, into)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}
