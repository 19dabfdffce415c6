//! A plot of a category: each contest a row of bars, as SVG.
//!
//! Peers differ by factors of a thousand, so bars grow with the logarithm of a figure, and each says its figure.

use std::fmt::Write;

use crate::contest::{Contender, Contest};
use crate::report::grouped;

const WIDTH: f64 = 1020.0;
/// Where bars begin, behind who it is and what a message survives there, and how long the longest is.
const LEFT: f64 = 420.0;
const LENGTH: f64 = 470.0;
const BAR: f64 = 18.0;
const TITLE: f64 = 44.0;

/// One plot for these contests.
pub(crate) fn bars(contests: &[&Contest]) -> String {
    let (mut body, mut y) = (String::new(), 0.0);
    for contest in contests {
        y = draw(&mut body, contest, y);
    }
    let height = y + 16.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

/// Draws one contest from `y` on; answers where it ends.
fn draw(body: &mut String, contest: &Contest, y: f64) -> f64 {
    let key = contest.figure.key;
    let better = if contest.figure.is_more_better { "more is better" } else { "less is better" };
    let middles = contest.played().map(|contender| contender.spread(key)[1]);
    let figures: Vec<f64> = middles.filter(|figure| *figure > 0.0).collect();
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = figures.iter().copied().fold(0.0, f64::max);
    // A decade below the least, so that this has a bar, too.
    let (low, high) = (least.log10() - 1.0, largest.log10());
    let title = escaped(&format!(
        "{} ({}, {better}; · what a message survives)",
        contest.name, contest.figure.unit
    ));
    let _ = writeln!(body, "<text x=\"16\" y=\"{}\" font-weight=\"bold\">{title}</text>", y + 30.0);
    let mut at = y + TITLE;
    for contender in contest.played() {
        let figure = contender.spread(key)[1];
        let length = LENGTH * ((figure.log10() - low) / (high - low)).clamp(0.0, 1.0);
        let (fill, text_y) = (colour(contender), at + BAR - 5.0);
        let (label, end) = (escaped(contender.name), LEFT + length + 6.0);
        let survives = escaped(contender.survives);
        let _ = writeln!(
            body,
            "<text x=\"{}\" y=\"{text_y}\" text-anchor=\"end\">{label}\
             <tspan fill=\"#777\"> · {survives}</tspan></text>\
             <rect x=\"{LEFT}\" y=\"{at}\" width=\"{length:.1}\" height=\"{}\" fill=\"{fill}\"/>\
             <text x=\"{end:.1}\" y=\"{text_y}\">{}</text>",
            LEFT - 8.0,
            BAR - 3.0,
            grouped(figure),
        );
        at += BAR;
    }
    at
}

/// libmq in one colour, bounds in another, peers in a third.
fn colour(contender: &Contender) -> &'static str {
    match contender.name {
        name if name.starts_with("libmq") => "#2a6fdb",
        name if name.starts_with("bare") => "#999",
        _ => "#c8b48a",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
