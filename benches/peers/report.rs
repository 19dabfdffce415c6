//! The table for people and the JSON for machines.

use serde_json::{Value, json};

use crate::contest::{Contender, Contest, Goal, Unit};

/// Prints one contest: libmq's median, then each peer with how many times its figure libmq reached.
pub(crate) fn print(contest: &Contest<'_>) {
    println!("\n{}", contest.name);
    for (index, contender) in contest.contenders.iter().enumerate() {
        let figure = match contest.unit {
            Unit::Rate => format!("{}/s", grouped(contender.median())),
            Unit::Megabytes => format!("{:.1} MB", contender.median()),
        };
        let verdict = if index == 0 {
            own_verdict(contest)
        } else {
            format!("x {:<6.2} {}", contest.ratio(contender), peer_verdict(contest, contender))
        };
        println!("  {:<32} {figure:>15}   {verdict}", contender.name);
    }
}

/// Whether everything that was promised of this contest was reached.
pub(crate) fn is_reached(contest: &Contest<'_>) -> bool {
    goal_reached(contest) && contest.contenders.iter().all(|peer| promise_reached(contest, peer))
}

pub(crate) fn to_json(contest: &Contest<'_>) -> Value {
    let contenders: Vec<Value> = contest
        .contenders
        .iter()
        .map(|contender| {
            json!({
                "name": contender.name,
                "median": contender.median(),
                "rounds": contender.figures,
                "ratio": contest.ratio(contender),
                "promised_ratio": contender.promised,
                "reached": promise_reached(contest, contender),
            })
        })
        .collect();
    let (at_least, less_than) = match contest.goal {
        Goal::None => (None, None),
        Goal::AtLeast(least) => (Some(least), None),
        Goal::LessThan(most) => (None, Some(most)),
    };
    json!({
        "name": contest.name,
        "unit": match contest.unit { Unit::Rate => "messages/s", Unit::Megabytes => "MB" },
        "at_least": at_least,
        "less_than": less_than,
        "reached": is_reached(contest),
        "contenders": contenders,
    })
}

fn own_verdict(contest: &Contest<'_>) -> String {
    let promise = match contest.goal {
        Goal::None => return String::new(),
        Goal::AtLeast(least) => format!("at least {}/s", grouped(least)),
        Goal::LessThan(most) => format!("less than {most} MB"),
    };
    format!("{promise}: {}", word(goal_reached(contest)))
}

fn peer_verdict(contest: &Contest<'_>, peer: &Contender<'_>) -> String {
    peer.promised.map_or(String::new(), |times| {
        format!("at least {times}: {}", word(promise_reached(contest, peer)))
    })
}

fn goal_reached(contest: &Contest<'_>) -> bool {
    let own = contest.contenders.first().map_or(f64::NAN, Contender::median);
    match contest.goal {
        Goal::None => true,
        Goal::AtLeast(least) => own >= least,
        Goal::LessThan(most) => own < most,
    }
}

fn promise_reached(contest: &Contest<'_>, peer: &Contender<'_>) -> bool {
    peer.promised.is_none_or(|times| contest.ratio(peer) >= times)
}

fn word(reached: bool) -> &'static str {
    if reached { "ok" } else { "MISSED" }
}

/// A whole number with its thousands apart.
fn grouped(figure: f64) -> String {
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
