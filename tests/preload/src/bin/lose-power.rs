//! `lose-power FOLDER LOG SEED`: the power failed, and has come back.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, log, seed] = arguments.as_slice() else {
        eprintln!("usage: lose-power FOLDER LOG SEED");
        std::process::exit(2);
    };
    let seed = seed.parse().map_err(|_| std::io::Error::other("SEED is a number"))?;
    let lost = preload::rollback::lose_power(Path::new(folder), Path::new(log), seed)?;
    println!("{} writes lost, {} kept, {} names lost", lost.writes, lost.kept, lost.names);
    Ok(())
}
