//! What a user of `coterie::balance` may rely on.

use std::collections::BTreeMap;
use std::time::Duration;

use coterie::balance::{
    Balancer, Event, HealthSettings, Healthy, LeastConnections, NoBackend, Outcome, PeakEwma, Policy,
    RandomChoice, Refusal, Request, RoundRobin, Slot, TwoChoices, View, WeightedRandom, WeightedRoundRobin,
};
use coterie::random::Random;
use coterie::time::Instant;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
const FAST: Outcome = Outcome::Answered(Duration::from_millis(1));
const BAD: Outcome = Outcome::Failed(Duration::from_micros(10));

fn at(seconds: f64) -> Instant {
    Instant::from_seconds(seconds)
}

fn request(seconds: f64) -> Request<'static> {
    Request { now: at(seconds), key: None, exclude: &[] }
}

fn balancer(policy: impl Policy + 'static, weights: &[f64]) -> Balancer {
    let mut balancer = Balancer::new(Box::new(policy));
    for &weight in weights {
        balancer.add(Instant::ZERO, weight, true);
    }
    balancer
}

fn every_policy() -> Vec<(&'static str, Box<dyn Policy>)> {
    vec![
        ("round robin", Box::new(RoundRobin::default())),
        ("weighted round robin", Box::new(WeightedRoundRobin::default())),
        ("random", Box::new(RandomChoice::new(1))),
        ("weighted random", Box::new(WeightedRandom::new(1))),
        ("least connections", Box::new(LeastConnections::default())),
        ("two choices", Box::new(TwoChoices::new(1))),
        ("peak ewma", Box::new(PeakEwma::new(1, SECOND * 10, SECOND))),
    ]
}

fn settings() -> HealthSettings {
    HealthSettings {
        consecutive_failures: 3,
        success_rate_min: 0.0,
        window: SECOND * 10,
        window_requests_min: 10,
        ejection_time: SECOND * 10,
        ejection_time_max: SECOND * 25,
        ejected_max: 0.5,
        panic_threshold: 0.3,
        slow_start: Duration::ZERO,
    }
}

/// A balancer over round robin with a `Healthy` layer, and the view through it.
fn watched(backends: usize, settings: HealthSettings) -> (Balancer, View) {
    let mut balancer = balancer(RoundRobin::default(), &vec![1.0; backends]);
    let view = balancer.watch(&View::default(), Healthy::new(settings, 1));
    (balancer, view)
}

/// Sends `requests` at `seconds`; those to a slot of `failing` fail.
fn serve(
    balancer: &mut Balancer,
    view: &View,
    seconds: f64,
    requests: usize,
    failing: &[Slot],
) -> BTreeMap<Slot, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..requests {
        let slot = balancer.pick(request(seconds), view).unwrap();
        *shares.entry(slot).or_default() += 1;
        balancer.done(at(seconds), slot, if failing.contains(&slot) { BAD } else { FAST }, view);
    }
    shares
}

#[test]
fn the_weighted_sequence_is_nginx_s() {
    let text = include_str!("../data/lb_oracles.json");
    let oracles: serde_json::Value = serde_json::from_str(text).unwrap();
    let sequences = oracles["nginx_wrr"].as_object().unwrap();
    assert_eq!(sequences.len(), 6);
    for (weights, sequence) in sequences {
        let weights: Vec<f64> = weights.split(',').map(|weight| weight.parse().unwrap()).collect();
        let mut balancer = balancer(WeightedRoundRobin::default(), &weights);
        let sequence = sequence.as_str().unwrap();
        let ours: String = (0..sequence.len())
            .map(|_| char::from(b'a' + balancer.pick(request(0.0), &View::default()).unwrap() as u8))
            .collect();
        assert_eq!(ours, sequence, "weights {weights:?}");
    }
}

