//! What is dropped without the interpreter's lock, since that may have to wait.

#![allow(unsafe_code)]

use std::mem::ManuallyDrop;
use std::ops::Deref;

use crate::entering::dropped;

/// Is what it holds, until it is dropped.
#[derive(Debug)]
pub(crate) struct Apart<T: Send>(ManuallyDrop<T>);

impl<T: Send> Apart<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(ManuallyDrop::new(value))
    }
}

impl<T: Send> Deref for Apart<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Send> Drop for Apart<T> {
    fn drop(&mut self) {
        // SAFETY: taken once, here, and nobody looks at it again: it is private, and this is its end.
        dropped(unsafe { ManuallyDrop::take(&mut self.0) });
    }
}
