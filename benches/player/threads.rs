//! The same work on several threads at once.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::job::{Answer, Failure, Figures, Job};

/// How often a thread looks at the clock where its calls are not timed: that would cost as much as they do.
const UNTIMED: u32 = 64;

/// Runs work that `make` makes for each of `count` threads, over and over, for so many `seconds`; answers the calls a second,
/// and how long they took where they are `timed`.
pub(crate) fn play<W>(job: &Job, make: impl Fn() -> Result<W, Failure>) -> Answer
where
    W: FnMut() -> Result<(), Failure> + Send,
{
    let count: usize = job.get("count")?;
    let time = Duration::from_secs_f64(job.get("seconds")?);
    let is_timed: bool = job.get("timed")?;
    let stop = AtomicBool::new(false);
    let ready = Barrier::new(count + 1);
    let works = (0..count).map(|_| make()).collect::<Result<Vec<W>, _>>()?;
    thread::scope(|scope| {
        let threads: Vec<_> = works
            .into_iter()
            .map(|mut work| {
                let (stop, ready) = (&stop, &ready);
                scope.spawn(move || {
                    ready.wait();
                    let (mut calls, mut times) = (0_u32, Vec::new());
                    while !stop.load(Ordering::Relaxed) {
                        if is_timed {
                            let began = Instant::now();
                            work()?;
                            times.push(began.elapsed());
                            calls += 1;
                        } else {
                            (0..UNTIMED).try_for_each(|_| work())?;
                            calls += UNTIMED;
                        }
                    }
                    Ok::<_, Failure>((calls, times))
                })
            })
            .collect();
        ready.wait();
        let began = Instant::now();
        thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        let (mut calls, mut times) = (0, Vec::new());
        for thread in threads {
            let (its_calls, its_times) = thread.join().map_err(|_| "a producer panicked")??;
            calls += its_calls;
            times.extend(its_times);
        }
        let figures = Figures::rate(calls, began.elapsed());
        Ok(if is_timed { figures.with_times(times) } else { figures })
    })
}
