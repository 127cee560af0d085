// A long sheet of registers: its values move beside it, and whoever types into it never waits for them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Plant } from "../lib/plant.mjs";
import { until } from "../lib/process.mjs";
import { setting } from "../lib/story.mjs";

/** More than a form shows. */
const REGISTERS = 800;
/** How long the page may be busy with values at a stretch, in milliseconds: nobody notices as much. */
const BUSY_MS_MAX = 200;

const register = (at) => `  { point = "p${at}", table = "holding", address = ${at}, kind = "u16", unit = "V" },`;
const bus = (plant) => `
[[source]]
type = "modbus"
name = "long-bus"
url = "${plant.device.url}"

[[source.unit]]
id = 2
device = "cabinet"
every_ms = 1000
registers = [
${Array.from({ length: REGISTERS }, (_, at) => register(at)).join("\n")}
]
`;
const at = setting(() => Plant.running({ config: bus }));

test("values stand beside the registers in view, and the page stays quick", async () => {
  const values = Array.from({ length: REGISTERS }, (_, at) => at);
  await at.plant.device.tell({ do: "set", unit: 2, table: "holding", address: 0, values });
  const visitor = await at.visitor();
  await visitor.signIn();
  const { page } = visitor;
  await page.goto("/sources/long-bus/edit");
  await page.evaluate(() => {
    window.busy = [];
    new PerformanceObserver((list) => list.getEntries().forEach((entry) => window.busy.push(entry.duration))).observe({ type: "longtask" });
  });
  for (const point of ["p0", "p499"]) {
    const place = page.locator(`[data-point="${point}"]`);
    await place.scrollIntoViewIfNeeded();
    await until(`the value of ${point}`, async () => (await place.innerText()).startsWith(point.slice(1)));
  }
  await at.plant.device.tell({ do: "set", unit: 2, table: "holding", address: 499, values: [77] });
  await until("a value that moves", async () => (await page.locator('[data-point="p499"]').innerText()).startsWith("77"));
  const busy = await page.evaluate(() => window.busy);
  assert.ok(busy.every((ms) => ms < BUSY_MS_MAX), `the page was busy for ${busy} ms`);
  await visitor.leave();
});
