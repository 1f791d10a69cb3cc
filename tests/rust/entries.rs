//! Batches, runs and entries: what shares its bytes must still be what was put in.

use bytes::Bytes;
use coterie::id::NodeId;
use coterie::raft::{Batch, BatchBuilder, Entries, Membership, Payload, Position, Run};
use proptest::prelude::*;
use std::sync::Arc;

fn commands() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..12)
}

fn listed(batch: &Batch) -> Vec<Vec<u8>> {
    batch.iter().map(<[u8]>::to_vec).collect()
}

/// What a command takes with its length.
fn size(command: &[u8]) -> usize {
    command.len() + 4
}

/// Whether `inner` lies in the memory of `outer`.
fn lies_in(inner: &Bytes, outer: &Bytes) -> bool {
    outer.as_ptr_range().start <= inner.as_ptr_range().start
        && inner.as_ptr_range().end <= outer.as_ptr_range().end
}

mod batches {
    use super::*;

    proptest! {
        #[test]
        fn hold_what_was_put_in(commands in commands()) {
            let batch = Batch::new(&commands);
            prop_assert_eq!(batch.len(), commands.len());
            prop_assert_eq!(batch.is_empty(), commands.is_empty());
            prop_assert_eq!(listed(&batch), commands);
        }

        #[test]
        fn come_back_from_their_wire_form_and_from_no_other_count(commands in commands(), other in 0..20u32) {
            let batch = Batch::new(&commands);
            let read = Batch::from_bytes(batch.bytes().clone(), other);
            prop_assert_eq!(read, (other as usize == commands.len()).then_some(batch));
        }

        #[test]
        fn are_not_read_from_bytes_that_were_cut_or_lengthened(
            commands in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..8),
            cut in 1..200usize,
        ) {
            let whole = Batch::new(&commands).bytes().clone();
            let count = commands.len() as u32;
            prop_assert_eq!(Batch::from_bytes(whole.slice(..whole.len().saturating_sub(cut)), count), None);
            let longer: Vec<u8> = whole.iter().copied().chain([0]).collect();
            prop_assert_eq!(Batch::from_bytes(longer.into(), count), None);
        }

        #[test]
        fn are_read_from_no_noise_without_being_what_they_say(noise in prop::collection::vec(any::<u8>(), 0..40), count in 0..6u32) {
            if let Some(batch) = Batch::from_bytes(noise.clone().into(), count) {
                prop_assert_eq!(listed(&batch).len(), count as usize);
                prop_assert_eq!(Batch::new(listed(&batch)).bytes().to_vec(), noise);
            }
        }

        #[test]
        fn slice_like_lists_and_share_the_bytes(commands in commands(), from in 0..14usize, more in 0..14usize) {
            let batch = Batch::new(&commands);
            let slice = batch.slice(from, from + more);
            let (start, end) = (from.min(commands.len()), (from + more).min(commands.len()));
            prop_assert_eq!(listed(&slice), &commands[start..end]);
            prop_assert!(slice.is_empty() || lies_in(slice.bytes(), batch.bytes()));
        }

        #[test]
        fn give_each_command_without_copying(commands in commands()) {
            let batch = Batch::new(&commands);
            for (shared, command) in batch.shared().zip(&commands) {
                prop_assert_eq!(&shared[..], &command[..]);
                prop_assert!(shared.is_empty() || lies_in(&shared, batch.bytes()));
            }
            prop_assert_eq!(batch.shared().count(), commands.len());
        }

        #[test]
        fn fit_as_many_as_go_into_the_bytes(commands in commands(), bytes in 0..120usize) {
            let naive = (0..=commands.len())
                .rev()
                .find(|&count| commands[..count].iter().map(|command| size(command)).sum::<usize>() <= bytes);
            prop_assert_eq!(Some(Batch::new(&commands).fit(bytes)), naive);
        }