#[test]
fn an_empty_balancer_refuses_and_names_nobody() {
    for (name, policy) in every_policy() {
        let mut balancer = Balancer::new(policy);
        let refusal = balancer.pick(request(0.0), &View::default());
        assert_eq!(refusal, Err(NoBackend::Refused(Vec::new())), "{name}");
    }
}

#[test]
fn a_removed_backend_drains_and_then_goes() {
    for (name, policy) in every_policy() {
        let mut balancer = Balancer::new(policy);
        let view = View::default();
        let slot = balancer.add(Instant::ZERO, 1.0, true);
        assert_eq!(balancer.pick(request(0.0), &view), Ok(slot), "{name}");
        balancer.drain(slot);
        assert!(!balancer.settle(slot), "{name}: a request is open");
        let refusal = balancer.pick(request(0.0), &view);
        assert_eq!(refusal, Err(NoBackend::Refused(vec![(slot, Refusal::Draining)])), "{name}");
        balancer.done(at(1.0), slot, FAST, &view);
        assert_eq!(balancer.take_gone(), [slot], "{name}");
        assert!(balancer.slots(at(1.0), &view).is_empty(), "{name}");
    }
}

#[test]
fn a_draining_backend_may_come_back() {
    let mut balancer = balancer(LeastConnections::default(), &[1.0]);
    let slot = balancer.pick(request(0.0), &View::default()).unwrap();
    balancer.drain(slot);
    assert!(balancer.resume(at(1.0), slot, 2.0));
    assert!(!balancer.resume(at(1.0), slot, 2.0), "it drains no longer");
    assert_eq!(balancer.pick(request(1.0), &View::default()), Ok(slot));
}

#[test]
fn a_backend_that_fails_at_once_gets_no_more_than_its_share() {
    // Four backends; requests to 0 fail at once, the others take 40 ms each. One request every 5 ms.
    for (name, policy) in every_policy() {
        if matches!(name, "round robin" | "weighted round robin" | "random" | "weighted random") {
            continue; // they do not look at speed
        }
        let mut balancer = Balancer::new(policy);
        for _ in 0..4 {
            balancer.add(Instant::ZERO, 1.0, true);
        }
        let view = View::default();
        let mut open: Vec<(u64, Slot)> = Vec::new();
        let mut failed = 0;
        for turn in 0..2_000_u64 {
            let now = Instant::from_nanos(turn * 5_000_000);
            for (_, slot) in open.extract_if(.., |(until, _)| *until <= turn) {
                balancer.done(now, slot, Outcome::Answered(Duration::from_millis(40)), &view);
            }
            let slot = balancer.pick(Request { now, key: None, exclude: &[] }, &view).unwrap();
            if slot == 0 {
                failed += 1;
                balancer.done(now, slot, Outcome::Failed(Duration::ZERO), &view);
            } else {
                open.push((turn + 8, slot));
            }
        }
        assert!(failed <= 500, "{name}: {failed} of 2,000 requests went to the backend that fails");
        assert!(failed > 0, "{name}: and it is tried again now and then");
    }
}

#[test]
fn least_connections_goes_round_among_equals() {
    let mut balancer = balancer(LeastConnections::default(), &[1.0; 5]);
    let view = View::default();
    let mut shares = [0; 5];
    for _ in 0..100 {
        let slot = balancer.pick(request(0.0), &view).unwrap();
        shares[slot as usize] += 1;
        balancer.done(at(0.0), slot, FAST, &view);
    }
    assert_eq!(shares, [20; 5]);
}

#[test]
fn peak_ewma_avoids_the_slow_and_forgives_with_time() {
    let mut balancer = balancer(PeakEwma::new(3, SECOND * 10, SECOND), &[1.0, 1.0]);
    let view = View::default();
    let latency = |slot: Slot, slow: bool| if slot == 0 && slow { SECOND } else { SECOND / 100 };
    let share = |balancer: &mut Balancer, start: f64, slow: bool| {
        let mut first = 0;
        for turn in 0..200 {
            let now = start + f64::from(turn) * 0.1;
            let slot = balancer.pick(request(now), &view).unwrap();
            first += usize::from(slot == 0);
            balancer.done(at(now), slot, Outcome::Answered(latency(slot, slow)), &view);
        }
        first
    };
    assert!(share(&mut balancer, 0.0, true) < 10);
    assert!(share(&mut balancer, 120.0, false) > 60, "two minutes later it has recovered");
}

