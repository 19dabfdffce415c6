//! One of several that open a directory at the same moment.

use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::time::Duration;

use libmq::{Broker, ErrorKind, Message, Options};

/// Opens what it is told, says how that went, and lets go when it is told again.
pub fn run(place: &Path) {
    let mut lines = std::io::stdin().lock().lines().map(Result::unwrap);
    let say = |line: String| {
        let mut output = std::io::stdout().lock();
        writeln!(output, "{line}").unwrap();
        output.flush().unwrap();
    };
    say("ready".into());
    while let Some(name) = lines.next() {
        let broker = match Broker::open(place.join(name), Options::new().segment_bytes(64 << 10)) {
            Ok(broker) => {
                say(format!("won {}", broker.recovery().messages));
                broker.enqueue(Message::new("won", "")).unwrap();
                Some(broker)
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
                say(format!("lost {}", error.owner().map_or(0, |owner| owner.pid)));
                None
            }
        };
        assert_eq!(lines.next().as_deref(), Some("on"));
        if let Some(broker) = broker {
            broker.close(Duration::from_secs(5)).unwrap();
        }
        say("off".into());
    }
}
