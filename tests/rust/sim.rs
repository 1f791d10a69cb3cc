//! Worlds keep their own promises.

mod rows;
pub(crate) mod toys;

use std::time::Duration;

use coterie::check::Violation;
use coterie::id::NodeId;
use coterie::protocol::{Effect, Link, Protocol};
use coterie::random::Random;
use coterie::sim::{
    Deaf, Fault, Kind, LEADER, Latency, Links, Plan, Seen, Settings, Swarm, VOTER, Verb, Watch, World, replay,
};
use coterie::time::Instant;
use toys::{Keep, Keeper, PING_INTERVAL, Pinger};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn pingers(settings: Settings) -> World<Pinger> {
    let members = settings.members;
    World::new(settings, move |id| Pinger::new(id, members))
}

fn keepers(settings: Settings) -> World<Keeper> {
    let members = settings.members;
    World::new(settings, move |id| Keeper::new(id, members))
}

pub(crate) fn swarm(seed: u64, members: u64) -> Settings {
    let mut settings = Settings::new(seed, members);
    let mut swarm = Swarm::new(members, ms(2_000));
    swarm.interval = ms(200);
    swarm.length = ms(80);
    swarm.share = 0.6;
    swarm.jump_max = ms(50);
    settings.faults = swarm.draw(seed);
    settings
}

#[test]
fn a_quiet_world_answers_every_ping() {
    let mut world = pingers(Settings::new(1, 5));
    world.run(ms(1_000)).expect("nothing is watched");
    for node in world.nodes() {
        let heard = world.machine(node).expect("it runs").heard;
        assert!((4 * 98..=4 * 101).contains(&heard), "{node:?} heard {heard}");
    }
    assert_eq!((world.statistics().lost, world.statistics().crashes), (0, 0));
}

#[test]
fn what_is_kept_by_all_is_answered_once() {
    let mut world = keepers(Settings::new(2, 3));
    let ids: Vec<_> = (0..20).map(|value| world.request(NodeId(1), 100 + value)).collect();
    let refused = world.request(NodeId(2), 7);
    world.run(ms(100)).expect("nothing breaks");
    for (place, id) in ids.into_iter().enumerate() {
        assert_eq!(world.answer(id), Some(&Ok(place as u64)));
    }
    assert_eq!(world.answer(refused), Some(&Err("ask process 1")));
    for node in world.nodes() {
        assert_eq!(world.machine(node).expect("it runs").kept, (100..120).collect::<Vec<u64>>());
    }
}

#[test]
fn the_same_seed_tells_the_same_story_and_another_seed_another() {
    let mut digests: Vec<u64> = (0..20)
        .map(|seed| {
            replay(|| keepers(swarm(seed, 3)), ms(3_000)).unwrap_or_else(|differs| panic!("{differs}"))
        })
        .collect();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), 20);
}

#[test]
fn digests_are_the_same_on_every_platform() {
    let digest = |seed| {
        let mut world = pingers(swarm(seed, 5));
        world.run(ms(3_000)).expect("nothing is watched");
        format!("{:016x}", world.digest())
    };
    assert_eq!([1, 2, 3].map(digest), ["5f33d61af3500934", "e30e919329d4c095", "c282535c3be8657b"]);
}

#[test]
fn a_leak_is_named_by_its_first_step() {
    // The factory tells its second run from its first: a clock, a hash seed or an address would do the same.
    let mut runs = 0;
    let build = || {
        runs += 1;
        let members = if runs == 1 { 3 } else { 4 };
        let mut settings = Settings::new(1, 3);
        settings.network.hints = false;
        World::<Pinger>::new(settings, move |id| Pinger::new(id, members))
    };
    let divergence = replay(build, ms(100)).expect_err("the runs differ");
    assert_eq!(divergence.step, 4, "the lives begin alike; {divergence}");
    let two = divergence.two.clone().expect("the second run does more");
    assert_eq!((two.verb, two.peer), (Verb::Send, Some(NodeId(4))), "{divergence}");
    assert_ne!(divergence.one, divergence.two);
}

