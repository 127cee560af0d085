//! One connection to a broker: connects, subscribes, hands out messages, sends acknowledgements.
//!
//! Each connection has its own event loop, so that nothing of an older one can reach the broker. Acknowledgements are
//! written directly and flushed in batches; no request goes through the library's channel, so leaving `poll` half way
//! loses nothing: it only reads, flushes and pings.

use super::{MqttOptions, PACKET_BYTES_HARD_MAX};
use crate::secret::{Secret, SecretError, SecretFile};
use crate::sources::address::HostPort;
use rumqttc::{
    ConnectReturnCode, ConnectionError, Event, EventLoop, Packet, PubAck, Publish, QoS, Request, StateError, Subscribe,
    SubscribeFilter, SubscribeReasonCode,
};
use std::time::Duration;
use tokio::time::timeout;

/// How long connecting, or sending what is due, may take.
const NETWORK_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest packet that is sent: the subscriptions.
const OUTGOING_BYTES_MAX: usize = 1024 * 1024;
/// The library wants room for requests that are never made.
const REQUESTS_MAX: usize = 1;

/// Why a connection ended or did not begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    /// The broker does not want us.
    #[error("the broker refused the connection: {0}; check username, password_file and client_id")]
    Refused(&'static str),
    /// A packet above the hard limit.
    #[error(
        "a packet of {bytes} bytes is larger than {PACKET_BYTES_HARD_MAX}; it stops everything behind it until it is removed at the broker (delete it, or set message_size_limit)"
    )]
    Oversize {
        /// Its size.
        bytes: usize,
    },
    /// The password cannot be read.
    #[error(transparent)]
    Password(#[from] SecretError),
    /// Everything else.
    #[error("the connection to the broker failed: {0}")]
    Lost(String),
}

/// What a connection has to say.
pub(super) enum Incoming {
    /// A message.
    Published(Publish),
    /// The answer to the subscriptions: for each, the quality of service that the broker granted, if it took it.
    Subscribed(Vec<Option<u8>>),
}

/// What the broker keeps of a session once the connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Subscriptions, and messages that were not acknowledged.
    Kept,
    /// Nothing: it is for looking only.
    Clean,
}

/// An open connection.
pub(super) struct Session {
    eventloop: EventLoop,
    /// Whether the broker went on with the session that it had kept (MQTT 3.1.1, section 3.2.2.2). If not, it counts packet
    /// identifiers from the beginning and redelivers nothing of what it sent before.
    pub(super) is_resumed: bool,
}

impl Session {
    /// Connects and asks for the subscriptions.
    pub(super) async fn connect(
        options: &MqttOptions,
        address: &HostPort,
        client_id: &str,
        life: Life,
    ) -> Result<Self, SessionError> {
        let mut mqtt = rumqttc::MqttOptions::new(client_id, address.host.clone(), address.port);
        mqtt.set_clean_session(life == Life::Clean);
        mqtt.set_manual_acks(true);
        mqtt.set_keep_alive(Duration::from_secs(u64::from(options.keep_alive_s)));
        mqtt.set_max_packet_size(PACKET_BYTES_HARD_MAX, OUTGOING_BYTES_MAX);
        if let Some(username) = &options.username {
            let password = options.password_file.as_ref().map(SecretFile::read_line).transpose()?;
            mqtt.set_credentials(username, password.as_ref().map_or("", Secret::expose));
        }
        let mut eventloop = EventLoop::new(mqtt, REQUESTS_MAX);
        // Acknowledgements are small and go out in batches of our own: held back for more, they would hold a full window back.
        eventloop.network_options.set_tcp_nodelay(true);
        // The first event is the broker's answer.
        let is_resumed = match timeout(NETWORK_TIMEOUT, eventloop.poll()).await {
            Ok(Ok(event)) => matches!(event, Event::Incoming(Packet::ConnAck(answer)) if answer.session_present),
            Ok(Err(error)) => return Err(explain(error)),
            Err(_) => return Err(silent()),
        };
        let mut session = Self { eventloop, is_resumed };
        session.subscribe(options).await?;
        Ok(session)
    }

