//! libmq, the bounds of the machine, and its peers, side by side: `make bench` and `make bench-peers`.
//!
//! Usage: `peers DIRECTORY`, or `peers list`, which only tells which contests those would be. Works in DIRECTORY/scratch,
//! which should be on the disk one wants to know about, and leaves its figures in DIRECTORY/latest.json, DIRECTORY/latest.md
//! and DIRECTORY/*.svg; what DIRECTORY/machine.txt says of the machine and of everybody's versions goes with them.
//! `LIBMQ_BENCH_ROUNDS` sets the rounds, `LIBMQ_BENCH_ONLY` runs only the contests of a category, or those whose name
//! contains it.

mod contest;
mod contests;
mod player;
mod plot;
mod report;
mod server;

use std::error::Error;
use std::fs;
use std::path::Path;

use contest::Contest;

/// Why there can be no comparison.
type Failure = Box<dyn Error + Send + Sync>;

const ROUNDS: usize = 5;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory] = arguments.as_slice() else {
        return Err("usage: peers DIRECTORY, or peers list".into());
    };
    let rounds = rounds()?;
    let only = std::env::var("LIBMQ_BENCH_ONLY").unwrap_or_default();
    let mut contests = contests::all();
    contests.retain(|contest| contest.is_asked_for(&only));
    if contests.is_empty() {
        return Err(
            format!("no category is called {only}, and no contest has that in its name").into()
        );
    }
    if directory == "list" {
        println!("{} contests, {rounds} rounds each:", contests.len());
        contests.iter().for_each(|contest| println!("  {}: {}", contest.category, contest.name));
        return Ok(());
    }
    let directory = Path::new(directory);
    let scratch = directory.join("scratch");
    for round in 0..rounds {
        for contest in &mut contests {
            eprintln!("round {} of {rounds}: {}, {}", round + 1, contest.category, contest.name);
            contest.run(round, &scratch)?;
        }
    }
    fs::remove_dir_all(scratch)?;

    println!(
        "medians over the rounds, of which there were {rounds}, least and largest; x: libmq's figure over the peer's"
    );
    contests.iter().for_each(report::print);
    let promising: Vec<&Contest> =
        contests.iter().filter(|contest| !contest.promises.is_empty()).collect();
    let kept = promising.iter().filter(|contest| contest.is_reached()).count();
    println!(
        "\n{kept} of {} contests in which something is promised are as promised",
        promising.len()
    );
    let machine = fs::read_to_string(directory.join("machine.txt")).unwrap_or_default();
    report::write_json(&contests, rounds, &machine, &directory.join("latest.json"))?;
    report::write_markdown(&contests, rounds, &machine, &directory.join("latest.md"))?;
    for category in categories(&contests) {
        let mine: Vec<&Contest> =
            contests.iter().filter(|contest| contest.category == category).collect();
        fs::write(directory.join(format!("{category}.svg")), plot::bars(&mine))?;
    }
    println!("the figures of every round are in {}", directory.join("latest.json").display());
    Ok(())
}

/// How many rounds there are.
fn rounds() -> Result<usize, Failure> {
    let Ok(asked) = std::env::var("LIBMQ_BENCH_ROUNDS") else { return Ok(ROUNDS) };
    match asked.parse() {
        Ok(rounds) if rounds > 0 => Ok(rounds),
        _ => Err(format!("LIBMQ_BENCH_ROUNDS is {asked:?}, which is no number of rounds").into()),
    }
}

/// In their order, each once.
fn categories(contests: &[Contest]) -> Vec<&'static str> {
    let mut categories: Vec<_> = contests.iter().map(|contest| contest.category).collect();
    categories.dedup();
    categories
}