/// Holds worlds to the durability law: a promise leaves only when the records before it are durable, in order, and
/// whatever a promise that left has said is there in the next life.
#[derive(Default)]
pub(crate) struct Durable {
    /// By process: what was told in promises that left.
    told: Vec<u64>,
    pub(crate) promised: u64,
    pub(crate) lives: u64,
}

impl Watch<Keeper, Deaf> for Durable {
    fn recovered(&mut self, _at: Instant, node: NodeId, records: &[u64]) -> Result<(), Violation> {
        self.told.resize(self.told.len().max(node.0 as usize + 1), 0);
        self.lives += 1;
        let told = self.told[node.0 as usize];
        if (records.len() as u64) < told {
            return Err(Violation::new(
                "durability",
                format!("{node:?} forgot: {} of {told}", records.len()),
            ));
        }
        Ok(())
    }

    fn promised(
        &mut self,
        seen: &Seen<'_, Keeper, Deaf>,
        _to: NodeId,
        message: &Keep,
    ) -> Result<(), Violation> {
        let told = &mut self.told[seen.node.0 as usize];
        self.promised += 1;
        if let Keep::Kept(count) = message {
            if count < told {
                return Err(Violation::new("order of promises", format!("{count} after {told}")));
            }
            *told = *count;
        }
        Ok(())
    }

    fn effect(&mut self, seen: &Seen<'_, Keeper, Deaf>, effect: &Effect<Keeper>) -> Result<(), Violation> {
        // The planted bug says by `Send` what only a promise may say.
        if let Effect::Send(_, Keep::Kept(count)) = effect {
            self.told[seen.node.0 as usize] = *count;
        }
        Ok(())
    }
}

fn watched_keepers(seed: u64, hasty: bool) -> World<Keeper, Deaf, Durable> {
    let members = 3;
    let make = move |id| {
        let mut keeper = Keeper::new(id, members);
        keeper.hasty = hasty;
        keeper
    };
    World::with(swarm(seed, members), make, Durable::default(), ())
}

fn run_with_requests(world: &mut World<Keeper, Deaf, Durable>) -> Result<(), coterie::sim::Failure> {
    for value in 0..300 {
        world.request(NodeId(1), value);
        world.run(ms(10))?;
    }
    Ok(())
}

#[test]
fn a_promise_never_leaves_before_its_records_are_durable() {
    let (mut promised, mut lives) = (0, 0);
    for seed in 0..60 {
        let mut world = watched_keepers(seed, false);
        run_with_requests(&mut world).unwrap_or_else(|failure| panic!("{failure}"));
        promised += world.watch().promised;
        lives += world.watch().lives - 3;
    }
    println!("{promised} promises, {lives} restarts");
    assert!(promised > 10_000 && lives > 100, "{promised} promises, {lives} restarts");
}

#[test]
fn an_acknowledgement_before_the_disk_is_found() {
    let found = (0..60).filter(|&seed| run_with_requests(&mut watched_keepers(seed, true)).is_err()).count();
    assert!(found > 5, "found in {found} of 60 worlds");
}

#[test]
fn promises_to_oneself_come_back_in_order() {
    let mut world = keepers(Settings::new(3, 3));
    for value in 0..200 {
        world.request(NodeId(1), value);
        world.run(Duration::from_micros(30)).expect("nothing breaks");
    }
    world.run(ms(10)).expect("nothing breaks");
    let promised = &world.machine(NodeId(1)).expect("it runs").promised_to_self;
    assert_eq!(*promised, (1..=200).collect::<Vec<u64>>());
    assert!(world.statistics().syncs < 300, "a sync serves all that queued: {}", world.statistics().syncs);
}

/// Counts which effects of each outbox happen.
#[derive(Default)]
struct Cuts {
    planned: usize,
    done: usize,
    cut: Vec<(usize, usize)>,
}

