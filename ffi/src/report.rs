//! The report of a verification, as JSON.

use std::fmt::Write as _;

use libmq::{Problem, VerifyReport};

/// The report as one object, on one line, without a NUL.
pub(crate) fn json(report: &VerifyReport) -> String {
    let VerifyReport { messages, dead_letters, suspects, records, dropped_bytes, .. } = report;
    let VerifyReport { segments, bytes, closed, .. } = report;
    let problems: Vec<String> = report.problems.iter().map(problem).collect();
    format!(
        "{{\"sound\":{},\"messages\":{messages},\"dead_letters\":{dead_letters},\"suspects\":{suspects},\
         \"records\":{records},\"dropped_bytes\":{dropped_bytes},\"segments\":{segments},\"bytes\":{bytes},\
         \"snapshot\":{},\"closed\":{closed},\"problems\":[{}]}}",
        report.sound(),
        or_null(report.snapshot),
        problems.join(",")
    )
}

fn problem(problem: &Problem) -> String {
    format!(
        "{{\"kind\":{},\"path\":{},\"offset\":{},\"text\":{}}}",
        quoted(problem.kind.name()),
        quoted(&problem.path.to_string_lossy()),
        or_null(problem.offset),
        quoted(&problem.text)
    )
}

fn or_null(number: Option<u64>) -> String {
    number.map_or("null".into(), |number| number.to_string())
}

/// A text in quotation marks; a path may have anything in it.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control.is_control() => {
                // Writing to a String cannot fail; a control character is below U+00A0.
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            character => out.push(character),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_there_is() {
        let report = json(&VerifyReport::default());
        assert_eq!(
            report,
            "{\"sound\":true,\"messages\":0,\"dead_letters\":0,\"suspects\":0,\"records\":0,\"dropped_bytes\":0,\
             \"segments\":0,\"bytes\":0,\"snapshot\":null,\"closed\":false,\"problems\":[]}"
        );
    }

    #[test]
    fn a_text_is_quoted() {
        assert_eq!(quoted("a\"b\\c\nd\u{9f}é"), r#""a\"b\\c\u000ad\u009fé""#);
    }

    #[test]
    fn a_problem_is_told() {
        let dir = std::env::temp_dir().join(format!("libmq-report-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("00000001.segment"), "short").unwrap();
        let told = json(&libmq::verify(&dir).unwrap());
        std::fs::remove_dir_all(&dir).unwrap();
        let path = format!("\"path\":\"{}/00000001.segment\"", dir.display());
        assert!(told.starts_with("{\"sound\":false,"), "{told}");
        assert!(told.contains("\"problems\":[{\"kind\":\"CORRUPT\","), "{told}");
        assert!(told.contains(&path) && told.contains("\"offset\":0,\"text\":\""), "{told}");
    }
}
