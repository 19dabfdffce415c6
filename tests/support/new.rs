//! Messages to enqueue, for the reference queue and for a broker alike.

use std::time::Duration;

use libmq::{Dedup, Durability, Message};

/// A message to enqueue.
#[derive(Clone, Debug, Default)]
pub struct New {
    pub queue: String,
    pub body: String,
    pub key: Option<String>,
    pub keep: bool,
    pub delay_us: u64,
    pub priority: u8,
    pub group: Option<String>,
    pub expires_us: Option<u64>,
    pub window_us: u64,
}

/// A message for the workloads: a queue, a body, and what is set on it.
pub fn new(queue: &str, body: &str) -> New {
    New { queue: queue.into(), body: body.into(), ..New::default() }
}

impl New {
    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(key.into());
        self
    }

    pub fn keep(mut self) -> Self {
        self.keep = true;
        self
    }

    pub fn delay(mut self, seconds: u64) -> Self {
        self.delay_us = seconds * 1_000_000;
        self
    }

    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    pub fn group(mut self, group: &str) -> Self {
        self.group = Some(group.into());
        self
    }

    pub fn expires(mut self, seconds: u64) -> Self {
        self.expires_us = Some(seconds * 1_000_000);
        self
    }

    pub fn window(mut self, seconds: u64) -> Self {
        self.window_us = seconds * 1_000_000;
        self
    }

    /// What is shown of it where its body is long.
    pub fn brief(&self) -> String {
        let brief = Self { body: self.body.chars().take(16).collect(), ..self.clone() };
        format!("{brief:?}")
    }

    pub fn message(&self, durability: Durability) -> Message<'static> {
        let mut message = Message::new(self.queue.clone(), self.body.clone());
        message = message.durability(durability);
        if let Some(key) = &self.key {
            message = message.dedup_key(key.clone());
        }
        if self.keep {
            message = message.dedup(Dedup::Keep);
        }
        if self.delay_us > 0 {
            message = message.delay(Duration::from_micros(self.delay_us));
        }
        if let Some(group) = &self.group {
            message = message.group(group.clone());
        }
        if let Some(time) = self.expires_us {
            message = message.expires_in(Duration::from_micros(time));
        }
        let window = Duration::from_micros(self.window_us);
        message.priority(self.priority).dedup_window(window)
    }
}
