//! The judge of histories against a naive twin, and against what is known.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;

use coterie::check::Ended;
use coterie::check::linearizability::{
    Conflict, Counter, CounterAction, Judge, Kind, Limits, Lock, LockAction, Model, NEVER, Operation,
    Progress, Queue, QueueAction, Reason, Register, RegisterAction, Role, Sequences, Set, SetAction, Verdict,
};
use coterie::sim::standard::replicated;
use proptest::prelude::*;

/// An object written down in the most obvious way: what it does, and what it answers.
trait Object: Clone {
    type Action: Copy + Ord + Debug;

    fn new() -> Self;

    /// Does what is asked, and tells it with the answer.
    fn answer(&mut self, asked: Self::Action) -> Self::Action;

    /// Whether an answer that tells less than all is in keeping with one that tells all.
    fn agrees(told: Self::Action, all: Self::Action) -> bool {
        told == all
    }
}

/// The naive twin: tries every order.
fn explained<O: Object>(object: &O, left: &[Operation<O::Action>]) -> bool {
    if left.iter().all(|operation| !operation.is_known()) {
        return true;
    }
    (0..left.len()).any(|next| {
        let operation = left[next];
        if left.iter().any(|other| other.end < operation.call) {
            return false;
        }
        let mut after = object.clone();
        let answer = after.answer(operation.action);
        if operation.is_known() && !O::agrees(operation.action, answer) {
            return false;
        }
        let mut rest = left.to_vec();
        rest.remove(next);
        explained(&after, &rest)
    })
}

fn judge<M: Model>(model: M, operations: &[Operation<M::Action>]) -> (Verdict, Judge<M>) {
    let mut judge = Judge::new(model, operations.to_vec(), Limits::default());
    loop {
        // Slices of one step, so that being interrupted is tested as well.
        if let Progress::Done(verdict) = judge.advance(1) {
            return (verdict, judge);
        }
    }
}

/// One operation of a drawn history.
#[derive(Clone, Copy, Debug)]
struct Drawn<A> {
    asked: A,
    begin: u32,
    length: u32,
    /// When within its time it takes effect, in hundredths.
    point: u32,
    /// Its answer is replaced by that of another.
    corrupt: bool,
    unknown: bool,
    /// It took no effect, if it is unknown.
    lost: bool,
}

fn drawn<A: Debug + Copy>(asked: impl Strategy<Value = A>) -> impl Strategy<Value = Drawn<A>> {
    (asked, 0..24_u32, 1..14_u32, 0..100_u32, 0..20_u32, 0..6_u32, any::<bool>()).prop_map(
        |(asked, begin, length, point, corrupt, unknown, lost)| Drawn {
            asked,
            begin,
            length,
            point,
            corrupt: corrupt == 0,
            unknown: unknown == 0,
            lost,
        },
    )
}

/// A history of the object as it is, with wrong answers where they were drawn.
fn history<O: Object>(
    drawn: &[Drawn<O::Action>],
    twisted: impl Fn(O::Action) -> O::Action,
) -> Vec<Operation<O::Action>> {
    let mut order: Vec<usize> = (0..drawn.len()).collect();
    order.sort_by_key(|&index| (drawn[index].begin * 100 + drawn[index].length * drawn[index].point, index));
    let mut object = O::new();
    let mut actions: Vec<O::Action> = drawn.iter().map(|one| one.asked).collect();
    for index in order {
        let one = drawn[index];
        if one.unknown && one.lost {
            continue;
        }
        let answer = object.answer(one.asked);
        // Of an answer that nobody heard, nothing is known.
        if !one.unknown {
            actions[index] = if one.corrupt { twisted(answer) } else { answer };
        }
    }
    // Places: all beginnings and ends in order, beginnings first.
    let mut marks: Vec<(u32, bool, usize)> = Vec::new();
    for (index, one) in drawn.iter().enumerate() {
        marks.push((one.begin, false, index));
        marks.push((one.begin + one.length, true, index));
    }
    marks.sort_unstable();
    let mut operations: Vec<_> =
        actions.into_iter().map(|action| Operation { object: 0, action, call: 0, end: 0 }).collect();
    for (place, (_, is_end, index)) in (0..).zip(marks) {
        match is_end {
            false => operations[index].call = place,
            true if drawn[index].unknown => operations[index].end = NEVER,
            true => operations[index].end = place,
        }
    }
    operations.sort_by_key(|operation| operation.call);
    operations
}

/// Holds the judge to the twin; and a conflict, where there is one, to what it claims.
fn agree<O: Object, M: Model<Action = O::Action> + Clone>(
    model: &M,
    operations: &[Operation<O::Action>],
) -> Result<bool, TestCaseError> {
    let expected = explained(&O::new(), operations);
    let (verdict, judge) = judge(model.clone(), operations);
    prop_assert_eq!(verdict == Verdict::Linearizable, expected, "{:?} of {:#?}", verdict, operations);
    prop_assert!(!matches!(verdict, Verdict::Unknown(_)));
    if let Verdict::Violation { place } = verdict {
        let (model, part) = judge.into_part();
        let whole = part.clone();
        let mut conflict = Conflict::new(model, part, place, Limits::default());
        while !conflict.advance(1) {}
        holds::<O, M>(&conflict, &whole)?;
    }
    Ok(expected)
}

