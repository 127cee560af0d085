//! The load: messages of one reading each, as a plant sends them, and what is configured to take them.

use std::time::Duration;

use e2e::mosquitto::{Broker, Publisher};
use rumqttc::{AsyncClient, Event, EventLoop, Packet, QoS};

use super::endpoint::Endpoint;

/// Points of each device.
const POINTS_PER_DEVICE: u32 = 10;
/// Unix time of the first message, in milliseconds; the next ones follow a millisecond apart.
const BEGIN_MS: u64 = 1_700_000_000_000;
/// Requests that a client of the benchmark holds.
const CLIENT_REQUESTS_MAX: usize = 10;
/// Publishing everything, on a busy machine.
const PUBLISH_LIMIT: Duration = Duration::from_mins(2);
/// The gateway's session at the broker, so that its queue can be filled before the gateway starts.
pub(crate) const GATEWAY_CLIENT: &str = "forebay-bench";

/// The gateway's configuration: one broker, one endpoint without compression, and what else a scenario asks for, which
/// begins within the sink.
pub(crate) fn config(broker: &Broker, endpoint: &Endpoint, more: &str) -> String {
    format!(
        r#"
        [[source]]
        type = "mqtt"
        name = "broker"
        url = "{broker}"
        client_id = "{GATEWAY_CLIENT}"
        [[source.subscribe]]
        filter = "plant/+/+"
        device = "{{2}}"
        point = "{{3}}"
        payload = {{ format = "json", value = "/value", time = "/ts" }}

        [[sink]]
        type = "http"
        name = "endpoint"
        url = "{endpoint}"
        compression = "none"
        {more}
        "#,
        broker = broker.url(),
        endpoint = endpoint.url(),
    )
}

/// Topic and payload of a message: its value counts up, its topic goes round `points` points.
pub(crate) fn message(counter: u32, points: u32) -> (String, String) {
    let point = counter % points;
    let topic = format!("plant/device-{}/point-{}", point / POINTS_PER_DEVICE, point % POINTS_PER_DEVICE);
    (topic, format!(r#"{{"ts":{},"value":{counter}}}"#, BEGIN_MS + u64::from(counter)))
}

/// Publishes so many messages and waits until the broker has them.
pub(crate) async fn publish(broker: &Broker, messages: u32, points: u32) {
    let publisher = Publisher::connect(broker, "plant");
    for counter in 0..messages {
        let (topic, payload) = message(counter, points);
        publisher.publish(&topic, payload).await;
    }
    publisher.all_acknowledged(PUBLISH_LIMIT).await;
}

/// Leaves a subscription at the broker for which it keeps messages from now on.
pub(crate) async fn subscribe(broker: &Broker, client_id: &str) {
    let (client, mut events) = connect(broker, client_id);
    client.subscribe("plant/+/+", QoS::AtLeastOnce).await.expect("the client has room for a request");
    until_packet(&mut events, |packet| matches!(packet, Packet::SubAck(_))).await;
    client.disconnect().await.expect("the client has room for a request");
    while events.poll().await.is_ok() {}
}

/// Takes what the broker keeps for a client, acknowledges it at once and forgets it: as fast as this broker can be read.
pub(crate) async fn take_and_forget(broker: &Broker, client_id: &str, messages: u32) {
    let (_client, mut events) = connect(broker, client_id);
    for _ in 0..messages {
        until_packet(&mut events, |packet| matches!(packet, Packet::Publish(_))).await;
    }
}

fn connect(broker: &Broker, client_id: &str) -> (AsyncClient, EventLoop) {
    let (client, mut events) = AsyncClient::new(broker.client_options(client_id), CLIENT_REQUESTS_MAX);
    // As the gateway does: acknowledgements are not held back.
    events.network_options.set_tcp_nodelay(true);
    (client, events)
}

async fn until_packet(events: &mut EventLoop, is_wanted: impl Fn(&Packet) -> bool) {
    loop {
        match events.poll().await.expect("the broker stays") {
            Event::Incoming(packet) if is_wanted(&packet) => return,
            _ => {}
        }
    }
}
