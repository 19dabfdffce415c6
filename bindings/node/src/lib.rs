//! libmq for Node: the native half of `@libmq/node`.
//!
//! JavaScript is called in one way only: a threadsafe function that says "have a look", once until the loop has looked.
//! Everything else, bodies, settles, results, is fetched or handed over by calls from the loop. Nothing here waits on
//! the loop's thread, neither for a message nor for a sync; and no thread of ours ever waits for JavaScript without an
//! end.
//!
//! What the names and types of the package are stands in `lib/index.d.ts`; this half is private to it.

mod bodies;
pub mod boundary;
mod broker;
mod call;
mod clerk;
mod desk;
mod done;
mod ears;
mod enqueue;
pub mod environment;
mod gate;
mod letters;
mod limits;
mod log;
mod metrics;
mod options;
mod owner;
mod report;
mod runs;
mod settle;
mod take;
