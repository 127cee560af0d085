// Publishes MQTT 3.1.1 messages with quality of service 0: a device in the plant, in as few lines as that takes.
import { createConnection } from "node:net";
import { once } from "node:events";

const CONNECT = 0x10;
const PUBLISH = 0x30;

/** Seven bits a byte, the eighth says that more follow (MQTT 3.1.1, section 2.2.3). */
function lengthBytes(length) {
  const bytes = [];
  do {
    bytes.push((length % 128) | (length >= 128 ? 128 : 0));
    length = Math.floor(length / 128);
  } while (length > 0);
  return Buffer.from(bytes);
}

function text(words) {
  const bytes = Buffer.from(words);
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 255]), bytes]);
}

function packet(kind, ...parts) {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from([kind]), lengthBytes(body.length), body]);
}

export class Publisher {
  static async connect(port) {
    const publisher = new Publisher();
    publisher.socket = createConnection(port, "127.0.0.1");
    await once(publisher.socket, "connect");
    // Protocol level 4, a clean session, no keep-alive.
    publisher.socket.write(packet(CONNECT, text("MQTT"), Buffer.from([4, 2, 0, 0]), text(`page-${process.pid}-${Math.random()}`)));
    const [answer] = await once(publisher.socket, "data");
    if (answer[3] !== 0) throw new Error(`the broker refuses the connection: ${answer[3]}`);
    publisher.socket.on("data", () => {}).on("error", () => {});
    return publisher;
  }

  publish(topic, payload) { this.socket.write(packet(PUBLISH, text(topic), Buffer.from(payload))); }

  /**
   * Publishes a round of messages over and over, `perSecond` messages in all; `round(turn)` makes one, an array of
   * [topic, payload].
   */
  every(perSecond, round) {
    let sent = 0;
    let turn = 0;
    let waiting = [];
    const started = performance.now();
    this.timer = setInterval(() => {
      const due = Math.floor(((performance.now() - started) / 1000) * perSecond);
      this.socket.cork();
      for (; sent < due; sent += 1) {
        if (waiting.length === 0) waiting = [...round(turn++)];
        this.publish(...waiting.shift());
      }
      this.socket.uncork();
    }, 20);
    return this;
  }

  close() {
    clearInterval(this.timer);
    this.socket.destroy();
  }
}
