//! scratch
use coterie::sim::standard::*;
fn main() {
    let seed: u64 = std::env::args().nth(1).unwrap().parse().unwrap();
    let mut scenario = Scenario::new(seed);
    let record = std::env::args().nth(2).is_some();
    scenario.world.record = record;
    #[cfg(feature = "mutants")]
    if let Some(m) = std::env::args().nth(3) {
        scenario.raft.mutant = coterie::raft::Mutant::ALL.iter().copied().find(|x| format!("{x:?}") == m);
    }
    println!(
        "{:?}\n{:?}\n{:?} {:?}",
        scenario.clients, scenario.raft, scenario.world.disk, scenario.world.network
    );
    for f in scenario.world.faults.faults.iter().filter(|f| f.end() > coterie::time::Instant::ZERO + HORIZON)
    {
        println!("{f:?}");
    }
    let mut w = scenario.build();
    let v = finish(&mut w);
    for node in w.nodes() {
        println!("{node:?} {:?}", w.machine(node).map(coterie::raft::Raft::status));
    }
    if record {
        for row in w.trace().rows() {
            println!("{row}");
        }
    }
    println!("{v:?}");
}
