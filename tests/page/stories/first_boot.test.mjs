// A gateway out of the box, a token on its label, and a person with a phone.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { Browser, SCHEMES } from "../lib/browser.mjs";
import { Keyboard, Pointer } from "../lib/hands.mjs";
import { axeFindings, overflowFindings, targetFindings } from "../lib/look.mjs";
import { Plant, user } from "../lib/plant.mjs";
import { until } from "../lib/process.mjs";
import "../lib/story.mjs";

/** From opening the page to readings upstream. */
const WAY_MS_MAX = 5 * 60_000;

let browser;
before(async () => { browser = await Browser.open(); });
after(() => browser?.close());

async function fresh(t) {
  const plant = await Plant.fresh();
  t.after(() => plant.close());
  return plant;
}

/** Someone who sets a gateway up. */
class Way {
  constructor(visitor, plant, size, hands) {
    Object.assign(this, { page: visitor.page, plant, size, hands });
  }

  async usable(what) {
    const { page, size } = this;
    assert.deepEqual([
      ...(await axeFindings(page)), ...(await overflowFindings(page)), ...(size === "phone" ? await targetFindings(page) : []),
    ], [], what);
  }

  main(selector, options) { return this.page.locator("main").locator(selector, options); }

  button(name) { return this.page.locator("main").getByRole("button", { name, exact: true }).and(this.page.locator(":not(.unseen)")).first(); }

  /** From the first page to being signed in as the first administrator. */
  async setUp() {
    const { page, hands } = this;
    await page.goto("/");
    assert.match(page.url(), /\/set-up$/, "whatever one opens, it is setting up");
    await this.usable("setting up");
    await hands.fill(page.locator("#token"), "forebay-0000-0000-0000-0000");
    await hands.fill(page.locator("#name"), user.name);
    await hands.fill(page.locator("#password"), user.password);
    await hands.fill(page.locator("#again"), `${user.password}?`);
    await hands.press(this.button("Set up and sign in"));
    await page.locator(".wrong").first().waitFor();
    await this.usable("setting up, with mistakes");
    assert.equal(await page.locator("#name").inputValue(), user.name, "what was right need not be typed again");
    await hands.fill(page.locator("#token"), this.plant.gateway.setUpToken);
    await hands.fill(page.locator("#password"), user.password);
    await hands.fill(page.locator("#again"), user.password);
    await hands.press(this.button("Set up and sign in"));
    await page.waitForURL(/\/first-steps/);
  }

  async name() {
    await this.page.waitForURL(/\/first-steps\/name/);
    await this.usable("the name");
    await this.hands.fill(this.page.locator("#name"), "boiler-house");
    await this.hands.press(this.button("Next"));
    await this.page.waitForURL(/\/first-steps\/source/);
  }

  /** The broker is listened to by itself; a tap on what it says makes a subscription. */
  async source() {
    const { page, hands, plant } = this;
    await this.usable("the source");
    await hands.fill(page.locator("#broker"), plant.broker.url);
    await hands.press(page.locator("form", { has: page.locator("#broker") }).getByRole("button", { name: "Go on" }));
    await page.waitForURL(/\/sources\/new/);
    const topic = this.main("#found .item", { hasText: "plant/boiler-3/supply_temp" });
    await topic.waitFor();
    await this.usable("what the broker has to say");
    await hands.press(topic.getByRole("button").first());
    await this.main("input[name*=filter]").and(page.locator('[value*="plant/"]')).first().waitFor();
    await this.usable("the source, filled in");
    await hands.press(this.button("Test it"));
    await this.main("#tried .said.good-edge").waitFor();
    await this.usable("the source, tried");
    await hands.press(this.button("Next"));
    await page.waitForURL(/\/first-steps\/value/);
  }

  async value() {
    const value = this.main(".point .val").first();
    await value.waitFor();
    assert.match(await value.innerText(), /\d/);
    await this.usable("the live value");
    await this.hands.press(this.button("Looks right"));
    await this.page.waitForURL(/\/first-steps\/sink/);
  }

  async sink() {
    const { page, hands, plant } = this;
    await this.usable("the way upstream");
    await hands.fill(page.locator("#url"), plant.receiver.url);
    await hands.press(page.locator("form", { has: page.locator("#url") }).getByRole("button", { name: "Go on" }));
    await page.waitForURL(/\/upstream\/new/);
    await this.usable("the way upstream, filled in");
    await hands.press(this.button("Test it"));
    await this.main("#tried .said.good-edge").waitFor();
    assert.ok(plant.receiver.records > 0, "the test record has arrived");
    await this.usable("the way upstream, tried");
    await hands.press(this.button("Next"));
    await page.waitForURL(/\/first-steps\/done/);
  }

  async done() {
    const { plant } = this;
    assert.match(await this.main("h1").innerText(), /The gateway works/);
    await this.usable("done");
    await until("readings upstream", () => plant.receiver.got.some(({ text }) => text.includes("boiler-3") && text.includes("boiler-house")));
    const file = readFileSync(plant.gateway.config, "utf8");
    assert.match(file, /id = "boiler-house"/);
    assert.match(file, /type = "mqtt"/);
  }
}

async function walk(t, { size, scheme, Hands }) {
  const plant = await fresh(t);
  const visitor = await browser.visitor(plant.gateway, { size, scheme });
  visitor.allow(/status of 4(01|03|22)/);
  // A new name is a new identity for everything: the gateway starts anew inside, and its page is away for a moment.
  visitor.allow(/(\[object Event\]|ERR_CONNECTION_(REFUSED|RESET)).*first-steps\/(name|source)/);
  const way = new Way(visitor, plant, size, new Hands(visitor));
  const started = performance.now();
  const times = [];
  let before = started;
  for (const step of ["setUp", "name", "source", "value", "sink", "done"]) {
    await way[step]();
    times.push(`${step} ${((performance.now() - before) / 1000).toFixed(1)} s`);
    before = performance.now();
  }
  const took = performance.now() - started;
  t.diagnostic(`${size}, ${scheme}, ${Hands.name.toLowerCase()}: ${(took / 1000).toFixed(1)} s: ${times.join(", ")}`);
  assert.ok(took < WAY_MS_MAX);
  await visitor.leave();
}

test("before it is set up, nothing but setting up can be reached", async (t) => {
  const plant = await fresh(t);
  const { origin } = plant.gateway;
  const open = ["/live", "/ready", "/set-up"];
  const shut = ["/", "/points", "/settings", "/settings/people", "/events", "/account", "/api/v1/points", "/api/v1/status", "/metrics", "/board/logs"];
  for (const path of open) assert.equal((await fetch(origin + path)).status, 200, path);
  for (const path of shut) {
    const answer = await fetch(origin + path, { redirect: "manual" });
    assert.ok(answer.status === 303 || answer.status === 403, `${path} answers ${answer.status}`);
  }
});

for (const size of ["phone", "desk"]) {
  for (const scheme of SCHEMES) {
    test(`from the token to readings upstream in less than five minutes, on a ${size}, ${scheme}`, (t) => walk(t, { size, scheme, Hands: Pointer }));
  }
}

test("the whole way with the keys alone", (t) => walk(t, { size: "desk", scheme: "light", Hands: Keyboard }));
