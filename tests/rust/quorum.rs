//! The arithmetic of quorums against its naive twin, and the cases that others have found worth writing down.
//!
//! The tables hold the cases of etcd-io/raft's `quorum/testdata` and `confchange/testdata`, told anew.

use std::collections::{BTreeMap, BTreeSet};

use coterie::id::NodeId;
use coterie::quorum::{VoteResult, both, majority, majority_vote, reached_by_majority};
use coterie::raft::{Change, InvalidChange, MEMBERS_MAX, Membership, WEIGHT, Weight};
use proptest::prelude::*;

use Change::{AddLearner, AddVoter, Demote, Remove};
use VoteResult::{Lost, Pending, Won};

const fn n(id: u64) -> NodeId {
    NodeId(id)
}

fn ids(text: &str) -> Vec<NodeId> {
    text.split_whitespace().map(|word| n(word.parse().expect("a number"))).collect()
}

/// `"1 2 3"` or, with the outgoing voters behind a bar, `"1 2 3 | 3 4"`.
fn membership(text: &str) -> Membership {
    let (voters, outgoing) = text.split_once('|').unwrap_or((text, ""));
    Membership::joint(ids(voters).into_iter().map(|id| (id, WEIGHT)), ids(outgoing), [])
}

mod commit_index {
    use super::*;

    /// Who votes; how far members 1, 2, … have come (`_`: nothing heard); how far a quorum has.
    const CASES: &[(&str, &str, Option<u64>)] = &[
        // Nobody to ask: nothing is decided, and a commit index that is no number cannot be taken for one.
        ("", "", None),
        // Alone, one's own word is final.
        ("1", "_", Some(0)),
        ("1", "12", Some(12)),
        // Two: the slower of both.
        ("1 2", "_ _", Some(0)),
        ("1 2", "12 _", Some(0)),
        ("1 2", "12 5", Some(5)),
        // Three: the middle one; what the third says may raise it, never above the first.
        ("1 2 3", "_ _ _", Some(0)),
        ("1 2 3", "12 _ _", Some(0)),
        ("1 2 3", "12 5 _", Some(5)),
        ("1 2 3", "12 5 6", Some(6)),
        ("1 2 3", "12 5 4", Some(5)),
        ("1 2 3", "5 5 _", Some(5)),
        ("1 2 3", "5 5 12", Some(5)),
        ("1 2 3", "100 101 103", Some(101)),
        // Five, one of them silent: three at 103 decide, two at 103 do not.
        ("1 2 3 4 5", "101 104 103 103 _", Some(103)),
        ("1 2 3 4 5", "101 102 103 103 _", Some(102)),
        // openraft#1802: six is stored by two of five; a mark that is moved without sorting says six.
        ("1 2 3 4 5", "6 2 6 3 2", Some(3)),
    ];

    /// The same for two sets of voters: the smaller of what each has decided.
    const JOINT: &[(&str, &str, u64)] = &[
        ("1 | 2", "_ _", 0),
        ("1 | 2", "100 _", 0),
        ("1 | 2", "13 100", 13),
        ("1 | 1", "_", 0),
        ("1 | 1", "100", 100),
        ("1 3 | 2", "_ _ _", 0),
        ("1 3 | 2", "100 _ _", 0),
        ("1 3 | 2", "100 _ 50", 0),
        ("1 3 | 2", "100 45 50", 45),
        ("1 2 | 2", "_ _", 0),
        ("1 2 | 2", "100 _", 0),
        ("1 2 | 2", "_ 100", 0),
        ("1 2 | 2", "50 100", 50),
        ("1 2 | 2", "100 50", 50),
        ("1 2 | 3 4", "50 _ _ _", 0),
        ("1 2 | 3 4", "50 _ 49 _", 0),
        ("1 2 | 3 4", "50 48 49 _", 0),
        ("1 2 | 3 4", "50 48 49 47", 47),
        ("1 2 | 2 3", "100 _ _", 0),
        ("1 2 | 2 3", "_ 100 99", 0),
        ("1 2 | 2 3", "101 100 99", 99),
        ("1 2 | 1 2", "_ 40", 0),
        ("1 2 | 1 2", "41 40", 40),
        ("1 2 3 | 4 5 6", "100 _ _ _ _ _", 0),
        ("1 2 3 | 4 5 6", "100 99 _ _ _ _", 0),
        ("1 2 3 | 4 5 6", "_ 99 90 97 95 _", 90),
        ("1 2 3 | 4 5 6", "92 99 90 97 95 93", 92),
        ("1 2 3 | 1 4 5", "100 98 _ _ 97", 97),
        ("1 2 3 | 1 4 5", "_ 98 97 100 _", 0),
        ("1 2 3 4 | 2 3 4 5", "_ 7 7 7 _", 7),
        ("1 2 3 4 | 2 3 4 5", "7 7 7 _ 9", 7),
    ];

