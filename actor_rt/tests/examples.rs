//! The example programs check themselves; this runs them.

macro_rules! examples {
    ($($(#[$condition:meta])? $name:ident = $path:literal)+) => {
        $(
            $(#[$condition])?
            #[path = $path]
            mod $name;
        )+
        $(
            $(#[$condition])?
            #[test]
            fn $name() {
                if let Err(error) = $name::main() {
                    panic!("{error}");
                }
            }
        )+
    };
}

examples! {
    #[cfg(feature = "derive")]
    bank = "../examples/bank.rs"
    chat = "../examples/chat.rs"
    dining_philosophers = "../examples/dining_philosophers.rs"
    ping_pong = "../examples/ping_pong.rs"
    pipeline = "../examples/pipeline.rs"
    rate_limiter = "../examples/rate_limiter.rs"
}
