//! What a run is asked for, and what it answers.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Why a run could not be made.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// What a run answers.
pub(crate) type Answer = Result<Figures, Failure>;

/// The work and how much of it, as `PEER WORK DIRECTORY [KEY=VALUE]...` says.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) peer: String,
    pub(crate) work: String,
    /// Empty, and on the disk that one wants to know about.
    pub(crate) directory: PathBuf,
    settings: BTreeMap<String, String>,
}

impl Job {
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, Failure> {
        let [peer, work, directory, settings @ ..] = arguments else {
            return Err("usage: player PEER WORK DIRECTORY [KEY=VALUE]...".into());
        };
        let pairs = settings.iter().map(|setting| {
            let (key, value) =
                setting.split_once('=').ok_or_else(|| format!("{setting} is not KEY=VALUE"))?;
            Ok((key.to_owned(), value.to_owned()))
        });
        Ok(Self {
            peer: peer.clone(),
            work: work.clone(),
            directory: directory.into(),
            settings: pairs.collect::<Result<_, Failure>>()?,
        })
    }

    /// A setting that has to be there.
    pub(crate) fn get<T: FromStr<Err: Error + Send + Sync + 'static>>(
        &self,
        key: &str,
    ) -> Result<T, Failure> {
        Ok(self.word(key)?.parse()?)
    }

    /// The same, as text.
    pub(crate) fn word(&self, key: &str) -> Result<&str, Failure> {
        let word = self.settings.get(key).map(String::as_str);
        word.ok_or_else(|| format!("{} {} needs {key}=", self.peer, self.work).into())
    }

    /// What is answered to work that a peer does not know.
    pub(crate) fn unknown(&self) -> Answer {
        Err(format!("{} does not do {}", self.peer, self.work).into())
    }
}

/// The figures of a run, by their names: `rate` in messages a second; `p50`, `p99`, `p999` and `max` in microseconds; whatever
/// else a contest asks for.
#[derive(Debug, Default)]
pub(crate) struct Figures(BTreeMap<&'static str, f64>);

impl Figures {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, figure: f64) -> Self {
        self.0.insert(name, figure);
        self
    }

    /// So many messages in so much time.
    pub(crate) fn rate(messages: u32, time: Duration) -> Self {
        Self::new().with("rate", f64::from(messages) / time.as_secs_f64())
    }

    /// Quantiles of what took so long each time.
    #[must_use]
    pub(crate) fn with_times(self, mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let last = times.len().saturating_sub(1);
        let at = |thousandth: usize| {
            let time = times.get((times.len() * thousandth / 1000).min(last));
            time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
        };
        self.with("p50", at(500)).with("p99", at(990)).with("p999", at(999)).with("max", at(1000))
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::json!(self.0).to_string()
    }
}