    fn reached(members: &str, marks: &str) -> Option<u64> {
        let marks: Vec<u64> = marks.split_whitespace().map(|mark| mark.parse().unwrap_or(0)).collect();
        membership(members).reached(|id| marks[id.0 as usize - 1])
    }

    #[test]
    fn is_what_a_majority_has_reached() {
        for (voters, marks, expected) in CASES {
            assert_eq!(reached(voters, marks), *expected, "{voters} at {marks}");
        }
    }

    #[test]
    fn is_the_smaller_of_two_majorities_while_a_change_is_under_way() {
        for (voters, marks, expected) in JOINT {
            assert_eq!(reached(voters, marks), Some(*expected), "{voters} at {marks}");
        }
    }

    #[test]
    fn a_set_joint_with_itself_decides_like_itself() {
        for (voters, marks, expected) in CASES.iter().filter(|(voters, ..)| !voters.is_empty()) {
            assert_eq!(reached(&format!("{voters} | {voters}"), marks), *expected, "{voters} at {marks}");
        }
    }

    #[test]
    fn does_not_listen_to_learners() {
        let members = Membership::new([(n(1), 1), (n(2), 1), (n(3), 1)], [n(4), n(5)]);
        assert_eq!(members.reached(|id| if id.0 > 3 { 100 } else { id.0 }), Some(2));
    }
}

mod votes {
    use super::*;

    /// Who votes; what members 1, 2, … have said (`_`: nothing); how it stands.
    const CASES: &[(&str, &str, VoteResult)] = &[
        ("1", "_", Pending),
        ("1", "n", Lost),
        ("1", "y", Won),
        // Of two, one no is the end.
        ("1 2", "__", Pending),
        ("1 2", "n_", Lost),
        ("1 2", "y_", Pending),
        ("1 2", "ny", Lost),
        ("1 2", "yy", Won),
        ("1 2 3", "___", Pending),
        ("1 2 3", "n__", Pending),
        ("1 2 3", "y__", Pending),
        ("1 2 3", "nn_", Lost),
        ("1 2 3", "yn_", Pending),
        ("1 2 3", "yy_", Won),
        ("1 2 3", "yyn", Won),
        ("1 2 3", "nyn", Lost),
        // Seven: four are needed.
        ("1 2 3 4 5 6 7", "yyny___", Pending),
        ("1 2 3 4 5 6 7", "_yy_nyn", Pending),
        ("1 2 3 4 5 6 7", "yyny_ny", Won),
        ("1 2 3 4 5 6 7", "yy_nynn", Pending),
        ("1 2 3 4 5 6 7", "yynynnn", Lost),
        // Two sets: both must be won; either can lose.
        ("1 | 1", "_", Pending),
        ("1 | 1", "y", Won),
        ("1 | 1", "n", Lost),
        ("1 | 2", "__", Pending),
        ("1 | 2", "y_", Pending),
        ("1 | 2", "yy", Won),
        ("1 | 2", "yn", Lost),
        ("1 | 2", "n_", Lost),
        ("1 | 2", "ny", Lost),
        ("1 2 | 3 4", "____", Pending),
        ("1 2 | 3 4", "y___", Pending),
        ("1 2 | 3 4", "yy__", Pending),
        ("1 2 | 3 4", "yyn_", Lost),
        ("1 2 | 3 4", "yyyn", Lost),
        ("1 2 | 3 4", "yyyy", Won),
        ("1 2 | 2 3", "_n_", Lost),
        ("1 2 | 2 3", "yy_", Pending),
        ("1 2 | 2 3", "yyn", Lost),
        ("1 2 | 2 3", "yyy", Won),
        ("1 2 | 1 2", "y_", Pending),
        ("1 2 | 1 2", "yn", Lost),
        ("1 2 3 | 2 3 4", "_n__", Pending),
        ("1 2 3 | 2 3 4", "_nn_", Lost),
        ("1 2 3 | 2 3 4", "_yy_", Won),
        ("1 2 3 | 2 3 4", "yy__", Pending),
        ("1 2 3 | 2 3 4", "yyn_", Pending),
        ("1 2 3 | 2 3 4", "yynn", Lost),
        ("1 2 3 | 2 3 4", "yyny", Won),
    ];

