// The gateway goes away and comes back under an open page.
import assert from "node:assert/strict";
import { test } from "node:test";
import { until } from "../lib/process.mjs";
import { setting } from "../lib/story.mjs";

const at = setting();

/** How many states on the page are told in the colour of what is good, and whether its headline is seen. */
const looks = (page) => page.evaluate(() => {
  const calm = getComputedStyle(document.documentElement).getPropertyValue("--idle-soft").trim();
  const probe = document.body.appendChild(document.createElement("i"));
  probe.style.setProperty("background", calm);
  const idle = getComputedStyle(probe).backgroundColor;
  probe.remove();
  const states = [...document.querySelectorAll("main .state")];
  const headline = document.querySelector("main .lead h1, main .lead h2");
  return {
    green: states.filter((state) => getComputedStyle(state).backgroundColor !== idle).length,
    headline: headline !== null && headline.checkVisibility(),
  };
});

test("a page says when the gateway stops answering, keeps what it showed, and goes on by itself", async () => {
  const visitor = await at.visitor({ size: "phone" });
  await visitor.signIn();
  // The browser's own word on a connection that is gone.
  visitor.allow(/ERR_CONNECTION|ERR_INCOMPLETE|ERR_EMPTY|\[object Event\]|net::ERR_/);
  const { page } = visitor;
  const overview = await visitor.page.context().newPage();
  await overview.goto("/");
  await overview.locator("main .lead").first().waitFor();
  assert.equal((await looks(overview)).headline, true);
  await page.goto("/points");
  const value = page.locator("main").getByText("supply temp").first();
  await value.waitFor();
  assert.equal(await page.locator("#lost").isVisible(), false);

  await at.plant.gateway.kill();
  await page.locator("#lost").waitFor({ state: "visible" });
  assert.match(await page.locator("#lost").textContent(), /has not answered since .*\d.* What you see is from then/);
  const before = await page.locator("main").innerText();
  assert.ok(await value.isVisible(), "what was known stays to be read");
  assert.ok(await page.evaluate(() => document.documentElement.classList.contains("stale")), "the whole page says that it is old");
  assert.equal((await looks(page)).green, 0, "nothing is called good in green that nobody knows");

  await overview.locator("#lost").waitFor({ state: "visible" });
  assert.equal((await looks(overview)).headline, false, "whether anything needs someone is not known now");
  await overview.close();

  await at.plant.gateway.start();
  // A power cut signs nobody out: the page goes on where it was.
  await page.locator("#lost").waitFor({ state: "hidden", timeout: 60_000 });
  assert.match(page.url(), /\/points$/);
  await until("values that move again", async () => (await page.locator("main").innerText()) !== before);
  await visitor.leave();
});
