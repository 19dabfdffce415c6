//! Watches: how somebody who cannot wait hears that a queue may have got a message.

use crate::buffer::{Doorbell, Queue};
use crate::sync::Arc;

/// Rings when its queue may have got a message, until it is dropped. Who is about to do something else listens, and then
/// looks once more.
#[doc(hidden)]
#[derive(Debug)]
pub struct Watch {
    queue: Arc<Queue>,
    doorbell: Arc<Doorbell>,
}

impl Watch {
    pub(super) fn new(queue: Arc<Queue>, ring: impl Fn() + Send + Sync + 'static) -> Self {
        let doorbell = Arc::new(Doorbell::new(ring));
        queue.tell(&doorbell);
        Self { queue, doorbell }
    }

    /// From now on it rings for what comes.
    pub fn listen(&self) {
        self.doorbell.listen();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.queue.forget(&self.doorbell);
    }
}
