//! Flags of the commands that serve, check the machine and set up.

use std::path::PathBuf;

use clap::Args;

/// Flags of `node`.
#[derive(Clone, Debug, Args)]
pub struct NodeArgs {
    /// Keep the store in DIR [default: $XDG_DATA_HOME/zako or ~/.local/share/zako]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Answer HTTP on ADDR [default: 127.0.0.1:7471]
    #[arg(long, value_name = "ADDR")]
    pub http: Option<std::net::SocketAddr>,
    /// Answer on ADDR as well, for gRPC [default: gRPC is answered where HTTP is]
    #[arg(long, value_name = "ADDR")]
    pub grpc: Option<std::net::SocketAddr>,
    /// Answer at a socket in the file system as well
    #[arg(long, value_name = "PATH")]
    pub unix: Option<PathBuf>,
    /// Speak TLS with the certificate in FILE (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Let only clients in for whose certificate FILE (PEM) vouches
    #[arg(long, value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// Look for what is not here in the cache at ADDR, and keep it: http[s]://HOST[:PORT][/PATH],
    /// grpc[s]://HOST:PORT[/INSTANCE] or s3://BUCKET[/PREFIX]; credentials, TLS and handing on what
    /// is stored here are set in [upstream] of the configuration
    #[arg(long, value_name = "ADDR")]
    pub upstream: Option<String>,
    /// Send requests as spans of OpenTelemetry to TO: stdout, or a collector at http://HOST:4318
    #[arg(long, value_name = "TO")]
    pub otel: Option<String>,
    /// Read settings from FILE (TOML); flags win. examples/node.toml shows all of them. Among them: a blob
    /// above 64 KiB is checked at its first read, after each change of its file and once a day; with
    /// verify_reads = "always" in [store] at every read, so that a bit that decays on the disk is never served
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Flags of `doctor`.
#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Flags of `init`.
#[derive(Clone, Debug, Args)]
pub struct InitArgs {
    /// The package's group [default: local]
    #[arg(long)]
    pub group: Option<String>,
    /// The package's name [default: that of package.json, or of the directory]
    #[arg(long)]
    pub name: Option<String>,
}