        #[test]
        fn are_the_same_however_they_were_gathered(one in commands(), two in commands()) {
            let mut builder = BatchBuilder::default();
            for command in &one {
                builder.push(command);
            }
            builder.extend(&Batch::new(&two));
            prop_assert_eq!(builder.len(), one.len() + two.len());
            prop_assert_eq!(builder.bytes(), one.iter().chain(&two).map(|command| size(command)).sum::<usize>());
            let sealed = builder.seal();
            prop_assert!(builder.is_empty() && builder.bytes() == 0);
            prop_assert_eq!(sealed, Batch::new(one.iter().chain(&two)));
        }
    }

    #[test]
    fn a_length_near_the_end_of_all_numbers_is_refused() {
        assert_eq!(Batch::from_bytes(Bytes::from_static(&[0xff; 4]), 1), None);
        assert_eq!(Batch::from_bytes(Bytes::from_static(&[0xff; 9]), 1), None);
        assert_eq!(Batch::from_bytes(Bytes::new(), u32::MAX), None);
    }
}

mod runs {
    use super::*;

    fn run(term: u64, first: u64, commands: &[&str]) -> Run {
        Run { term, first, payload: Payload::Commands(Batch::new(commands)) }
    }

    #[test]
    fn know_where_they_end() {
        assert_eq!(run(2, 5, &["a", "b", "c"]).last(), 7);
        let blank = Run { term: 3, first: 8, payload: Payload::Blank };
        let membership = Membership::of([NodeId(1)]);
        let change = Run { term: 3, first: 9, payload: Payload::Membership(Arc::new(membership)) };
        assert_eq!((blank.len(), blank.last(), change.len(), change.last()), (1, 8, 1, 9));
    }

    proptest! {
        #[test]
        fn slice_by_index_as_far_as_they_reach(first in 1..50u64, count in 1..10u64, from in 0..60u64, length in 0..60u64) {
            let commands: Vec<String> = (first..first + count).map(|index| format!("c{index}")).collect();
            let run = Run { term: 4, first, payload: Payload::Commands(Batch::new(&commands)) };
            let to = from + length;
            // What is asked for must touch the run.
            prop_assume!(from <= run.last() && to >= first);
            let slice = run.slice(from, to);
            prop_assert_eq!((slice.first, slice.last(), slice.term), (from.max(first), to.min(run.last()), 4));
            let Payload::Commands(batch) = &slice.payload else { panic!("still commands") };
            let expected: Vec<String> = (slice.first..=slice.last()).map(|index| format!("c{index}")).collect();
            prop_assert!(batch.iter().eq(expected.iter().map(String::as_bytes)));
            // Counts of bytes must not drift when runs are cut.
            let pieces = (first..first + count).map(|index| run.slice(index, index).bytes()).sum::<usize>();
            prop_assert_eq!(pieces, run.bytes());
        }
    }

    #[test]
    fn of_one_term_after_another_are_well_formed() {
        let good: Entries =
            [run(1, 1, &["a"]), run(1, 2, &["b", "c"]), run(4, 4, &["d"])].into_iter().collect();
        assert!(good.well_formed() && Entries::new().well_formed());
        assert_eq!(good.last(), Some(Position { term: 4, index: 4 }));
        assert_eq!((good.first(), good.len()), (Some(1), 4));
        assert!(good.bytes() > 4);
    }

    #[test]
    fn with_a_gap_an_earlier_term_a_void_or_no_room_for_their_indexes_are_not_well_formed() {
        let cases: [&[Run]; 6] = [
            &[run(1, 1, &["a"]), run(1, 3, &["b"])],
            &[run(1, 1, &["a", "b"]), run(1, 2, &["c"])],
            &[run(2, 1, &["a"]), run(1, 2, &["b"])],
            &[run(1, 1, &[])],
            &[run(1, 0, &["a"])],
            &[run(1, u64::MAX, &["a"])],
        ];
        for runs in cases {
            // By `collect`, which takes what a decoder may have met; `push` is for what the core builds itself.
            assert!(!runs.iter().cloned().collect::<Entries>().well_formed(), "{runs:?}");
        }
    }

    #[test]
    fn are_ordered_like_logs_that_are_compared_by_a_voter() {
        // §3.6.1: the later term first, then the longer log.
        let place = |term, index| Position { term, index };
        assert!(place(2, 1) > place(1, 9) && place(2, 2) > place(2, 1) && place(0, 0) < place(1, 1));
    }
}