#[test]
fn ejects_after_failures_in_a_row_and_readmits() {
    let (mut balancer, view) = watched(4, settings());
    serve(&mut balancer, &view, 0.0, 12, &[2]);
    let shares = serve(&mut balancer, &view, 1.0, 30, &[]);
    assert_eq!(shares, BTreeMap::from([(0, 10), (1, 10), (3, 10)]));
    assert!(matches!(&balancer.take_events()[..], [Event::Ejected { slot: 2, .. }]));
    let state = &balancer.slots(at(1.0), &view)[2];
    assert_eq!(state.refusal.as_ref().unwrap().to_string(), "ejected for another 9.0 s: 3 failures in a row");
    assert_eq!(serve(&mut balancer, &view, 10.0, 40, &[])[&2], 10);
    assert_eq!(balancer.take_events(), [Event::Returned { slot: 2 }]);
}

#[test]
fn the_bare_view_ignores_health_and_shares_the_counts() {
    let (mut balancer, view) = watched(2, settings());
    serve(&mut balancer, &view, 0.0, 6, &[1]);
    assert_eq!(serve(&mut balancer, &View::default(), 1.0, 10, &[])[&1], 5);
    assert_eq!(balancer.slots(at(1.0), &view).iter().map(|state| state.picks).sum::<u64>(), 16);
}

#[test]
fn a_repeated_ejection_lasts_longer_up_to_its_bound() {
    let (mut balancer, view) = watched(2, settings());
    let mut lengths = Vec::new();
    let mut now = 0.0;
    for _ in 0..4 {
        serve(&mut balancer, &view, now, 6, &[1]);
        for event in balancer.take_events() {
            if let Event::Ejected { length, .. } = event {
                lengths.push(length.as_secs());
                now += length.as_secs_f64();
            }
        }
    }
    assert_eq!(lengths, [10, 20, 25, 25]);
}

#[test]
fn the_limit_never_disables_ejection_and_says_when_it_acts() {
    let (mut balancer, view) = watched(4, HealthSettings { ejected_max: 0.1, ..settings() });
    serve(&mut balancer, &view, 0.0, 40, &[0, 1]);
    let events = balancer.take_events();
    assert!(matches!(events[0], Event::Ejected { slot: 0, .. }), "one may always go: {events:?}");
    assert!(matches!(events[1], Event::NotEjected { slot: 1, ejected: 1, limit: 1, .. }));
    assert!(balancer.healthy(&view).next().unwrap().not_ejected() > 0);
}

#[test]
fn panic_ignores_health_and_says_so() {
    let (mut balancer, view) =
        watched(3, HealthSettings { ejected_max: 1.0, panic_threshold: 0.5, ..settings() });
    serve(&mut balancer, &view, 0.0, 12, &[0, 1]);
    let shares = serve(&mut balancer, &view, 1.0, 30, &[]);
    assert_eq!(shares, BTreeMap::from([(0, 10), (1, 10), (2, 10)]));
    assert!(balancer.healthy(&view).next().unwrap().panicking());
    let events = balancer.take_events();
    assert!(events.contains(&Event::Panicking { healthy: 1, backends: 3 }), "{events:?}");
    serve(&mut balancer, &view, 11.0, 1, &[]);
    let events = balancer.take_events();
    assert!(events.contains(&Event::Calmed { healthy: 3, backends: 3 }), "{events:?}");
}

