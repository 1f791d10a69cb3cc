//! Rings against published answers, against naive twins, and against their own promises.

use std::collections::BTreeMap;

use ::md5::{Digest, Md5};
use coterie::ring::bounded::BoundedLoad;
use coterie::ring::jump::jump;
use coterie::ring::md5;
use coterie::ring::{
    Anchor, ConsistentHash, HashFunction, Jump, Ketama, Key, Maglev, Node, Rendezvous, Ring, RingError,
    Variant, moved,
};
use proptest::prelude::*;
use serde_json::Value;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

fn data(file: &str) -> Value {
    let path = format!("{}/tests/data/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn nodes(names: &[&str]) -> Vec<Node> {
    names.iter().map(|name| Node::new(name)).collect()
}

fn numbered(count: usize) -> Vec<Node> {
    (0..count).map(|i| Node::new(&format!("node-{i}"))).collect()
}

fn text(key: &str) -> Key<'_> {
    Key::Text(key.as_bytes())
}

fn circle(nodes: Vec<Node>, replicas: u32) -> ConsistentHash {
    ConsistentHash::new(nodes, replicas, HashFunction::Md5).unwrap()
}

/// One of each kind.
fn rings(count: usize) -> Vec<(&'static str, Box<dyn Ring>)> {
    vec![
        ("ConsistentHash md5", Box::new(circle(numbered(count), 128))),
        (
            "ConsistentHash xxh3",
            Box::new(ConsistentHash::new(numbered(count), 128, HashFunction::Xxh3).unwrap()),
        ),
        ("Ketama", Box::new(Ketama::new(numbered(count), Variant::Ketama).unwrap())),
        ("Jump", Box::new(Jump::new(numbered(count)).unwrap())),
        ("Rendezvous", Box::new(Rendezvous::new(numbered(count)).unwrap())),
        ("Maglev", Box::new(Maglev::new(numbered(count), 5003).unwrap())),
        ("Anchor", Box::new(Anchor::new(numbered(count), 64).unwrap())),
        ("BoundedLoad", Box::new(BoundedLoad::new(circle(numbered(count), 128), 0.25).unwrap())),
    ]
}

fn owners(ring: &dyn Ring, keys: &[String]) -> Vec<String> {
    keys.iter().map(|key| ring.nodes()[ring.owner(text(key)).unwrap() as usize].name.to_string()).collect()
}

fn some_keys(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("user:{i}:session")).collect()
}

mod md5_digests {
    use super::*;

    fn expected(text: &[u8]) -> md5::Digest {
        let bytes = Md5::digest(text);
        std::array::from_fn(|i| u32::from_le_bytes(bytes[4 * i..4 * i + 4].try_into().unwrap()))
    }

    #[test]
    fn are_those_of_the_published_vectors() {
        let vectors = data("hashes.json");
        let vectors = vectors["vectors"].as_array().unwrap();
        assert_eq!(vectors.len(), 21);
        for vector in vectors {
            let shorthand = vector["s"].as_str().unwrap();
            let text = match shorthand.split_once('*') {
                Some((letter, count)) => letter.repeat(count.parse().unwrap()),
                None => shorthand.to_owned(),
            };
            let (high, low) = md5::halves(md5::digest(text.as_bytes()));
            assert_eq!(format!("{high:016x}{low:016x}"), vector["md5"].as_str().unwrap(), "{shorthand}");
            assert_eq!(xxh3_64(text.as_bytes()), vector["xxh3_64"].as_u64().unwrap(), "{shorthand}");
        }
    }

    #[test]
    fn agree_at_every_length_around_the_block_borders() {
        for length in 0..200 {
            let text = vec![b'x'; length];
            assert_eq!(md5::digest(&text), expected(&text), "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn of_a_batch_are_those_of_its_keys(texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..130), 0..70)) {
            let keys: Vec<Key<'_>> = texts.iter().map(|text| Key::Text(text)).collect();
            let mut digests = vec![md5::Digest::default(); keys.len()];
            md5::digests(&keys, &mut digests);
            let twins: Vec<md5::Digest> = texts.iter().map(|text| expected(text)).collect();
            prop_assert_eq!(digests, twins);
        }

        #[test]
        fn of_an_integer_are_those_of_its_decimal_text(integers in prop::collection::vec(any::<i64>(), 0..40)) {
            let keys: Vec<Key<'_>> = integers.iter().map(|&integer| Key::Integer(integer)).collect();
            let mut digests = vec![md5::Digest::default(); keys.len()];
            md5::digests(&keys, &mut digests);
            let twins: Vec<md5::Digest> = integers.iter().map(|integer| expected(integer.to_string().as_bytes())).collect();
            prop_assert_eq!(digests, twins);
        }
    }
}

mod consistent {
    use super::*;

