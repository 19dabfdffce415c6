//! libmq: an embedded, persistent message queue.