#[test]
fn without_panic_an_all_ejected_pool_refuses_with_reasons() {
    let (mut balancer, view) = watched(1, HealthSettings { panic_threshold: 0.0, ..settings() });
    serve(&mut balancer, &view, 0.0, 3, &[0]);
    let Err(NoBackend::Refused(reasons)) = balancer.pick(request(1.0), &view) else {
        panic!("it was picked")
    };
    assert_eq!(reasons.len(), 1);
    assert_eq!(reasons[0].1.to_string(), "ejected for another 9.0 s: 3 failures in a row");
}

#[test]
fn a_sliding_success_rate_ejects_who_fails_often_but_never_in_a_row() {
    let rate = HealthSettings { success_rate_min: 0.7, consecutive_failures: 0, ..settings() };
    let (mut balancer, view) = watched(2, rate);
    for turn in 0..40 {
        let slot = balancer.pick(request(0.1), &view).unwrap();
        let outcome = if slot == 1 && turn % 4 == 1 { BAD } else { FAST };
        balancer.done(at(0.1), slot, outcome, &view);
    }
    let events = balancer.take_events();
    assert!(matches!(&events[..], [Event::Ejected { slot: 1, .. }]), "{events:?}");
}

#[test]
fn the_success_rate_forgets_what_is_older_than_its_window() {
    let rate = HealthSettings { success_rate_min: 0.9, consecutive_failures: 0, ..settings() };
    let (mut balancer, view) = watched(2, rate);
    serve(&mut balancer, &view, 0.0, 16, &[1]); // eight failures of eight: too few to judge
    serve(&mut balancer, &view, 20.0, 40, &[]);
    assert_eq!(serve(&mut balancer, &view, 20.0, 2, &[1])[&1], 1);
    assert_eq!(balancer.take_events(), [], "one failure of twenty-one in the window is no reason");
}

#[test]
fn a_returning_backend_starts_slowly() {
    let (mut balancer, view) = watched(2, HealthSettings { slow_start: SECOND * 100, ..settings() });
    serve(&mut balancer, &view, 0.0, 6, &[1]);
    let early = serve(&mut balancer, &view, 10.0, 2_000, &[])[&1];
    let half = serve(&mut balancer, &view, 60.0, 2_000, &[])[&1];
    let full = serve(&mut balancer, &view, 110.0, 2_000, &[])[&1];
    // Admitted to a share p of the requests, round robin over two gives it p/2.
    assert!((60..150).contains(&early), "a tenth of a half: {early}");
    assert!((420..580).contains(&half), "half of a half: {half}");
    assert_eq!(full, 1_000);
}

#[test]
fn whoever_nobody_vouches_for_is_not_trusted() {
    let mut balancer = balancer(RoundRobin::default(), &[1.0; 3]);
    let view = balancer.trust(&View::default());
    let trusted = balancer.trusted_mut(&view).unwrap();
    trusted.judge(0, None);
    trusted.judge(1, Some("label 'tls' is False".to_owned()));
    assert_eq!(serve(&mut balancer, &view, 0.0, 9, &[]), BTreeMap::from([(0, 9)]));
    let reasons: Vec<String> = balancer
        .slots(at(0.0), &view)
        .iter()
        .filter_map(|state| Some(state.refusal.as_ref()?.to_string()))
        .collect();
    assert_eq!(reasons, ["label 'tls' is False", "it has no labels"]);
}

#[test]
fn a_panic_never_widens_trust_however_the_layers_are_stacked() {
    for health_first in [true, false] {
        let mut balancer = balancer(RoundRobin::default(), &[1.0; 3]);
        let harsh = HealthSettings { ejected_max: 1.0, panic_threshold: 1.0, ..settings() };
        let healthy = Healthy::new(harsh, 1);
        let view = if health_first {
            let inner = balancer.watch(&View::default(), healthy);
            balancer.trust(&inner)
        } else {
            let inner = balancer.trust(&View::default());
            balancer.watch(&inner, healthy)
        };
        balancer.trusted_mut(&view).unwrap().judge(2, None);
        serve(&mut balancer, &view, 0.0, 10, &[2]);
        assert_eq!(serve(&mut balancer, &view, 1.0, 10, &[2]), BTreeMap::from([(2, 10)]));
        assert!(balancer.healthy(&view).next().unwrap().panicking());
    }
}

