//! Metrics as Prometheus reads them: its text format, version 0.0.4.

use std::fmt::{self, Display, Write};

use super::metrics::{FIGURES, Kind, LSN, Metrics, OLDEST_READY_AGE, OWN_FIGURES};

/// Writes metrics as text.
struct Text<'a>(&'a Metrics);

impl Metrics {
    /// The figures as Prometheus reads them: each queue's under its name as label `queue`, the broker's own without one.
    /// Durations are seconds.
    #[must_use]
    pub fn to_prometheus(&self) -> String {
        Text(self).to_string()
    }
}

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(metrics) = self;
        for figure in FIGURES {
            let name = full_name(figure.name, figure.kind);
            head(f, &name, figure.kind, figure.meaning)?;
            for (queue, figures) in &metrics.queues {
                // A queue's name has nothing in it that would have to be escaped.
                writeln!(f, "{name}{{queue=\"{queue}\"}} {}", (figure.of)(figures))?;
            }
        }
        let name = "libmq_oldest_ready_age_seconds";
        head(f, name, Kind::Gauge, OLDEST_READY_AGE)?;
        for (queue, figures) in &metrics.queues {
            if let Some(age) = figures.oldest_ready_age {
                writeln!(f, "{name}{{queue=\"{queue}\"}} {}", age.as_secs_f64())?;
            }
        }
        for figure in OWN_FIGURES {
            let name = full_name(figure.name, figure.kind);
            head(f, &name, figure.kind, figure.meaning)?;
            writeln!(f, "{name} {}", (figure.of)(metrics))?;
        }
        head(f, "libmq_lsn", Kind::Gauge, LSN)?;
        for (mark, position) in metrics.lsn.marks() {
            writeln!(f, "libmq_lsn{{mark=\"{mark}\"}} {position}")?;
        }
        Ok(())
    }
}

fn full_name(name: &str, kind: Kind) -> String {
    let unit = if kind == Kind::Counter { "_total" } else { "" };
    format!("libmq_{name}{unit}")
}

fn head(f: &mut impl Write, name: &str, kind: Kind, meaning: &str) -> fmt::Result {
    let kind = if kind == Kind::Counter { "counter" } else { "gauge" };
    writeln!(f, "# HELP {name} {}", meaning.trim())?;
    writeln!(f, "# TYPE {name} {kind}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::metrics::QueueMetrics;
    use super::*;

    #[test]
    fn every_figure_has_its_meaning_its_kind_and_its_value() {
        let orders = QueueMetrics {
            ready: 3,
            enqueued: 7,
            oldest_ready_age: Some(Duration::from_millis(1500)),
            ..QueueMetrics::default()
        };
        let mut metrics = Metrics { segments: 2, syncs: 9, ..Metrics::default() };
        metrics.queues.insert("orders".into(), orders);
        metrics.queues.insert("a-b.c_d".into(), QueueMetrics::default());
        let text = metrics.to_prometheus();
        for expected in [
            "# HELP libmq_ready Messages that could run now.\n# TYPE libmq_ready gauge\n\
             libmq_ready{queue=\"a-b.c_d\"} 0\nlibmq_ready{queue=\"orders\"} 3\n",
            "# TYPE libmq_enqueued_total counter\n",
            "libmq_enqueued_total{queue=\"orders\"} 7\n",
            "libmq_oldest_ready_age_seconds{queue=\"orders\"} 1.5\n# HELP",
            "libmq_segments 2\n",
            "libmq_syncs_total 9\n",
            "libmq_lsn{mark=\"shown\"} 0\n",
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
        let is_sound = |line: &str| {
            line.starts_with("# ")
                || line.split_once(' ').is_some_and(|(name, value)| {
                    name.starts_with("libmq_") && value.parse::<f64>().is_ok()
                })
        };
        assert_eq!(text.lines().find(|line| !is_sound(line)), None);
    }
}
