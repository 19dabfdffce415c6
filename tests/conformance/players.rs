//! Players: how a language's player is had, and how a scenario is played by it.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::scenario::Scenario;

/// How long one start of a player may take. What waits in a scenario waits at most 10 s.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// A language's player: a command to which the arguments are appended.
#[derive(Debug)]
pub struct Player {
    pub language: &'static str,
    pub command: Vec<PathBuf>,
}

/// What a scenario came to that did not go as it should have.
#[derive(Debug)]
pub struct Failure {
    /// The step the player named, if it named one.
    pub step: Option<usize>,
    pub message: String,
}

impl Player {
    /// Starts the player once; answers how it ended and what it said.
    fn start(
        &self,
        script: &Path,
        place: &Path,
        from: usize,
    ) -> Result<(ExitStatus, String), Failure> {
        let complaints = place.join("stderr");
        let fail = |message: String| Failure { step: None, message };
        let (program, arguments) =
            self.command.split_first().ok_or_else(|| fail("there is no command".into()))?;
        let mut child = Command::new(program)
            .args(arguments)
            .arg(script)
            .arg(place.join("broker"))
            .arg(place.join("names"))
            .arg(from.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&complaints).unwrap())
            .spawn()
            .map_err(|error| fail(format!("{}: {error}", program.display())))?;
        let end = Instant::now() + TIME_LIMIT;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > end {
                child.kill().unwrap();
                child.wait().unwrap();
                return Err(fail(format!("started at step {from}, it took more than a minute")));
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let said = fs::read(&complaints).unwrap();
        Ok((status, String::from_utf8_lossy(&said).trim().to_owned()))
    }
}

/// Plays a scenario in a directory of its own. A scenario that kills its process is begun by the first player and gone on
/// with by the next, in turns. What it leaves behind if it fails is the script, for playing it by hand; not the broker,
/// which takes room.
///
/// # Errors
/// Where it went wrong.
pub fn play_in_turns(players: &[&Player], scenario: &Scenario) -> Result<(), Failure> {
    let languages: Vec<&str> = players.iter().map(|player| player.language).collect();
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!(
        "conformance-{}-{}-{}",
        languages.join("-"),
        std::process::id(),
        scenario.name
    ));
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(&place).unwrap();
    let played = play_in(players, scenario, &place);
    let _ = fs::remove_dir_all(if played.is_ok() { place } else { place.join("broker") });
    played
}

fn play_in(players: &[&Player], scenario: &Scenario, place: &Path) -> Result<(), Failure> {
    let fail = |step, message: String| Err(Failure { step, message });
    let script = place.join("script");
    fs::write(&script, scenario.script.join("\n") + "\n").unwrap();
    let mut from = 0;
    let mut kills = scenario.kills().into_iter();
    for player in players.iter().cycle() {
        let (status, said) = player.start(&script, place, from)?;
        let step = said
            .strip_prefix("step ")
            .and_then(|rest| rest.split_once(':').and_then(|(number, _)| number.parse().ok()));
        match (status.code(), status.signal(), kills.next()) {
            (Some(0), _, None) => return Ok(()),
            (Some(0), _, Some(kill)) => {
                return fail(Some(kill), "the player ended, but was to kill itself".into());
            }
            (None, Some(libc::SIGKILL), Some(kill)) => from = kill + 1,
            (code, signal, _) if said.is_empty() => {
                let end = format!("the player ended with status {code:?}, signal {signal:?}");
                return fail(step, end);
            }
            _ => return fail(step, said),
        }
    }
    fail(None, "there is no player".into())
}

/// Plays every scenario that does not leave the language out, so many at once; answers each one's outcome.
pub fn play_all<'s>(
    player: &Player,
    scenarios: &'s [Scenario],
    threads: usize,
) -> Vec<(&'s Scenario, Result<(), Failure>)> {
    let ours: Vec<&Scenario> =
        scenarios.iter().filter(|it| !it.skip.contains_key(player.language)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut played = Vec::new();
        while let Some(scenario) = ours.get(next.fetch_add(1, Ordering::SeqCst)) {
            played.push((*scenario, play_in_turns(&[player], scenario)));
        }
        played
    };
    let mut played: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    played.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    played
}

/// The Rust player, which Cargo has built with the tests.
pub fn rust() -> Player {
    let program = env!("CARGO_BIN_EXE_conformance-play");
    Player { language: "rust", command: vec![program.into()] }
}

/// The C player, compiled against the header and the shared library.
///
/// # Errors
/// What it lacks here.
pub fn c() -> Result<Player, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = root.join("tests/conformance/play.c");
    if !source.exists() {
        return Err("tests/conformance/play.c is not there".into());
    }
    let library = match std::env::var_os("LIBMQ_LIB_DIR") {
        Some(directory) => PathBuf::from(directory),
        None => build_library(root)?,
    };
    if !library.join("libmq.so").exists() {
        return Err(format!("there is no libmq.so in {}", library.display()));
    }
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance-play-c");
    // Under a name of its own first: another test may be starting the program, or making it too.
    let made = program.with_extension(std::process::id().to_string());
    let mut rpath = std::ffi::OsString::from("-Wl,-rpath,");
    rpath.push(&library);
    let compiled = Command::new("cc")
        .args(["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I"])
        .arg(root.join("include"))
        .arg(&source)
        .arg("-o")
        .arg(&made)
        .arg("-L")
        .arg(&library)
        .arg(rpath)
        .args(["-lmq", "-pthread"])
        .output()
        .map_err(|error| format!("cc could not be run: {error}"))?;
    let complaints = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success(), "tests/conformance/play.c does not compile:\n{complaints}");
    std::fs::rename(&made, &program)
        .map_err(|error| format!("{} could not be named: {error}", made.display()))?;
    Ok(Player { language: "c", command: vec![program] })
}

/// The players that `LIBMQ_PLAYER` names, one a line: a language, and a command that knows nothing of spaces in its words.
pub fn named() -> Vec<Player> {
    let named = std::env::var("LIBMQ_PLAYER").unwrap_or_default();
    let player = |line: &str| {
        let mut words = line.split_whitespace();
        let language = words.next()?.to_owned().leak();
        Some(Player { language, command: words.map(PathBuf::from).collect() })
    };
    named.lines().filter_map(player).collect()
}

/// Builds the shared library as it is shipped, so that no stale one is tested; answers where it is.
fn build_library(root: &Path) -> Result<PathBuf, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--package", "libmq-ffi", "--target-dir"])
        .arg(target)
        .current_dir(root)
        .output()
        .map_err(|error| format!("cargo could not be run: {error}"))?;
    let complaints = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "libmq-ffi does not build:\n{complaints}");
    // Programs ask for the library by the name of its interface, under which `make build` links it too.
    let name = target.join("release/libmq.so.0");
    if !name.exists() {
        std::os::unix::fs::symlink("libmq.so", name).unwrap();
    }
    Ok(target.join("release"))
}