    fn number(text: &str) -> u128 {
        u128::from_be_bytes(Md5::digest(text.as_bytes()).into())
    }

    /// All points in a list, and a look at every one.
    fn naive(nodes: &[Node], replicas: u32, key: &str) -> u32 {
        let mut points = Vec::new();
        for (owner, node) in nodes.iter().enumerate() {
            let count = (f64::from(replicas) * node.weight).round_ties_even().max(1.0) as u32;
            points
                .extend((0..count).map(|i| (number(&format!("{}{i}", node.name)), &node.name, owner as u32)));
        }
        points.sort();
        let hash = number(key);
        points.iter().find(|point| point.0 >= hash).unwrap_or(&points[0]).2
    }

    proptest! {
        #[test]
        fn places_keys_where_a_brute_force_search_does(
            names in prop::collection::btree_set("[0-9.]{1,4}", 1..8),
            weights in prop::collection::vec(0.1f64..3.0, 8),
            replicas in 1u32..20,
            keys in prop::collection::vec(".{0,12}", 1..40),
        ) {
            let nodes: Vec<Node> = names.iter().zip(weights).map(|(name, weight)| Node::weighted(name, weight)).collect();
            let ring = ConsistentHash::new(nodes.clone(), replicas, HashFunction::Md5).unwrap();
            let batch: Vec<Key<'_>> = keys.iter().map(|key| text(key)).collect();
            let mut owners = vec![0; keys.len()];
            ring.owners(&batch, &mut owners);
            for (key, owner) in keys.iter().zip(owners) {
                prop_assert_eq!(owner, naive(&nodes, replicas, key));
                prop_assert_eq!(ring.owner(text(key)), Some(owner));
                prop_assert_eq!(ring.several(text(key), 1), [owner]);
            }
        }

        #[test]
        fn a_changed_ring_is_the_ring_built_so(changes in prop::collection::vec((any::<bool>(), 0usize..9), 1..30)) {
            let mut ring = circle(Vec::new(), 7);
            for (add, i) in changes {
                // Names that share points: "1" + "10" and "11" + "0".
                let name = "1".repeat(i + 1);
                let changed = if add { ring.insert(Node::new(&name)).is_ok() } else { ring.remove(&name).is_ok() };
                let built = circle(ring.nodes().to_vec(), 7);
                let keys = some_keys(200);
                prop_assert_eq!(ring.nodes().iter().any(|node| *node.name == *name), add, "{}", changed);
                prop_assert_eq!(ring.shares(), built.shares());
                if !ring.nodes().is_empty() {
                    prop_assert_eq!(owners(&ring, &keys), owners(&built, &keys));
                }
            }
        }

        #[test]
        fn what_moved_is_what_a_sample_says(before in 1usize..12, after in 1usize..12) {
            let (before, after) = (circle(numbered(before), 40), circle(numbered(after), 40));
            let exact = before.moved(&after).unwrap();
            prop_assert!((exact - moved(&before, &after)).abs() < 0.01);
            prop_assert!((exact - after.moved(&before).unwrap()).abs() < 1e-12);
        }
    }

    #[test]
    fn a_point_of_two_nodes_belongs_to_the_smaller_name_until_it_leaves() {
        // "10.0.0.1" + "11" and "10.0.0.11" + "1" are one text, hence one point.
        let shared = "10.0.0.111";
        for order in [["10.0.0.1", "10.0.0.11"], ["10.0.0.11", "10.0.0.1"]] {
            let mut ring = circle(nodes(&order), 12);
            let owner = |ring: &ConsistentHash| {
                ring.nodes()[ring.owner(text(shared)).unwrap() as usize].name.to_string()
            };
            assert_eq!(owner(&ring), "10.0.0.1");
            ring.remove("10.0.0.1").unwrap();
            assert_eq!(owner(&ring), "10.0.0.11");
            ring.insert(Node::new("10.0.0.1")).unwrap();
            assert_eq!(owner(&ring), "10.0.0.1");
            ring.remove("10.0.0.11").unwrap();
            assert_eq!(owner(&ring), "10.0.0.1");
        }
    }

