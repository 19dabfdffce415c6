//! Dead letters: messages that will not be tried again.

use std::fmt;
use std::time::SystemTime;

use super::message::{Receipt, ReceiptStatus, check_queue_name};
use super::shared::Shared;
use crate::buffer::{DeadLetterEntry, Enqueued, Envelope, MessageEntry, NewMessage, NewRare};
use crate::error::{Error, ErrorKind, Result};
use crate::journal::Bytes;
use crate::sync::Arc;

/// The dead letters of a broker.
#[derive(Clone, Copy, Debug)]
pub struct DeadLetters<'a> {
    pub(crate) shared: &'a Shared,
}

/// A message that will not be tried again, with the reason.
#[derive(Clone)]
pub struct DeadLetter {
    entry: Arc<DeadLetterEntry>,
    content: Bytes,
}

impl DeadLetters<'_> {
    /// Up to `limit` dead letters of a queue, or of all, with ids above `after`, in the order of their ids.
    ///
    /// # Errors
    /// `INVALID` for a name that is none, `CLOSED`, `FORKED`, `IO`, `CORRUPT`.
    pub fn list(
        &self,
        queue: Option<&str>,
        limit: usize,
        after: Option<u64>,
    ) -> Result<Vec<DeadLetter>> {
        self.check(queue)?;
        let (mut letters, mut after) = (Vec::new(), after.unwrap_or(0));
        loop {
            // Again where some went meanwhile: fewer than the limit are all there are.
            let wanted = limit.saturating_sub(letters.len());
            let entries = self.shared.engine.buffer.state.letters.list(queue, wanted, after);
            let Some(last) = entries.last() else { return Ok(letters) };
            after = last.id;
            for entry in entries {
                letters.extend(self.load(entry)?);
            }
        }
    }

    /// The dead letter of this id, if it is one.
    ///
    /// # Errors
    /// As [`DeadLetters::list`].
    pub fn get(&self, id: u64) -> Result<Option<DeadLetter>> {
        self.shared.check_open()?;
        let entry = self.shared.engine.buffer.state.letters.get(id);
        entry.map_or(Ok(None), |entry| self.load(entry))
    }

    /// Enqueues a dead letter again, under a new id, with no attempts, its old key and mode `keep`. Where the key is
    /// taken, the receipt says `duplicate` and the dead letter stays.
    ///
    /// # Errors
    /// `NOT_FOUND`, and what `enqueue` answers.
    pub fn replay(&self, id: u64) -> Result<Receipt> {
        self.shared.check_open()?;
        let engine = &self.shared.engine;
        // Before anything is read: of a broker that is poisoned it is no matter whether that can be.
        engine.buffer.journal.check()?;
        let Some(letter) = self.get(id)? else {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no dead letter {id}")));
        };
        let Some(entry) = letter.message() else {
            return Err(Error::corrupt(
                &self.shared.path,
                letter.entry.version,
                "a dead letter makes no sense",
            ));
        };
        let now = engine.now();
        let envelope = Envelope {
            queue: engine.buffer.state.queues.named(&letter.entry.queue)?,
            content_type: entry.content_type,
            priority: entry.head.priority,
            enqueued_at: now,
            due: now,
            level: self.shared.level(None),
            rare: Some(Box::new(NewRare {
                key: entry.key,
                keep: true,
                correlation_id: entry.correlation_id,
                group: entry.group,
                // It had its time.
                expires: None,
                window: entry.head.window,
                headers: entry.headers.to_vec(),
            })),
        };
        let message = NewMessage { envelope: &envelope, body: entry.body };
        Ok(engine.buffer.replay(id, &message)?.into())
    }

    /// Replays the dead letters of a queue, or all; answers how many are dead letters no more.
    ///
    /// # Errors
    /// `INVALID` for a name that is none, and as [`DeadLetters::replay`]; what was replayed before stays so.
    pub fn replay_all(&self, queue: Option<&str>) -> Result<u64> {
        self.check(queue)?;
        let mut replayed = 0;
        for letter in self.shared.engine.buffer.state.letters.list(queue, usize::MAX, 0) {
            match self.replay(letter.id) {
                Ok(Receipt { status: ReceiptStatus::Duplicate, .. }) => {}
                Ok(_) => replayed += 1,
                // Purged or replayed by somebody else meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(replayed)
    }

    /// Removes the dead letters of a queue, or all; answers how many.
    ///
    /// # Errors
    /// `INVALID` for a name that is none, `CLOSED`, `FORKED`, `POISONED`, `STORAGE_FULL`.
    pub fn purge(&self, queue: Option<&str>) -> Result<u64> {
        self.check(queue)?;
        self.shared.engine.buffer.purge_dead(queue)
    }

    /// How many there are.
    ///
    /// # Errors
    /// `CLOSED`, `FORKED`.
    pub fn count(&self) -> Result<u64> {
        self.shared.check_open()?;
        Ok(self.shared.engine.buffer.state.letters.count() as u64)
    }

    fn check(&self, queue: Option<&str>) -> Result<()> {
        self.shared.check_open()?;
        queue.map_or(Ok(()), check_queue_name)
    }

    /// The dead letter of this entry; none where it is one no more.
    fn load(&self, mut entry: Arc<DeadLetterEntry>) -> Result<Option<DeadLetter>> {
        let buffer = &self.shared.engine.buffer;
        loop {
            let error = match buffer.journal.read(entry.version) {
                Ok((_, content)) => return Ok(Some(DeadLetter { entry, content })),
                Err(error) => error,
            };
            // Between the look and the read it may have been written again, or have gone, and its old segment with it.
            match buffer.state.letters.get(entry.id) {
                Some(moved) if moved.version != entry.version => entry = moved,
                Some(_) => return Err(error),
                None => return Ok(None),
            }
        }
    }
}

impl DeadLetter {
    /// The message's id.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.entry.id
    }

    /// Its queue.
    #[must_use]
    pub fn queue(&self) -> &str {
        &self.entry.queue
    }

    /// The text given to reject, else `max_retries`, `crashed`, `expired`, `decode` or `corrupt`.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.entry.reason
    }

    /// The last failure's text.
    #[must_use]
    pub fn error(&self) -> &str {
        &self.entry.error
    }

    /// How often a handler was entered and did not give it back; crashes count here.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.entry.attempts
    }

    /// When it became a dead letter.
    #[must_use]
    pub fn failed_at(&self) -> SystemTime {
        self.entry.at.to_system()
    }

    /// The body, as it was enqueued.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.message().map_or(&[], |message| message.body)
    }

    /// What the body is.
    #[must_use]
    pub fn content_type(&self) -> &str {
        self.message()
            .and_then(|message| message.content_type)
            .unwrap_or("application/octet-stream")
    }

    /// The id that follows the work from message to message.
    #[must_use]
    pub fn correlation_id(&self) -> Option<&str> {
        self.message().and_then(|message| message.correlation_id)
    }

    /// The first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// The headers, in the order they were given.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.message().into_iter().flat_map(|message| message.headers())
    }

    fn message(&self) -> Option<MessageEntry<'_>> {
        MessageEntry::decode(&self.content)
    }
}