    #[test]
    fn stand_as_the_table_says() {
        for (voters, said, expected) in CASES {
            let answer = |id: NodeId| match said.as_bytes()[id.0 as usize - 1] {
                b'y' => Some(true),
                b'n' => Some(false),
                _ => None,
            };
            assert_eq!(membership(voters).vote(answer), *expected, "{voters} said {said}");
        }
    }

    #[test]
    fn of_nobody_are_won_so_that_an_empty_half_asks_for_nothing() {
        assert_eq!(majority_vote([].into_iter(), |_| None), Won);
        assert_eq!(both(Won, Pending), Pending);
    }

    #[test]
    fn of_strangers_and_learners_do_not_count() {
        let members = Membership::new([(n(1), 1), (n(2), 1), (n(3), 1)], [n(4)]);
        assert_eq!(members.vote(|id| Some(id.0 > 2)), Lost);
        assert_eq!(members.vote(|id| (id.0 > 2).then_some(true)), Pending);
    }
}

mod twins {
    use super::*;

    /// The definition: the greatest mark that more than half have reached, by trying each.
    fn naive_reached(voters: &BTreeSet<u64>, marks: &BTreeMap<u64, u64>) -> u64 {
        let mark = |voter: &u64| marks.get(voter).copied().unwrap_or(0);
        let holds =
            |index: u64| voters.iter().filter(|voter| mark(voter) >= index).count() * 2 > voters.len();
        voters.iter().map(mark).chain([0]).filter(|&index| holds(index)).max().unwrap_or(0)
    }

    /// The definition: whatever the silent ones will say, by trying it.
    fn naive_vote(voters: &BTreeSet<u64>, said: &BTreeMap<u64, bool>) -> VoteResult {
        let outcome = |silent: bool| {
            let yes = voters.iter().filter(|voter| said.get(voter).copied().unwrap_or(silent)).count();
            yes * 2 > voters.len()
        };
        match (outcome(false), outcome(true)) {
            (true, true) => Won,
            (false, false) => Lost,
            _ => Pending,
        }
    }

    /// Up to forty voters, so that both the small and the large way of sorting are taken.
    fn voters() -> impl Strategy<Value = BTreeSet<u64>> {
        prop_oneof![prop::collection::btree_set(1..9u64, 1..8), prop::collection::btree_set(1..60u64, 1..40)]
    }

    fn of(voters: &BTreeSet<u64>, outgoing: &BTreeSet<u64>) -> Membership {
        Membership::joint(
            voters.iter().map(|&id| (n(id), WEIGHT)),
            outgoing.iter().map(|&id| n(id)),
            [n(1000), n(1001)],
        )
    }

    proptest! {
        #[test]
        fn a_majority_is_the_least_that_two_groups_must_share_a_member(voters in 1..200usize) {
            let needed = majority(voters);
            prop_assert!(needed * 2 > voters && (needed - 1) * 2 <= voters);
        }

        #[test]
        fn the_commit_index_is_the_naive_one(
            voters in voters(),
            marks in prop::collection::btree_map(1..60u64, prop_oneof![0..10u64, any::<u64>()], 0..60),
        ) {
            let found = reached_by_majority(
                voters.iter().map(|&id| n(id)).collect::<Vec<_>>().into_iter(),
                |id| marks.get(&id.0).copied().unwrap_or(0),
            );
            prop_assert_eq!(found, Some(naive_reached(&voters, &marks)));
        }

        #[test]
        fn the_joint_commit_index_is_the_smaller_naive_one(
            voters in voters(),
            outgoing in voters(),
            marks in prop::collection::btree_map(1..60u64, 0..20u64, 0..60),
        ) {
            let found = of(&voters, &outgoing).reached(|id| marks.get(&id.0).copied().unwrap_or(0));
            let expected = naive_reached(&voters, &marks).min(naive_reached(&outgoing, &marks));
            prop_assert_eq!(found, Some(expected));
        }

        #[test]
        fn a_vote_stands_as_the_naive_one(
            voters in voters(),
            outgoing in voters(),
            said in prop::collection::btree_map(1..60u64, any::<bool>(), 0..60),
        ) {
            let answer = |id: NodeId| said.get(&id.0).copied();
            let (new, old) = (naive_vote(&voters, &said), naive_vote(&outgoing, &said));
            prop_assert_eq!(of(&voters, &BTreeSet::new()).vote(answer), new);
            prop_assert_eq!(of(&voters, &outgoing).vote(answer), both(new, old));
        }

        #[test]
        fn what_is_decided_is_never_undone_by_more_votes_or_higher_marks(
            voters in voters(),
            said in prop::collection::btree_map(1..60u64, any::<bool>(), 0..60),
            late in prop::collection::btree_map(1..60u64, any::<bool>(), 0..60),
        ) {
            let members = of(&voters, &BTreeSet::new());
            let before = members.vote(|id| said.get(&id.0).copied());
            let after = members.vote(|id| said.get(&id.0).or(late.get(&id.0)).copied());
            prop_assert!(before == Pending || before == after);
        }
    }
}

