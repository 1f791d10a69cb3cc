//! Worlds keep their own promises.

mod toys;

use std::time::Duration;

use coterie::check::Violation;
use coterie::id::NodeId;
use coterie::protocol::{Effect, Link, Protocol};
use coterie::random::Random;
use coterie::sim::{
    Deaf, Fault, Kind, Latency, Links, Plan, Seen, Settings, Swarm, Verb, Watch, World, replay,
};
use coterie::time::Instant;
use toys::{Keep, Keeper, PING_INTERVAL, Ping, Pinger};

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

fn swarm(seed: u64, members: u64) -> Settings {
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
