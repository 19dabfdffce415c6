//! The target `calls`: functions of the C interface, in any order, on any handle.

mod arguments;
mod callbacks;
mod run;
mod world;

pub(crate) use run::calls;
