// A plant around a real gateway: a broker with publishing devices, a Modbus device, an ingest endpoint, all on free ports.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import os from "node:os";
import path from "node:path";
import { forebay, modbusServer, python } from "./needs.mjs";
import { Program, freePort, until } from "./process.mjs";
import { Publisher } from "./publisher.mjs";
import { Receiver } from "./receiver.mjs";

/** Opening a buffer on a machine that is busy with other stories. */
const READY_LIMIT_MS = 60_000;

/** The user of stories that are not about setting up. */
export const user = { name: "anna", password: "the river runs to the sea" };

/** What the devices of the plant publish: a round of [topic, payload]. */
export function round(turn) {
  const wave = (middle, swing, step) => (middle + swing * Math.sin(turn / step)).toFixed(2);
  const json = (value, unit) => JSON.stringify({ value: Number(value), unit });
  return [
    ["plant/boiler-3/supply_temp", json(wave(71, 2, 30))],
    ["plant/boiler-3/flow", json(wave(18.4, 1.5, 11))],
    ["plant/boiler-3/pressure", json(wave(6.2, 0.4, 19))],
    ["plant/boiler-4/supply_temp", json(wave(64, 3, 41))],
    ["plant/tank-1/level", json(wave(3.2, 0.3, 90))],
    ["plant/pump-2/speed", json(wave(1450, 12, 7))],
  ];
}

/** The points that the plant publishes below plant/, with their units; below free/ there may be any, without. */
export const UNITS = {
  supply_temp: "°C", return_temp: "°C", temperature: "°C", flow: "m³/h", pressure: "bar", level: "m", speed: "rpm",
  vibration: "mm/s", power: "kW", energy: "kWh",
};

const subscription = (filter, unit) => `
[[source.subscribe]]
filter = "${filter}"
device = "{2}"
point = "{3}"
unit = "${unit}"
payload = { format = "json", value = "/value" }
`;
const subscriptions = Object.entries(UNITS).map(([point, unit]) => subscription(`plant/+/${point}`, unit)).join("") + subscription("free/+/+", "");

export class Broker {
  static async start(directory) {
    const broker = new Broker();
    broker.port = await freePort();
    const config = path.join(directory, "mosquitto.conf");
    writeFileSync(config, `listener ${broker.port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n`);
    broker.program = new Program("mosquitto", "mosquitto", ["-c", config]);
    broker.publisher = await until("the broker", () => {
      broker.program.assertRunning();
      return Publisher.connect(broker.port).catch(() => null);
    });
    return broker;
  }

  get url() { return `mqtt://127.0.0.1:${this.port}`; }

  async close() {
    this.publisher.close();
    await this.program.kill();
  }
}

/** A Modbus device of pymodbus: see tests/peers/modbus_server.py for what it can be told. */
export class Device {
  static async start() {
    const device = new Device();
    device.program = new Program("the Modbus device", python, [modbusServer, "tcp", "0"], { piped: true });
    device.lines = createInterface({ input: device.program.child.stdout })[Symbol.asyncIterator]();
    device.port = (await device.answer()).port;
    await device.tell({ do: "set", unit: 1, table: "holding", address: 0, values: [712, 184] });
    return device;
  }

  async answer() {
    const { value, done } = await this.lines.next();
    if (done) this.program.assertRunning();
    return JSON.parse(value);
  }

  async tell(command) {
    this.program.child.stdin.write(`${JSON.stringify(command)}\n`);
    return this.answer();
  }

  get url() { return `tcp://127.0.0.1:${this.port}`; }

  close() { return this.program.kill(); }
}

/** The gateway: the real binary in a directory of its own. */
export class Gateway {
  constructor(directory, port) {
    Object.assign(this, { directory, port, origin: `http://127.0.0.1:${port}` });
    this.config = path.join(directory, "forebay.toml");
    this.data = path.join(directory, "data");
  }