    /// A session that the broker did not remember has no subscriptions, and the configuration may have new ones: so
    /// they are asked for on every connection.
    async fn subscribe(&mut self, options: &MqttOptions) -> Result<(), SessionError> {
        let filters = options.subscribe.iter().map(|subscription| {
            let quality = if subscription.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
            SubscribeFilter::new(subscription.filter.clone(), quality)
        });
        let request = Request::Subscribe(Subscribe::new_many(filters));
        let packet = self.eventloop.state.handle_outgoing_packet(request).map_err(state_error)?;
        self.send(packet).await
    }

    /// The next message or answer. May be left half way.
    pub(super) async fn next(&mut self) -> Result<Incoming, SessionError> {
        loop {
            match self.eventloop.poll().await.map_err(explain)? {
                Event::Incoming(Packet::Publish(publish)) => return Ok(Incoming::Published(publish)),
                Event::Incoming(Packet::SubAck(answer)) => {
                    let granted = answer.return_codes.iter().map(|code| match code {
                        SubscribeReasonCode::Success(quality) => Some(*quality as u8),
                        SubscribeReasonCode::Failure => None,
                    });
                    return Ok(Incoming::Subscribed(granted.collect()));
                }
                Event::Incoming(_) | Event::Outgoing(_) => {}
            }
        }
    }

    /// Acknowledges messages by their packet ids, in the order in which they came (MQTT 3.1.1, section 4.6).
    pub(super) async fn acknowledge(&mut self, packet_ids: impl Iterator<Item = u16>) -> Result<(), SessionError> {
        self.send(packet_ids.map(|id| Packet::PubAck(PubAck::new(id)))).await
    }

    /// Says goodbye: the broker keeps the session.
    pub(super) async fn disconnect(mut self) {
        // Whether the broker still hears it changes nothing for us.
        drop(self.send([Packet::Disconnect]).await);
    }

    async fn send(&mut self, packets: impl IntoIterator<Item = Packet>) -> Result<(), SessionError> {
        let Some(network) = self.eventloop.network.as_mut() else {
            return Err(SessionError::Lost("it is closed".to_owned()));
        };
        let sending = async {
            for packet in packets {
                network.write(packet).await?;
            }
            network.flush().await
        };
        match timeout(NETWORK_TIMEOUT, sending).await {
            Ok(sent) => sent.map_err(state_error),
            Err(_) => Err(SessionError::Lost(format!("nothing could be sent for {} s", NETWORK_TIMEOUT.as_secs()))),
        }
    }
}

fn explain(error: ConnectionError) -> SessionError {
    match error {
        ConnectionError::MqttState(error) => state_error(error),
        ConnectionError::ConnectionRefused(code) => SessionError::Refused(match code {
            ConnectReturnCode::BadUserNamePassword => "wrong user name or password",
            ConnectReturnCode::NotAuthorized => "not authorised",
            ConnectReturnCode::BadClientId => "the client id is not allowed",
            ConnectReturnCode::ServiceUnavailable => "the service is unavailable",
            ConnectReturnCode::RefusedProtocolVersion => "it does not speak MQTT 3.1.1",
            ConnectReturnCode::Success => "without a reason",
        }),
        // The library gives up after as long.
        ConnectionError::NetworkTimeout => silent(),
        ConnectionError::Io(error) => SessionError::Lost(error.to_string()),
        other => SessionError::Lost(other.to_string()),
    }
}

fn silent() -> SessionError {
    SessionError::Lost(format!("no answer within {} s", NETWORK_TIMEOUT.as_secs()))
}

fn state_error(error: StateError) -> SessionError {
    match error {
        StateError::Deserialization(rumqttc::Error::PayloadSizeLimitExceeded(bytes)) => {
            SessionError::Oversize { bytes }
        }
        StateError::ConnectionAborted => SessionError::Lost("the broker closed it".to_owned()),
        other => SessionError::Lost(other.to_string()),
    }
}
