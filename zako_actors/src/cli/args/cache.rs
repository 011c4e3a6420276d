//! The commands of `zako cache`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::lang::amount::bytes;

/// `zako cache`.
#[derive(Debug, Args)]
pub struct CacheArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: CacheCommand,
    /// Wait for the end of a running node that has the store
    #[arg(long, global = true)]
    pub wait: bool,
}

/// The commands of `cache`.
#[derive(Clone, Debug, Subcommand)]
pub enum CacheCommand {
    /// Count blobs, results and bytes
    Stats {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write the blob DIGEST to standard output, or to a file
    Get {
        /// 64 hex characters, with or without `/SIZE`; the first ones are enough
        digest: String,
        /// Write here
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Store files and print their digests
    Put {
        /// The files; `-` is standard input
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Read everything again; what is damaged is set aside
    Verify {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Evict what was not used for the longest time
    Gc {
        /// Keep at most so much, for instance 500M, 20G or 0
        #[arg(long, value_name = "SIZE", value_parser = parse_size)]
        keep: u64,
        /// Spare what was used within so many minutes
        #[arg(long, value_name = "MINUTES", default_value_t = 0)]
        spare: u64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write everything to files below DIR: blobs to cas/HASH, results to ac/KEY
    Export {
        /// The directory
        dir: PathBuf,
    },
    /// Store what `export` wrote below DIR, or any files cas/HASH named by BLAKE3 or SHA-256
    Import {
        /// The directory
        dir: PathBuf,
    },
}

fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || "a size is a number, with K, M, G or T behind it or not".to_owned();
    bytes(text).ok_or_else(wrong)
}