impl Watch<Keeper, Deaf> for Cuts {
    fn handled(
        &mut self,
        _seen: &Seen<'_, Keeper, Deaf>,
        effects: &[Effect<Keeper>],
    ) -> Result<(), Violation> {
        (self.planned, self.done) = (effects.len(), 0);
        Ok(())
    }

    fn effect(&mut self, _seen: &Seen<'_, Keeper, Deaf>, _effect: &Effect<Keeper>) -> Result<(), Violation> {
        self.done += 1;
        Ok(())
    }

    fn crashed(&mut self, _at: Instant, _node: NodeId) -> Result<(), Violation> {
        self.cut.push((self.done, self.planned));
        Ok(())
    }
}

#[test]
fn a_crash_falls_between_any_two_effects() {
    let mut seen = [0; 7];
    for seed in 0..200 {
        let mut settings = Settings::new(seed, 3);
        let crash = Fault::new(ms(12), ms(5), Kind::Crash { node: NodeId(1) });
        settings.faults = Plan::new([crash]);
        let mut world: World<Keeper, Deaf, Cuts> =
            World::with(settings, |id| Keeper::new(id, 3), Cuts::default(), ());
        world.run(ms(30)).expect("nothing is judged");
        // The primary's alarm: two sends, two alarms set, one forgotten.
        assert_eq!(world.watch().cut.len(), 1);
        let (done, planned) = world.watch().cut[0];
        assert_eq!(planned, 5);
        seen[done] += 1;
        assert!(world.machine(NodeId(1)).is_some(), "it came back");
    }
    assert!(seen[..=5].iter().all(|&count| count > 15), "{seen:?}");
}

#[test]
fn a_cancelled_alarm_never_rings_and_one_set_anew_rings_once() {
    let mut settings = Settings::new(4, 3);
    settings.record = true;
    let mut world = keepers(settings);
    world.run(ms(1_000)).expect("nothing breaks");
    let rung: Vec<_> = world.trace().rows().filter(|row| row.verb == Verb::Expire).collect();
    assert!(rung.iter().all(|row| row.text == "0"), "alarm 1 was cancelled");
    assert!((195..=200).contains(&rung.len()), "every 5 ms: {}", rung.len());
}

#[test]
fn taking_a_fault_away_shifts_no_draw_of_the_others() {
    // Of process 3 nobody hears in either world, so what 1 and 2 say must come at the same nanoseconds.
    let heard = |plan: Plan| {
        let mut settings = Settings::new(9, 4);
        settings.faults = plan;
        settings.record = true;
        let mut world = pingers(settings);
        world.run(ms(500)).expect("nothing is watched");
        let pair = [Some(NodeId(1)), Some(NodeId(2))];
        let rows = world.trace().rows();
        let rows = rows
            .filter(|row| row.verb == Verb::Receive && pair.contains(&row.node) && pair.contains(&row.peer));
        rows.map(|row| (row.at, row.node, row.peer, row.fingerprint)).collect::<Vec<_>>()
    };
    let between = |from, to| Links::between(NodeId(from), NodeId(to));
    let plan = Plan::new([
        Fault::new(ms(10), ms(400), Kind::Drop { on: between(3, 4), rate: 0.5 }),
        Fault::new(ms(20), ms(400), Kind::Duplicate { on: between(1, 2), rate: 0.3 }),
        Fault::new(ms(30), ms(400), Kind::Drop { on: between(2, 1), rate: 0.3 }),
        Fault::new(ms(40), ms(400), Kind::Reorder { on: between(4, 3), rate: 0.5, by: ms(30) }),
    ]);
    let all = heard(plan.clone());
    assert!(all.len() > 100);
    let fewer = heard(plan.without(3).without(0));
    // The pings carry how many answers were heard in all, so only when and from whom is compared.
    let times = |rows: &[(Instant, Option<NodeId>, Option<NodeId>, u64)]| {
        rows.iter().map(|&(at, node, peer, _)| (at, node, peer)).collect::<Vec<_>>()
    };
    assert_eq!(times(&all), times(&fewer));
}