    #[test]
    fn a_point_owns_a_key_of_its_own_text() {
        let ring = circle(numbered(10), 5);
        for (i, node) in ring.nodes().iter().enumerate() {
            for replica in 0..5 {
                assert_eq!(ring.owner(text(&format!("{}{replica}", node.name))), Some(i as u32));
            }
        }
    }

    #[test]
    fn a_single_point_owns_the_whole_circle() {
        let ring = circle(nodes(&["only"]), 1);
        assert_eq!(ring.shares(), [1.0]);
        assert!(some_keys(100).iter().all(|key| ring.owner(text(key)) == Some(0)));
    }

    #[test]
    fn refuses_more_points_than_memory_has() {
        let nodes = vec![Node::weighted("huge", 1e300)];
        let refusal = ConsistentHash::new(nodes, 128, HashFunction::Md5).unwrap_err();
        assert_eq!(refusal, RingError::TooManyPoints { points: 1.28e302 });
    }

    #[test]
    fn rings_of_different_hashes_are_not_compared_arc_by_arc() {
        let xxh3 = ConsistentHash::new(numbered(3), 8, HashFunction::Xxh3).unwrap();
        assert_eq!(circle(numbered(3), 8).moved(&xxh3), None);
    }
}

mod ketama {
    use super::*;

    #[test]
    fn places_keys_as_libmemcached_does() {
        let vectors = data("ketama_libmemcached.json");
        let mut seen = 0;
        for (name, vector) in vectors.as_object().unwrap() {
            let Some(servers) = vector["servers"].as_array() else { continue };
            let variant = match name.rsplit_once('/').unwrap().1 {
                "ketama" => Variant::Ketama,
                "ketama_weighted" => Variant::KetamaWeighted,
                _ => Variant::Spy,
            };
            let server = |server: &Value| {
                let parts: Vec<&str> = server.as_str().unwrap().split(':').collect();
                let weight = parts.get(2).map_or(1.0, |weight| weight.parse().unwrap());
                Node::weighted(&parts[..2].join(":"), weight)
            };
            let ring = Ketama::new(servers.iter().map(server).collect(), variant).unwrap();
            let keys: Vec<String> = (0..2000).map(|i| format!("key{i}")).collect();
            let batch: Vec<Key<'_>> = keys.iter().map(|key| text(key)).collect();
            let mut owners = vec![0; keys.len()];
            ring.owners(&batch, &mut owners);
            let first: Vec<u64> = owners[..64].iter().map(|&owner| u64::from(owner)).collect();
            let expected: Vec<u64> =
                vector["owners_first64"].as_array().unwrap().iter().filter_map(Value::as_u64).collect();
            assert_eq!(first, expected, "{name}");
            assert!(batch.iter().zip(&owners).all(|(&key, &owner)| ring.owner(key) == Some(owner)), "{name}");
            seen += 1;
        }
        assert_eq!(seen, 18);
    }

    #[test]
    fn one_server_by_two_names_is_refused() {
        let refusal = Ketama::new(nodes(&["cache", "cache:11211"]), Variant::Ketama).unwrap_err();
        assert_eq!(refusal, RingError::DuplicateName { name: "cache:11211".into() });
    }

    #[test]
    fn an_address_with_colons_of_its_own_keeps_them() {
        let ring = Ketama::new(nodes(&["[::1]:11211", "[::2]:11212", "::3"]), Variant::Ketama).unwrap();
        // Points are named after the server: the host alone at memcached's own port.
        for (i, point) in ["[::1]-0", "[::2]:11212-0", "::3-0"].iter().enumerate() {
            assert_eq!(ring.owner(text(point)), Some(i as u32), "{point}");
        }
    }
}

mod jump_hash {
    use super::*;