fn holds<O: Object, M: Model<Action = O::Action>>(
    conflict: &Conflict<M>,
    whole: &[Operation<O::Action>],
) -> Result<(), TestCaseError> {
    let found: Vec<_> = conflict.operations().collect();
    let last = found.iter().find(|(_, role)| *role == Role::Last).map_or(0, |(last, _)| last.end);
    let forget = |operation: &Operation<O::Action>| {
        // What is known to have changed nothing is not there; of what had not ended by then, nothing is known.
        let changed = operation.end > last || !conflict.model().is_pure(operation.action);
        let action = conflict.model().forget(operation.action).filter(|_| changed);
        action.map(|action| Operation { action, end: NEVER, ..*operation })
    };
    let as_is = |(operation, role): &(_, Role)| {
        if *role == Role::Perhaps { forget(operation) } else { Some(*operation) }
    };
    let told: Vec<_> = found.iter().filter_map(as_is).collect();
    prop_assert!(!explained(&O::new(), &told), "no order explains {found:#?}");
    let lasts = found.iter().filter(|(_, role)| *role == Role::Last).count();
    prop_assert_eq!(lasts, 1);
    // All that is not in the way may have been anything.
    let answered = |operation: &Operation<O::Action>| {
        found.iter().any(|(other, role)| other.call == operation.call && *role != Role::Perhaps)
    };
    let weaker: Vec<_> = whole
        .iter()
        .filter_map(|operation| if answered(operation) { Some(*operation) } else { forget(operation) })
        .collect();
    prop_assert!(
        !explained(&O::new(), &weaker),
        "{found:#?} stand in the way whatever else was in {whole:#?}"
    );
    // Without the last answer, the rest can be explained: its operation may have done whatever it likes.
    let pending = |operation: &Operation<O::Action>| {
        let action = conflict.model().forget(operation.action);
        action.map(|action| Operation { action, end: NEVER, ..*operation })
    };
    let rest: Vec<_> = found
        .iter()
        .filter_map(|one| if one.1 == Role::Last { pending(&one.0) } else { as_is(one) })
        .collect();
    prop_assert!(explained(&O::new(), &rest), "all but the last of {found:#?}");
    // And none of the answers can be spared.
    for (spared, role) in &found {
        if *role == Role::Answered {
            let weaker = whole.iter().filter_map(|operation| {
                if answered(operation) && operation.call != spared.call {
                    Some(*operation)
                } else {
                    forget(operation)
                }
            });
            let weaker: Vec<_> = weaker.filter(|operation| operation.call < last).collect();
            prop_assert!(explained(&O::new(), &weaker), "{spared:?} can be spared in {found:#?}");
        }
    }
    Ok(())
}

#[derive(Clone)]
struct PlainRegister(u32);

impl Object for PlainRegister {
    type Action = RegisterAction;

    fn new() -> Self {
        Self(0)
    }

    fn answer(&mut self, asked: RegisterAction) -> RegisterAction {
        use RegisterAction::{Append, CompareAndSwap, Read, Write};
        match asked {
            Read(_) => Read(self.0),
            Write(value) => {
                self.0 = value;
                asked
            }
            CompareAndSwap { expected, new, .. } => {
                let swapped = self.0 == expected;
                if swapped {
                    self.0 = new;
                }
                CompareAndSwap { expected, new, swapped }
            }
            Append(..) => unreachable!("a register of its own has them"),
        }
    }
}

fn twist_register(answer: RegisterAction) -> RegisterAction {
    use RegisterAction::{CompareAndSwap, Read};
    match answer {
        Read(value) => Read((value + 1) % 4),
        CompareAndSwap { expected, new, swapped } => CompareAndSwap { expected, new, swapped: !swapped },
        other => other,
    }
}

fn register_asked() -> impl Strategy<Value = RegisterAction> {
    prop_oneof![
        Just(RegisterAction::Read(0)),
        (1..4_u32).prop_map(RegisterAction::Write),
        (0..4_u32, 1..4_u32).prop_map(|(expected, new)| RegisterAction::CompareAndSwap {
            expected,
            new,
            swapped: false
        }),
    ]
}

/// Gives each write a value of its own; reads see what they would.
fn unique<A: Copy>(drawn: &mut [Drawn<A>], with: impl Fn(A, u32) -> A) {
    for (number, one) in (1..).zip(drawn) {
        one.asked = with(one.asked, number);
    }
}

/// A text in a register, or a list: symbols.
#[derive(Clone)]
struct PlainSequence(Option<Vec<u32>>);

/// All texts of up to three symbols of two, by number; 0 is nothing, 1 the empty one.
fn texts(kind: Kind) -> Vec<(Kind, Box<[u32]>)> {
    let mut all: Vec<(Kind, Box<[u32]>)> = vec![(Kind::Opaque, [].into())];
    for length in 0..=3_u32 {
        for code in 0..1 << length {
            all.push((kind, (0..length).map(|bit| code >> bit & 1).collect()));
        }
    }
    all
}

