//! Dead letters: messages that will not be tried again.

use std::time::SystemTime;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict};

use crate::body::decode;
use crate::broker::Broker;
use crate::entering::entered;
use crate::held::headers;
use crate::receipt::Receipt;
use crate::values::{IDS, text, whole};

/// The dead letters of a broker, which they keep. Its length is how many there are; it is never false.
///
/// Every call raises ClosedError and ForkedError, TypeError, and InvalidError for a queue's name that is none.
#[pyclass(frozen, module = "libmq")]
#[derive(Debug)]
pub(crate) struct DeadLetters {
    /// Python's own: the dead letters of a broker that is garbage are nobody's.
    broker: Py<Broker>,
}

impl DeadLetters {
    pub(crate) fn new(broker: Py<Broker>) -> Self {
        Self { broker }
    }

    fn entered<R: Send>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(libmq::DeadLetters<'_>) -> libmq::Result<R> + Send,
    ) -> PyResult<R> {
        let broker = self.broker.get().inner();
        entered(py, broker, || call(broker.dead_letters()))
    }
}

#[pymethods]
impl DeadLetters {
    /// Up to `limit` dead letters of a queue, or of all, with ids above `after`, in the order of their ids.
    ///
    /// Also raises CorruptError, and Error with `IO`, where one cannot be read.
    #[pyo3(
        signature = (queue=None, limit=None, after=None),
        text_signature = "($self, queue=None, limit=100, after=None)"
    )]
    fn list(
        &self,
        py: Python<'_>,
        queue: Option<&Bound<'_, PyAny>>,
        limit: Option<&Bound<'_, PyAny>>,
        after: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<DeadLetter>> {
        let queue = queue.map(|queue| text("queue", queue)).transpose()?;
        let limit = limit.map_or(Ok(100), |limit| whole("limit", limit, 0..=usize::MAX))?;
        let after = after.map(|after| whole("after", after, IDS)).transpose()?;
        let letters = self.entered(py, |letters| letters.list(queue, limit, after))?;
        Ok(letters.into_iter().map(DeadLetter::new).collect())
    }

    /// The dead letter of this id, None if it is not one. Raises as `list`.
    fn get(&self, py: Python<'_>, id: &Bound<'_, PyAny>) -> PyResult<Option<DeadLetter>> {
        let id = whole("id", id, IDS)?;
        Ok(self.entered(py, |letters| letters.get(id))?.map(DeadLetter::new))
    }

    /// Enqueues a dead letter again, under a new id, with no attempts, its old key and mode "keep".
    ///
    /// Where the key is taken, the receipt says "duplicate" and the dead letter stays. Raises NotFoundError, and what
    /// `enqueue` raises.
    fn replay(&self, py: Python<'_>, id: &Bound<'_, PyAny>) -> PyResult<Receipt> {
        let id = whole("id", id, IDS)?;
        Ok(self.entered(py, |letters| letters.replay(id))?.into())
    }

    /// Replays the dead letters of a queue, or all; answers how many are dead letters no more.
    ///
    /// Raises as `replay`; what was replayed before stays so.
    #[pyo3(signature = (queue=None))]
    fn replay_all(&self, py: Python<'_>, queue: Option<&Bound<'_, PyAny>>) -> PyResult<u64> {
        let queue = queue.map(|queue| text("queue", queue)).transpose()?;
        self.entered(py, |letters| letters.replay_all(queue))
    }

    /// Removes the dead letters of a queue, or all; answers how many.
    ///
    /// Also raises StorageFullError, PoisonedError.
    #[pyo3(signature = (queue=None))]
    fn purge(&self, py: Python<'_>, queue: Option<&Bound<'_, PyAny>>) -> PyResult<u64> {
        let queue = queue.map(|queue| text("queue", queue)).transpose()?;
        self.entered(py, |letters| letters.purge(queue))
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        let count = self.entered(py, |letters| letters.count())?;
        Ok(usize::try_from(count)?)
    }

    /// No dead letters are not nothing.
    fn __bool__(&self) -> bool {
        true
    }

    fn __repr__(&self) -> String {
        format!("<libmq.DeadLetters of {}>", self.broker.get().inner().path().display())
    }
}

/// A message that will not be tried again, with the reason. Readable for as long as one likes.
#[pyclass(frozen, module = "libmq")]
pub(crate) struct DeadLetter {
    letter: libmq::DeadLetter,
    body: PyOnceLock<Py<PyAny>>,
}

impl DeadLetter {
    fn new(letter: libmq::DeadLetter) -> Self {
        Self { letter, body: PyOnceLock::new() }
    }
}

#[pymethods]
impl DeadLetter {
    /// The message's id.
    #[getter]
    fn id(&self) -> u64 {
        self.letter.id()
    }

    /// Its queue.
    #[getter]
    fn queue(&self) -> &str {
        self.letter.queue()
    }

    /// The body: what JSON says, or bytes. Raises DecodeError.
    #[getter]
    fn body(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let body = self.body.get_or_try_init(py, || {
            decode(py, self.letter.body(), self.letter.content_type()).map(Bound::unbind)
        })?;
        Ok(body.clone_ref(py))
    }

    /// The body's bytes, as they were enqueued.
    #[getter]
    fn raw<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.letter.body())
    }

    /// What the body is.
    #[getter]
    fn content_type(&self) -> &str {
        self.letter.content_type()
    }

    /// The headers; of a name that was given twice the first.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        headers(py, self.letter.headers())
    }

    /// The id that follows the work from message to message.
    #[getter]
    fn correlation_id(&self) -> Option<&str> {
        self.letter.correlation_id()
    }

    /// The text given to reject, else "max_retries", "crashed", "expired", "decode" or "corrupt".
    #[getter]
    fn reason(&self) -> &str {
        self.letter.reason()
    }

    /// The last failure's text.
    #[getter]
    fn error(&self) -> &str {
        self.letter.error()
    }

    /// How often a handler was entered and did not give it back.
    #[getter]
    fn attempts(&self) -> u32 {
        self.letter.attempts()
    }

    /// When it became a dead letter; in UTC.
    #[getter]
    fn failed_at(&self) -> SystemTime {
        self.letter.failed_at()
    }

    fn __repr__(&self) -> String {
        // Whose it is, as in the core; the texts are a handler's.
        format!("<libmq.DeadLetter {} of {}>", self.letter.id(), self.letter.queue())
    }
}