    #[test]
    fn is_the_published_one() {
        let vectors = data("jump.json");
        let mut seen = 0;
        for list in ["published", "recorded"] {
            for row in vectors[list].as_array().unwrap() {
                let [key, buckets, bucket] = [0, 1, 2].map(|i| row[i].as_u64().unwrap());
                assert_eq!(u64::from(jump(key, buckets as u32)), bucket, "{row}");
                seen += 1;
            }
        }
        assert_eq!(seen, 209);
    }

    #[test]
    fn takes_an_integer_as_its_bits_and_a_text_by_its_hash() {
        let ring = Jump::new(numbered(1024)).unwrap();
        assert_eq!(ring.owner(Key::Integer(256)), Some(520));
        assert_eq!(ring.owner(Key::Integer(-1)), Some(jump(u64::MAX, 1024)));
        assert_eq!(ring.owner(text("256")), Some(jump(xxh3_64(b"256"), 1024)));
    }

    #[test]
    fn lets_only_the_last_node_go() {
        let mut ring = Jump::new(nodes(&["a", "b"])).unwrap();
        assert_eq!(ring.remove("a"), Err(RingError::NotLast { name: "a".into(), last: "b".into() }));
        assert_eq!(ring.remove("c"), Err(RingError::UnknownName { name: "c".into() }));
        assert_eq!(ring.remove("b"), Ok(1));
        assert_eq!(ring.remove("a"), Ok(0));
        assert_eq!(ring.owner(text("key")), None);
    }
}

mod rendezvous {
    use super::*;

