//! What rows tell that no digest knows: when messages left, where they were lost, who plays what, and what lasts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use coterie::id::NodeId;
use coterie::raft::{self, Raft};
use coterie::sim::standard::{Keys, Scenario};
use coterie::sim::{Fault, Kind, Links, Part, Plan, Row, Settings, Swarm, Trace, Verb, World};
use coterie::time::Instant;

use super::toys::Pinger;
use super::{keepers, ms, pingers, swarm};

type Said = (Option<NodeId>, Option<NodeId>, String);

fn rafts(settings: Settings) -> World<Raft, Keys, ()> {
    let members = settings.members;
    let mut world: World<Raft, Keys, ()> = World::with(
        settings,
        |id| Raft::new(id, raft::Settings::default()).expect("settings that work"),
        (),
        (),
    );
    for node in (1..=members).map(NodeId) {
        let membership = raft::Membership::of((1..=members).map(NodeId));
        world.request(node, raft::Request::Bootstrap(membership));
    }
    world
}

#[test]
fn a_message_that_arrives_knows_when_it_left() {
    for seed in 0..10 {
        let mut settings = swarm(seed, 4);
        settings.record = true;
        let mut world = keepers(settings);
        for value in 0..40 {
            world.request(NodeId(1), 100 + value);
            world.run(ms(40)).expect("nothing is watched");
        }
        // What was said: by whom, to whom, in which words; when, and whether it had to wait for the disk.
        let mut said: BTreeMap<Said, Vec<(Instant, bool)>> = BTreeMap::new();
        let mut arrived = 0;
        for row in world.trace().rows() {
            match row.verb {
                Verb::Send | Verb::Promise => {
                    let words = (row.node, row.peer, row.text.clone());
                    said.entry(words).or_default().push((row.at, row.verb == Verb::Promise));
                }
                Verb::Receive if row.peer != row.node => {
                    let sent = row.sent.expect("it came over a link");
                    assert!(sent <= row.at, "{row}");
                    let times = &said[&(row.peer, row.node, row.text.clone())];
                    let left = |&(at, promise): &(Instant, bool)| at == sent || promise && at < sent;
                    assert!(times.iter().any(left), "{row} left when nobody sent it: {sent:?}");
                    arrived += 1;
                }
                Verb::Lost => {}
                _ => assert_eq!(row.sent, None, "{row}"),
            }
        }
        assert!(arrived > 100, "{arrived}");
    }
}

#[test]
fn a_message_is_under_way_as_long_as_the_network_says() {
    let mut settings = Settings::new(3, 2);
    settings.poll = ms(0);
    settings.network.latency = coterie::sim::Latency::fixed(ms(7));
    let mut world = pingers(settings);
    world.run(ms(500)).expect("nothing is watched");
    let took: BTreeSet<_> = (world.trace().rows())
        .filter_map(|row| Some((row.verb == Verb::Receive).then_some(row.at)? - row.sent?))
        .collect();
    assert_eq!(took.into_iter().collect::<Vec<_>>(), [ms(7)]);
}

/// How many of a kind there are, by whether a row is the sender's.
fn lost(trace: &Trace) -> (usize, usize) {
    let rows = trace.rows().filter(|row| row.verb == Verb::Lost);
    let (early, late): (Vec<&Row>, Vec<&Row>) = rows.partition(|row| row.sent.is_none());
    (early.len(), late.len())
}

#[test]
fn every_message_arrives_or_is_lost_in_a_row_or_is_under_way() {
    let mut both = (0, 0);
    for seed in 0..20 {
        let mut settings = swarm(seed, 4);
        settings.record = true;
        settings.network.drop = 0.05;
        let plan = &mut settings.faults;
        plan.push(Fault::new(ms(300), ms(900), Kind::Corrupt { on: Links::ALL, rate: 0.2 }));
        plan.push(Fault::new(ms(400), ms(500), Kind::Crash { node: NodeId(2) }));
        plan.push(Fault::new(ms(350), ms(500), Kind::Pause { node: NodeId(2) }));
        // In the end nobody is paused, so what has not arrived is under way.
        plan.push(Fault::new(ms(1_900), Fault::FOR_EVER, Kind::Heal { core: Vec::new() }));
        let mut world = pingers(settings);
        world.run(ms(2_000)).expect("nothing is watched");
        let count = |world: &World<Pinger>, verb| {
            world.trace().rows().filter(|row| row.verb == verb && row.node != row.peer).count() as u64
        };
        let statistics = world.statistics();
        let (early, late) = lost(world.trace());
        assert_eq!(count(&world, Verb::Receive), statistics.delivered);
        let copies = statistics.sent + statistics.duplicated;
        let ended = statistics.delivered + (early + late) as u64;
        assert!(ended <= copies, "{ended} of {copies}");
        assert!(copies - ended <= world.pending() as u64, "seed {seed}: {ended} of {copies}");
        both = (both.0 + early, both.1 + late);
    }
    assert!(both.0 > 1_000 && both.1 > 100, "{both:?}");
}

