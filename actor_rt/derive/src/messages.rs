//! What `#[derive(Messages)]` makes of an enum, and why it refuses one.
//!
//! Owns: the checks, each of whose errors stands at the place to change, and the code made. All mistakes of an enum
//! are told at once.
//! Does not know: which handlers an actor has; the compiler finds out where `dispatch` is called.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use std::collections::HashMap;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Field, Ident, Result, Type, Variant};

/// A variant that is as it should be.
struct Message<'a> {
    variant: &'a Ident,
    /// The name of its only field, if that has one.
    field: Option<&'a Ident>,
    held: &'a Type,
}

impl Message<'_> {
    /// The variant around `message`, as a pattern and as an expression.
    fn whole(&self) -> TokenStream {
        let variant = self.variant;
        match self.field {
            Some(field) => quote!(Self::#variant { #field: message }),
            None => quote!(Self::#variant(message)),
        }
    }
}

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let messages = read(input)?;
    let conversions = messages.iter().map(|message| conversion(input, message));
    let dispatches = [false, true].map(|awaits| dispatch(input, &messages, awaits));
    let name = &input.ident;
    let (generics, arguments, bounds) = input.generics.split_for_impl();
    Ok(quote! {
        #(#conversions)*
        #[automatically_derived]
        impl #generics #name #arguments #bounds {
            #(#dispatches)*
        }
    })
}

/// Looks the enum over.
fn read(input: &DeriveInput) -> Result<Vec<Message<'_>>> {
    let name = &input.ident;
    let variants = match &input.data {
        Data::Enum(data) => &data.variants,
        Data::Struct(_) | Data::Union(_) => {
            let text = format!(
                "`Messages` is derived for an enum of message types, and `{name}` is none: \
                 write `enum {name}Msg {{ {name}({name}) }}` and derive it there"
            );
            return Err(Error::new_spanned(name, text));
        }
    };
    let mut wrong = Wrong(None);
    if variants.is_empty() {
        wrong.add(
            name,
            &format!("`{name}` has no variants, so there is nothing to send"),
        );
    }
    for lifetime in input.generics.lifetimes() {
        let text =
            "a message outlives whoever sends it, so it cannot borrow: let it own what it carries";
        wrong.add(lifetime, text);
    }
    let mut messages: Vec<Message<'_>> = Vec::new();
    let mut holders = HashMap::new();
    for variant in variants {
        let field = match only_field(variant) {
            Ok(field) => field,
            Err(text) => {
                wrong.add(variant, &text);
                continue;
            }
        };
        let (held, variant) = (&field.ty, &variant.ident);
        if let Some(first) = holders.insert(held.to_token_stream().to_string(), variant) {
            let text = format!(
                "`{first}` and `{variant}` hold the same type, so that a value of it could be either: \
                 give each a type of its own, as in `struct {variant}(…)`"
            );
            wrong.add(held, &text);
        }
        messages.push(Message {
            variant,
            field: field.ident.as_ref(),
            held,
        });
    }
    match wrong.0 {
        Some(error) => Err(error),
        None => Ok(messages),
    }
}

/// The field of a variant that has one, or what to do about it.
fn only_field(variant: &Variant) -> std::result::Result<&Field, String> {
    let mut fields = variant.fields.iter();
    let name = &variant.ident;
    match (fields.next(), fields.next()) {
        (Some(field), None) => Ok(field),
        (None, _) => Err(format!(
            "`{name}` holds no value: give it a type of its own, `struct {name};`, and write `{name}({name})`"
        )),
        (Some(_), Some(_)) => Err(format!(
            "`{name}` holds more than one value: put them into a type of its own, `struct {name} {{ … }}`, and write \
             `{name}({name})`"
        )),
    }
}

/// Gathers errors, so that all are told.
struct Wrong(Option<Error>);

impl Wrong {
    fn add(&mut self, place: impl ToTokens, text: &str) {
        let error = Error::new_spanned(place, text);
        match &mut self.0 {
            Some(errors) => errors.combine(error),
            none => *none = Some(error),
        }
    }
}