    /// `-w / ln(u)` of every node, and the largest.
    fn naive(nodes: &[Node], key: &str) -> u32 {
        let bid = |node: &Node| {
            let word = coterie::random::mix(xxh3_64(key.as_bytes()) ^ xxh3_64(node.name.as_bytes()));
            let unit = ((word >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
            -node.weight / libm::log(unit)
        };
        let winner = nodes.iter().enumerate().max_by(|(_, one), (_, other)| bid(one).total_cmp(&bid(other)));
        winner.unwrap().0 as u32
    }

    proptest! {
        #[test]
        fn the_highest_bid_wins(weights in prop::collection::vec(0.01f64..100.0, 1..20), even: bool, keys in prop::collection::vec(".{0,12}", 1..60)) {
            let weight = |i: usize| if even { 1.0 } else { weights[i] };
            let nodes: Vec<Node> = (0..weights.len()).map(|i| Node::weighted(&format!("n{i}"), weight(i))).collect();
            let ring = Rendezvous::new(nodes.clone()).unwrap();
            for key in &keys {
                let owner = naive(&nodes, key);
                prop_assert_eq!(ring.owner(text(key)), Some(owner));
                prop_assert_eq!(ring.several(text(key), nodes.len() + 1)[0], owner);
            }
        }
    }

    #[test]
    fn weights_decide_the_shares() {
        let ring = Rendezvous::new(vec![Node::weighted("one", 1.0), Node::weighted("three", 3.0)]).unwrap();
        let light = some_keys(100_000).iter().filter(|key| ring.owner(text(key)) == Some(0)).count();
        assert!((24_500..25_500).contains(&light), "{light}");
    }
}

mod maglev {
    use super::*;

    /// Figure 4 of the paper, with a list of all permutations.
    fn naive(nodes: &[Node], size: usize) -> Vec<String> {
        let mut sorted = nodes.to_vec();
        sorted.sort_by(|one, other| one.name.cmp(&other.name));
        let permutation = |node: &Node| {
            let offset = xxh3_64_with_seed(node.name.as_bytes(), 1) % size as u64;
            let skip = xxh3_64_with_seed(node.name.as_bytes(), 2) % (size as u64 - 1) + 1;
            (0..size as u64).map(|j| ((offset + j * skip) % size as u64) as usize).collect::<Vec<_>>()
        };
        let permutations: Vec<Vec<usize>> = sorted.iter().map(permutation).collect();
        let mut table: Vec<Option<String>> = vec![None; size];
        for turn in (0..sorted.len()).cycle() {
            let Some(&free) = permutations[turn].iter().find(|&&slot| table[slot].is_none()) else { break };
            table[free] = Some(sorted[turn].name.to_string());
        }
        table.into_iter().map(Option::unwrap).collect()
    }

    proptest! {
        #[test]
        fn fills_the_table_as_the_paper_does(names in prop::collection::hash_set("[a-z]{1,3}", 1..12), keys in prop::collection::vec(".{0,12}", 1..40)) {
            let nodes: Vec<Node> = names.iter().map(|name| Node::new(name)).collect();
            let ring = Maglev::new(nodes.clone(), 251).unwrap();
            let table = naive(&nodes, 251);
            for key in &keys {
                let slot = (u128::from(xxh3_64(key.as_bytes())) * 251) >> 64;
                let owner = ring.owner(text(key)).unwrap();
                prop_assert_eq!(&*ring.nodes()[owner as usize].name, table[slot as usize].as_str());
            }
        }
    }

    #[test]
    fn slots_follow_weights() {
        let weights = [1.0, 2.0, 5.0];
        let nodes =
            weights.iter().zip(["a", "b", "c"]).map(|(&weight, name)| Node::weighted(name, weight)).collect();
        for (share, weight) in Maglev::new(nodes, 5003).unwrap().shares().iter().zip(weights) {
            assert!((share - weight / 8.0).abs() < 0.001, "{share} for {weight}");
        }
    }

    #[test]
    fn a_table_is_prime_and_larger_than_the_ring() {
        assert_eq!(Maglev::new(numbered(2), 100).unwrap_err(), RingError::TableSize { size: 100 });
        assert_eq!(Maglev::new(numbered(2), 1).unwrap_err(), RingError::TableSize { size: 1 });
        let mut ring = Maglev::new(numbered(2), 3).unwrap();
        assert_eq!(ring.insert(Node::new("c")), Err(RingError::TableTooSmall { nodes: 3, size: 3 }));
        assert_eq!(ring.nodes().len(), 2);
    }
}

mod anchor {
    use super::*;

    /// The paper's section 4 before it is made fast: a removed bucket remembers the set of those it left behind.
    struct Naive {
        capacity: u32,
        removed: Vec<(u32, Vec<u32>)>,
    }

    impl Naive {
        fn bucket(&self, hash: u64) -> u32 {
            let scale = |word: u64, bound: usize| ((u128::from(word) * bound as u128) >> 64) as usize;
            let mut bucket = scale(hash, self.capacity as usize) as u32;
            while let Some((_, left)) = self.removed.iter().find(|(removed, _)| *removed == bucket) {
                let salt = (u64::from(bucket) + 1).wrapping_mul(coterie::random::GOLDEN);
                bucket = left[scale(coterie::random::mix(hash.wrapping_add(salt)), left.len())];
            }
            bucket
        }

        fn working(&self) -> Vec<u32> {
            self.removed.last().map_or_else(|| (0..self.capacity).collect(), |(_, left)| left.clone())
        }

        fn remove(&mut self, bucket: u32) {
            let mut left = self.working();
            // The last one takes the place of the one that leaves, as in W.
            let place = left.iter().position(|&other| other == bucket).unwrap();
            left.swap_remove(place);
            self.removed.push((bucket, left));
        }
    }

    proptest! {
        #[test]
        fn finds_the_bucket_that_the_sets_of_the_paper_say(start in 1usize..12, changes in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..25)) {
            let mut ring = Anchor::new(numbered(start), 12).unwrap();
            let mut naive = Naive { capacity: 12, removed: Vec::new() };
            for bucket in (start as u32..12).rev() {
                naive.remove(bucket);
            }
            for (i, (add, which)) in changes.into_iter().enumerate() {
                if add {
                    let full = ring.nodes().len() == 12;
                    prop_assert_eq!(ring.insert(Node::new(&format!("new-{i}"))).is_err(), full);
                    naive.removed.pop();
                } else if ring.nodes().len() > 1 {
                    let at = which.index(ring.nodes().len());
                    naive.remove(ring.buckets()[at]);
                    let name = ring.nodes()[at].name.clone();
                    ring.remove(&name).unwrap();
                }
                for key in some_keys(50) {
                    let owner = ring.owner(text(&key)).unwrap();
                    prop_assert_eq!(ring.buckets()[owner as usize], naive.bucket(xxh3_64(key.as_bytes())));
                }
            }
            let restored = Anchor::restore(ring.nodes().to_vec(), 12, ring.removed(), ring.buckets().to_vec()).unwrap();
            prop_assert_eq!(owners(&restored, &some_keys(200)), owners(&ring, &some_keys(200)));
        }
    }

    #[test]
    fn an_emptied_ring_fills_up_again() {
        let mut ring = Anchor::new(numbered(3), 4).unwrap();
        let before = owners(&ring, &some_keys(100));
        for i in [1, 0, 2] {
            ring.remove(&format!("node-{i}")).unwrap();
        }
        assert_eq!(ring.owner(text("key")), None);
        for i in [2, 0, 1] {
            ring.insert(Node::new(&format!("node-{i}"))).unwrap();
        }
        assert_eq!(owners(&ring, &some_keys(100)), before);
    }

    #[test]
    fn a_state_that_no_history_leads_to_is_refused() {
        for (removed, buckets) in
            [(vec![1], vec![1]), (vec![2], vec![0]), (vec![1, 1], vec![0]), (vec![], vec![0])]
        {
            let refusal = Anchor::restore(numbered(1), 2, &removed, buckets).unwrap_err();
            assert!(matches!(refusal, RingError::State { .. }), "{refusal}");
        }
        assert_eq!(Anchor::new(numbered(1), 0).unwrap_err(), RingError::Capacity { capacity: 0 });
        assert_eq!(Anchor::new(numbered(3), 2).unwrap_err(), RingError::Full { capacity: 2 });
    }
}

mod bounded {
    use super::*;

