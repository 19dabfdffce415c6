//! The conformance suite: every scenario, through every language's public API.
//!
//! The scenarios are the `.toml` files beside this one, and `README.md` says what they mean. Each is played in a process
//! of its own, so that a scenario can kill it. Those in `wrong/` expect in their last step what does not happen: they
//! hold the players themselves, which must not pass over an expectation.

mod players;
mod scenario;

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use players::{Player, play_all, play_in_turns};
use scenario::{Scenario, scenarios};

/// Scenarios that are played at once.
const THREADS: usize = 2;
/// The same for the wrong ones, which spend their time waiting for what does not happen.
const WRONG_THREADS: usize = 8;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance")
}

/// The scenarios to play: all, or the one that `LIBMQ_SCENARIO` names.
fn chosen() -> Vec<Scenario> {
    let mut all = scenarios(&directory());
    assert!(all.len() >= 45, "the scenarios were not found");
    if let Ok(name) = std::env::var("LIBMQ_SCENARIO") {
        all.retain(|scenario| scenario.name == name);
        assert!(!all.is_empty(), "there is no scenario {name}");
    }
    all
}

fn play_every_scenario(player: &Player) {
    let scenarios = chosen();
    let mut failures = String::new();
    for (scenario, played) in play_all(player, &scenarios, THREADS) {
        let Err(failure) = played else { continue };
        let step = failure.step.and_then(|step| scenario.script.get(step + 1));
        writeln!(failures, "{} in {}: {}", scenario.name, player.language, scenario.claim).unwrap();
        writeln!(failures, "    {}", failure.message).unwrap();
        writeln!(failures, "    {}", step.map_or("", |step| step)).unwrap();
    }
    assert!(failures.is_empty(), "{failures}");
}

fn notice_every_wrong_expectation(player: &Player) {
    let scenarios = scenarios(&directory().join("wrong"));
    assert!(!scenarios.is_empty(), "the wrong scenarios were not found");
    let mut unnoticed = String::new();
    for (scenario, played) in play_all(player, &scenarios, WRONG_THREADS) {
        let last = scenario.script.len() - 2;
        match played {
            Err(failure) if failure.step == Some(last) => {}
            Err(failure) => {
                writeln!(unnoticed, "{}: {:?} instead of step {last}", scenario.name, failure)
                    .unwrap();
            }
            Ok(()) => writeln!(unnoticed, "{}: it passed", scenario.name).unwrap(),
        }
    }
    assert!(unnoticed.is_empty(), "in {}:\n{unnoticed}", player.language);
}

/// Notes that a language was not played here.
fn skip(language: &str, reason: &str) {
    println!("SKIPPED: conformance in {language}: {reason}");
    if let Some(file) = std::env::var_os("LIBMQ_SKIPS") {
        let mut file = OpenOptions::new().create(true).append(true).open(file).unwrap();
        writeln!(file, "conformance in {language}: {reason}").unwrap();
    }
}

#[test]
fn rust_plays_every_scenario() {
    play_every_scenario(&players::rust());
}

#[test]
fn rust_notices_every_wrong_expectation() {
    notice_every_wrong_expectation(&players::rust());
}

#[test]
fn c_plays_every_scenario() {
    match players::c() {
        Ok(player) => {
            notice_every_wrong_expectation(&player);
            play_every_scenario(&player);
        }
        Err(reason) => skip("C", &reason),
    }
}

/// The players of languages that Cargo does not build; the scripts that test those run this with the player's command.
#[test]
fn another_language_plays_every_scenario() {
    for player in players::named() {
        notice_every_wrong_expectation(&player);
        play_every_scenario(&player);
    }
}

