// More pages open than a browser keeps connections to one gateway.
import assert from "node:assert/strict";
import { test } from "node:test";
import { until } from "../lib/process.mjs";
import { setting } from "../lib/story.mjs";

const at = setting();

/** How many pages: a browser keeps six connections to a gateway, and each open page has a stream. */
const TABS = 8;

test("eight tabs are open, each loads, and the one that is looked at goes on by itself", async () => {
  const visitor = await at.visitor({ size: "desktop" });
  // Chromium without a window takes every tab for seen: here, as in front of a person, it is the last one.
  await visitor.context.addInitScript(() => {
    let hidden = false;
    Object.defineProperty(document, "hidden", { get: () => hidden });
    Object.defineProperty(document, "visibilityState", { get: () => (hidden ? "hidden" : "visible") });
    window.look = (away) => { hidden = away; document.dispatchEvent(new Event("visibilitychange")); };
  });
  await visitor.signIn();
  const pages = [visitor.page];
  await visitor.page.goto("/points");
  for (let n = 1; n < TABS; n += 1) {
    await pages.at(-1).evaluate(() => window.look(true));
    const page = await visitor.context.newPage();
    await page.goto("/points", { timeout: 15_000 });
    await page.locator("main").getByText("supply temp").first().waitFor();
    pages.push(page);
  }
  for (const page of [pages.at(-1), pages[0]]) {
    await pages.at(-1).evaluate((away) => window.look(away), page !== pages.at(-1));
    await page.evaluate(() => window.look(false));
    const before = await page.locator("main").innerText();
    await until("values that move", async () => (await page.locator("main").innerText()) !== before);
    assert.equal(await page.locator("#lost").isVisible(), false);
  }
  await visitor.leave();
});