fn conversion(input: &DeriveInput, message: &Message<'_>) -> TokenStream {
    let (held, whole) = (message.held, message.whole());
    let name = &input.ident;
    let (generics, arguments, bounds) = input.generics.split_for_impl();
    // At the type, for what the compiler may find wrong with it.
    quote_spanned! {held.span()=>
        #[automatically_derived]
        impl #generics ::core::convert::From<#held> for #name #arguments #bounds {
            #[inline]
            fn from(message: #held) -> Self {
                #whole
            }
        }
    }
}

fn dispatch(input: &DeriveInput, messages: &[Message<'_>], awaits: bool) -> TokenStream {
    let (method, actor, handle, context) = if awaits {
        (
            quote!(async fn dispatch_async),
            quote!(::actor_rt::AsyncActor),
            quote!(::actor_rt::AsyncHandle),
            quote!(::actor_rt::AsyncContext<__A>),
        )
    } else {
        (
            quote!(fn dispatch),
            quote!(::actor_rt::Actor),
            quote!(::actor_rt::Handle),
            quote!(::actor_rt::Context<'_, __A>),
        )
    };
    let doc = if awaits {
        "Hands the message to the asynchronous actor's handler of its type."
    } else {
        "Hands the message to the actor's handler of its type."
    };
    let waiting = awaits.then(|| quote!(.await));
    let visible = &input.vis;
    let bounds = messages.iter().map(|message| {
        let held = message.held;
        quote!(+ #handle<#held>)
    });
    let arms = messages.iter().map(|message| {
        let (held, whole) = (message.held, message.whole());
        quote! {
            #whole => <__A as #handle<#held>>::handle_one(actor, message, context)#waiting,
        }
    });
    quote! {
        #[doc = #doc]
        #[allow(dead_code)]
        #visible #method<__A>(self, actor: &mut __A, context: &mut #context)
        where
            __A: #actor<Msg = Self> #(#bounds)*
        {
            match self {
                #(#arms)*
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    /// What the compiler would tell, one line for each mistake.
    fn refusals(input: &DeriveInput) -> Vec<String> {
        match expand(input) {
            Ok(code) => panic!("taken: {code}"),
            Err(error) => error.into_iter().map(|one| one.to_string()).collect(),
        }
    }

    #[test]
    fn each_type_is_converted_and_dispatched() {
        let input = parse_quote! {
            pub enum Msg<T: Send> where T: Clone {
                Add(Add),
                Put { what: Box<T> },
                Sum(Reply<u64>),
            }
        };
        let code = expand(&input).expect("all is well").to_string();
        for part in [
            "From < Add > for Msg < T >",
            "Self :: Put { what : message }",
            "Self :: Add (message)",
            "Handle < Reply < u64 > >",
        ] {
            assert!(code.contains(part), "{part}: {code}");
        }
    }

    #[test]
    fn every_variant_that_holds_none_or_several_is_named_with_its_remedy() {
        let input = parse_quote! { enum Msg { Tick, Add(u64), Move { x: u8, y: u8 }, Stop() } };
        let told = refusals(&input);
        let beginnings = [
            "`Tick` holds no value",
            "`Move` holds more than one value",
            "`Stop` holds no value",
        ];
        assert_eq!(told.len(), beginnings.len(), "{told:?}");
        for (told, beginning) in told.iter().zip(beginnings) {
            assert!(told.starts_with(beginning), "{told}");
        }
        assert!(told[0].contains("`struct Tick;`") && told[0].contains("`Tick(Tick)`"));
    }

    #[test]
    fn one_type_in_two_variants_names_both() {
        let input = parse_quote! { enum Msg { Sum(Reply<u64>), Count(Reply < u64 >) } };
        let told = refusals(&input);
        assert_eq!(told.len(), 1);
        assert!(
            told[0].starts_with("`Sum` and `Count` hold the same type"),
            "{told:?}"
        );
    }

    #[test]
    fn what_is_no_enum_of_messages_is_refused() {
        let told = refusals(&parse_quote! { struct Add(u64); });
        assert!(told[0].contains("`enum AddMsg { Add(Add) }`"), "{told:?}");
        let told = refusals(&parse_quote! { enum Msg {} });
        assert!(told[0].starts_with("`Msg` has no variants"), "{told:?}");
        let told = refusals(&parse_quote! { enum Msg<'a> { Line(&'a str) } });
        assert!(told[0].contains("cannot borrow"), "{told:?}");
    }
}