#[test]
fn a_forgotten_lease_ends_by_itself_and_once() {
    let mut balancer = balancer(LeastConnections::default(), &[1.0]);
    let view = View::default();
    let slot = balancer.pick(request(0.0), &view).unwrap();
    let lease = balancer.lease(at(0.0), slot, at(60.0));
    assert_eq!(balancer.expire(at(59.9), &view), 0);
    assert_eq!(balancer.slots(at(59.9), &view)[0].in_flight, 1);
    assert_eq!(balancer.expire(at(60.0), &view), 1);
    assert_eq!(balancer.slots(at(60.0), &view)[0].in_flight, 0);
    assert!(!balancer.close(at(61.0), lease, Outcome::Answered, &view), "it has ended before");
    assert_eq!(balancer.slots(at(61.0), &view)[0].in_flight, 0);
}

#[test]
fn peak_ewma_learns_from_requests_that_were_given_up() {
    // The second backend never answers; callers give up after 50 ms.
    let mut balancer = balancer(PeakEwma::new(3, SECOND * 10, SECOND), &[1.0, 1.0]);
    let view = View::default();
    let mut given_up = 0;
    for turn in 0..300 {
        let now = f64::from(turn) * 0.1;
        let slot = balancer.pick(request(now), &view).unwrap();
        let (length, outcome): (f64, fn(Duration) -> Outcome) =
            if slot == 1 { (0.05, Outcome::Abandoned) } else { (0.005, Outcome::Answered) };
        given_up += usize::from(slot == 1);
        balancer.done(at(now + length), slot, outcome(Duration::from_secs_f64(length)), &view);
    }
    assert!((1..30).contains(&given_up), "{given_up} of 300 went to the backend that never answers");
}

#[test]
fn a_second_attempt_goes_elsewhere() {
    for (name, policy) in every_policy() {
        let mut balancer = Balancer::new(policy);
        for _ in 0..3 {
            balancer.add(Instant::ZERO, 1.0, true);
        }
        let view = View::default();
        let mut tried: Vec<Slot> = Vec::new();
        for _ in 0..3 {
            let attempt = Request { now: at(0.0), key: None, exclude: &tried };
            let slot = balancer.pick(attempt, &view).unwrap();
            assert!(!tried.contains(&slot), "{name}: {slot} after {tried:?}");
            tried.push(slot);
        }
        let attempt = Request { now: at(0.0), key: None, exclude: &tried };
        let Err(NoBackend::Refused(reasons)) = balancer.pick(attempt, &view) else { panic!("{name}") };
        assert_eq!(reasons, [0, 1, 2].map(|slot| (slot, Refusal::Excluded)), "{name}");
    }
}

#[test]
fn a_backend_that_comes_back_is_judged_anew() {
    let mut balancer = balancer(RoundRobin::default(), &[1.0, 1.0]);
    let view = balancer.trust(&View::default());
    balancer.trusted_mut(&view).unwrap().judge(0, None);
    assert_eq!(balancer.pick(request(0.0), &view), Ok(0));
    balancer.drain(0);
    assert!(balancer.resume(at(1.0), 0, 1.0));
    assert!(balancer.pick(request(1.0), &view).is_err(), "nobody has vouched for it since");
}

#[test]
fn a_spared_backend_is_news_once() {
    let (mut balancer, view) =
        watched(2, HealthSettings { ejected_max: 0.1, panic_threshold: 0.0, ..settings() });
    for _ in 0..100 {
        balancer.done(at(0.0), 0, BAD, &view);
        balancer.done(at(0.0), 1, BAD, &view);
    }
    assert_eq!(balancer.healthy(&view).next().unwrap().not_ejected(), 1);
    assert_eq!(balancer.take_events().len(), 2);
    balancer.done(at(0.0), 1, FAST, &view);
    for _ in 0..3 {
        balancer.done(at(0.0), 1, BAD, &view);
    }
    assert_eq!(balancer.healthy(&view).next().unwrap().not_ejected(), 2, "it had recovered in between");
}

