//! Live readings first: their latency, the link's budget, and history that stays history.

use super::*;

#[tokio::test(start_paused = true)]
async fn live_readings_arrive_within_a_second_while_a_long_backlog_follows() {
    let world = World::new();
    for _ in 0..200 {
        world.read(0..500, OLD).await;
    }
    let backlog = world.next(Stream::Readings);
    let far = far();
    // 100 000 readings of 300 bytes take more than a minute of this link; what is live needs a fifth of it.
    far.lock().unwrap().bandwidth = Some(400_000.0);
    let running = world.deliver(&far, "order = \"live_first\"");
    // The split comes with the first look; readings go on from there.
    sleep(Duration::from_secs(2)).await;
    let mut taken = BTreeMap::new();
    for round in 0..400_u32 {
        let first = world.next(Stream::Readings);
        world.read((0..50).map(|n| n + round % 10), LIVE).await;
        for sequence in first..world.next(Stream::Readings) {
            taken.insert(sequence, world.begun.elapsed());
        }
        if round % 40 == 0 {
            world.alert(u64::from(round)).await;
        }
        sleep(Duration::from_millis(200)).await;
    }
    let end = world.next(Stream::Readings);
    until("everything", || arrivals(&far, Stream::Readings).len() as u64 == end).await;
    running.end().await;
    let arrived = arrivals(&far, Stream::Readings);
    assert_whole(&arrived, end);
    assert_in_order(&arrived);
    let history = arrived.iter().filter(|arrival| arrival.history).count() as u64;
    assert!(history <= backlog && history > backlog - 1_000, "{history} of {backlog} are history");
    let mut latencies: Vec<Duration> = arrived
        .iter()
        .filter_map(|arrival| Some(arrival.after.saturating_sub(*taken.get(&arrival.sequence)?)))
        .collect();
    latencies.sort_unstable();
    let p99 = latencies[latencies.len() * 99 / 100];
    assert!(p99 < Duration::from_secs(1), "p99 {p99:?}, p50 {:?}", latencies[latencies.len() / 2]);
    assert_eq!(arrivals(&far, Stream::Alerts).len(), 10);
}

#[tokio::test(start_paused = true)]
async fn history_stays_history_when_the_order_becomes_another_before_it_is_drained() {
    let world = World::new();
    for _ in 0..40 {
        world.read(0..500, OLD).await;
    }
    let backlog = world.next(Stream::Readings);
    let far = far();
    far.lock().unwrap().cursors = Some(BTreeMap::new());
    far.lock().unwrap().bandwidth = Some(400_000.0);
    let running = world.deliver(&far, "order = \"live_first\"");
    for _ in 0..20 {
        world.read(0..20, LIVE).await;
        sleep(Duration::from_millis(200)).await;
    }
    running.die().await;
    let before = arrivals(&far, Stream::Readings);
    let of_history = before.iter().filter(|arrival| arrival.history).count() as u64;
    assert!((1_000..backlog - 1_000).contains(&of_history), "{of_history} of history before the order changed");
    assert!(before.iter().any(|arrival| arrival.sequence > backlog), "none of it was overtaken");

    let running = world.deliver(&far, "");
    for _ in 0..20 {
        world.read(0..20, LIVE).await;
        sleep(Duration::from_millis(200)).await;
    }
    until("everything", || arrivals(&far, Stream::Readings).len() as u64 == world.next(Stream::Readings)).await;
    let arrived = arrivals(&far, Stream::Readings);
    let unmarked = arrived.iter().find(|arrival| arrival.sequence < backlog && !arrival.history);
    assert!(unmarked.is_none(), "{unmarked:?}");
    assert_in_order(&arrived);
    assert!(arrived.iter().filter(|arrival| !arrival.history).map(|arrival| arrival.sequence).is_sorted());

    // From here on the new order holds: what waits goes first, and is no history.
    let drained = world.next(Stream::Readings);
    far.lock().unwrap().is_down = true;
    world.read(0..500, OLD).await;
    sleep(Duration::from_secs(60)).await;
    world.read(0..20, LIVE).await;
    far.lock().unwrap().is_down = false;
    until("the rest", || arrivals(&far, Stream::Readings).len() as u64 == world.next(Stream::Readings)).await;
    running.end().await;
    let arrived = arrivals(&far, Stream::Readings);
    assert_whole(&arrived, world.next(Stream::Readings));
    let rest: Vec<_> = arrived.iter().filter(|arrival| arrival.sequence >= drained).collect();
    assert!(rest.iter().all(|arrival| !arrival.history) && rest.iter().map(|arrival| arrival.sequence).is_sorted());
}

#[tokio::test(start_paused = true)]
async fn history_keeps_to_the_links_budget_and_live_readings_do_not_wait_for_it() {
    let world = World::new();
    for _ in 0..40 {
        world.read(0..500, OLD).await;
    }
    let far = far();
    let running = world.deliver(&far, "order = \"live_first\"\nlink = { bytes_per_second = \"30 KiB\" }");
    sleep(Duration::from_secs(60)).await;
    let sent = arrivals(&far, Stream::Readings).len() as u64 * 300;
    assert!((30_720 * 50..30_720 * 65).contains(&sent), "{sent} bytes in 60 s");
    let before = world.begun.elapsed();
    world.read([1], LIVE).await;
    until("the live one", || arrivals(&far, Stream::Readings).iter().any(|arrival| arrival.sequence == 20_000)).await;
    let arrived = arrivals(&far, Stream::Readings);
    let live = arrived.iter().find(|arrival| arrival.sequence == 20_000).unwrap();
    assert!(!live.history && live.after.saturating_sub(before) < Duration::from_secs(1), "{live:?}");
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_days_budget_stops_history_survives_a_restart_and_leaves_live_readings_alone() {
    let world = World::new();
    for _ in 0..40 {
        world.read(0..500, OLD).await;
    }
    let far = far();
    let options = "order = \"live_first\"\nlink = { bytes_per_day = \"1 MiB\" }";
    for _ in 0..3 {
        let running = world.deliver(&far, options);
        sleep(Duration::from_secs(60)).await;
        let sent = arrivals(&far, Stream::Readings).len() as u64 * 300;
        assert!((900_000..1_200_000).contains(&sent), "{sent} bytes of 1 MiB");
        assert!(running.status.budget_left_bytes.get() < 150_000);
        running.end().await;
    }
    let before = arrivals(&far, Stream::Readings).len();
    let running = world.deliver(&far, options);
    world.read([1], LIVE).await;
    until("the live one", || arrivals(&far, Stream::Readings).len() > before).await;
    running.end().await;
}
