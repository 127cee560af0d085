// Nothing on the page leads nowhere.
import assert from "node:assert/strict";
import { test } from "node:test";
import { SCREENS } from "../lib/screens.mjs";
import { setting } from "../lib/story.mjs";

const at = setting();

/** Links that are followed; lists of hundreds of points have their like at the beginning. */
const LINKS_MAX = 150;

test("every link of the page leads to a screen that answers and has a name", async () => {
  const visitor = await at.visitor();
  await visitor.signIn();
  const { page } = visitor;
  const seen = new Map([["/", "the beginning"]]);
  const dead = [];
  const nameless = [];
  // Following every link of the log's and the list's pages would never end: one of a kind is enough.
  const kind = (path) => path.replace(/\d+/g, "0").replace(/=[^&]*/g, "=");
  const kinds = new Set();
  for (const [path, from] of seen) {
    if (seen.size > LINKS_MAX) break;
    if (path.startsWith("/static/") || kinds.has(kind(path)) || path.startsWith("/language")) continue;
    kinds.add(kind(path));
    const answer = await visitor.context.request.get(path, { headers: { accept: "text/html" } });
    if (answer.status() !== 200) dead.push(`${path} (linked on ${from}) answers ${answer.status()}`);
    if (!answer.headers()["content-type"].startsWith("text/html")) continue;
    await page.goto(path);
    if (!/.+ · .+/.test(await page.title())) nameless.push(`${path} is titled "${await page.title()}"`);
    if ((await page.locator("h1").count()) === 0) nameless.push(`${path} has no heading`);
    const links = await page.locator("a[href]").evaluateAll((all) => all.map((link) => link.getAttribute("href")));
    for (const link of links) {
      const url = new URL(link, page.url());
      if (url.origin === at.plant.gateway.origin && !seen.has(url.pathname + url.search)) seen.set(url.pathname + url.search, path);
    }
  }
  visitor.allow(/status of 404/);
  assert.deepEqual({ dead, nameless }, { dead: [], nameless: [] });
  await visitor.leave();
});

test("every place of the navigation is among the screens that are looked at", async () => {
  const visitor = await at.visitor();
  await visitor.signIn();
  await visitor.page.goto("/more");
  const linked = await visitor.page.locator("nav a, main a").evaluateAll((all) => all.map((link) => link.getAttribute("href")));
  const known = new Set(SCREENS.map(({ path }) => path));
  assert.deepEqual([...new Set(linked)].filter((path) => !known.has(path)), [], "add them to lib/screens.mjs");
  await visitor.leave();
});
