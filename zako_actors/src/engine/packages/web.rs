//! Files by HTTP.
//!
//! Owns the requests, redirects, repetition and the bounds on size and patience. Does not know what the files are.
//! Invariants: who was given credentials gets them, and no server that it leads to; from https nothing leads to
//! http; nothing is larger than allowed, whatever the server says.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use cas_actor::Connection;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderMap, LOCATION, PROXY_AUTHORIZATION, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::runtime::Handle;
use tokio::time::timeout;
use url::Url;

use super::proxy::{Connector, Proxies, whole};

/// How long a server may take for its answer, and for each piece of it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Times that a server is asked that fails or does not answer, and how long to wait before each next one.
const PAUSES: [Duration; 2] = [Duration::from_millis(300), Duration::from_millis(1500)];
/// Servers that may send us on to the next.
const MOST_REDIRECTS: usize = 10;

/// Why a file did not come.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The server cannot be reached, or went silent.
    #[error("{url}: {why}")]
    Failed {
        /// What was asked for.
        url: Url,
        /// What went wrong.
        why: String,
    },
    /// The server said no.
    #[error("{url} was answered with {status}")]
    Status {
        /// What was asked for.
        url: Url,
        /// The answer.
        status: StatusCode,
    },
    /// The server leads somewhere that we do not follow.
    #[error("{from} leads to {to}, which is not followed: {why}")]
    Redirect {
        /// What was asked for.
        from: Box<Url>,
        /// Where it led.
        to: String,
        /// Why not.
        why: &'static str,
    },
    /// It is too much.
    #[error(
        "{url} is larger than {limit} bytes; `max-download` in [settings.packages] of zako.toml allows more"
    )]
    TooLarge {
        /// What was asked for.
        url: Url,
        /// The limit.
        limit: u64,
    },
    /// The disk refused.
    #[error("cannot write {path}: {source}")]
    Disk {
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl WebError {
    /// Whether another try may succeed.
    fn may_pass(&self) -> bool {
        match self {
            Self::Failed { .. } => true,
            Self::Status { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            _ => false,
        }
    }
}

/// What a file is asked for with.
pub struct Wish<'a> {
    /// Where it is.
    pub url: &'a Url,
    /// What goes into `Accept`.
    pub accept: &'static str,
    /// What goes into `Authorization` for each server on the way.
    pub authorization: &'a dyn Fn(&Url) -> Option<String>,
    /// Most bytes.
    pub limit: u64,
}

/// A client of HTTP and HTTPS.
pub struct Web {
    client: Client<HttpsConnector<Connector>, Empty<Bytes>>,
    proxies: Proxies,
    runtime: Handle,
}

impl Web {
    /// A client that believes whom the file `authorities` vouches for, or else whom the system does.
    ///
    /// # Errors
    /// What is wrong with the file, with the system's list, or with a proxy of the environment.
    pub fn new(runtime: Handle, authorities: Option<&Path>) -> Result<Self, String> {
        let connection =
            Connection::secure(authorities).map_err(|error| error.problem().to_owned())?;
        let proxies = Proxies::of_environment()?;
        let connector = connection.over(Connector::new(proxies.clone()));
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            proxies,
            runtime,
        })
    }

    /// Writes the file into `path`. Blocks.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn download(&self, wish: &Wish<'_>, path: &Path) -> Result<(), WebError> {
        let mut pauses = PAUSES.iter();
        loop {
            match self.runtime.block_on(self.once(wish, path)) {
                Err(error) if error.may_pass() => match pauses.next() {
                    Some(pause) => {
                        tracing::info!("{error}; asking again");
                        std::thread::sleep(*pause);
                    }
                    None => return Err(error),
                },
                done => return done,
            }
        }
    }

    async fn once(&self, wish: &Wish<'_>, path: &Path) -> Result<(), WebError> {
        let (url, answer) = self.answer(wish).await?;
        let disk = |source| WebError::Disk {
            path: path.display().to_string(),
            source,
        };
        let failed = |why: String| WebError::Failed {
            url: url.clone(),
            why,
        };
        let mut file = BufWriter::new(File::create(path).map_err(disk)?);
        let mut body = answer.into_body();
        let mut length = 0;
        loop {
            let frame = timeout(PATIENCE, body.frame()).await;
            let frame =
                frame.map_err(|_| failed(format!("nothing came for {} s", PATIENCE.as_secs())))?;
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|error| failed(format!("broke off: {error}")))?;
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            length += piece.len() as u64;
            if length > wish.limit {
                return Err(WebError::TooLarge {
                    url,
                    limit: wish.limit,
                });
            }
            file.write_all(&piece).map_err(disk)?;
        }
        file.flush().map_err(disk)
    }

    /// The answer of the server that has it.
    async fn answer(&self, wish: &Wish<'_>) -> Result<(Url, Response<Incoming>), WebError> {
        let mut url = wish.url.clone();
        for _ in 0..=MOST_REDIRECTS {
            let answer = self.ask(&url, wish).await?;
            match answer.status() {
                StatusCode::OK => return Ok((url, answer)),
                status if status.is_redirection() => url = follow(&url, answer.headers())?,
                status => return Err(WebError::Status { url, status }),
            }
        }
        Err(WebError::Redirect {
            from: Box::new(wish.url.clone()),
            to: url.to_string(),
            why: "it goes on and on",
        })
    }

    async fn ask(&self, url: &Url, wish: &Wish<'_>) -> Result<Response<Incoming>, WebError> {
        let failed = |why: String| WebError::Failed {
            url: url.clone(),
            why,
        };
        // Only the server that a token is for is given it, so each on the way is asked for by itself.
        let mut request = Request::get(url.as_str())
            .header(USER_AGENT, concat!("zako/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, wish.accept);
        if let Some(authorization) = (wish.authorization)(url) {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::new());
        let mut request = request.map_err(|error| failed(error.to_string()))?;
        if let Some(authorization) = self.proxies.authorization(request.uri()) {
            let headers = request.headers_mut();
            headers.insert(PROXY_AUTHORIZATION, authorization);
        }
        let answer = timeout(PATIENCE, self.client.request(request)).await;
        let answer =
            answer.map_err(|_| failed(format!("no answer within {} s", PATIENCE.as_secs())))?;
        answer.map_err(|error| failed(whole(&error)))
    }
}

fn follow(from: &Url, headers: &HeaderMap) -> Result<Url, WebError> {
    let to = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    let refuse = |why| WebError::Redirect {
        from: Box::new(from.clone()),
        to: to.unwrap_or("nowhere").to_owned(),
        why,
    };
    let url = to.and_then(|to| from.join(to).ok());
    let url = url.ok_or_else(|| refuse("it is no address"))?;
    match (from.scheme(), url.scheme()) {
        (_, "https") | ("http", "http") => Ok(url),
        ("https", "http") => Err(refuse(
            "whoever is on the way could replace what comes by http://",
        )),
        _ => Err(refuse("it is no address of HTTP")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_safe_is_followed() {
        let to = |from: &str, to: &str| {
            let headers = [(LOCATION, to.parse().unwrap())].into_iter().collect();
            let followed = follow(&Url::parse(from).unwrap(), &headers);
            followed
                .map(|url| url.to_string())
                .map_err(|error| error.to_string())
        };
        assert_eq!(to("https://a.org/x/y", "../z").unwrap(), "https://a.org/z");
        assert_eq!(
            to("http://a.org/x", "https://b.org/").unwrap(),
            "https://b.org/"
        );
        assert!(
            to("https://a.org/x", "http://a.org/x")
                .unwrap_err()
                .contains("replace what comes")
        );
        assert!(
            to("http://a.org/x", "file:///etc/passwd")
                .unwrap_err()
                .contains("no address of HTTP")
        );
        let none = follow(&Url::parse("http://a.org").unwrap(), &HeaderMap::new());
        assert!(none.unwrap_err().to_string().contains("leads to nowhere"));
    }
}