#[test]
fn a_lease_measures_its_own_time() {
    let mut balancer = balancer(PeakEwma::new(1, SECOND * 10, SECOND), &[1.0]);
    let view = View::default();
    let slot = balancer.pick(request(1.0), &view).unwrap();
    let lease = balancer.lease(at(1.0), slot, Instant::NEVER);
    assert!(balancer.close(at(1.25), lease, Outcome::Answered, &view));
    assert_eq!(balancer.slots(at(1.25), &view)[0].latency, Some(Duration::from_millis(250)));
}

#[test]
fn dropping_a_backend_at_once_ends_its_leases() {
    let mut balancer = balancer(LeastConnections::default(), &[1.0]);
    let view = View::default();
    let slot = balancer.pick(request(0.0), &view).unwrap();
    let lease = balancer.lease(at(0.0), slot, Instant::NEVER);
    balancer.drop_now(slot);
    let other = balancer.add(at(0.0), 1.0, true);
    assert_ne!(other, slot, "nobody has been told yet that the slot is free");
    balancer.drop_now(other);
    assert_eq!(balancer.take_gone(), [slot, other]);
    let reused = balancer.add(at(0.0), 1.0, true);
    assert_eq!(reused, slot);
    assert!(!balancer.close(at(1.0), lease, Outcome::Answered, &view));
    assert_eq!(balancer.slots(at(1.0), &view)[0].in_flight, 0, "the new owner of the slot is not charged");
}

#[test]
fn two_choices_draws_every_pair_alike() {
    // Loads 3, 2, 1, 0: slot 1 wins against slot 0 only, which is one pair of six.
    let mut balancer = balancer(TwoChoices::new(5), &[1.0; 4]);
    let view = View::default();
    let mut load = [0; 4];
    while load != [3, 2, 1, 0] {
        let slot = balancer.pick(request(0.0), &view).unwrap();
        load[slot as usize] += 1;
        if load[slot as usize] > 3 - slot {
            load[slot as usize] -= 1;
            balancer.done(at(0.0), slot, FAST, &view);
        }
    }
    let shares = serve(&mut balancer, &view, 0.0, 6_000, &[]);
    let of = |slot: Slot| shares.get(&slot).copied().unwrap_or_default();
    assert_eq!(of(0), 0, "it loses to everybody");
    for (slot, expected) in [(1, 1_000), (2, 2_000), (3, 3_000)] {
        assert!(of(slot).abs_diff(expected) < 200, "{shares:?}");
    }
}

#[test]
fn peak_ewma_averages_what_is_below_its_peak() {
    let mut balancer = balancer(PeakEwma::new(1, SECOND * 10, SECOND), &[1.0]);
    let view = View::default();
    for (now, latency) in [(0.0, 100), (1.0, 10)] {
        let slot = balancer.pick(request(now), &view).unwrap();
        balancer.done(at(now), slot, Outcome::Answered(Duration::from_millis(latency)), &view);
    }
    // 100 ms · e^-0.1 + 10 ms · (1 - e^-0.1)
    let latency = balancer.slots(at(1.0), &view)[0].latency.unwrap().as_secs_f64();
    assert!((latency - 0.091_435).abs() < 1e-5, "{latency}");
}

#[test]
fn peak_ewma_weighs_open_requests() {
    let mut balancer = balancer(PeakEwma::new(1, SECOND * 10, SECOND), &[1.0, 3.0]);
    let view = View::default();
    for slot in [0, 1] {
        balancer.done(at(0.0), slot, Outcome::Answered(SECOND / 100), &view);
    }
    let mut open = [0_usize; 2];
    for _ in 0..400 {
        open[balancer.pick(request(0.0), &view).unwrap() as usize] += 1;
    }
    assert!(open[0].abs_diff(100) < 5, "{open:?}");
}

