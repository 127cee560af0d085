//! The gateway dies in offers: everything arrives once, whatever the order and the route.

use super::*;
use proptest::prelude::*;

/// A backlog and live readings to a sink with a cursor of its own; the gateway dies in some offers. Everything arrives once.
/// Each start has the next of `options`.
async fn survive(deaths: Vec<(u64, Death)>, options: &[String], keeps_cursors: bool) {
    let world = World::new();
    for _ in 0..4 {
        world.read(0..500, OLD).await;
    }
    world.alert(1).await;
    let far = far();
    far.lock().unwrap().cursors = keeps_cursors.then(BTreeMap::new);
    let mut options = options.iter().cycle();
    for (at, death) in deaths {
        far.lock().unwrap().death = Some((at, death));
        let running = world.deliver(&far, options.next().unwrap());
        for _ in 0..30 {
            world.read(0..20, LIVE).await;
            sleep(Duration::from_millis(100)).await;
        }
        running.die().await;
        // The next one waits for its offer, too.
        let mut far = far.lock().unwrap();
        far.offers = 0;
        far.death = None;
    }
    let running = world.deliver(&far, options.next().unwrap());
    // The last records are for everyone, so that the last batches reach to the end.
    sleep(Duration::from_secs(20)).await;
    world.read([7], LIVE).await;
    sleep(Duration::from_secs(20)).await;
    running.end().await;
    let end = world.next(Stream::Readings);
    let lane = world.lane(Stream::Readings).await;
    assert_eq!(lane.undelivered(end), 0, "{lane:?}");
    let arrived = arrivals(&far, Stream::Readings);
    assert_eq!((lane.delivered, lane.gaps), (arrived.len() as u64, 0), "{lane:?}");
    assert_whole(&arrived, end);
    assert_in_order(&arrived);
}

#[tokio::test(start_paused = true)]
async fn a_death_at_any_offer_neither_loses_nor_repeats_where_live_readings_go_first() {
    for at in (1..25).step_by(4) {
        for death in [Death::BeforeItArrived, Death::AfterItArrived] {
            survive(vec![(at, death), (at / 2 + 1, death)], &["order = \"live_first\"".to_owned()], true).await;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_deaths_leave_whole_batches_whatever_is_routed(
        deaths in prop::collection::vec((1_u64..20, any::<bool>()), 0..5),
        live_first in prop::collection::vec(any::<bool>(), 1..4), routed: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let death = |arrived| if arrived { Death::AfterItArrived } else { Death::BeforeItArrived };
        let deaths = deaths.into_iter().map(|(at, arrived)| (at, death(arrived))).collect();
        let order = |live_first: &bool| if *live_first { "order = \"live_first\"\n" } else { "" };
        let route = if routed { "devices = [\"d7\", \"d40*\"]" } else { "" };
        let options: Vec<_> = live_first.iter().map(|live_first| format!("{}{route}", order(live_first))).collect();
        runtime.block_on(survive(deaths, &options, true));
    }
}