mod changes {
    use super::*;

    fn three() -> Membership {
        membership("1 2 3")
    }

    /// From; what changes; the joint membership; the one after it.
    fn cases() -> Vec<(Membership, Vec<Change>, &'static str, &'static str)> {
        let alone = membership("1");
        let watched = Membership::new([(n(1), WEIGHT)], [n(2)]);
        vec![
            (alone.clone(), vec![AddVoter(n(2), 1)], "{1 2}-{1}", "{1 2}"),
            (alone.clone(), vec![AddVoter(n(2), 1), AddVoter(n(3), 1)], "{1 2 3}-{1}", "{1 2 3}"),
            (alone.clone(), vec![AddLearner(n(2))], "{1}-{1}+{2}", "{1}+{2}"),
            // The only voter hands over to another and stays to learn: it still votes until the change is over.
            (alone.clone(), vec![AddVoter(n(2), 1), Demote(n(1))], "{2}-{1}+{1}", "{2}+{1}"),
            // ... or leaves, replaced by two, with a learner.
            (
                alone,
                vec![Remove(n(1)), AddVoter(n(2), 1), AddVoter(n(3), 1), AddLearner(n(4))],
                "{2 3}-{1}+{4}",
                "{2 3}+{4}",
            ),
            (watched.clone(), vec![AddVoter(n(2), 1)], "{1 2}-{1}", "{1 2}"),
            (watched, vec![Remove(n(2))], "{1}-{1}", "{1}"),
            (three(), vec![Demote(n(2))], "{1 3}-{1 2 3}+{2}", "{1 3}+{2}"),
            (three(), vec![Remove(n(1))], "{2 3}-{1 2 3}", "{2 3}"),
            (three(), vec![Remove(n(1)), Remove(n(2)), AddVoter(n(4), 1)], "{3 4}-{1 2 3}", "{3 4}"),
            (three(), vec![AddVoter(n(2), 7)], "{1 2:7 3}-{1 2 3}", "{1 2:7 3}"),
            (three(), vec![Demote(n(1)), Demote(n(2))], "{3}-{1 2 3}+{1 2}", "{3}+{1 2}"),
        ]
    }

    #[test]
    fn go_through_a_joint_membership_and_leave_it() {
        for (from, changes, joint, after) in cases() {
            let begun = from.begin(&changes).expect("a change that makes sense");
            assert!(begun.is_joint());
            assert_eq!(format!("{begun:?}"), joint, "{from:?} {changes:?}");
            let left = begun.leave();
            assert!(!left.is_joint());
            assert_eq!(format!("{left:?}"), after, "{from:?} {changes:?}");
        }
    }

