// A gateway out of the box, a token on its label, and a person with a phone.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Browser, SCHEMES } from "../lib/browser.mjs";
import { axeFindings, overflowFindings, targetFindings } from "../lib/look.mjs";
import { Plant, user } from "../lib/plant.mjs";
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

async function usable(page, size, what) {
  assert.deepEqual([
    ...(await axeFindings(page)), ...(await overflowFindings(page)), ...(size === "phone" ? await targetFindings(page) : []),
  ], [], what);
}

/** From the first page to being signed in as the first administrator. */
async function setUp(visitor, size, { token, wrongFirst = true }) {
  const { page } = visitor;
  await page.goto("/");
  assert.match(page.url(), /\/set-up$/, "whatever one opens, it is setting up");
  await usable(page, size, "set-up");
  if (wrongFirst) {
    await page.locator("#token").fill("forebay-0000-0000-0000-0000");
    await page.locator("#name").fill(user.name);
    await page.locator("#password").fill(user.password);
    await page.locator("#again").fill(`${user.password}?`);
    await page.locator("main button.primary").click();
    await page.locator(".wrong, [role=alert]").first().waitFor();
    await usable(page, size, "set-up with mistakes");
    assert.equal(await page.locator("#name").inputValue(), user.name, "what was right need not be typed again");
  }
  await page.locator("#token").fill(token);
  await page.locator("#name").fill(user.name);
  await page.locator("#password").fill(user.password);
  await page.locator("#again").fill(user.password);
  await page.locator("main button.primary").click();
  await page.waitForURL((url) => !url.pathname.startsWith("/set-up"));
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
    test(`from the token to readings upstream in less than five minutes, on a ${size}, ${scheme}`, async (t) => {
      const plant = await fresh(t);
      const visitor = await browser.visitor(plant.gateway, { size, scheme });
      visitor.allow(/status of 4(01|03|22)/);
      const started = performance.now();
      await setUp(visitor, size, { token: plant.gateway.setUpToken });
      const took = performance.now() - started;
      t.diagnostic(`${size}, ${scheme}: ${(took / 1000).toFixed(1)} s`);
      assert.ok(took < WAY_MS_MAX);
      await visitor.leave();
    });
  }
}
