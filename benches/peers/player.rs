//! How a contender is run: as a process that does the work and prints its figures as JSON.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Failure;
use crate::contest::Figures;
use crate::server::{Kind, Server};

/// The status with which a player says that whom it plays is not there.
const MISSING: i32 = 77;

/// A program and what it is asked for.
#[derive(Clone)]
pub(crate) struct Player {
    program: Program,
    /// `PEER WORK [KEY=VALUE]...`.
    ask: String,
    /// The server that it talks to.
    server: Option<Kind>,
}

#[derive(Clone, Copy)]
enum Program {
    /// Built beside this one.
    Ours,
    /// What others have written in Rust, built apart: `benches/rust`.
    Rust,
    Python,
    Node,
}

/// libmq, a bare bound, or SQLite by hand.
pub(crate) fn ours(ask: impl Into<String>) -> Player {
    Player { program: Program::Ours, ask: ask.into(), server: None }
}

/// What others have written in Rust.
pub(crate) fn rust(ask: impl Into<String>) -> Player {
    Player { program: Program::Rust, ask: ask.into(), server: None }
}

pub(crate) fn python(ask: impl Into<String>) -> Player {
    Player { program: Program::Python, ask: ask.into(), server: None }
}

pub(crate) fn node(ask: impl Into<String>) -> Player {
    Player { program: Program::Node, ask: ask.into(), server: None }
}

/// One of ours that enqueues at a level, so many at a time.
pub(crate) fn puts(peer: &str, level: &str, messages: u32, batch: u32) -> Player {
    ours(format!("{peer} enqueue level={level} messages={messages} batch={batch} body=100"))
}

/// One of ours with so many threads, each of which waits for each of its messages.
pub(crate) fn threads(work: &str, level: &str, count: u32, timed: bool) -> Player {
    ours(format!("{work} level={level} count={count} seconds=1 timed={timed} body=100"))
}

/// What libmq itself needs for messages that a handler finds, whatever language that is in.
pub(crate) fn handled() -> Player {
    ours("libmq handled level=os messages=300000 body=100")
}

/// One of those that others have written in Rust.
pub(crate) fn others(peer: &str, work: &str, messages: u32, batch: u32) -> Player {
    rust(format!("{peer} {work} messages={messages} batch={batch} body=100"))
}

/// 64 threads with one of those, each of which waits for each of its messages.
pub(crate) fn many(peer: &str) -> Player {
    rust(format!("{peer} threads count=64 seconds=1 timed=true body=100"))
}

impl Player {
    /// Beside a server of this kind, which is started for each run anew.
    #[must_use]
    pub(crate) fn beside(self, kind: Kind) -> Self {
        Self { server: Some(kind), ..self }
    }

    pub(crate) fn is_beside_a_server(&self) -> bool {
        self.server.is_some()
    }

    /// One run in an empty directory; inside, why there can be none here.
    pub(crate) fn run(&self, scratch: &Path) -> Result<Result<Figures, String>, Failure> {
        let Some(mut command) = self.program.command()? else {
            return Ok(Err("it is not built or installed: make bench-peers does that".into()));
        };
        let mut words = self.ask.split_whitespace();
        let work = scratch.join("work");
        std::fs::create_dir(&work)?;
        command.args(words.by_ref().take(2)).arg(&work).args(words);
        let server = match self.server.map(|kind| Server::start(kind, scratch)) {
            Some(Ok(Some(server))) => Some(server),
            Some(Ok(None)) => return Ok(Err("its server is not installed".into())),
            Some(Err(error)) => return Err(error),
            None => None,
        };
        if let Some(server) = &server {
            command.arg(format!("port={}", server.port));
        }
        let output = command.stdin(Stdio::null()).output()?;
        if output.status.code() == Some(MISSING) {
            return Ok(Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{}: {}", output.status, said.trim()).into());
        }
        Ok(Ok(serde_json::from_slice(&output.stdout)?))
    }
}

impl Program {
    /// None where it is not there.
    fn command(self) -> Result<Option<Command>, Failure> {
        let own = std::env::current_exe()?;
        let beside = own.parent().ok_or("this program is nowhere")?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (program, script): (PathBuf, Option<PathBuf>) = match self {
            Self::Ours => (beside.join("player"), None),
            Self::Rust => (of_environment("LIBMQ_BENCH_RUST"), None),
            Self::Python => {
                (of_environment("LIBMQ_BENCH_PYTHON"), Some(root.join("python/player.py")))
            }
            Self::Node => (of_environment("LIBMQ_BENCH_NODE"), Some(root.join("node/player.mjs"))),
        };
        if !program.exists() {
            return Ok(None);
        }
        let mut command = Command::new(program);
        command.args(script);
        Ok(Some(command))
    }
}

/// The program that this variable names.
fn of_environment(name: &str) -> PathBuf {
    std::env::var_os(name).map(PathBuf::from).unwrap_or_default()
}