    proptest! {
        #[test]
        fn no_node_exceeds_its_bound(weights in prop::collection::vec(0.2f64..5.0, 1..10), epsilon in 0.01f64..1.0, keys in prop::collection::vec(0i64..6, 1..200)) {
            let nodes: Vec<Node> = weights.iter().enumerate().map(|(i, &weight)| Node::weighted(&format!("n{i}"), weight)).collect();
            let total: f64 = weights.iter().sum();
            let mut ring = BoundedLoad::new(circle(nodes, 20), epsilon).unwrap();
            for (placed, &key) in keys.iter().enumerate() {
                let expected = ring.owner(Key::Integer(key));
                prop_assert_eq!(ring.several(Key::Integer(key), 1)[0], expected.unwrap());
                prop_assert_eq!(ring.acquire(Key::Integer(key)), expected);
                for (&load, weight) in ring.loads().iter().zip(&weights) {
                    prop_assert!(load as f64 <= ((1.0 + epsilon) * (placed + 1) as f64 * weight / total).ceil() + 1e-6);
                }
            }
            prop_assert_eq!(ring.loads().iter().sum::<u64>(), keys.len() as u64);
        }
    }

    #[test]
    fn without_load_it_is_the_ring_below() {
        let ring = circle(numbered(10), 128);
        let bounded = BoundedLoad::new(ring.clone(), 0.25).unwrap();
        assert_eq!(owners(&bounded, &some_keys(1000)), owners(&ring, &some_keys(1000)));
    }

    #[test]
    fn a_full_node_passes_the_key_to_the_next_one_and_takes_it_back_when_it_has_room() {
        let mut ring = BoundedLoad::new(circle(numbered(3), 128), 0.5).unwrap();
        let order = ring.several(text("hot"), 3);
        assert_eq!(ring.acquire(text("hot")), Some(order[0]));
        // ⌈1.5 · 2 / 3⌉ = 1: home is full.
        assert_eq!(ring.owner(text("hot")), Some(order[1]));
        let home = ring.nodes()[order[0] as usize].name.clone();
        ring.release(&home).unwrap();
        assert_eq!(ring.owner(text("hot")), Some(order[0]));
        assert_eq!(ring.release(&home), Err(RingError::NotHeld { name: home.clone() }));
    }

    #[test]
    fn a_node_that_leaves_takes_its_load_along() {
        let mut ring = BoundedLoad::new(circle(numbered(2), 128), 0.25).unwrap();
        for i in 0..10 {
            ring.acquire(Key::Integer(i));
        }
        ring.remove("node-0").unwrap();
        ring.insert(Node::new("node-2")).unwrap();
        assert_eq!(ring.loads().len(), 2);
        assert_eq!(ring.loads()[1], 0);
        assert_eq!(
            ring.capacities().iter().sum::<u64>(),
            2 * (1.25 * (ring.loads()[0] + 1) as f64 / 2.0).ceil() as u64
        );
    }

