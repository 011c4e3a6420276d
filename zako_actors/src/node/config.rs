//! What a person may set about a node: flags and one TOML file.
//!
//! Owns the file's form, its defaults, and that flags win over it.
//! Does not know what the front ends make of their tables (`cas_actor::front`).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use cas_actor::front::{AccessConfig, DialectsConfig, FrontConfig, LimitsConfig, TlsConfig};
use cas_actor::{StoreConfig, UpstreamConfig};
use serde::Deserialize;

use super::NodeError;
use super::alerts::AlertsConfig;
use super::room::MaxBytes;
use super::store::StoreTable;

/// Where HTTP is answered unless told otherwise: this machine only.
const DEFAULT_HTTP: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7471);

/// What a person may set, by flag or in the configuration file.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Directory of the store.
    pub data_dir: Option<PathBuf>,
    /// Address of HTTP.
    pub http: Option<SocketAddr>,
    /// A second address, for gRPC. Both addresses speak both.
    pub grpc: Option<SocketAddr>,
    /// A socket in the file system.
    pub unix: Option<PathBuf>,
    /// Certificate and key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Who vouches for clients.
    pub tls_client_ca: Option<PathBuf>,
    /// Address of the cache behind the node.
    pub upstream: Option<String>,
    /// Where spans go.
    pub otel: Option<String>,
    /// Configuration file.
    pub config: Option<PathBuf>,
}

/// The configuration file. Every value has a default; `examples/node.toml` shows them all.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    data_dir: Option<PathBuf>,
    max_bytes: Option<MaxBytes>,
    zstd_level: Option<i32>,
    http: Option<SocketAddr>,
    grpc: Option<SocketAddr>,
    unix: Option<PathBuf>,
    otel: Option<String>,
    store: StoreTable,
    limits: LimitsConfig,
    dialects: DialectsConfig,
    access: AccessConfig,
    tls: Option<TlsConfig>,
    alerts: AlertsConfig,
    upstream: Option<UpstreamConfig>,
}

/// What a node runs with.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) data: PathBuf,
    /// Its limit is not known yet: see `max_bytes`.
    pub(super) store: StoreConfig,
    pub(super) max_bytes: Option<MaxBytes>,
    pub(super) http: SocketAddr,
    pub(super) grpc: Option<SocketAddr>,
    pub(super) unix: Option<PathBuf>,
    pub(super) front: FrontConfig,
    pub(super) alerts: AlertsConfig,
    /// The cache behind the node.
    pub(super) upstream: Option<UpstreamConfig>,
    /// Where spans go.
    pub(super) otel: Option<String>,
    /// The file, for messages.
    pub(super) path: Option<PathBuf>,
}

/// Puts flags, file and defaults together.
pub(super) fn read(settings: &Settings) -> Result<Config, NodeError> {
    let file = match &settings.config {
        Some(path) => read_file(path)?,
        None => File::default(),
    };
    if let (Err(message), Some(path)) = (file.alerts.check(), &settings.config) {
        let path = path.clone();
        return Err(NodeError::Config { path, message });
    }
    let data = settings.data_dir.clone().or(file.data_dir);
    let data = data.or_else(default_data_dir).ok_or(NodeError::NoDataDir)?;
    let store = StoreConfig {
        zstd_level: zstd_level(settings, file.zstd_level)?,
        ..file.store.config(data.join("store"))
    };
    Ok(Config {
        data,
        store,
        max_bytes: file.max_bytes,
        http: settings.http.or(file.http).unwrap_or(DEFAULT_HTTP),
        grpc: settings.grpc.or(file.grpc),
        unix: settings.unix.clone().or(file.unix),
        front: FrontConfig {
            limits: file.limits,
            dialects: file.dialects,
            access: file.access,
            tls: tls(settings, file.tls)?,
        },
        alerts: file.alerts,
        upstream: upstream(settings, file.upstream),
        otel: settings.otel.clone().or(file.otel),
        path: settings.config.clone(),
    })
}

/// The levels that zstd knows, without those that need much memory to read again.
fn zstd_level(settings: &Settings, level: Option<i32>) -> Result<Option<i32>, NodeError> {
    match (level, &settings.config) {
        (Some(level), Some(path)) if !(1..=19).contains(&level) => Err(NodeError::Config {
            path: path.clone(),
            message: format!("zstd-level = {level} is no level; 1 (fast) to 19 (small) are"),
        }),
        (level, _) => Ok(level),
    }
}

