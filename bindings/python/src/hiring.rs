//! How workers come to threads of Python: the core leaves them in a channel, and a thread of Python, the foreman, waits
//! at its other end and starts a thread for each.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

use crate::outside::outside;
use crate::worker::Worker;

/// What the foreman is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// A worker of the handler with this number needs a thread.
    Hire(u64, libmq::Worker),
    /// There will be no more of them.
    Leave,
}

/// The end of the channel that waits for workers, for one thread.
#[pyclass(frozen, module = "libmq._native")]
#[derive(Debug)]
pub(crate) struct Foreman {
    orders: Mutex<Receiver<Order>>,
}

impl Foreman {
    pub(crate) fn new() -> (Sender<Order>, Self) {
        let (sender, orders) = channel();
        (sender, Self { orders: Mutex::new(orders) })
    }
}

#[pymethods]
impl Foreman {
    /// The number of a handler and a worker for it; None when there will be no more.
    fn next(&self, py: Python<'_>) -> Option<(u64, Worker)> {
        let order = outside(py, || {
            let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
            orders.recv()
        });
        match order {
            Ok(Order::Hire(number, worker)) => Some((number, Worker::new(worker))),
            Ok(Order::Leave) | Err(_) => None,
        }
    }
}
