// Values that move under a finger, a focus and a selection.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setting } from "../lib/story.mjs";

const at = setting();

/** Presses by a slow finger, each of which must be taken. */
const PRESSES = 10;
const PRESS_MS = 300;

/** Waits until the live part has brought something new twice. */
async function twoUpdates(page, part) {
  for (let update = 0; update < 2; update += 1) {
    const before = await page.locator(part).innerText();
    await page.waitForFunction(([part, before]) => document.querySelector(part).innerText !== before, [part, before]);
  }
}

for (const [path, part, link] of [
  ["/", "[sse-swap=sources]", "[sse-swap=sources] a[href^='/sources/']"],
  ["/", "[sse-swap=watch]", "[sse-swap=watch] a[href^='/points/']"],
  ["/points", "#table", "#table a[href^='/points/']"],
]) {
  test(`on ${path}, what has the keyboard keeps it while ${part} goes on living`, async () => {
    const visitor = await at.visitor();
    await visitor.signIn();
    const { page } = visitor;
    await page.goto(path);
    const row = page.locator(link).first();
    await row.focus();
    const address = await row.getAttribute("href");
    await twoUpdates(page, part);
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute("href")), address);
    await page.keyboard.press("Enter");
    await page.waitForURL(`**${address}`);
    await visitor.leave();
  });

  test(`on ${path}, every slow press on a row of ${part} is taken`, async () => {
    const visitor = await at.visitor({ size: "phone" });
    await visitor.signIn();
    const { page } = visitor;
    for (let press = 0; press < PRESSES; press += 1) {
      await page.goto(path);
      const row = page.locator(link).first();
      await row.click({ delay: PRESS_MS });
      await page.waitForURL((url) => url.pathname !== path);
    }
    await visitor.leave();
  });
}