#[test]
fn a_backend_that_nobody_has_measured_gets_one_request_first() {
    let mut balancer = balancer(PeakEwma::new(1, SECOND * 10, SECOND), &[1.0, 1.0]);
    let view = View::default();
    balancer.done(at(0.0), 0, Outcome::Answered(SECOND / 100), &view);
    let mut picked = [0; 2];
    for _ in 0..50 {
        picked[balancer.pick(request(0.0), &view).unwrap() as usize] += 1;
    }
    assert_eq!(picked, [49, 1]);
}

#[test]
fn slow_start_begins_when_the_ejection_ends_and_not_when_somebody_looks() {
    let (mut balancer, view) = watched(2, HealthSettings { slow_start: SECOND * 100, ..settings() });
    serve(&mut balancer, &view, 0.0, 6, &[1]);
    let half = serve(&mut balancer, &view, 60.0, 2_000, &[])[&1];
    assert!((420..580).contains(&half), "half of a half: {half}");
}

#[test]
fn the_window_is_as_long_as_it_says() {
    let rate = HealthSettings { success_rate_min: 0.9, consecutive_failures: 0, ..settings() };
    for (later, ejected) in [(8.0, true), (12.0, false)] {
        let (mut balancer, view) = watched(2, rate.clone());
        serve(&mut balancer, &view, 0.5, 16, &[1]); // eight failures: two too few to judge
        serve(&mut balancer, &view, later, 4, &[1]); // two more, of ten within ten seconds
        assert_eq!(!balancer.take_events().is_empty(), ejected, "{later} s later");
    }
}