#[test]
fn what_arrives_during_a_pause_is_taken_after_it() {
    let mut settings = Settings::new(5, 3);
    settings.faults = Plan::new([Fault::new(ms(100), ms(300), Kind::Pause { node: NodeId(2) })]);
    settings.record = true;
    let mut world = pingers(settings);
    world.run(ms(1_000)).expect("nothing is watched");
    let inputs: Vec<_> = world
        .trace()
        .rows()
        .filter(|row| row.node == Some(NodeId(2)) && row.verb.is_input())
        .map(|row| row.at.as_nanos() / 1_000_000)
        .collect();
    assert!(inputs.iter().all(|at| !(100..400).contains(at)), "{inputs:?}");
    assert!(inputs.iter().filter(|&&at| at == 400).count() >= 60, "two peers pinged for 300 ms");
    assert_eq!(world.statistics().lost + world.statistics().astray, 0);
}

#[test]
fn now_never_goes_back_whatever_clocks_do() {
    // The keeper asserts it at each verb; here across its lives as well.
    let mut latest = [Instant::ZERO; 4];
    for seed in 0..30 {
        let mut settings = swarm(seed, 3);
        settings.clock.drift_ppm_max = 100_000;
        let mut world = keepers(settings);
        latest.fill(Instant::ZERO);
        for _ in 0..3_000 {
            world.run(ms(1)).expect("nothing is watched");
            for node in world.nodes() {
                if let Some(machine) = world.machine(node) {
                    let latest = &mut latest[node.0 as usize];
                    assert!(machine.latest >= *latest, "seed {seed}: {node:?} went back");
                    *latest = machine.latest;
                }
            }
        }
    }
}

#[test]
fn alarms_follow_the_clock_of_their_process() {
    let mut settings = Settings::new(6, 2);
    settings.faults = Plan::new([
        Fault::new(ms(0), Fault::FOR_EVER, Kind::Drift { node: NodeId(1), ppm: 500_000 }),
        Fault::new(ms(500), ms(0), Kind::Jump { node: NodeId(2), by: ms(100) }),
    ]);
    let mut world = pingers(settings);
    world.run(ms(1_000)).expect("nothing is watched");
    let rung = |node| world.machine(NodeId(node)).expect("it runs").times.clone();
    assert!((148..=151).contains(&rung(1).len()), "half as fast again: {}", rung(1).len());
    assert!((99..=101).contains(&rung(2).len()), "one leap: {}", rung(2).len());
    let longest = rung(2).windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(longest >= Some(ms(90)) && longest < Some(ms(115)), "{longest:?}");
    assert!(rung(1).windows(2).all(|pair| pair[1] - pair[0] >= PING_INTERVAL));
}

#[test]
fn partitions_cut_what_they_name() {
    let n = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
    let cut = |kind: Kind| {
        let mut settings = Settings::new(7, 4);
        settings.faults = Plan::new([Fault::new(ms(0), Fault::FOR_EVER, kind)]);
        settings.record = true;
        let mut world = pingers(settings);
        world.run(ms(200)).expect("nothing is watched");
        let rows = world.trace().rows().filter(|row| row.verb == Verb::Receive);
        let mut heard: Vec<(u64, u64)> = rows.filter_map(|row| Some((row.peer?.0, row.node?.0))).collect();
        heard.sort_unstable();
        heard.dedup();
        let all = (1..=4).flat_map(|from| (1..=4).map(move |to| (from, to))).filter(|(from, to)| from != to);
        all.filter(|pair| !heard.contains(pair)).collect::<Vec<_>>()
    };
    assert_eq!(cut(Kind::Partition { side: n(&[1]) }), [(1, 2), (1, 3), (1, 4), (2, 1), (3, 1), (4, 1)]);
    assert_eq!(cut(Kind::OneWay { from: n(&[1]), to: n(&[2]) }), [(1, 2)]);
    assert_eq!(cut(Kind::OneWay { from: n(&[]), to: n(&[2]) }), [(1, 2), (3, 2), (4, 2)]);
    assert_eq!(
        cut(Kind::Bridge { left: n(&[1]), right: n(&[3, 4]) }),
        [(1, 3), (1, 4), (3, 1), (4, 1)],
        "2 is the bridge"
    );
}