/// The scenarios whose names begin with `across`, and which kill their process: each pair of languages plays them in turns,
/// so that what one wrote is found and handled by the other.
#[test]
fn what_one_language_wrote_every_other_handles() {
    let mut players = vec![players::rust()];
    match players::c() {
        Ok(player) => players.push(player),
        Err(reason) => skip("C", &reason),
    }
    players.extend(players::named());
    let across: Vec<Scenario> = scenarios(&directory())
        .into_iter()
        .filter(|scenario| scenario.name.starts_with("across"))
        .collect();
    assert!(across.len() >= 4, "the scenarios were not found");
    assert!(across.iter().all(|scenario| !scenario.kills().is_empty()), "one has no turns");
    let mut failures = String::new();
    let mut turns = 0;
    for one in &players {
        for other in players.iter().filter(|other| other.language != one.language) {
            for scenario in &across {
                turns += 1;
                if let Err(failure) = play_in_turns(&[one, other], scenario) {
                    let (one, other) = (one.language, other.language);
                    let (name, message) = (&scenario.name, failure.message);
                    writeln!(failures, "{name}, {one} then {other}: {message}").unwrap();
                }
            }
        }
    }
    let languages: Vec<&str> = players.iter().map(|player| player.language).collect();
    println!("{} scenarios, {turns} plays in turns of {}", across.len(), languages.join(", "));
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn a_scenario_becomes_lines() {
    let text = r#"
        claim = "c"
        skip = { node = "it has no such call" }
        options = { clock = "manual", capacity = 2 }
        [[step]]
        messages = [{ body = "a\tb\\c\nd", times = 2 }, { body = "é", headers = { "x-y.z" = "1" } }]
        do = "enqueue_many"
        as = ["one", "two", "three"]
        expect.statuses = []
        [[step]]
        do = "kill"
    "#;
    let scenario = Scenario::parse("s".into(), text).unwrap();
    assert_eq!(scenario.kills(), [1]);
    assert_eq!(scenario.skip["node"], "it has no such call");
    let script: Vec<Vec<&str>> =
        scenario.script.iter().map(|line| line.split('\t').collect()).collect();
    assert_eq!(script[0], ["capacity=2", "clock=manual"]);
    assert_eq!(
        script[1],
        [
            "do=enqueue_many",
            "as.0=one",
            "as.1=two",
            "as.2=three",
            "as.#=3",
            "expect.statuses.#=0",
            "messages.0.body=a\\tb\\\\c\\nd",
            "messages.1.body=a\\tb\\\\c\\nd",
            "messages.2.body=é",
            "messages.2.headers.x-y.z=1",
            "messages.#=3",
        ]
    );
    assert_eq!(script[2], ["do=kill"]);
}

#[test]
fn what_is_no_scenario_is_refused() {
    for (text, complaint) in [
        ("claim = 'c'", "no steps"),
        ("[[step]]\ndo = 'start'", "claims nothing"),
        ("claim = 'c'\nexpects = 1\n[[step]]\ndo = 'start'", "expects"),
        ("claim = 'c'\n[[step]]\nqueue = 'q'", "does nothing"),
        ("claim = 'c'\n[[step]]\ndo = 'start'\nat = 2026-01-01", "date"),
    ] {
        let error = Scenario::parse("s".into(), text).unwrap_err();
        assert!(error.contains(complaint), "{error}");
    }
}

/// A player that does nothing and says that all was well would pass every scenario without a kill; the wrong ones are
/// what catches it.
#[test]
fn a_player_that_is_always_content_is_caught() {
    let idle = Player { language: "none", command: vec!["true".into()] };
    let caught = std::panic::catch_unwind(|| notice_every_wrong_expectation(&idle));
    let said = *caught.unwrap_err().downcast::<String>().unwrap();
    for scenario in scenarios(&directory().join("wrong")) {
        assert!(said.contains(&format!("\n{}: ", scenario.name)), "{said}");
    }
    let killed = Scenario::parse("k".into(), "claim = 'c'\n[[step]]\ndo = 'kill'").unwrap();
    assert_eq!(play_in_turns(&[&idle], &killed).unwrap_err().step, Some(0));
}

/// A player that refuses a step, or ends in a way that no player may, fails the scenario.
#[test]
fn a_player_that_ends_badly_fails_its_scenario() {
    let scenario = Scenario::parse("b".into(), "claim = 'c'\n[[step]]\ndo = 'start'").unwrap();
    for end in ["exit 3", "kill -SEGV $$", "kill -KILL $$", "echo 'step 0: no' >&2; exit 1"] {
        let command = vec!["sh".into(), "-c".into(), end.into()];
        let player = Player { language: "none", command };
        let failure = play_in_turns(&[&player], &scenario).unwrap_err();
        assert!(!failure.message.is_empty());
        assert_eq!(failure.step, end.contains("step 0").then_some(0));
    }
}