/// What may happen to a balancer.
#[derive(Clone, Debug)]
enum Step {
    Add(u8),
    Remove(u8),
    Pick,
    Done(u8, bool),
    Weigh(u8, u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (1u8..6).prop_map(Step::Add),
        1 => any::<u8>().prop_map(Step::Remove),
        6 => Just(Step::Pick),
        5 => (any::<u8>(), any::<bool>()).prop_map(|(which, ok)| Step::Done(which, ok)),
        1 => (any::<u8>(), 1u8..6).prop_map(|(which, weight)| Step::Weigh(which, weight)),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #[test]
    fn every_policy_keeps_the_books(steps in steps(), layered in any::<bool>()) {
        for (name, policy) in every_policy() {
            let mut balancer = Balancer::new(policy);
            let view = if layered {
                balancer.watch(&View::default(), Healthy::new(HealthSettings { slow_start: SECOND, ..settings() }, 9))
            } else {
                View::default()
            };
            let mut serving: Vec<Slot> = Vec::new();
            let mut open: Vec<Slot> = Vec::new();
            for (turn, step) in steps.iter().enumerate() {
                let now = turn as f64 * 0.3;
                match *step {
                    Step::Add(weight) => serving.push(balancer.add(at(now), f64::from(weight), false)),
                    Step::Remove(which) if !serving.is_empty() => {
                        let slot = serving.remove(which as usize % serving.len());
                        balancer.drain(slot);
                        prop_assert_eq!(balancer.settle(slot), !open.contains(&slot), "{}", name);
                    }
                    Step::Pick => match balancer.pick(request(now), &view) {
                        Ok(slot) => {
                            prop_assert!(serving.contains(&slot), "{name} picked {slot} of {serving:?}");
                            open.push(slot);
                        }
                        Err(_) => prop_assert!(serving.is_empty(), "{name} refused with {serving:?}"),
                    },
                    Step::Done(which, ok) if !open.is_empty() => {
                        let slot = open.remove(which as usize % open.len());
                        balancer.done(at(now), slot, if ok { FAST } else { BAD }, &view);
                    }
                    Step::Weigh(which, weight) if !serving.is_empty() => {
                        balancer.weigh(serving[which as usize % serving.len()], f64::from(weight));
                    }
                    _ => {}
                }
                for state in balancer.slots(at(now), &view) {
                    let held = open.iter().filter(|&&slot| slot == state.slot).count();
                    prop_assert_eq!(state.in_flight, held as u64, "{}", name);
                    prop_assert!(held > 0 || serving.contains(&state.slot), "{name}: slot {} lingers", state.slot);
                }
            }
        }
    }

    #[test]
    fn the_same_seed_picks_the_same(seed in any::<u64>()) {
        let run = |policy: Box<dyn Policy>| -> Vec<Slot> {
            let mut balancer = Balancer::new(policy);
            for weight in 1..6 {
                balancer.add(Instant::ZERO, f64::from(weight), true);
            }
            (0..50).map(|_| balancer.pick(request(0.0), &View::default()).unwrap()).collect()
        };
        prop_assert_eq!(run(Box::new(RandomChoice::new(seed))), run(Box::new(RandomChoice::new(seed))));
        prop_assert_eq!(run(Box::new(WeightedRandom::new(seed))), run(Box::new(WeightedRandom::new(seed))));
        prop_assert_eq!(run(Box::new(TwoChoices::new(seed))), run(Box::new(TwoChoices::new(seed))));
    }

    #[test]
    fn smooth_rounds_are_exact_for_whole_weights(weights in prop::collection::vec(1u32..20, 1..12)) {
        let mut balancer = balancer(
            WeightedRoundRobin::default(),
            &weights.iter().copied().map(f64::from).collect::<Vec<_>>(),
        );
        for _ in 0..3 {
            let shares = serve(&mut balancer, &View::default(), 0.0, weights.iter().sum::<u32>() as usize, &[]);
            for (slot, &weight) in weights.iter().enumerate() {
                prop_assert_eq!(shares[&(slot as Slot)], weight as usize);
            }
        }
    }

    #[test]
    fn least_connections_agrees_with_its_naive_twin(weights in prop::collection::vec(1u32..5, 1..8), seed in any::<u64>()) {
        let weights: Vec<f64> = weights.into_iter().map(f64::from).collect();
        let mut balancer = balancer(LeastConnections::default(), &weights);
        let mut random = Random::new(seed);
        let mut load = vec![0u32; weights.len()];
        for _ in 0..200 {
            let slot = balancer.pick(request(0.0), &View::default()).unwrap() as usize;
            let after = |slot: usize| f64::from(load[slot] + 1) * (1.0 / weights[slot]);
            prop_assert!((0..load.len()).all(|other| after(slot) <= after(other)));
            load[slot] += 1;
            if random.below(2) == 0 {
                let busy: Vec<usize> = (0..load.len()).filter(|&slot| load[slot] > 0).collect();
                let ended = busy[random.below(busy.len() as u64) as usize];
                load[ended] -= 1;
                balancer.done(at(0.0), ended as Slot, FAST, &View::default());
            }
        }
    }

    #[test]
    fn weighted_random_keeps_its_weights_behind_a_filter(seed in any::<u64>()) {
        let mut balancer = balancer(WeightedRandom::new(seed), &[8.0, 1.0, 3.0, 4.0]);
        let view = balancer.trust(&View::default());
        for slot in 1..4 {
            balancer.trusted_mut(&view).unwrap().judge(slot, None);
        }
        let shares = serve(&mut balancer, &view, 0.0, 8_000, &[]);
        prop_assert!(!shares.contains_key(&0));
        for (slot, expected) in [(1, 1_000.0), (2, 3_000.0), (3, 4_000.0)] {
            // Six standard deviations of a binomial draw.
            let spread: f64 = 6.0 * (expected * (1.0 - expected / 8_000.0_f64)).sqrt();
            prop_assert!((shares[&slot] as f64 - expected).abs() < spread, "{shares:?}");
        }
    }
}
