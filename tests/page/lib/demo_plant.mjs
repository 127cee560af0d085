// The plant of the pictures: enough devices to look like one, and the troubles that a technician meets.
import { Plant, user } from "./plant.mjs";
import { until } from "./process.mjs";
import { Receiver } from "./receiver.mjs";

/** How long it runs before the first picture, so that lines have something to show. */
const READINGS_MIN = 2_000;

const DEVICES = [
  ["boiler-3", { supply_temp: [71, 2, 30], return_temp: [52, 2, 33], flow: [18.4, 1.5, 11], pressure: [6.2, 0.4, 19] }],
  ["boiler-4", { supply_temp: [64, 3, 41], flow: [12.1, 1.1, 13], pressure: [5.8, 0.3, 23] }],
  ["tank-1", { level: [3.2, 0.3, 90], temperature: [48, 1, 70] }],
  ["pump-2", { speed: [1450, 12, 7], vibration: [0.42, 0.1, 3], running: true }],
  ["meter-7", { power: [48.2, 6, 5], energy: [88_412, 0, 1] }],
];

function round(turn) {
  return DEVICES.flatMap(([device, points]) => Object.entries(points).map(([point, how]) => {
    if (!Array.isArray(how)) return [`free/${device}/${point}`, JSON.stringify({ value: how })];
    const [middle, swing, step] = how;
    const noise = Math.sin(turn * 12.9898 + middle) * 0.15;
    // One boiler loses heat from a certain moment on: above its check's lower limit, then below.
    const drop = device === "boiler-4" && point === "supply_temp" && turn > 90 ? Math.min(50, (turn - 90) * 0.8) : 0;
    return [`plant/${device}/${point}`, JSON.stringify({ value: Number((middle + swing * (Math.sin(turn / step) + noise) - drop).toFixed(2)) })];
  }));
}

const CONFIG = (refusing, device) => `
[[check]]
points = "boiler-4/supply_temp"
range = { operating = [40.0, 95.0], possible = [-40.0, 150.0] }

[[source]]
type = "modbus"
name = "meter-bus"
url = "${device}"

[[source.unit]]
id = 4
device = "meter-4"
every_ms = 500
registers = [{ point = "power", table = "holding", address = 0, kind = "i16", unit = "kW" }]

[[sink]]
type = "http"
name = "audit"
url = "${refusing}"
`;

export async function demoPlant() {
  const refusing = await Receiver.start();
  refusing.status = 401;
  const plant = await Plant.running({
    perSecond: 80, messages: round, people: [[user, "administrator"], [{ name: "ben", password: "a quiet hum in the hall" }, "viewer"]],
    config: (plant) => CONFIG(refusing.url, plant.device.url),
  });
  await until("some minutes' worth of readings", () => plant.receiver.records > READINGS_MIN, 120_000);
  const close = plant.close.bind(plant);
  plant.close = async () => { await close(); refusing.close(); };
  return plant;
}