    #[test]
    fn slack_is_needed() {
        for epsilon in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(
                BoundedLoad::new(circle(numbered(2), 8), epsilon),
                Err(RingError::Epsilon { .. })
            ));
        }
    }
}

#[test]
fn without_nodes_there_is_no_owner() {
    for (kind, mut ring) in rings(0) {
        assert_eq!(ring.owner(text("key")), None, "{kind}");
        assert!(ring.several(text("key"), 2).is_empty(), "{kind}");
        assert!(ring.shares().is_empty(), "{kind}");
        let mut out = [7];
        ring.owners(&[text("key")], &mut out);
        assert_eq!(out, [7], "{kind}");
        ring.insert(Node::new("first")).unwrap();
        assert_eq!(ring.owner(text("key")), Some(0), "{kind}");
    }
}

#[test]
fn only_keys_of_the_node_that_leaves_move() {
    for (kind, mut ring) in rings(20) {
        let keys = some_keys(4000);
        let before = owners(&*ring, &keys);
        ring.remove("node-19").unwrap();
        let after = owners(&*ring, &keys);
        let needless = before.iter().zip(&after).filter(|(old, new)| *old != "node-19" && old != new).count();
        let allowed = if kind == "Maglev" { keys.len() / 20 } else { 0 };
        assert!(needless <= allowed, "{kind}: {needless}");
        assert!(!after.contains(&"node-19".to_owned()), "{kind}");
        ring.insert(Node::new("node-19")).unwrap();
        assert_eq!(owners(&*ring, &keys), before, "{kind}");
    }
}

#[test]
fn several_are_distinct_and_begin_with_the_owner() {
    for (kind, ring) in rings(9) {
        for key in some_keys(100) {
            for count in [1, 3, 8, 9, 20] {
                let found = ring.several(text(&key), count);
                let distinct: std::collections::BTreeSet<u32> = found.iter().copied().collect();
                assert_eq!(found.len(), count.min(9), "{kind}");
                assert_eq!(distinct.len(), found.len(), "{kind}");
                assert_eq!(Some(found[0]), ring.owner(text(&key)), "{kind}");
            }
        }
    }
}

#[test]
fn shares_are_what_keys_meet() {
    for (kind, ring) in rings(10) {
        let keys = some_keys(100_000);
        let mut met: BTreeMap<u32, f64> = BTreeMap::new();
        for key in &keys {
            *met.entry(ring.owner(text(key)).unwrap()).or_default() += 1.0 / keys.len() as f64;
        }
        assert!((ring.shares().iter().sum::<f64>() - 1.0).abs() < 1e-9, "{kind}");
        for (position, share) in ring.shares().into_iter().enumerate() {
            assert!((share - met[&(position as u32)]).abs() < 0.006, "{kind}: {share} {met:?}");
        }
    }
}

#[test]
fn a_refused_change_changes_nothing() {
    for (kind, mut ring) in rings(5) {
        let before = owners(&*ring, &some_keys(200));
        assert_eq!(
            ring.insert(Node::new("node-3")),
            Err(RingError::DuplicateName { name: "node-3".into() }),
            "{kind}"
        );
        assert!(ring.insert(Node::weighted("new", f64::NAN)).is_err(), "{kind}");
        assert!(ring.insert(Node::weighted("new", 0.0)).is_err(), "{kind}");
        assert_eq!(ring.remove("new"), Err(RingError::UnknownName { name: "new".into() }), "{kind}");
        assert_eq!(owners(&*ring, &some_keys(200)), before, "{kind}");
    }
}

#[test]
fn rings_that_take_no_weights_say_so() {
    let heavy = || vec![Node::weighted("heavy", 2.0)];
    assert!(matches!(Jump::new(heavy()), Err(RingError::Unweighted { ring: "Jump", .. })));
    assert!(matches!(Anchor::new(heavy(), 16), Err(RingError::Unweighted { ring: "Anchor", .. })));
}
