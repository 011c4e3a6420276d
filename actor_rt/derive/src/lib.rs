//! `#[derive(Messages)]` of `actor_rt`.
//!
//! Owns: the entrance. Does not know: what is made (see `messages`). Used through `actor_rt`, which re-exports it.
#![forbid(unsafe_code)]

mod messages;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// See `actor_rt::Messages`.
#[proc_macro_derive(Messages)]
pub fn messages(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    messages::expand(&input)
        .unwrap_or_else(|error| error.to_compile_error())
        .into()
}