    #[test]
    fn that_make_no_sense_are_refused() {
        let watched = Membership::new([(n(1), WEIGHT)], [n(2)]);
        let cases: Vec<(Membership, Vec<Change>, InvalidChange)> = vec![
            (three(), vec![], InvalidChange::Nothing),
            (three(), vec![AddVoter(n(1), WEIGHT)], InvalidChange::Nothing),
            (membership("1"), vec![Remove(n(1))], InvalidChange::NoVoters),
            (membership("1"), vec![Demote(n(1))], InvalidChange::NoVoters),
            (membership("1 2"), vec![Demote(n(1)), Remove(n(2))], InvalidChange::NoVoters),
            (watched.clone(), vec![Remove(n(1))], InvalidChange::NoVoters),
            (membership("1"), vec![AddVoter(n(1), 0)], InvalidChange::NoCandidates),
            (three(), vec![Remove(n(9))], InvalidChange::Unknown(n(9))),
            (three(), vec![Demote(n(9))], InvalidChange::Unknown(n(9))),
            (watched.clone(), vec![Demote(n(2))], InvalidChange::Unknown(n(2))),
            (watched, vec![AddLearner(n(2))], InvalidChange::Known(n(2))),
            (three(), vec![AddLearner(n(1))], InvalidChange::Known(n(1))),
            (three(), vec![Remove(n(1)), AddVoter(n(1), 1)], InvalidChange::Twice(n(1))),
            (three(), vec![AddVoter(n(4), 1), Demote(n(4))], InvalidChange::Twice(n(4))),
        ];
        for (from, changes, expected) in cases {
            assert_eq!(from.begin(&changes), Err(expected), "{from:?} {changes:?}");
        }
    }

    #[test]
    fn may_not_make_a_cluster_larger_than_any() {
        let many: Vec<Change> = (10..10 + MEMBERS_MAX as u64).map(|id| AddLearner(n(id))).collect();
        assert_eq!(three().begin(&many), Err(InvalidChange::TooMany(MEMBERS_MAX)));
        assert!(three().begin(&many[..MEMBERS_MAX - 3]).is_ok());
    }

    fn change() -> impl Strategy<Value = Change> {
        let id = || (1..9u64).prop_map(NodeId);
        prop_oneof![
            id().prop_map(AddLearner),
            (id(), 0..3u8).prop_map(|(id, weight)| AddVoter(id, weight)),
            id().prop_map(Demote),
            id().prop_map(Remove),
        ]
    }

    fn roles() -> impl Strategy<Value = Membership> {
        (prop::collection::btree_map(1..9u64, 1..3u8, 1..6), prop::collection::btree_set(1..9u64, 0..4))
            .prop_map(|(voters, learners)| {
                let voters = voters.into_iter().map(|(id, weight): (u64, Weight)| (NodeId(id), weight));
                Membership::new(voters, learners.into_iter().map(NodeId))
            })
    }

    proptest! {
        #[test]
        fn do_to_each_member_what_they_say_and_nothing_to_others(
            from in roles(),
            changes in prop::collection::vec(change(), 1..4),
        ) {
            let Ok(begun) = from.begin(&changes) else { return Ok(()) };
            let after = begun.leave();
            let old: Vec<NodeId> = from.voters().iter().map(|(id, _)| *id).collect();
            prop_assert_eq!(begun.outgoing(), &old[..]);
            prop_assert_eq!(begun.voters(), after.voters());
            let mut named = BTreeSet::new();
            for change in &changes {
                let id = match *change {
                    AddLearner(id) | Demote(id) => {
                        prop_assert!(after.learners().contains(&id) && !after.is_voter(id));
                        id
                    }
                    AddVoter(id, weight) => {
                        prop_assert_eq!(after.weight(id), Some(weight));
                        id
                    }
                    Remove(id) => {
                        prop_assert!(!after.contains(id));
                        id
                    }
                };
                named.insert(id);
            }
            for id in from.members().union(&after.members()).filter(|id| !named.contains(id)) {
                prop_assert_eq!(from.weight(*id), after.weight(*id));
                prop_assert_eq!(from.learners().contains(id), after.learners().contains(id));
            }
        }

        #[test]
        fn leave_no_moment_in_which_old_and_new_decide_apart(
            from in roles(),
            changes in prop::collection::vec(change(), 1..4),
            said in prop::collection::btree_map(1..9u64, any::<bool>(), 0..9),
        ) {
            // Whoever wins in the joint membership has won in the old one and in the new one: neither can have
            // elected somebody else by the votes of those who said no here (thesis §4.3).
            let Ok(begun) = from.begin(&changes) else { return Ok(()) };
            let answer = |id: NodeId| said.get(&id.0).copied();
            let refused = |id: NodeId| said.get(&id.0).map(|yes| !yes);
            if begun.vote(answer) == Won {
                prop_assert_eq!(from.vote(answer), Won);
                prop_assert_eq!(begun.leave().vote(answer), Won);
                prop_assert!(from.vote(refused) != Won && begun.leave().vote(refused) != Won);
            }
        }
    }
}
