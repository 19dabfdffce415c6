//! A worker's process: its lines, its death, and what it was doing if it hangs.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// No worker is silent for longer.
pub const SILENCE_MAX: Duration = Duration::from_secs(45);

/// How long gdb may take to print the stacks of a worker that hangs.
const STACKS_MAX: u32 = 60;

/// The signal of a kill.
pub const SIGKILL: i32 = 9;

/// A language's worker: a program and what comes before `DIRECTORY SEED`.
#[derive(Clone, Debug)]
pub struct Program {
    pub language: &'static str,
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
}

impl Program {
    /// The worker in Rust, which this package builds.
    pub fn rust() -> Self {
        Self {
            language: "Rust",
            program: env!("CARGO_BIN_EXE_kill-worker").into(),
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// The workers that a variable names, one a line: a language, and a command that knows nothing of spaces in its words.
    pub fn named(variable: &str) -> Vec<Self> {
        let named = std::env::var(variable).unwrap_or_default();
        let programs = named.lines().map(|line| {
            let mut words = line.split_whitespace().map(str::to_owned);
            Self {
                language: words.next().expect("a worker without a language").leak(),
                program: words.next().expect("a worker without a command").into(),
                arguments: words.collect(),
                environment: Vec::new(),
            }
        });
        programs.collect()
    }

    /// The same worker, whose producers pause so many times as long.
    pub fn paced(mut self, pace: u64) -> Self {
        self.environment.push(("LIBMQ_KILL_PACE".into(), pace.to_string()));
        self
    }
}

/// What came of waiting for a line.
#[derive(Debug)]
pub enum Heard {
    Line(String),
    /// The time is over.
    Nothing,
    /// The process is dead and has said everything.
    End,
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    lines: Receiver<String>,
    reader: Option<JoinHandle<()>>,
    errors: PathBuf,
}

impl Worker {
    /// Starts `PROGRAM DIRECTORY SEED MODE…`; what it says on standard error goes to a file beside the directory.
    pub fn start(program: &Program, directory: &Path, seed: u64, mode: &[&str]) -> Self {
        Self::start_beside(directory, program, directory, seed, mode)
    }

    /// The same; the file lies beside another path.
    pub fn start_beside(
        beside: &Path,
        program: &Program,
        directory: &Path,
        seed: u64,
        mode: &[&str],
    ) -> Self {
        let errors = beside.with_extension("errors");
        let log = OpenOptions::new().create(true).append(true).open(&errors).unwrap();
        let mut child = Command::new(&program.program)
            .args(&program.arguments)
            .arg(directory)
            .arg(seed.to_string())
            .args(mode)
            .envs(program.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{program:?} does not start: {error}"));
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        let reader = std::thread::spawn(move || {
            let mut line = String::new();
            while output.read_line(&mut line).unwrap_or(0) > 0 {
                if sender.send(std::mem::take(&mut line)).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, reader: Some(reader), errors }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line, waiting for it at most until `end`.
    pub fn hear(&self, end: Instant) -> Heard {
        match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(mut line) => {
                line.truncate(line.trim_end_matches('\n').len());
                Heard::Line(line)
            }
            Err(RecvTimeoutError::Timeout) => Heard::Nothing,
            Err(RecvTimeoutError::Disconnected) => Heard::End,
        }
    }

    /// Kills it, and waits until it is dead; answers how it ended, which may have been before. What it had said is still to
    /// be heard.
    pub fn kill(&mut self) -> ExitStatus {
        self.child.kill().unwrap();
        self.child.wait().unwrap()
    }

    /// Waits for its end; answers how that was.
    pub fn end(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// What every thread of it is doing, as far as gdb is there to tell, and what it said on standard error.
    pub fn stacks(&self) -> String {
        let gdb = Command::new("timeout")
            .args([STACKS_MAX.to_string().as_str(), "gdb", "--batch", "-p"])
            .arg(self.id().to_string())
            .args(["-ex", "set pagination off", "-ex", "thread apply all bt"])
            .stdin(Stdio::null())
            .output();
        let stacks = match gdb {
            Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
            Err(error) => format!("no stacks: {error}"),
        };
        let errors = std::fs::read_to_string(&self.errors).unwrap_or_default();
        let errors = errors.get(errors.floor_char_boundary(errors.len().saturating_sub(4000))..);
        format!("{stacks}\nstandard error:\n{}", errors.unwrap_or_default())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Every line of every worker of a run, for who has to find out what went wrong.
#[derive(Debug)]
pub struct Transcript {
    pub path: PathBuf,
    file: std::io::BufWriter<File>,
}

impl Transcript {
    pub fn beside(directory: &Path) -> Self {
        let path = directory.with_extension("lines");
        let file = std::io::BufWriter::new(File::create(&path).unwrap());
        Self { path, file }
    }

    pub fn note(&mut self, line: &str) {
        writeln!(self.file, "{line}").unwrap();
    }

    /// The last lines that name one of these words.
    pub fn about(&mut self, words: &[&str]) -> String {
        const LINES: usize = 60;
        self.file.flush().unwrap();
        let all = std::fs::read_to_string(&self.path).unwrap_or_default();
        let mut lines: Vec<String> = Vec::new();
        let mut start = None;
        for (number, line) in all.lines().enumerate() {
            let named = || line.split([' ', '=']).any(|word| words.contains(&word));
            if line.starts_with("==") {
                start = Some((number, line));
            } else if words.iter().any(|word| line.contains(word)) && named() {
                let shown = start.take().into_iter().chain([(number, line)]);
                lines.extend(shown.map(|(number, line)| format!("{:>8} {line}", number + 1)));
            }
        }
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}
