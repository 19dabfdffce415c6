//! States: what lives as long as the broker and is handed to handlers by its type.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};

/// Values by their types, at most one of each.
#[derive(Clone, Default)]
pub struct States(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl States {
    pub(crate) fn insert<T: Clone + Send + Sync + 'static>(&mut self, value: T) {
        self.0.insert(TypeId::of::<T>(), Arc::new(value));
    }

    /// A clone of the value of this type, if there is one.
    #[must_use]
    pub fn get<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.0.get(&TypeId::of::<T>())?.downcast_ref::<T>().cloned()
    }

    /// Refuses where there is no value of this type.
    ///
    /// # Errors
    /// `INVALID`, naming the type.
    pub fn require<T: Clone + Send + Sync + 'static>(&self) -> Result<()> {
        if self.0.contains_key(&TypeId::of::<T>()) {
            return Ok(());
        }
        let name = type_name::<T>();
        Err(Error::invalid(format!(
            "the handler takes State<{name}>, but Options::state was given none of that type"
        )))
    }
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "States({})", self.0.len())
    }
}
