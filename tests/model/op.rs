//! Calls that may be made. Each may always be made: what it is about is picked from what there is then, and where there is
//! nothing, it is left out. So a sequence that was made shorter is one, too.

use libmq::Durability;
use proptest::prelude::*;
use proptest::sample::Index;

/// Queues there are.
pub(crate) const QUEUES: [&str; 2] = ["jobs", "mail"];
/// Time passes in steps of so many seconds, and whatever takes time takes some of these.
pub(crate) const STEP_S: u64 = 10;

/// A message to enqueue, but for its body.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) queue: usize,
    pub(crate) key: Option<u8>,
    pub(crate) keep: bool,
    pub(crate) delay: u64,
    pub(crate) priority: u8,
    pub(crate) group: Option<u8>,
    /// After its delay.
    pub(crate) expires: Option<u64>,
    pub(crate) window: u64,
}

/// What a handler answers to all it is called for. It answers no retry without a delay, which had no end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    Ack,
    Fail,
    Retry(u64),
    Reject,
}

/// A call. An index picks one of those there are; times are steps.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Enqueue(Draft, Durability),
    Batch(Vec<Draft>, Durability),
    Receive {
        queue: usize,
        most: usize,
        lease: u64,
    },
    Ack(Index),
    AckWith(Index, Draft),
    Retry(Index, Option<u64>),
    Reject(Index),
    Release(Index, u64),
    Extend(Index, u64),
    /// Settles once more what was settled, or lost.
    SettleAgain(Index),
    /// Of all messages that ever were.
    Cancel(Index),
    Purge(usize),
    Replay(Index),
    PurgeLetters(Option<usize>),
    /// A handler of the first queue does all there is to do, with so much parallelism.
    Work(Answer, u32),
    Pause(usize),
    Resume(usize),
    Advance(u64),
    Snapshot,
    /// A copy is made, and goes on in the place of what was copied.
    Copy,
    Reopen,
    Die,
}

fn queue() -> impl Strategy<Value = usize> {
    0..QUEUES.len()
}

/// No time, mostly.
fn steps(most: u64) -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0), 1 => 1..=most]
}

fn sometimes<T: Clone + std::fmt::Debug + 'static>(
    value: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Option<T>> {
    prop_oneof![2 => Just(None), 1 => value.prop_map(Some)]
}

fn draft() -> impl Strategy<Value = Draft> {
    let who = (queue(), sometimes(0..2_u8), any::<bool>(), steps(3));
    let how = (
        prop_oneof![3 => Just(0_u8), 1 => 1..=9_u8],
        sometimes(0..2_u8),
        prop_oneof![4 => Just(None), 1 => (1..=4_u64).prop_map(Some)],
        steps(3),
    );
    (who, how).prop_map(|((queue, key, keep, delay), (priority, group, expires, window))| Draft {
        queue,
        key,
        keep,
        delay,
        priority,
        group,
        expires,
        window,
    })
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        3 => Just(Answer::Ack),
        2 => Just(Answer::Fail),
        1 => (1..=3_u64).prop_map(Answer::Retry),
        1 => Just(Answer::Reject),
    ]
}

fn level() -> impl Strategy<Value = Durability> {
    prop_oneof![2 => Just(Durability::Os), 1 => Just(Durability::Sync)]
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    let index = any::<Index>;
    prop_oneof![
        12 => (draft(), level()).prop_map(|(draft, level)| Op::Enqueue(draft, level)),
        3 => (prop::collection::vec(draft(), 0..5), level())
            .prop_map(|(drafts, level)| Op::Batch(drafts, level)),
        12 => (queue(), 1..=3_usize, 1..=4_u64)
            .prop_map(|(queue, most, lease)| Op::Receive { queue, most, lease }),
        5 => index().prop_map(Op::Ack),
        2 => (index(), draft()).prop_map(|(index, draft)| Op::AckWith(index, draft)),
        4 => (index(), sometimes(0..=3_u64)).prop_map(|(index, delay)| Op::Retry(index, delay)),
        2 => index().prop_map(Op::Reject),
        3 => (index(), steps(3)).prop_map(|(index, delay)| Op::Release(index, delay)),
        1 => (index(), 1..=4_u64).prop_map(|(index, time)| Op::Extend(index, time)),
        1 => index().prop_map(Op::SettleAgain),
        2 => index().prop_map(Op::Cancel),
        1 => queue().prop_map(Op::Purge),
        2 => index().prop_map(Op::Replay),
        1 => sometimes(queue()).prop_map(Op::PurgeLetters),
        2 => (answer(), 1..=3_u32).prop_map(|(answer, most)| Op::Work(answer, most)),
        1 => queue().prop_map(Op::Pause),
        1 => queue().prop_map(Op::Resume),
        5 => (1..=4_u64).prop_map(Op::Advance),
        1 => Just(Op::Snapshot),
        1 => Just(Op::Copy),
        1 => Just(Op::Reopen),
        2 => Just(Op::Die),
    ]
}