fn upstream(settings: &Settings, file: Option<UpstreamConfig>) -> Option<UpstreamConfig> {
    match (&settings.upstream, file) {
        (None, file) => file,
        (Some(address), None) => Some(UpstreamConfig::at(address)),
        (Some(address), Some(file)) => Some(UpstreamConfig {
            address: address.clone(),
            ..file
        }),
    }
}

fn tls(settings: &Settings, file: Option<TlsConfig>) -> Result<Option<TlsConfig>, NodeError> {
    let tls = match &settings.tls {
        Some((certificate, key)) => Some(TlsConfig {
            certificate: certificate.clone(),
            key: key.clone(),
            client_ca: file.as_ref().and_then(|file| file.client_ca.clone()),
            client_certificate: file.map(|file| file.client_certificate).unwrap_or_default(),
        }),
        None => file,
    };
    match (tls, &settings.tls_client_ca) {
        (tls, None) => Ok(tls),
        (Some(tls), Some(path)) => Ok(Some(TlsConfig {
            client_ca: Some(path.clone()),
            ..tls
        })),
        (None, Some(_)) => Err(NodeError::ClientCaAlone),
    }
}

fn read_file(path: &Path) -> Result<File, NodeError> {
    let wrong = |message: String| NodeError::Config {
        path: path.to_owned(),
        message,
    };
    let text = std::fs::read_to_string(path).map_err(|error| {
        wrong(format!(
            "the file that --config names cannot be read: {error}; write one as examples/node.toml shows, or leave \
             --config out, as every setting has a default"
        ))
    })?;
    // It tells line, column and key, and what would be valid there.
    toml::from_str(&text).map_err(|error| wrong(error.to_string()))
}

