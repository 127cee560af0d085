// A change runs at once, and stays only if someone keeps it.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Plant, user } from "../lib/plant.mjs";
import { until } from "../lib/process.mjs";
import { axeFindings } from "../lib/look.mjs";
import { setting } from "../lib/story.mjs";

const second = { name: "carla", password: "slow water cuts the stone" };
const at = setting(() => Plant.running({ people: [[user, "administrator"], [second, "administrator"]] }));

const file = () => readFileSync(at.plant.gateway.config, "utf8");

/** Opens the file on the page and changes a number in it. */
async function change({ page }, from, to) {
  await page.goto("/settings/file");
  const text = await page.locator("#text").inputValue();
  assert.ok(text.includes(from), `${from} is not in\n${text}`);
  await page.locator("#text").fill(text.replace(from, to));
}

const tryIt = ({ page }) => page.locator("main").getByRole("button", { name: "Run on trial" }).click();
const banner = ({ page }) => page.locator("#trial section");

test("a change is checked as it is typed, runs on trial, counts down, and is kept with its comments", async () => {
  const visitor = await at.visitor({ size: "phone" });
  await visitor.signIn();
  const { page } = visitor;
  await change(visitor, "95.0", "\"warm\"");
  const wrong = page.locator("#findings .wrong").first();
  await wrong.waitFor();
  assert.match(await page.locator("#findings").innerText(), /Line \d+ check\[0\]\.range/);
  await change(visitor, "95.0", "92.5");
  await page.locator("#findings .state.good").waitFor();
  await tryIt(visitor);
  await banner(visitor).waitFor();
  assert.match(await banner(visitor).innerText(), /runs on trial/);
  assert.ok(!file().includes("92.5"), "what is on trial is not in the file");
  const left = async () => (await banner(visitor).locator("time").innerText()).split(":").reduce((sum, part) => sum * 60 + Number(part), 0);
  const before = await left();
  await until("the time to run down", async () => (await left()) < before);
  assert.deepEqual(await axeFindings(page), []);

  await page.goto("/points");
  await banner(visitor).getByRole("button", { name: "Keep it", exact: true }).click();
  await banner(visitor).waitFor({ state: "hidden" });
  await until("the file", () => file().includes("92.5"));
  assert.match(file(), /^# The gateway of line 2\./, "comments stay");

  await page.goto("/settings/history");
  assert.match(await page.locator("main").innerText(), /anna/);
  await visitor.leave();
});

test("two people change the same configuration: the second sees what the first did, and loses nothing", async () => {
  const [one, two] = [await at.visitor(), await at.visitor()];
  await one.signIn();
  await two.signIn(second);
  two.allow(/status of 409/);
  await change(one, "every_ms = 500", "every_ms = 400");
  await change(two, "20.0", "22.5");
  await tryIt(one);
  await banner(one).getByRole("button", { name: "Keep it", exact: true }).click();
  await until("the file", () => file().includes("every_ms = 400"));

  await tryIt(two);
  await two.page.getByRole("heading", { name: "Someone else was faster" }).waitFor();
  const shown = await two.page.locator("main").innerText();
  assert.match(shown, /anna/);
  assert.match(shown, /every_ms = 400/);
  assert.match(shown, /22\.5/);
  assert.deepEqual(await axeFindings(two.page), []);
  await two.page.getByRole("button", { name: "Run mine on trial, on top of the newest one" }).click();
  await banner(two).getByRole("button", { name: "Keep it", exact: true }).click();
  await until("both changes, in the file", () => file().includes("22.5") && file().includes("every_ms = 400"));
  await one.leave();
  await two.leave();
});

test("a change is taken back by a button, and its text is still there to be mended", async () => {
  const visitor = await at.visitor();
  await visitor.signIn();
  const { page } = visitor;
  const before = file();
  await change(visitor, "22.5", "25.5");
  await tryIt(visitor);
  await banner(visitor).getByRole("button", { name: "Take it back" }).click();
  await banner(visitor).getByText("The old configuration is back").waitFor();
  assert.equal(file(), before);
  await banner(visitor).getByRole("link", { name: "Look at what ran on trial" }).click();
  await page.waitForURL(/tried=1/);
  assert.match(await page.locator("#text").inputValue(), /25\.5/);
  await visitor.leave();
});

test("a change that nobody keeps goes back by itself, and readings flow all the while", async () => {
  const visitor = await at.visitor();
  await visitor.signIn();
  const { page } = visitor;
  const before = file();
  await change(visitor, "22.5", "26.5");
  await page.locator("#within").selectOption("1");
  await tryIt(visitor);
  await banner(visitor).waitFor();
  const records = at.plant.receiver.records;
  await page.goto("/points");
  await banner(visitor).getByText("The old configuration is back").waitFor({ timeout: 90_000 });
  assert.equal(file(), before);
  assert.ok(at.plant.receiver.records > records, "readings flowed");
  await visitor.leave();
});

test("a gateway that loses its power during a trial shows no trial on pages that stayed open, and says what became of it", async () => {
  const visitor = await at.visitor();
  await visitor.signIn();
  const { page } = visitor;
  visitor.allow(/console: \[object Event\]|ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET/);
  const before = file();
  await change(visitor, "22.5", "27.5");
  await tryIt(visitor);
  await banner(visitor).waitFor();
  await page.goto("/points");
  await banner(visitor).getByRole("button", { name: "Take it back" }).waitFor();
  await at.plant.gateway.kill("SIGKILL");
  await page.locator("#lost").waitFor();
  await at.plant.gateway.start();
  await banner(visitor).getByText("The gateway started anew while a change of anna was on trial").waitFor();
  assert.equal(await banner(visitor).getByRole("button").count(), 0, "nothing is on trial any more");
  assert.equal(file(), before);
  await visitor.leave();
});

test("a change that is kept elsewhere leaves no banner on pages that stayed open", async () => {
  const visitor = await at.visitor();
  await visitor.signIn();
  const { page } = visitor;
  await change(visitor, "22.5", "28.5");
  await tryIt(visitor);
  await banner(visitor).waitFor();
  const open = await page.context().newPage();
  await open.goto("/points");
  await banner({ page: open }).waitFor();
  await banner(visitor).locator("button[value=confirm], button[value=force]").click();
  await banner({ page: open }).waitFor({ state: "detached" });
  assert.equal(await open.locator("#trial").innerHTML(), "");
  await open.close();
  await visitor.leave();
});