  /** Starts it and waits until its page answers. */
  async start() {
    const place = existsSync(this.config) ? [] : ["--data-dir", this.data, "--listen", `127.0.0.1:${this.port}`];
    this.program = new Program("the gateway", forebay, ["run", "--config", this.config, ...place]);
    await until("the gateway's page", async () => {
      this.program.assertRunning();
      return fetch(`${this.origin}/ready`).then((answer) => answer.ok, () => false);
    }, READY_LIMIT_MS);
    return this;
  }

  /** Runs one of its tools; `input` is what a person would type. */
  async tool(args, input = "") {
    const tool = new Program(`forebay ${args.join(" ")}`, forebay, args, { piped: true });
    let said = "";
    tool.child.stdout.setEncoding("utf8").on("data", (text) => { said += text; });
    tool.child.stdin.end(input);
    await tool.ended;
    if (tool.child.exitCode !== 0) throw new Error(`${tool.name} ended with ${tool.child.exitCode}: ${tool.tail.join("\n")}`);
    return said;
  }

  /** Adds a person on the board itself, as someone would who has lost the password. */
  addPerson({ name, password }, role = "administrator") {
    return this.tool(["people", "add", name, "--role", role, "--config", this.config], `${password}\n`);
  }

  get setUpToken() { return readFileSync(path.join(this.data, "access/set-up-token"), "utf8").trim(); }

  async kill(signal) { await this.program?.kill(signal); }
}

/** Everything together. `close()` ends and removes it. */
export class Plant {
  /** Broker, device, endpoint and an empty directory; nothing runs on the gateway yet. */
  static async build({ perSecond = 30, messages = round } = {}) {
    const plant = new Plant();
    plant.directory = mkdtempSync(path.join(os.tmpdir(), "forebay-page-"));
    plant.broker = await Broker.start(plant.directory);
    plant.broker.publisher.every(perSecond, messages);
    plant.device = await Device.start();
    plant.receiver = await Receiver.start();
    plant.gateway = new Gateway(plant.directory, await freePort());
    return plant;
  }

  /** The same, with a gateway as it comes out of the box: no configuration, nobody set up. */
  static async fresh(options) {
    const plant = await Plant.build(options);
    await plant.gateway.start();
    return plant;
  }

  /** The same, with a gateway that has its sources, its sink and one administrator. */
  static async running({ config = "", people = [[user, "administrator"]], ...options } = {}) {
    const plant = await Plant.build(options);
    writeFileSync(plant.gateway.config, plant.toml() + (typeof config === "function" ? config(plant) : config));
    await plant.gateway.start();
    for (const [person, role] of people) await plant.gateway.addPerson(person, role);
    return plant;
  }

  /** What the gateway of a running plant is configured with. */
  toml() {
    const { broker, device, gateway, receiver } = this;
    return `# The gateway of line 2.
[gateway]
id = "plant-7-line-2"
data_dir = "${gateway.data}"

[web]
listen = "127.0.0.1:${gateway.port}"

[[source]]
type = "mqtt"
name = "plant-broker"
url = "${broker.url}"

${subscriptions}
[[source]]
type = "modbus"
name = "boiler-bus"
url = "${device.url}"

[[source.unit]]
id = 1
device = "boiler-1"
every_ms = 500
registers = [
  { point = "supply_temp", table = "holding", address = 0, kind = "i16", scale = 0.1, unit = "°C" },
  { point = "flow", table = "holding", address = 1, kind = "i16", scale = 0.1, unit = "m³/h" },
]

[[check]]
points = "boiler-*/supply_temp"
range = { operating = [20.0, 95.0], possible = [-40.0, 150.0] }

[[sink]]
type = "http"
name = "cloud"
url = "${receiver.url}"
`;
  }

  async close() {
    await this.gateway.kill();
    this.receiver.close();
    await Promise.all([this.device.close(), this.broker.close()]);
    rmSync(this.directory, { recursive: true, force: true });
  }
}