fn default_data_dir() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = set("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".local/share")))?;
    Some(base.join("zako"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<File, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        std::fs::write(&path, text).unwrap();
        read_file(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_wrong_is_named_with_file_line_and_key() {
        for (text, words) in [
            ("htpp = \"127.0.0.1:1\"\n", ["line 1", "htpp"]),
            ("\nhttp = \"localhost\"\n", ["line 2", "socket address"]),
            ("[limits]\nrequests = -1\n", ["line 2", "-1"]),
            ("[limits]\nrequets = 1\n", ["line 2", "requests"]),
            ("[tls]\ncertificate = \"c\"\n", ["line 1", "`key`"]),
            ("[upstream]\nwrite = \"never\"\n", ["line 1", "`address`"]),
            (
                "[upstream]\naddress = \"http://a\"\nwrite = \"yes\"\n",
                ["line 3", "`background`"],
            ),
            (
                "[[access.credential]]\nright = \"rw\"\n",
                ["line 2", "`write`"],
            ),
        ] {
            let error = file(text).unwrap_err();
            let all = ["node.toml"].iter().chain(&words);
            for word in all {
                assert!(error.contains(word), "{text}: {word} is not in {error}");
            }
        }
        let good = file("http = \"127.0.0.1:1\"\ndata-dir = \"/d\"\n").unwrap();
        assert_eq!(good.data_dir, Some("/d".into()));
    }

    #[test]
    fn the_example_shows_the_defaults() {
        let text = include_str!("../../../examples/node.toml");
        // As it is: everything that may be set is commented out or at its default.
        let parsed: File = toml::from_str(text).unwrap();
        let expected = File {
            http: Some(DEFAULT_HTTP),
            limits: LimitsConfig {
                // The one that follows from the machine is a comment.
                ..LimitsConfig::default()
            },
            ..File::default()
        };
        assert_eq!(parsed, expected);
        // With the comments taken away it is still right.
        let all: String = text
            .lines()
            .map(|line| line.strip_prefix("#: ").unwrap_or(line))
            .flat_map(|line| [line, "\n"])
            .collect();
        let parsed: File = toml::from_str(&all).unwrap();
        assert_eq!(parsed.access.credential.len(), 2);
        assert!(parsed.tls.is_some() && parsed.unix.is_some() && parsed.data_dir.is_some());
        assert!(
            parsed
                .upstream
                .is_some_and(|upstream| upstream.ca.is_some())
        );
    }

    /// Which keys there are is what the parser says of one that is none.
    #[test]
    fn the_example_shows_every_key() {
        let text = include_str!("../../../examples/node.toml");
        let example: toml::Table = toml::from_str(&text.replace("#: ", "")).unwrap();
        let mut seen = 0;
        for (table, rest) in [
            ("", ""),
            ("[store]", ""),
            ("[limits]", ""),
            ("[dialects]", ""),
            ("[access]", ""),
            ("[[access.credential]]", ""),
            ("[tls]", "certificate = \"c\"\nkey = \"k\"\n"),
            ("[alerts]", ""),
            ("[[alerts.rule]]", "name = \"n\"\nfigure = \"f\"\n"),
            ("[upstream]", "address = \"http://a\"\n"),
            ("[upstream.s3]", ""),
        ] {
            let said = file(&format!("{table}\n{rest}no-such-key = 1\n")).unwrap_err();
            let (_, keys) = said.split_once("expected one of ").unwrap_or_else(|| {
                let one = said.split_once("expected ");
                one.unwrap_or_else(|| panic!("{table}: {said}"))
            });
            let name = table.trim_matches(['[', ']']);
            let mut tables = vec![&example];
            for part in name.split('.').filter(|part| !part.is_empty()) {
                let below = tables.iter().filter_map(|table| table.get(part));
                tables = below
                    .flat_map(|value| match value {
                        toml::Value::Array(all) => all.iter().collect(),
                        one => vec![one],
                    })
                    .filter_map(toml::Value::as_table)
                    .collect();
            }
            for key in keys.split('`').skip(1).step_by(2) {
                let is_shown = tables.iter().any(|table| table.contains_key(key));
                // What excludes another key is named beside it.
                let is_named = text.contains(&format!("`{key}`"));
                assert!(is_shown || is_named, "{table}: {key} is not in the example");
                seen += 1;
            }
        }
        assert!(seen > 50, "{seen}");
    }

    #[test]
    fn an_address_by_flag_keeps_the_rest_of_the_table() {
        let settings = Settings {
            upstream: Some("http://flag".into()),
            ..Default::default()
        };
        assert_eq!(upstream(&Settings::default(), None), None);
        let alone = upstream(&settings, None);
        assert_eq!(alone, Some(UpstreamConfig::at("http://flag")));
        let table = UpstreamConfig {
            bearer: Some("token".into()),
            ..UpstreamConfig::at("http://file")
        };
        let both = upstream(&settings, Some(table)).unwrap();
        assert_eq!(
            (&both.address[..], both.bearer),
            ("http://flag", Some("token".into()))
        );
    }

    /// The example with something else in one place: it is read, or refused with a line.
    #[test]
    fn a_file_with_any_mistake_is_read_or_refused() {
        use proptest::prelude::*;

        let example = include_str!("../../../examples/node.toml").replace("#: ", "");
        let at = any::<proptest::sample::Index>();
        let config = proptest::test_runner::Config::default();
        let mut runner = proptest::test_runner::TestRunner::new(config);
        let run = runner.run(&(at.clone(), at, ".{0,8}"), |(start, length, put)| {
            let chars: Vec<char> = example.chars().collect();
            let start = start.index(chars.len());
            let end = (start + length.index(16)).min(chars.len());
            let text: String = chars[..start]
                .iter()
                .copied()
                .chain(put.chars())
                .chain(chars[end..].iter().copied())
                .collect();
            if let Err(error) = toml::from_str::<File>(&text) {
                prop_assert!(error.to_string().contains("line "), "{}", error);
            }
            Ok(())
        });
        run.unwrap();
    }

    #[test]
    fn flags_win_and_belong_together() {
        let settings = Settings {
            data_dir: Some("d".into()),
            tls: Some(("c".into(), "k".into())),
            tls_client_ca: Some("ca".into()),
            ..Default::default()
        };
        let tls = read(&settings).unwrap().front.tls.unwrap();
        assert_eq!((tls.key, tls.client_ca), ("k".into(), Some("ca".into())));
        let alone = Settings {
            tls: None,
            ..settings
        };
        assert!(matches!(read(&alone), Err(NodeError::ClientCaAlone)));
    }
}
