//! The lines that a worker writes, as `README.md` describes them.

/// How far a message has come when its enqueue returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Sync,
    Os,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Accepted,
    Replaced,
    Duplicate,
}

/// How a handler is about to end a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ack,
    Fail,
    Release,
    Reject,
}

/// What is being enqueued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enqueuing {
    pub number: u64,
    pub queue: String,
    pub level: Level,
    pub key: Option<String>,
    /// A message that holds the key stays.
    pub keep: bool,
    pub delayed: bool,
    pub batch: Option<u64>,
}

/// Who entered what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entered {
    pub id: u64,
    pub attempt: u32,
    pub token: u64,
    pub number: u64,
    pub queue: String,
    /// None where the worker cannot say.
    pub lane: Option<String>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    Recovered {
        messages: u64,
        dead: u64,
    },
    Suspects(u64),
    Ready,
    Enqueuing(Enqueuing),
    Enqueued {
        number: u64,
        id: u64,
        level: Level,
        status: Status,
    },
    Entered(Entered),
    Child {
        parent: u64,
        number: u64,
        level: Level,
    },
    Settling {
        id: u64,
        outcome: Outcome,
    },
    Settled {
        id: u64,
    },
    Aborting {
        id: u64,
    },
    /// An open was refused, and is tried again.
    Unopened,
    /// An enqueue was answered with an error that means: not enqueued.
    Refused {
        number: u64,
    },
    /// A settle was answered so: the message is given back.
    Kept {
        id: u64,
    },
    Dead {
        id: u64,
        reason: String,
        attempts: u32,
        number: Option<u64>,
    },
    Drained,
    Error(String),
}

impl Line {
    /// None for what is no line of the protocol.
    pub fn parse(text: &str) -> Option<Self> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let words: Vec<&str> = rest.split(' ').filter(|word| !word.is_empty()).collect();
        let settling = |outcome| Some(Self::Settling { id: one(&words)?.parse().ok()?, outcome });
        match word {
            "recovered" => match words[..] {
                [messages, dead] => Some(Self::Recovered {
                    messages: messages.parse().ok()?,
                    dead: dead.parse().ok()?,
                }),
                _ => None,
            },
            "suspects" => Some(Self::Suspects(one(&words)?.parse().ok()?)),
            "ready" => Some(Self::Ready),
            "enqueuing" => enqueuing(&words).map(Self::Enqueuing),
            "enqueued" => match words[..] {
                [number, id, level, status] => Some(Self::Enqueued {
                    number: number.parse().ok()?,
                    id: id.parse().ok()?,
                    level: self::level(level)?,
                    status: self::status(status)?,
                }),
                _ => None,
            },
            "entered" => entered(&words).map(Self::Entered),
            "child" => match words[..] {
                [parent, number, level] => Some(Self::Child {
                    parent: parent.parse().ok()?,
                    number: number.parse().ok()?,
                    level: self::level(level)?,
                }),
                _ => None,
            },
            "acking" => settling(Outcome::Ack),
            "failing" => settling(Outcome::Fail),
            "releasing" => settling(Outcome::Release),
            "rejecting" => settling(Outcome::Reject),
            "acked" => Some(Self::Settled { id: one(&words)?.parse().ok()? }),
            "unopened" => one(&words).map(|_| Self::Unopened),
            "refused" => match words[..] {
                [number, _kind] => Some(Self::Refused { number: number.parse().ok()? }),
                _ => None,
            },
            "kept" => match words[..] {
                [id, _kind] => Some(Self::Kept { id: id.parse().ok()? }),
                _ => None,
            },
            "aborting" => Some(Self::Aborting { id: one(&words)?.parse().ok()? }),
            "dead" => match words[..] {
                [id, reason, attempts, number] => Some(Self::Dead {
                    id: id.parse().ok()?,
                    reason: reason.into(),
                    attempts: attempts.parse().ok()?,
                    number: if number == "-" { None } else { Some(number.parse().ok()?) },
                }),
                _ => None,
            },
            "drained" => Some(Self::Drained),
            "error" => Some(Self::Error(rest.into())),
            _ => None,
        }
    }
}

fn one<'a>(words: &[&'a str]) -> Option<&'a str> {
    match words {
        [word] => Some(word),
        _ => None,
    }
}

fn level(word: &str) -> Option<Level> {
    match word {
        "sync" => Some(Level::Sync),
        "os" => Some(Level::Os),
        _ => None,
    }
}

fn status(word: &str) -> Option<Status> {
    match word {
        "accepted" => Some(Status::Accepted),
        "replaced" => Some(Status::Replaced),
        "duplicate" => Some(Status::Duplicate),
        _ => None,
    }
}

fn enqueuing(words: &[&str]) -> Option<Enqueuing> {
    let [number, queue, level, options @ ..] = words else { return None };
    let mut enqueuing = Enqueuing {
        number: number.parse().ok()?,
        queue: (*queue).into(),
        level: self::level(level)?,
        key: None,
        keep: false,
        delayed: false,
        batch: None,
    };
    for option in options {
        match option.split_once('=') {
            Some(("key", key)) => enqueuing.key = Some(key.into()),
            Some(("batch", first)) => enqueuing.batch = Some(first.parse().ok()?),
            None if *option == "delayed" => enqueuing.delayed = true,
            None if *option == "keep" => enqueuing.keep = true,
            _ => return None,
        }
    }
    Some(enqueuing)
}

fn entered(words: &[&str]) -> Option<Entered> {
    let [id, attempt, token, number, queue, lane] = words else { return None };
    Some(Entered {
        id: id.parse().ok()?,
        attempt: attempt.parse().ok()?,
        token: token.parse().ok()?,
        number: number.parse().ok()?,
        queue: (*queue).into(),
        lane: (*lane != "-").then(|| (*lane).into()),
    })
}

#[test]
fn kill_lines_are_read_as_they_are_documented() {
    assert_eq!(
        Line::parse("enqueuing 7 work os key=k2-1 keep batch=7"),
        Some(Line::Enqueuing(Enqueuing {
            number: 7,
            queue: "work".into(),
            level: Level::Os,
            key: Some("k2-1".into()),
            keep: true,
            delayed: false,
            batch: Some(7),
        }))
    );
    assert_eq!(Line::parse("acking 5"), Some(Line::Settling { id: 5, outcome: Outcome::Ack }));
    for torn in ["", "acking", "acking 5 6", "entered 1 1 1 1 work", "enqueued 1 2 sync", "read"] {
        assert_eq!(Line::parse(torn), None, "{torn}");
    }
}