/// Nothing of what is in it, as with messages.
impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeadLetter({} of {}, {} attempts)", self.id(), self.queue(), self.attempts())
    }
}

impl From<Enqueued> for Receipt {
    fn from(enqueued: Enqueued) -> Self {
        match enqueued {
            Enqueued::Accepted(id) => Self { id, status: ReceiptStatus::Accepted },
            Enqueued::Replaced(id) => Self { id, status: ReceiptStatus::Replaced },
            Enqueued::Duplicate(id) => Self { id, status: ReceiptStatus::Duplicate },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{Broker, Message, Options};

    /// A dead letter that was purged between the look at the list and the read of its body, and whose segment went, was
    /// answered `CORRUPT`: a list, or a replay of all, ended there, and said that the broker was beyond use.
    #[test]
    fn a_dead_letter_that_goes_while_it_is_read_is_gone_and_not_damaged() {
        let options = Options::new().segment_bytes(64 << 10).cache_bytes(0);
        let broker = Broker::open(":memory:", options).unwrap();
        let id = broker.enqueue(Message::new("jobs", "dies")).unwrap().id;
        broker.receive("jobs", None, None).unwrap().unwrap().reject("unwanted").unwrap();
        for _ in 0..8 {
            broker.enqueue(Message::new("filling", vec![0; 20_000])).unwrap();
            broker.receive("filling", None, None).unwrap().unwrap().ack().unwrap();
        }
        let letters = broker.dead_letters();
        let entry = letters.shared.engine.buffer.state.letters.get(id).unwrap();
        assert_eq!(letters.purge(None).unwrap(), 1);
        broker.snapshot().unwrap();
        assert!(letters.shared.engine.buffer.journal.read(entry.version).is_err());
        assert!(letters.load(entry).unwrap().is_none());
        broker.close(Duration::ZERO).unwrap();
    }
}
