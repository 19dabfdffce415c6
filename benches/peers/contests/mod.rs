//! Who is compared with whom, doing what, and what libmq has promised of it. Bodies have 100 bytes where nothing else is said.

mod checkout;
mod durability;
mod end_to_end;
mod enqueue;
mod latency;
mod list;
mod node;
mod persistence;
mod python;
mod recovery;
mod scale;

pub(crate) use list::all;