fn number_of(symbols: Option<&Vec<u32>>) -> u32 {
    let Some(symbols) = symbols else { return 0 };
    // Longer ones are not in the table: they have a number that no read of the tests tells.
    texts(Kind::Text)
        .iter()
        .skip(1)
        .position(|(_, text)| **text == **symbols)
        .map_or(u32::MAX, |at| at as u32 + 1)
}

impl Object for PlainSequence {
    type Action = RegisterAction;

    fn new() -> Self {
        Self(None)
    }

    fn answer(&mut self, asked: RegisterAction) -> RegisterAction {
        use RegisterAction::{Append, CompareAndSwap, Read, Write};
        let content = |value: u32| (value != 0).then(|| texts(Kind::Text)[value as usize].1.to_vec());
        match asked {
            Read(_) => Read(number_of(self.0.as_ref())),
            Write(value) => {
                self.0 = content(value);
                asked
            }
            CompareAndSwap { expected, new, .. } => {
                let swapped = self.0 == content(expected);
                if swapped {
                    self.0 = content(new);
                }
                CompareAndSwap { expected, new, swapped }
            }
            Append(piece, _) => {
                let own = self.0.get_or_insert_default();
                own.extend(content(piece).expect("a text"));
                Append(piece, Some(own.len() as u32))
            }
        }
    }

    fn agrees(told: RegisterAction, all: RegisterAction) -> bool {
        told == all
            || matches!((told, all), (RegisterAction::Append(one, None), RegisterAction::Append(two, _)) if one == two)
    }
}

#[derive(Clone)]
struct PlainQueue(VecDeque<u32>);

impl Object for PlainQueue {
    type Action = QueueAction;

    fn new() -> Self {
        Self(VecDeque::new())
    }

    fn answer(&mut self, asked: QueueAction) -> QueueAction {
        if let QueueAction::Enqueue(value) = asked {
            self.0.push_back(value);
            return asked;
        }
        self.0.pop_front().map_or(QueueAction::DequeueEmpty, QueueAction::Dequeue)
    }
}

#[derive(Clone)]
struct PlainLock {
    holder: Option<u32>,
    token: u32,
}

impl Object for PlainLock {
    type Action = LockAction;

    fn new() -> Self {
        Self { holder: None, token: 0 }
    }

    fn answer(&mut self, asked: LockAction) -> LockAction {
        match asked {
            LockAction::Acquire { process, .. } if self.holder.is_none() => {
                self.holder = Some(process);
                self.token += 1;
                LockAction::Acquire { process, token: Some(self.token) }
            }
            // Who was refused would not have been.
            LockAction::AcquireRefused if self.holder.is_none() => asked_of_nobody(),
            LockAction::Acquire { .. } | LockAction::AcquireRefused => LockAction::AcquireRefused,
            LockAction::Release { process } | LockAction::ReleaseRefused { process } => {
                if self.holder == Some(process) {
                    self.holder = None;
                    LockAction::Release { process }
                } else {
                    LockAction::ReleaseRefused { process }
                }
            }
        }
    }
}

#[derive(Clone)]
struct PlainCounter(i64);

impl Object for PlainCounter {
    type Action = CounterAction;

    fn new() -> Self {
        Self(0)
    }

    fn answer(&mut self, asked: CounterAction) -> CounterAction {
        match asked {
            CounterAction::Add(amount, _) => {
                self.0 += amount;
                CounterAction::Add(amount, Some(self.0))
            }
            CounterAction::Read(_) => CounterAction::Read(self.0),
        }
    }

    fn agrees(told: CounterAction, all: CounterAction) -> bool {
        told == all
            || matches!((told, all), (CounterAction::Add(one, None), CounterAction::Add(two, _)) if one == two)
    }
}

#[derive(Clone)]
struct PlainSet(BTreeSet<u32>);

/// All sets of up to three elements, by their bits.
fn subsets() -> Vec<Box<[u32]>> {
    (0..8_u32).map(|bits| (0..3).filter(|bit| bits >> bit & 1 == 1).collect()).collect()
}

impl Object for PlainSet {
    type Action = SetAction;

    fn new() -> Self {
        Self(BTreeSet::new())
    }

    fn answer(&mut self, asked: SetAction) -> SetAction {
        match asked {
            SetAction::Insert(element, _) => SetAction::Insert(element, Some(self.0.insert(element))),
            SetAction::Remove(element, _) => SetAction::Remove(element, Some(self.0.remove(&element))),
            SetAction::Contains(element, _) => SetAction::Contains(element, self.0.contains(&element)),
            SetAction::Members(_) => SetAction::Members(self.0.iter().map(|element| 1 << element).sum()),
        }
    }

    fn agrees(told: SetAction, all: SetAction) -> bool {
        use SetAction::{Insert, Remove};
        match (told, all) {
            (Insert(one, None), Insert(two, _)) | (Remove(one, None), Remove(two, _)) => one == two,
            _ => told == all,
        }
    }
}

