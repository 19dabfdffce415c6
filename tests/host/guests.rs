//! A guest's process: its start, its lines, and its end, all within a time.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use crate::skips::skip;

/// No guest is silent for longer.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// How a guest leaves that cannot make its situation.
const CANNOT: i32 = 77;

/// A guest that runs; killed when it is dropped.
#[derive(Debug)]
pub struct Guest {
    child: Child,
    lines: Receiver<String>,
}

impl Guest {
    pub fn start(situation: &str, directory: &Path, words: &[OsString]) -> Self {
        Self::start_by(&[], situation, directory, words)
    }

    /// By a program that starts others, such as `sudo`.
    fn start_by(by: &[&str], situation: &str, directory: &Path, words: &[OsString]) -> Self {
        let mut command: Vec<&OsStr> = by.iter().map(OsStr::new).collect();
        command.extend([OsStr::new(env!("CARGO_BIN_EXE_host-guest")), OsStr::new(situation)]);
        command.push(directory.as_os_str());
        command.extend(words.iter().map(OsString::as_os_str));
        let mut child = Command::new(command[0])
            .args(&command[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        Self { child, lines }
    }

    /// Its next line; none when it has ended.
    pub fn hear(&mut self) -> Option<String> {
        match self.lines.recv_timeout(SILENCE_MAX) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the guest {} hangs", self.child.id()),
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn input(&mut self) -> &mut ChildStdin {
        self.child.stdin.as_mut().unwrap()
    }

    /// Its last line, and how it ended.
    pub fn end(&mut self) -> (String, ExitStatus) {
        let mut last = String::new();
        while let Some(line) = self.hear() {
            last = line;
        }
        (last, self.child.wait().unwrap())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Plays a situation in a directory of its own.
pub fn play(situation: &str) {
    play_with(situation, &[]);
}

/// The same; the guest is told these words, too.
pub fn play_with(situation: &str, words: &[OsString]) {
    let scratch = scratch();
    let (line, end) = Guest::start(situation, scratch.path(), words).end();
    told(situation, &line, end);
}

/// Plays a situation that needs mounts: as this user, and where that is refused as the machine's root, if that can be had
/// without being asked. Skipped where neither is allowed.
pub fn play_with_mounts(situation: &str) {
    let scratch = scratch();
    let (line, end) = Guest::start(situation, scratch.path(), &[]).end();
    if end.code() != Some(CANNOT) {
        return told(situation, &line, end);
    }
    let can_be_root = Command::new("sudo").args(["-n", "true"]).stderr(Stdio::null()).status();
    if !can_be_root.is_ok_and(|status| status.success()) {
        return skip(&format!("{situation}: {line}"));
    }
    let (line, end) = Guest::start_by(&["sudo", "-n"], situation, scratch.path(), &[]).end();
    if end.code() == Some(CANNOT) {
        return skip(&format!("{situation}: {line}"));
    }
    told(situation, &line, end);
}

/// A guest has come to its end, and says what it has done.
pub fn told(situation: &str, line: &str, end: ExitStatus) {
    assert!(end.success(), "{situation}: {end} (signal {:?}), last said {line:?}", end.signal());
    assert!(!line.is_empty(), "{situation}: nothing was said");
    println!("{situation}: {line}");
}

/// A directory of this test's own, on a disk.
pub fn scratch() -> tempfile::TempDir {
    let builder =
        tempfile::Builder::new().prefix("libmq-host-").tempdir_in(env!("CARGO_TARGET_TMPDIR"));
    builder.unwrap()
}
