// Rules made by hand: from a point's page to limits that hold, on a phone.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setting } from "../lib/story.mjs";

const at = setting();

test("someone sets limits from a point's page: the points are counted, a mistake stands at its field, and the chart shows them", async () => {
  const visitor = await at.visitor({ size: "phone" });
  await visitor.signIn();
  const { page } = visitor;
  await page.goto("/points");
  await page.locator("main tr", { hasText: "flow" }).first().click();
  await page.waitForURL(/\/points\/\d+/);
  const point = new URL(page.url()).pathname;
  await page.getByRole("link", { name: "Set limits" }).click();
  await page.locator("#picked", { hasText: "Matches 1 of" }).waitFor();
  await page.locator("#picked", { hasText: /to .* in the last day/ }).waitFor();

  const [low, high] = ["#f-range-operating-0-", "#f-range-operating-1-"].map((id) => page.locator(id));
  await low.fill("30");
  await high.fill("10");
  await page.locator(".slot .wrong").first().waitFor();
  assert.ok(await page.locator("main form#form").isVisible(), "nothing was handed in");
  await page.locator("#f-points").fill("*/*");
  await page.locator("#picked", { hasText: /Matches (\d+) of \1 points/ }).waitFor();
  await page.locator("#f-points").fill("boiler-*/flow");
  await page.locator("#picked", { hasText: "Matches" }).waitFor();
  await page.locator("#picked button", { hasText: "only" }).first().click();
  await page.locator("#picked", { hasText: "Matches 1 of" }).waitFor();
  await low.fill("10");
  await high.fill("30");
  await page.locator("#form").getByRole("button", { name: "Run on trial" }).click();
  await page.waitForURL((url) => url.pathname === point);
  const limits = await page.locator("#chart").evaluate((chart) => JSON.parse(chart.dataset.limits));
  assert.deepEqual(limits, [{ operating: [10, 30], possible: null }]);
  assert.ok(await page.getByRole("link", { name: "Change limits" }).isVisible());
  await visitor.leave();
});