/// Forgets what some answers told beyond that they came.
fn untold<A: Copy>(operations: &mut [Operation<A>], bits: u8, silent: impl Fn(A) -> A) {
    for (place, operation) in operations.iter_mut().enumerate() {
        if bits >> (place % 8) & 1 == 1 {
            operation.action = silent(operation.action);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn registers_are_judged_as_by_the_twin(drawn in prop::collection::vec(drawn(register_asked()), 0..8)) {
        agree::<PlainRegister, _>(&Register::default(), &history::<PlainRegister>(&drawn, twist_register))?;
    }

    #[test]
    fn registers_whose_values_are_written_once_are_judged_as_by_the_twin(
        mut drawn in prop::collection::vec(drawn(register_asked()), 0..8),
    ) {
        unique(&mut drawn, |asked, number| match asked {
            RegisterAction::Read(_) => asked,
            _ => RegisterAction::Write(number),
        });
        let operations = history::<PlainRegister>(&drawn, |answer| match answer {
            RegisterAction::Read(value) => RegisterAction::Read((value + 1) % 8),
            other => other,
        });
        prop_assert!(operations.is_empty() || Register::default().by_values(&operations).is_some());
        agree::<PlainRegister, _>(&Register::default(), &operations)?;
    }

    #[test]
    fn texts_that_grow_are_judged_as_by_the_twin(
        drawn in prop::collection::vec(drawn(prop_oneof![
            2 => Just(RegisterAction::Read(0)),
            1 => (0..4_u32).prop_map(RegisterAction::Write),
            1 => (0..8_u32, 0..8_u32)
                .prop_map(|(expected, new)| RegisterAction::CompareAndSwap { expected, new, swapped: false }),
            3 => (2..4_u32).prop_map(|piece| RegisterAction::Append(piece, None)),
        ]), 0..7),
        silent in any::<u8>(),
        only_grows in any::<bool>(),
    ) {
        let mut drawn = drawn;
        for one in &mut drawn {
            // Where nothing is written over, the search looks ahead.
            if only_grows && !matches!(one.asked, RegisterAction::Read(_)) {
                one.asked = RegisterAction::Append(2 + one.begin % 2, None);
            }
        }
        let mut operations = history::<PlainSequence>(&drawn, |answer| match answer {
            RegisterAction::Read(value) => RegisterAction::Read(value.wrapping_add(1) % 15),
            RegisterAction::Append(piece, length) => RegisterAction::Append(piece, length.map(|length| length + 1)),
            other => twist_register(other),
        });
        // A read that tells a number which is not in the table saw something longer than the texts of the table.
        operations.retain(|operation| operation.action != RegisterAction::Read(u32::MAX));
        untold(&mut operations, silent, |action| match action {
            RegisterAction::Append(piece, _) => RegisterAction::Append(piece, None),
            other => other,
        });
        let model = Register::new(0, Some(Sequences::new(texts(Kind::Text))));
        agree::<PlainSequence, _>(&model, &operations)?;
    }

    #[test]
    fn queues_are_judged_as_by_the_twin(
        drawn in prop::collection::vec(drawn(prop_oneof![
            (1..4_u32).prop_map(QueueAction::Enqueue),
            Just(QueueAction::DequeueEmpty),
        ]), 0..8),
    ) {
        let operations = history::<PlainQueue>(&drawn, |answer| match answer {
            QueueAction::Dequeue(value) => QueueAction::Dequeue(value % 3 + 1),
            QueueAction::DequeueEmpty => QueueAction::Dequeue(1),
            other => other,
        });
        agree::<PlainQueue, _>(&Queue::new(), &operations)?;
    }

    #[test]
    fn queues_whose_values_are_put_in_once_are_judged_as_by_the_twin(
        mut drawn in prop::collection::vec(drawn(prop_oneof![
            Just(QueueAction::Enqueue(0)),
            Just(QueueAction::DequeueEmpty),
        ]), 0..9),
        twist in 0..9_u32,
    ) {
        unique(&mut drawn, |asked, number| match asked {
            QueueAction::Enqueue(_) => QueueAction::Enqueue(number),
            other => other,
        });
        for one in &mut drawn {
            one.unknown &= matches!(one.asked, QueueAction::Enqueue(_));
        }
        let operations = history::<PlainQueue>(&drawn, |answer| match answer {
            QueueAction::Dequeue(_) if twist == 0 => QueueAction::DequeueEmpty,
            QueueAction::Dequeue(_) | QueueAction::DequeueEmpty => QueueAction::Dequeue(twist),
            other => other,
        });
        prop_assert!(Queue::new().by_values(&operations).is_some());
        agree::<PlainQueue, _>(&Queue::new(), &operations)?;
    }

    #[test]
    fn queues_of_whose_dequeues_nobody_heard_are_judged_as_by_the_twin(
        mut drawn in prop::collection::vec(drawn(prop_oneof![
            Just(QueueAction::Enqueue(0)),
            Just(QueueAction::DequeueEmpty),
        ]), 0..9),
        twist in 0..9_u32,
        lost in any::<bool>(),
    ) {
        unique(&mut drawn, |asked, number| match asked {
            QueueAction::Enqueue(_) => QueueAction::Enqueue(number),
            other => other,
        });
        for one in &mut drawn {
            one.unknown |= lost && one.point % 2 == 0 && one.asked == QueueAction::DequeueEmpty;
        }
        let operations = history::<PlainQueue>(&drawn, |answer| match answer {
            QueueAction::Dequeue(_) if twist == 0 => QueueAction::DequeueEmpty,
            QueueAction::Dequeue(_) | QueueAction::DequeueEmpty => QueueAction::Dequeue(twist),
            other => other,
        });
        agree::<PlainQueue, _>(&Queue::new(), &operations)?;
    }

    #[test]
    fn locks_that_expire_are_judged_as_by_the_twin(
        drawn in prop::collection::vec(drawn((0..3_u32, any::<bool>()).prop_map(|(process, acquires)| {
            if acquires { LockAction::Acquire { process, token: None } } else { LockAction::Release { process } }
        })), 0..8),
    ) {
        let operations = history::<ExpiringLock>(&drawn, |answer| match answer {
            LockAction::Acquire { process, token } => {
                LockAction::Acquire { process, token: token.map(|token| token % 3 + 1) }
            }
            LockAction::Release { process } => LockAction::ReleaseRefused { process },
            other => other,
        });
        prop_assert!(Lock::new(true, true).by_values(&operations).is_some());
        agree::<ExpiringLock, _>(&Lock::new(true, true), &operations)?;
    }

    #[test]
    fn locks_are_judged_as_by_the_twin(
        drawn in prop::collection::vec(drawn((0..3_u32, any::<bool>()).prop_map(|(process, acquires)| {
            if acquires { LockAction::Acquire { process, token: None } } else { LockAction::Release { process } }
        })), 0..8),
    ) {
        let operations = history::<PlainLock>(&drawn, |answer| match answer {
            LockAction::Acquire { process, token } => LockAction::Acquire { process, token: token.map(|token| token % 3 + 1) },
            LockAction::AcquireRefused => LockAction::Acquire { process: 0, token: Some(2) },
            LockAction::Release { process } => LockAction::ReleaseRefused { process },
            LockAction::ReleaseRefused { process } => LockAction::Release { process },
        });
        agree::<SkippingLock, _>(&Lock::new(true, false), &operations)?;
    }

    #[test]
    fn counters_are_judged_as_by_the_twin(
        drawn in prop::collection::vec(drawn(prop_oneof![
            3 => (-1..3_i64).prop_map(|amount| CounterAction::Add(amount, None)),
            2 => Just(CounterAction::Read(0)),
        ]), 0..8),
        silent in any::<u8>(),
    ) {
        let operations = counters(&drawn, silent);
        agree::<PlainCounter, _>(&Counter::new(0), &operations)?;
    }

    #[test]
    fn counters_that_grow_by_one_are_judged_as_by_the_twin(
        drawn in prop::collection::vec(drawn(prop_oneof![
            3 => Just(CounterAction::Add(1, None)),
            2 => Just(CounterAction::Read(0)),
        ]), 0..9),
    ) {
        let operations = counters(&drawn, 0xff);
        prop_assert!(Counter::new(0).by_values(&operations).is_some());
        agree::<PlainCounter, _>(&Counter::new(0), &operations)?;
    }

    #[test]
    fn counters_that_tell_where_they_are_are_judged_as_by_the_twin(
        mut drawn in prop::collection::vec(drawn(prop_oneof![
            3 => (1..3_i64).prop_map(|amount| CounterAction::Add(amount, None)),
            2 => Just(CounterAction::Read(0)),
        ]), 0..9),
    ) {
        for one in &mut drawn {
            one.unknown &= matches!(one.asked, CounterAction::Read(_));
        }
        let operations = counters(&drawn, 0);
        prop_assert!(Counter::new(0).by_values(&operations).is_some());
        agree::<PlainCounter, _>(&Counter::new(0), &operations)?;
    }

    #[test]
    fn sets_are_judged_as_by_the_twin(
        drawn in prop::collection::vec(drawn(prop_oneof![
            2 => (0..3_u32).prop_map(|element| SetAction::Insert(element, None)),
            2 => (0..3_u32).prop_map(|element| SetAction::Remove(element, None)),
            2 => (0..3_u32).prop_map(|element| SetAction::Contains(element, false)),
            1 => Just(SetAction::Members(0)),
        ]), 0..8),
        silent in any::<u8>(),
        whole in any::<bool>(),
    ) {
        let mut operations = sets(&drawn, silent);
        if !whole {
            operations.retain(|operation| !matches!(operation.action, SetAction::Members(_)));
        }
        let expected = explained(&PlainSet::new(), &operations);
        let (verdict, _) = judge(Set::new(subsets()), &operations);
        prop_assert_eq!(verdict == Verdict::Linearizable, expected, "{:?} of {:#?}", verdict, operations);
    }

    #[test]
    fn sets_that_only_grow_are_judged_as_by_the_twin(
        mut drawn in prop::collection::vec(drawn(prop_oneof![
            2 => Just(SetAction::Insert(0, None)),
            3 => Just(SetAction::Members(0)),
        ]), 0..9),
        silent in any::<u8>(),
    ) {
        let mut next = 0;
        for one in &mut drawn {
            one.asked = match one.asked {
                SetAction::Insert(..) if next < 3 => {
                    next += 1;
                    SetAction::Insert(next - 1, None)
                }
                _ => SetAction::Members(0),
            };
        }
        let operations = sets(&drawn, silent);
        prop_assert!(Set::new(subsets()).by_values(&operations).is_some());
        agree::<PlainSet, _>(&Set::new(subsets()), &operations)?;
    }

    #[test]
    fn lists_whose_items_are_appended_once_are_judged_as_by_the_twin(
        mut drawn in prop::collection::vec(drawn(prop_oneof![
            2 => Just(RegisterAction::Append(0, None)),
            3 => Just(RegisterAction::Read(0)),
        ]), 0..9),
    ) {
        let mut next = 0;
        for one in &mut drawn {
            one.asked = match one.asked {
                RegisterAction::Append(..) if next < 3 => {
                    next += 1;
                    RegisterAction::Append(next, None)
                }
                _ => RegisterAction::Read(0),
            };
        }
        let operations = history::<PlainList>(&drawn, |answer| match answer {
            RegisterAction::Read(value) => RegisterAction::Read(4 + (value + 1) % 13),
            other => other,
        });
        let model = Register::new(4, Some(Sequences::new(lists())));
        let mut silent = operations;
        untold(&mut silent, 0xff, |action| match action {
            RegisterAction::Append(piece, _) => RegisterAction::Append(piece, None),
            other => other,
        });
        prop_assert!(model.by_values(&silent).is_some());
        agree::<PlainList, _>(&model, &silent)?;
    }
}

fn counters(drawn: &[Drawn<CounterAction>], silent: u8) -> Vec<Operation<CounterAction>> {
    let mut operations = history::<PlainCounter>(drawn, |answer| match answer {
        CounterAction::Read(value) => CounterAction::Read(value - 1),
        CounterAction::Add(amount, told) => CounterAction::Add(amount, told.map(|told| told + 1)),
    });
    untold(&mut operations, silent, |action| match action {
        CounterAction::Add(amount, _) => CounterAction::Add(amount, None),
        other @ CounterAction::Read(_) => other,
    });
    operations
}

fn sets(drawn: &[Drawn<SetAction>], silent: u8) -> Vec<Operation<SetAction>> {
    let mut operations = history::<PlainSet>(drawn, |answer| match answer {
        SetAction::Members(bits) => SetAction::Members((bits + 1) % 8),
        SetAction::Contains(element, told) => SetAction::Contains(element, !told),
        SetAction::Remove(element, told) => SetAction::Remove(element, told.map(|told| !told)),
        other @ SetAction::Insert(..) => other,
    });
    untold(&mut operations, silent, |action| match action {
        SetAction::Insert(element, _) => SetAction::Insert(element, None),
        SetAction::Remove(element, _) => SetAction::Remove(element, None),
        other => other,
    });
    operations
}

const fn asked_of_nobody() -> LockAction {
    LockAction::Acquire { process: u32::MAX, token: None }
}

/// A lock that leaves out tokens as it likes: it hands out the one that was told.
#[derive(Clone)]
struct SkippingLock(PlainLock);

impl Object for SkippingLock {
    type Action = LockAction;

    fn new() -> Self {
        Self(PlainLock::new())
    }

    fn answer(&mut self, asked: LockAction) -> LockAction {
        if let LockAction::Acquire { token: Some(token), .. } = asked
            && token > self.0.token
        {
            self.0.token = token - 1;
        }
        self.0.answer(asked)
    }
}

/// A lock that may be lost at any time: only its tokens say anything.
#[derive(Clone)]
struct ExpiringLock(u32);

impl Object for ExpiringLock {
    type Action = LockAction;

    fn new() -> Self {
        Self(0)
    }

    fn answer(&mut self, asked: LockAction) -> LockAction {
        let LockAction::Acquire { process, token } = asked else { return asked };
        self.0 = token.filter(|token| *token > self.0).unwrap_or(self.0 + 1);
        LockAction::Acquire { process, token: Some(self.0) }
    }
}

/// Lists without repetition of the items 1 to 3, by number: first nothing, then the single ones, then the empty one.
fn lists() -> Vec<(Kind, Box<[u32]>)> {
    let mut all: Vec<Vec<u32>> = vec![vec![1], vec![2], vec![3], vec![]];
    for one in 1..4_u32 {
        for two in (1..4_u32).filter(|&two| two != one) {
            all.push(vec![one, two]);
            all.extend(
                (1..4_u32).filter(|&three| three != one && three != two).map(|three| vec![one, two, three]),
            );
        }
    }
    let nothing = (Kind::Opaque, Box::from([]));
    std::iter::once(nothing).chain(all.into_iter().map(|list| (Kind::List, list.into()))).collect()
}

#[derive(Clone)]
struct PlainList(Vec<u32>);

impl Object for PlainList {
    type Action = RegisterAction;

    fn new() -> Self {
        Self(Vec::new())
    }

    fn answer(&mut self, asked: RegisterAction) -> RegisterAction {
        if let RegisterAction::Append(piece, _) = asked {
            self.0.push(piece);
            return asked;
        }
        let number = lists().iter().skip(1).position(|(_, list)| **list == *self.0);
        RegisterAction::Read(number.expect("a list of the table") as u32 + 1)
    }
}

/// An operation of a hand-written history.
const fn operation<A>(action: A, call: u32, end: u32) -> Operation<A> {
    Operation { object: 0, action, call, end }
}

#[test]
fn a_stale_read_is_told_with_the_write_that_it_missed() {
    use RegisterAction::{Read, Write};
    let mut operations = vec![operation(Write(1), 0, 1), operation(Write(2), 2, 3)];
    operations.extend((2..50).map(|number| operation(Read(2), 2 * number, 2 * number + 1)));
    operations.push(operation(Read(1), 100, 101));
    let (verdict, judge) = judge(Register::default(), &operations);
    assert!(matches!(verdict, Verdict::Violation { .. }));
    let (model, part) = judge.into_part();
    let mut conflict = Conflict::new(model, part, None, Limits::default());
    assert!(conflict.operations().count() >= 3, "what is not done yet is a conflict, too");
    while !conflict.advance(100) {}
    let found: Vec<_> = conflict.operations().map(|(operation, role)| (operation.action, role)).collect();
    assert_eq!(found, [(Write(1), Role::Answered), (Write(2), Role::Answered), (Read(1), Role::Last)]);
}

#[test]
fn objects_are_judged_one_by_one() {
    use RegisterAction::{Read, Write};
    let on = |object, operation: Operation<RegisterAction>| Operation { object, ..operation };
    let operations = [
        on(7, operation(Write(1), 0, 1)),
        on(9, operation(Write(1), 2, 3)),
        on(7, operation(Read(1), 4, 5)),
        on(9, operation(Read(0), 6, 7)),
    ];
    let (verdict, judge) = judge(Register::default(), &operations);
    assert!(matches!(verdict, Verdict::Violation { .. }));
    assert!(judge.part().iter().all(|operation| operation.object == 9));
    assert_eq!(judge.part().len(), 2);
}

#[test]
fn a_hard_object_does_not_keep_the_judge_from_one_that_is_wrong() {
    let hard = crowded();
    let single = |symbol: u32| (Kind::Text, Box::from([symbol]));
    let texts = std::iter::once((Kind::Opaque, Box::from([]))).chain((1..40).map(single)).collect();
    let wrong = Operation { object: 7, action: RegisterAction::Read(3), call: 300, end: 301 };
    let model = Register::new(0, Some(Sequences::new(texts)));
    let mut judge = Judge::new(model, hard.into_iter().chain([wrong]).collect(), Limits::default());
    let verdict = (0..10).find_map(|_| match judge.advance(10_000) {
        Progress::Done(verdict) => Some(verdict),
        Progress::Working => None,
    });
    assert!(matches!(verdict, Some(Verdict::Violation { .. })), "{verdict:?}");
    assert_eq!(judge.part(), [wrong]);
}

/// Thirty appends at once, and every order is another text. Where something may be written over them at any time, no look
/// ahead helps.
fn crowded() -> Vec<Operation<RegisterAction>> {
    let mut operations = vec![operation(RegisterAction::Write(38), 0, NEVER)];
    operations
        .extend((1..31).map(|piece| operation(RegisterAction::Append(piece, None), piece, 100 + piece)));
    operations.push(operation(RegisterAction::Read(39), 200, 201));
    operations
}

#[test]
fn a_search_that_would_hold_too_much_gives_up() {
    let operations = crowded();
    let single = |symbol: u32| (Kind::Text, Box::from([symbol]));
    let texts = std::iter::once((Kind::Opaque, Box::from([]))).chain((1..40).map(single)).collect();
    let model = Register::new(0, Some(Sequences::new(texts)));
    let mut judge = Judge::new(model, operations, Limits { memory: 8 << 20 });
    let mut slices = 0;
    let verdict = loop {
        slices += 1;
        if let Progress::Done(verdict) = judge.advance(10_000) {
            break verdict;
        }
        assert!(slices < 10_000);
    };
    assert_eq!(verdict, Verdict::Unknown(Reason::Memory));
    assert!(slices > 1, "it was interrupted meanwhile");
}

#[test]
fn a_violation_elsewhere_counts_although_another_object_was_given_up() {
    let on = |object, operation: Operation<RegisterAction>| Operation { object, ..operation };
    let crowd =
        (0..2000).map(|number| on(0, operation(RegisterAction::Write(number % 7), number, 10_000 + number)));
    let mut operations: Vec<_> = crowd.collect();
    assert_eq!(
        judge(Register::default(), &operations).0,
        Verdict::Unknown(Reason::Width { operations: 2000 })
    );
    operations.push(on(1, operation(RegisterAction::Read(3), 20_000, 20_001)));
    assert!(matches!(judge(Register::default(), &operations).0, Verdict::Violation { .. }));
}

/// What the clients of a standard world saw, as operations on registers; what each was told is in its journal of the log.
/// A write whose outcome its client does not know may have begun at any time.
fn clients_saw(history: &coterie::check::History) -> Vec<Operation<RegisterAction>> {
    let mut numbers: BTreeMap<Option<u64>, u32> = BTreeMap::from([(None, 0)]);
    let mut number = |value: Option<u64>| {
        let next = numbers.len() as u32;
        *numbers.entry(value).or_insert(next)
    };
    let mut marks: Vec<(u64, bool, usize)> = Vec::new();
    let mut operations: Vec<Operation<RegisterAction>> = Vec::new();
    let mut claimed = BTreeSet::new();
    let mut keys = BTreeSet::new();
    let mut last = 0;
    for (_, key, begun, ended) in history.operations() {
        keys.insert(key);
        let Some((at, ended)) = ended else { continue };
        let action = match ended {
            Ended::Wrote { index } => {
                claimed.insert((key, index));
                last = last.max(index);
                RegisterAction::Write(number(history.value(key, index)))
            }
            Ended::Read { value, .. } | Ended::Saw { value, .. } => RegisterAction::Read(number(value)),
            Ended::Refused | Ended::Unknown => continue,
        };
        let index = operations.len();
        marks.extend([(begun.as_nanos(), false, index), (at.as_nanos(), true, index)]);
        operations.push(Operation { object: key as u32, action, call: 0, end: 0 });
    }
    for key in keys {
        for index in 1..=last + 100 {
            let value = history.value(key, index);
            if value != history.value(key, index - 1) && !claimed.contains(&(key, index)) {
                marks.push((0, false, operations.len()));
                let action = RegisterAction::Write(number(value));
                operations.push(Operation { object: key as u32, action, call: 0, end: NEVER });
            }
        }
    }
    marks.sort_unstable();
    for (place, (_, is_end, index)) in (0..).zip(marks) {
        if is_end {
            operations[index].end = place;
        } else {
            operations[index].call = place;
        }
    }
    operations
}

#[test]
fn what_clients_of_standard_worlds_saw_is_linearizable_by_search_as_well() {
    let (mut judged, mut planted) = (0, 0);
    for seed in 0..10 {
        let world = replicated::run(seed).unwrap_or_else(|failure| panic!("{failure}"));
        let operations = clients_saw(&world.watch().history);
        judged += operations.len();
        let (verdict, _) = patiently(Register::default(), &operations);
        assert_eq!(verdict, Verdict::Linearizable, "seed {seed}");
        // One read in the middle is told what had been overwritten for sure before it began.
        let Some(stale) = with_a_stale_read(&operations) else { continue };
        planted += 1;
        let (verdict, judge) = patiently(Register::default(), &stale);
        assert!(matches!(verdict, Verdict::Violation { .. }), "seed {seed}: {verdict:?}");
        let Verdict::Violation { place } = verdict else { continue };
        let (model, part) = judge.into_part();
        let mut conflict = Conflict::new(model, part, place, Limits::default());
        while !conflict.advance(100_000) {}
        let size = conflict.operations().count();
        assert!((2..=8).contains(&size), "seed {seed}: {:#?}", conflict.operations().collect::<Vec<_>>());
    }
    println!("{judged} operations judged, {planted} stale reads planted");
    assert!(judged > 10_000 && planted >= 4, "{judged} operations, {planted} plants");
}

fn patiently<M: Model>(model: M, operations: &[Operation<M::Action>]) -> (Verdict, Judge<M>) {
    let mut judge = Judge::new(model, operations.to_vec(), Limits::default());
    loop {
        if let Progress::Done(verdict) = judge.advance(1_000_000) {
            return (verdict, judge);
        }
    }
}

fn with_a_stale_read(operations: &[Operation<RegisterAction>]) -> Option<Vec<Operation<RegisterAction>>> {
    let writes_of = |action: RegisterAction| operations.iter().filter(|other| other.action == action).count();
    let middle = operations.len() / 2;
    for (index, read) in operations.iter().enumerate().skip(middle) {
        if !matches!(read.action, RegisterAction::Read(_)) || !read.is_known() {
            continue;
        }
        let before = |call: u32| {
            operations.iter().filter(move |other| {
                other.object == read.object
                    && other.end < call
                    && matches!(other.action, RegisterAction::Write(value) if value != 0)
            })
        };
        let Some(newer) = before(read.call).max_by_key(|write| write.call) else { continue };
        let Some(older) =
            before(newer.call).find(|write| write.action != newer.action && writes_of(write.action) == 1)
        else {
            continue;
        };
        let RegisterAction::Write(value) = older.action else { continue };
        let mut stale = operations.to_vec();
        stale[index].action = RegisterAction::Read(value);
        return Some(stale);
    }
    None
}