#[test]
fn a_healed_core_never_breaks_again_and_the_rest_stays_broken() {
    let mut settings = Settings::new(8, 3);
    let core = vec![NodeId(1), NodeId(2)];
    settings.faults = Plan::new([
        Fault::new(ms(50), Fault::FOR_EVER, Kind::Crash { node: NodeId(2) }),
        Fault::new(ms(50), Fault::FOR_EVER, Kind::Crash { node: NodeId(3) }),
        Fault::new(ms(60), Fault::FOR_EVER, Kind::Drop { on: Links::ALL, rate: 1.0 }),
        Fault::new(ms(100), Fault::FOR_EVER, Kind::Heal { core }),
        Fault::new(ms(200), ms(50), Kind::Pause { node: NodeId(1) }),
    ]);
    let mut world = pingers(settings);
    world.run(ms(110)).expect("nothing is watched");
    let lost = world.statistics().lost;
    let before = world.machine(NodeId(2)).expect("it came back").heard;
    world.run(ms(1_000)).expect("nothing is watched");
    assert!(world.machine(NodeId(2)).expect("it runs").heard >= before + 99);
    assert!(world.machine(NodeId(3)).is_none(), "the rest stays broken");
    assert!(world.statistics().lost > lost, "so do its links");
    assert_eq!(world.statistics().faults[Kind::Pause { node: NodeId(1) }.number()], 0);
}

#[test]
fn disks_that_do_not_answer_hold_back_promises_until_they_do() {
    for kind in [
        Kind::FullDisk { node: NodeId(2) },
        Kind::StalledDisk { node: NodeId(2) },
        Kind::SlowDisk { node: NodeId(2), by: ms(100) },
    ] {
        let mut settings = Settings::new(10, 3);
        settings.faults = Plan::new([Fault::new(ms(0), ms(100), kind.clone())]);
        let mut world = keepers(settings);
        world.run(ms(10)).expect("nothing breaks");
        let id = world.request(NodeId(1), 5);
        world.run(ms(85)).expect("nothing breaks");
        assert_eq!(world.answer(id), None, "{kind:?}");
        world.run(ms(25)).expect("nothing breaks");
        assert_eq!(world.answer(id), Some(&Ok(0)), "{kind:?}");
    }
}

#[test]
fn a_failed_sync_ends_the_life_and_keeps_its_promises_back() {
    let mut settings = Settings::new(11, 3);
    settings.faults = Plan::new([Fault::new(ms(5), ms(50), Kind::FailSync { node: NodeId(2) })]);
    let mut world = keepers(settings);
    world.run(ms(10)).expect("nothing breaks");
    let id = world.request(NodeId(1), 5);
    world.run(ms(20)).expect("nothing breaks");
    assert!(world.machine(NodeId(2)).is_none() && world.answer(id).is_none());
    world.run(ms(50)).expect("nothing breaks");
    assert_eq!(world.answer(id), Some(&Ok(0)), "it came back and took it again");
}

#[test]
fn peers_hear_of_crashes_and_of_false_ones() {
    let mut settings = Settings::new(12, 3);
    settings.faults = Plan::new([
        Fault::new(ms(50), ms(20), Kind::Crash { node: NodeId(2) }),
        Fault::new(ms(200), ms(20), Kind::FalseEvidence { about: NodeId(3), refused: true }),
    ]);
    let mut world = pingers(settings);
    world.run(ms(400)).expect("nothing is watched");
    let links = &world.machine(NodeId(1)).expect("it runs").links;
    let of =
        |peer| links.iter().filter(|(id, _)| *id == NodeId(peer)).map(|(_, link)| *link).collect::<Vec<_>>();
    assert_eq!(of(2)[of(2).len() - 3..], [Link::Down, Link::Refused, Link::Up]);
    assert_eq!(of(3)[of(3).len() - 2..], [Link::Refused, Link::Up]);
}

