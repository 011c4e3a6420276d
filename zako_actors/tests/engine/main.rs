//! The build engine from session to files, without the binary and without a JavaScript engine:
//! build files are JSON here, so that these tests are about building only.
#![forbid(unsafe_code)]

mod incremental;
mod outputs;
mod random;
mod transpile;
mod world;
