//! The lock, raced for.

use std::io::Write as _;

use crate::guests::{Guest, scratch};

const ROUNDS: u64 = 300;

/// Directories that are new are raced for, too: every other round.
#[test]
fn of_those_that_open_a_directory_at_once_exactly_one_has_it() {
    let scratch = scratch();
    let mut guests: Vec<_> =
        (0..3).map(|_| Guest::start("a-race-for-the-lock", scratch.path(), &[])).collect();
    for guest in &mut guests {
        assert_eq!(guest.hear().as_deref(), Some("ready"));
    }
    let mut wins = vec![0u64; guests.len()];
    let (mut unnamed, mut there) = (0, 0);
    for round in 0..ROUNDS {
        let name = if round % 2 == 0 { "queue".into() } else { format!("new-{round}") };
        // Who is told first changes from round to round.
        let order: Vec<usize> = (0..guests.len()).map(|of| (of + round as usize) % 3).collect();
        for of in &order {
            writeln!(guests[*of].input(), "{name}").unwrap();
        }
        let ids: Vec<u32> = guests.iter().map(Guest::id).collect();
        let answers: Vec<String> = guests.iter_mut().map(|guest| guest.hear().unwrap()).collect();
        let won: Vec<usize> =
            (0..guests.len()).filter(|of| answers[*of].starts_with("won ")).collect();
        assert_eq!(won.len(), 1, "round {round}: {answers:?}");
        wins[won[0]] += 1;
        for (of, answer) in answers.iter().enumerate() {
            match answer.split_once(' ').unwrap() {
                ("won", found) if round % 2 == 0 => {
                    assert_eq!(found, there.to_string());
                    there += 1;
                }
                ("won", found) => assert_eq!(found, "0"),
                // Who has just taken it may not have written its name yet; nobody else's is there.
                ("lost", owner) if owner == ids[won[0]].to_string() => assert_ne!(of, won[0]),
                ("lost", _) => unnamed += 1,
                _ => panic!("{answer}"),
            }
        }
        for guest in &mut guests {
            writeln!(guest.input(), "on").unwrap();
        }
        for guest in &mut guests {
            assert_eq!(guest.hear().as_deref(), Some("off"));
        }
    }
    assert!(wins.iter().all(|wins| *wins > 0), "{wins:?}");
    println!(
        "a-race-for-the-lock: {ROUNDS} races of three, each won by one: {wins:?}; {unnamed} lost to one unnamed"
    );
}