#[test]
fn a_process_takes_several_inputs_before_it_flushes() {
    let mut settings = Settings::new(13, 2);
    settings.poll = ms(4);
    let mut world = keepers(settings);
    for value in 0..100 {
        world.request(NodeId(1), value);
    }
    world.run(ms(20)).expect("nothing breaks");
    let machine = world.machine(NodeId(1)).expect("it runs");
    assert!(machine.inputs > 2 * machine.flushes, "{} inputs, {} flushes", machine.inputs, machine.flushes);
}

#[test]
fn links_in_order_stay_so_and_others_do_not() {
    let overtaken = |fifo| {
        let mut settings = Settings::new(14, 3);
        settings.network.fifo = fifo;
        settings.network.latency = Latency::new(ms(1), ms(30));
        settings.record = true;
        let mut world = pingers(settings);
        world.run(ms(2_000)).expect("nothing is watched");
        let rows = world.trace().rows();
        let pings = rows.filter(|row| {
            row.verb == Verb::Receive && row.node == Some(NodeId(2)) && row.peer == Some(NodeId(1))
        });
        let numbers: Vec<u64> =
            pings.filter_map(|row| row.text.strip_prefix("Ping(")?.strip_suffix(')')?.parse().ok()).collect();
        numbers.windows(2).filter(|pair| pair[0] > pair[1]).count()
    };
    assert_eq!(overtaken(true), 0);
    assert!(overtaken(false) > 10);
}

#[test]
fn a_plan_names_each_fault_by_a_key_of_its_own() {
    for seed in 0..200 {
        let plan = Swarm::new(5, Duration::from_secs(30)).draw(seed);
        let mut keys: Vec<u64> = plan.faults.iter().map(|fault| fault.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), plan.faults.len());
        let heals: Vec<_> = plan
            .faults
            .iter()
            .filter_map(|fault| match &fault.kind {
                Kind::Heal { core } => Some(core.len()),
                _ => None,
            })
            .collect();
        assert_eq!(heals, [3], "a quorum of five");
    }
}

/// Says that the second process leads, and the third has voted; keeps who crashed, and what a paused one took first.
#[derive(Default)]
struct Pointer {
    crashed: Vec<NodeId>,
}

impl Watch<Keeper, Deaf> for Pointer {
    fn target(&self, whom: NodeId) -> Option<NodeId> {
        [(LEADER, NodeId(2)), (VOTER, NodeId(3))]
            .into_iter()
            .find(|(name, _)| *name == whom)
            .map(|(_, node)| node)
    }

    fn crashed(&mut self, _at: Instant, node: NodeId) -> Result<(), Violation> {
        self.crashed.push(node);
        Ok(())
    }
}

#[test]
fn a_fault_may_befall_whoever_leads_at_the_moment() {
    let mut settings = Settings::new(5, 3);
    let crash = |at, node| Fault::new(ms(at), ms(5), Kind::Crash { node });
    settings.faults = Plan::new([crash(10, LEADER), crash(50, VOTER)]);
    let mut world: World<_, _, _, _> = World::with(settings, |id| Keeper::new(id, 3), Pointer::default(), ());
    world.run(ms(100)).expect("nothing is judged");
    assert_eq!(world.watch().crashed, [NodeId(2), NodeId(3)]);
    assert!(world.nodes().all(|node| world.machine(node).is_some()), "they came back");
}

