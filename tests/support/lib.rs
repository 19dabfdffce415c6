//! What the tests, benchmarks and examples of the workspace share.

pub mod forge;
mod images;
pub mod model;
mod new;
mod platter;
mod rng;
mod sim_disk;
mod trace;

pub use images::{Image, Tearing};
pub use new::{New, new};
pub use platter::Platter;
pub use rng::Rng;
pub use sim_disk::{Faulted, Pages, SimDisk, Times};
pub use trace::{Call, Inode, Op};