#[test]
fn what_arrives_where_nobody_lives_is_lost_there() {
    let mut settings = Settings::new(1, 3);
    settings.record = true;
    let mut world = pingers(settings);
    world.run(ms(100)).expect("nothing is watched");
    world.crash(NodeId(3));
    world.run(ms(100)).expect("nothing is watched");
    let (early, late) = lost(world.trace());
    assert_eq!(early, 0, "the network lost nothing");
    assert!((18..=24).contains(&late), "two pinged every 10 ms for 100 ms: {late}");
    let rows = world.trace().rows().filter(|row| row.verb == Verb::Lost);
    assert!(rows.clone().all(|row| row.node == Some(NodeId(3)) && row.text.starts_with("nobody there: ")));
    let quiet = |world: &World<Pinger>| (world.digest(), lost(world.trace()));
    let mut twin = pingers(Settings::new(1, 3));
    twin.run(ms(100)).expect("nothing is watched");
    twin.crash(NodeId(3));
    twin.run(ms(100)).expect("nothing is watched");
    assert_eq!(quiet(&world), quiet(&twin), "who does not record is told, too, in no words");
}

#[test]
fn who_plays_what_is_told_whether_recorded_or_not() {
    let told = |record: bool, rows: usize| {
        let mut settings = Settings::new(5, 5);
        (settings.record, settings.trace_rows) = (record, rows);
        settings.faults = Swarm::new(5, ms(8_000)).draw(5);
        let mut world = rafts(settings);
        world.run(ms(10_000)).expect("nothing is watched");
        let becomes: Vec<_> = (world.trace().rows())
            .filter(|row| row.verb == Verb::Become)
            .map(|row| (row.at, row.node, row.part.expect("a part"), row.to_string()))
            .collect();
        (world, becomes)
    };
    let (loud, parts) = told(true, 0);
    let (_, quiet) = told(false, 1_000_000);
    assert_eq!(parts, quiet);
    let roles: Vec<_> = (loud.trace().rows())
        .filter(|row| row.verb == Verb::Notify && row.text.starts_with("Role"))
        .collect();
    assert!(parts.len() >= 10 && parts.len() <= roles.len(), "{} of {}", parts.len(), roles.len());
    assert!(parts.iter().any(|(_, _, part, _)| part.role == "Leader"));
    assert!(
        parts
            .iter()
            .all(|(_, _, Part { role, term }, words)| words.ends_with(&format!("{role} term={term}")))
    );
}

/// What is so after some rows: who lives, as what, and what is broken.
#[derive(Debug, Default, PartialEq)]
struct Standing {
    down: BTreeSet<NodeId>,
    parts: BTreeMap<NodeId, Part>,
    broken: Vec<String>,
}

impl Standing {
    fn after<'a>(rows: impl Iterator<Item = &'a Row>) -> Self {
        let mut standing = Self::default();
        for row in rows {
            match (row.verb, row.node) {
                (Verb::Start, Some(node)) => {
                    standing.down.remove(&node);
                    standing.parts.remove(&node);
                }
                (Verb::Crash, Some(node)) => {
                    standing.down.insert(node);
                    standing.parts.remove(&node);
                }
                (Verb::Become, Some(node)) => {
                    standing.parts.insert(node, row.part.expect("a part"));
                }
                (Verb::Begin, _) => standing.broken.push(row.text.clone()),
                (Verb::End, _) => {
                    if let Some(place) = standing.broken.iter().position(|words| *words == row.text) {
                        standing.broken.remove(place);
                    }
                }
                _ => {}
            }
        }
        standing
    }
}

