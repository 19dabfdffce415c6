//! The tables for people and the JSON for machines.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::Failure;
use crate::contest::{Bound, Contender, Contest, Promise};

/// Prints one contest: every contender, and how many times its figure libmq reached; then what was promised.
pub(crate) fn print(contest: &Contest) {
    let unit = contest.figure.unit;
    println!("\n{}: {} ({unit})", contest.category, contest.name);
    for (index, contender) in contest.contenders.iter().enumerate() {
        let Contender { name, survives, missing, .. } = contender;
        if let Some(missing) = missing {
            println!("  {name:<32} left out: {missing}");
            continue;
        }
        let [least, middle, largest] = contender.spread(contest.figure.key).map(grouped);
        let ratio = match index {
            0 => String::new(),
            _ => format!("x {:.2}", contest.ratio(contender)),
        };
        let spread = format!("{least}..{largest}");
        let died = died(contender);
        println!("  {name:<32} {middle:>13}  {spread:<25} {ratio:<10} survives {survives}{died}");
    }
    for promise in &contest.promises {
        println!("  - {}", promised(contest, promise));
    }
}

fn died(contender: &Contender) -> String {
    match contender.deaths() {
        0 => String::new(),
        deaths => format!("; died in {deaths} of {} rounds", contender.rounds.len()),
    }
}

/// A promise, what was measured of it, and whether that is enough.
fn promised(contest: &Contest, promise: &Promise) -> String {
    let Promise { key, bound, of } = promise;
    let bound_text = match bound {
        Bound::AtLeast(least) => format!("at least {}", short(*least)),
        Bound::AtMost(most) => format!("at most {}", short(*most)),
    };
    let of_text = of.map_or(String::new(), |(name, key)| format!(" x the {key} of {name}"));
    let (measured, verdict) = match contest.measured(promise) {
        Some(measured) if bound.holds(measured) => (short(measured), "ok"),
        Some(measured) => (short(measured), "MISSED"),
        None => ("-".to_owned(), "not looked at"),
    };
    format!("{key}: {bound_text}{of_text}: {measured} {verdict}")
}

/// The quantiles that a contest's players tell of, in microseconds, and what they call them.
fn quantiles(contest: &Contest) -> &'static [(&'static str, &'static str)] {
    const ALL: [(&str, &str); 3] = [("p50, us", "p50"), ("p99, us", "p99"), ("p99.9, us", "p999")];
    let tells = contest.contenders.first().is_some_and(|own| !own.spread("p999")[1].is_nan());
    if tells { &ALL } else { &[] }
}

/// The same in Markdown, as docs/performance/figures.md has it.
pub(crate) fn write_markdown(
    contests: &[Contest],
    rounds: usize,
    machine: &str,
    path: &Path,
) -> Result<(), Failure> {
    let mut text = format!(
        "# All figures\n\n\
         Of one run; how they were measured is told in [performance.md](../performance.md). The median over {rounds} rounds,\n\
         the least and the largest, and the median of libmq's figure over the contender's of the same round. Below each\n\
         contest stands what libmq is to reach in it.\n\n"
    );
    for line in machine.lines() {
        let _ = writeln!(text, "- {line}");
    }
    text += if machine.is_empty() { "" } else { "\n" };
    for contest in contests {
        let (category, unit) = (contest.category, contest.figure.unit);
        let _ = writeln!(text, "**{category}: {}** ({unit})\n", contest.name);
        let quantiles = quantiles(contest);
        let names = quantiles.iter().fold(String::new(), |names, (name, _)| names + name + " | ");
        let rules = "--:|".repeat(quantiles.len());
        let _ = write!(
            text,
            "| | median | least..largest | libmq's over it | {names}survives |\n\
             |---|--:|--:|--:|{rules}---|\n"
        );
        for (index, contender) in contest.contenders.iter().enumerate() {
            if contender.missing.is_some() {
                continue;
            }
            let [least, middle, largest] = contender.spread(contest.figure.key).map(grouped);
            let ratio = match index {
                0 => String::new(),
                _ => short(contest.ratio(contender)),
            };
            let times = quantiles.iter().fold(String::new(), |times, (_, key)| {
                let [_, time, _] = contender.spread(key);
                times + &if time.is_nan() { String::new() } else { grouped(time) } + " | "
            });
            let (Contender { name, survives, .. }, died) = (contender, died(contender));
            let _ = writeln!(
                text,
                "| {name} | {middle} | {least}..{largest} | {ratio} | {times}{survives}{died} |"
            );
        }
        text.push('\n');
        for promise in &contest.promises {
            let _ = writeln!(text, "- {}", promised(contest, promise));
        }
        text += if contest.promises.is_empty() { "" } else { "\n" };
    }
    Ok(fs::write(path, text.trim_end().to_owned() + "\n")?)
}

pub(crate) fn write_json(
    contests: &[Contest],
    rounds: usize,
    machine: &str,
    path: &Path,
) -> Result<(), Failure> {
    let contests: Vec<Value> = contests.iter().map(to_json).collect();
    let machine: Vec<&str> = machine.lines().collect();
    let all = json!({ "machine": machine, "rounds": rounds, "contests": contests });
    let text = serde_json::to_string_pretty(&all)?;
    Ok(fs::write(path, text + "\n")?)
}

fn to_json(contest: &Contest) -> Value {
    let contenders = contest.contenders.iter().map(|contender| {
        json!({
            "name": contender.name,
            "survives": contender.survives,
            "left_out": contender.missing,
            "spread": contender.spread(contest.figure.key),
            "ratio": contest.ratio(contender),
            "rounds": contender.rounds,
        })
    });
    let promises = contest.promises.iter().map(|promise| {
        let (bound, figure) = match promise.bound {
            Bound::AtLeast(least) => ("at_least", least),
            Bound::AtMost(most) => ("at_most", most),
        };
        let measured = contest.measured(promise);
        json!({
            "figure": promise.key,
            bound: figure,
            "of": promise.of,
            "measured": measured,
            "reached": measured.map(|measured| promise.bound.holds(measured)),
        })
    });
    json!({
        "category": contest.category,
        "name": contest.name,
        "figure": contest.figure.key,
        "unit": contest.figure.unit,
        "contenders": contenders.collect::<Vec<_>>(),
        "promises": promises.collect::<Vec<_>>(),
    })
}

/// A ratio with two digits behind the point, or more where it is small; a large figure with its thousands apart.
fn short(figure: f64) -> String {
    match figure {
        ..0.1 => format!("{figure:.4}"),
        ..100.0 => format!("{figure:.2}"),
        _ => grouped(figure),
    }
}

/// A figure with its thousands apart, and one digit behind the point where it is small.
pub(crate) fn grouped(figure: f64) -> String {
    if figure < 100.0 {
        return format!("{figure:.1}");
    }
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