#[test]
fn a_fault_that_finds_no_leader_draws_one() {
    let crashed: std::collections::BTreeSet<_> = (0..40)
        .map(|seed| {
            let mut settings = Settings::new(seed, 3);
            settings.faults = Plan::new([Fault::new(ms(10), Fault::FOR_EVER, Kind::Crash { node: LEADER })]);
            let mut world = keepers(settings);
            world.run(ms(60)).expect("nothing is watched");
            let down: Vec<_> = world.nodes().filter(|&node| world.machine(node).is_none()).collect();
            assert_eq!(down.len(), 1, "{down:?}");
            down[0]
        })
        .collect();
    assert_eq!(crashed.len(), 3);
}

#[test]
fn what_came_in_a_pause_is_taken_by_sender() {
    let mut firsts = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let mut settings = Settings::new(seed, 4);
        settings.record = true;
        settings.faults = Plan::new([Fault::new(ms(20), ms(200), Kind::Pause { node: NodeId(1) })]);
        let mut world = pingers(settings);
        world.run(ms(220)).expect("nothing is watched");
        world.run(ms(2)).expect("nothing is watched");
        let taken: Vec<(u64, u64)> = (world.trace().rows())
            .filter(|row| {
                row.at >= Instant::ZERO + ms(220) && row.verb == Verb::Receive && row.node == Some(NodeId(1))
            })
            .filter_map(|row| {
                let number = row.text.strip_prefix("Ping(")?.strip_suffix(')')?.parse().ok()?;
                Some((row.peer?.0, number))
            })
            .collect();
        let senders: Vec<u64> = taken.iter().map(|(peer, _)| *peer).collect();
        assert!(senders.len() > 40, "{senders:?}");
        for peer in 2..=4 {
            let of: Vec<u64> = taken.iter().filter(|(from, _)| *from == peer).map(|(_, n)| *n).collect();
            assert!(of.is_sorted(), "each sender's in order: {of:?}");
        }
        firsts.insert(senders[0]);
    }
    assert_eq!(firsts.len(), 3, "and any sender first");
}

#[test]
fn an_answer_given_twice_is_a_violation() {
    #[derive(Debug)]
    struct Echo;
    impl Protocol for Echo {
        type Message = ();
        type Record = ();
        type Timer = ();
        type Event = ();
        type Request = ();
        type Answer = ();
        type Error = ();

        fn start(&mut self, _: Instant, _: Random, _: Vec<()>, _: &mut coterie::protocol::Outbox<Self>) {}

        fn receive(&mut self, _: Instant, _: NodeId, (): (), _: &mut coterie::protocol::Outbox<Self>) {}

        fn expire(&mut self, _: Instant, (): (), _: &mut coterie::protocol::Outbox<Self>) {}

        fn request(
            &mut self,
            _: Instant,
            id: coterie::id::RequestId,
            (): (),
            out: &mut coterie::protocol::Outbox<Self>,
        ) {
            out.answer(id, Ok(()));
            out.answer(id, Ok(()));
        }
    }
    impl coterie::sim::Fingerprint for Echo {}
    let mut world = World::<Echo>::new(Settings::new(15, 1), |_| Echo);
    world.request(NodeId(1), ());
    let failure = world.run(ms(1)).expect_err("twice");
    assert_eq!((failure.violation.invariant, failure.node, failure.seed), ("answered once", NodeId(1), 15));
}

/// How fast a world goes; `cargo test --release --test rust speed -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
#[expect(clippy::disallowed_methods, reason = "it measures")]
fn speed_of_a_bare_world() {
    for (members, seconds) in [(5, 600), (50, 20)] {
        let mut world = pingers(Settings::new(1, members));
        let begun = std::time::Instant::now();
        world.run(Duration::from_secs(seconds)).expect("nothing is watched");
        let took = begun.elapsed();
        let rate = world.steps() as f64 / took.as_secs_f64() / 1e6;
        println!("{members} pingers: {} inputs in {took:.2?}: {rate:.2} M inputs/s", world.steps());
    }
}