#[test]
fn rows_that_gave_way_leave_behind_what_lasts() {
    let mut gone = 0;
    for seed in 0..20 {
        let run = |record: bool| {
            let mut settings = swarm(seed, 5);
            (settings.record, settings.trace_rows) = (record, 20);
            settings.faults.push(Fault::new(
                ms(100),
                Fault::FOR_EVER,
                Kind::Partition { side: vec![NodeId(1)] },
            ));
            let mut world = rafts(settings);
            world.run(ms(3_000)).expect("nothing is watched");
            world
        };
        let (loud, quiet) = (run(true), run(false));
        let (all, last) = (loud.trace(), quiet.trace());
        assert_eq!((last.len(), all.before().count()), (20, 0));
        let kept = Standing::after(last.before().chain(last.rows()));
        assert_eq!(kept, Standing::after(all.rows()), "seed {seed}");
        gone += last.before().count();
    }
    assert!(gone > 100, "{gone}");
}

#[test]
fn what_is_left_behind_is_bounded() {
    let mut settings = Settings::new(2, 3);
    settings.trace_rows = 8;
    let crashes =
        (0..400).map(|turn| Fault::new(ms(20 * turn), ms(8), Kind::Crash { node: NodeId(1 + turn % 3) }));
    let drops =
        (0..400).map(|turn| Fault::new(ms(20 * turn), ms(15), Kind::Drop { on: Links::ALL, rate: 0.1 }));
    settings.faults = Plan::new(crashes.chain(drops));
    let mut world = rafts(settings);
    world.run(ms(9_000)).expect("nothing is watched");
    assert!(world.statistics().crashes > 300);
    assert!(world.trace().before().count() <= 6, "a start and a part for each");
}

#[test]
fn a_pause_by_hand_is_told_and_changes_no_digest() {
    // The digest of a world that was paused by hand before rows told of it.
    let mut settings = Settings::new(6, 3);
    settings.record = true;
    let mut world = pingers(settings);
    world.run(ms(50)).expect("nothing is watched");
    world.go_on(NodeId(2));
    world.pause(NodeId(2));
    world.run(ms(50)).expect("nothing is watched");
    world.go_on(NodeId(2));
    let told: VecDeque<_> = (world.trace().rows())
        .filter(|row| matches!(row.verb, Verb::Begin | Verb::End))
        .map(|row| (row.verb.name(), row.text.as_str()))
        .collect();
    assert_eq!(told, [("begin", "Pause { node: n2 }"), ("end", "Pause { node: n2 }")]);
    world.run(ms(50)).expect("nothing is watched");
    assert_eq!(format!("{:016x}", world.digest()), "3dcffdd3d84633b7");
}

#[test]
fn json_tells_what_rows_tell() {
    let mut settings = Settings::new(5, 3);
    settings.record = true;
    let mut world = rafts(settings);
    world.run(ms(600)).expect("nothing is watched");
    let lines = world.trace().to_json_lines();
    assert_eq!(lines.lines().count(), world.trace().len());
    for (line, row) in lines.lines().zip(world.trace().rows()) {
        let sent = row.sent.map_or_else(|| "null".to_owned(), |sent| sent.as_nanos().to_string());
        let part = row.part.map_or_else(
            || "\"role\":null,\"term\":null".to_owned(),
            |Part { role, term }| format!("\"role\":\"{role}\",\"term\":{term}"),
        );
        assert!(line.contains(&format!("\"sent\":{sent},{part},\"text\":\"")), "{line}");
    }
    assert!(lines.contains("\"verb\":\"become\"") && lines.contains("\"role\":\"Leader\""));
}

#[test]
fn standard_worlds_tell_who_leads() {
    let mut scenario = Scenario::new(1);
    scenario.world.faults = Plan::none();
    let mut world = scenario.build();
    world.run(ms(3_000)).expect("nothing breaks");
    let rows = world.trace().before().chain(world.trace().rows());
    let leaders = rows.filter(|row| row.part.is_some_and(|part| part.role == "Leader")).count();
    assert!(leaders >= 1);
}
