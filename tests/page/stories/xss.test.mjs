// Whoever can publish to the broker can write words on the page, and nothing but words.
import assert from "node:assert/strict";
import { test } from "node:test";
import { until } from "../lib/process.mjs";
import { Plant, round } from "../lib/plant.mjs";
import { SCREENS, open } from "../lib/screens.mjs";
import { setting } from "../lib/story.mjs";

const IMAGE = "<img src=x onerror=alert(1)>";
const SCRIPT = "\"><script>alert(2)<\u200b\\script>";
const ATTRIBUTE = "x' onmouseover='alert(3)' autofocus onfocus='alert(4)";
const TEXT = "</td></textarea></script><script>alert(5)</script><svg onload=alert(6)>";

const messages = (turn) => [
  ...round(turn),
  [`free/${IMAGE}/level`, JSON.stringify({ value: 1 })],
  [`free/boiler-9/${SCRIPT}`, JSON.stringify({ value: 2 })],
  [`free/${ATTRIBUTE}/level`, JSON.stringify({ value: 3 })],
  ["free/boiler-9/mode", JSON.stringify({ value: TEXT })],
  // What is no JSON becomes a dead letter, with its payload.
  ["free/boiler-9/broken", TEXT],
];

const at = setting(() => Plant.running({ messages, perSecond: 60 }));

test("names and payloads of devices are shown as the text they are, on every screen", async () => {
  const visitor = await at.visitor();
  await visitor.signIn();
  const { page } = visitor;
  await page.goto("/points");
  await page.getByText(TEXT.slice(0, 30)).first().waitFor();
  const shown = await page.locator("main").innerText();
  for (const words of [IMAGE, ATTRIBUTE]) assert.ok(shown.includes(words), `${words} is not among\n${shown}`);

  // Every link that such a name is part of, and every screen: live parts have come twice.
  for (const screen of SCREENS.filter((screen) => !screen.stranger && !screen.fresh && !screen.status)) {
    await open(page, screen);
    assert.deepEqual(await page.locator("main img, main [onerror], main [onmouseover], main [onfocus], main svg[onload]").count(), 0, screen.name);
  }
  const points = page.locator("main a").filter({ hasText: /onerror|onmouseover|boiler-9/ });
  await page.goto("/points");
  const links = await points.evaluateAll((all) => all.map((link) => link.href));
  for (const link of links) {
    const answer = await page.goto(link);
    assert.equal(answer.status(), 200, link);
  }
  await visitor.leave();
});

test("what is typed into an address comes back as text", async () => {
  const visitor = await at.visitor();
  await visitor.signIn();
  visitor.allow(/status of 4\d\d/);
  for (const path of ["/points?filter=", "/sign-in?to=", "/nothing/", "/points?search="]) {
    const answer = await visitor.page.goto(path + encodeURIComponent(TEXT));
    assert.ok(answer.status() < 500, path);
    assert.equal(await visitor.page.locator("svg[onload]").count(), 0, path);
  }
  await visitor.leave();
});

test("a page has no script, style or address of its own in it, and says so to the browser", async () => {
  const visitor = await at.visitor();
  await visitor.signIn();
  const answer = await visitor.page.goto("/");
  const policy = answer.headers()["content-security-policy"];
  assert.match(policy, /default-src 'self'/);
  assert.doesNotMatch(policy, /unsafe/);
  const inline = await visitor.page.evaluate(() => document.querySelectorAll("script:not([src]), style, [style], [onclick]").length);
  assert.equal(inline, 0);
  // A script that gets in all the same is not run; the violation is the one that is expected here.
  visitor.allow(/CSP|Content Security Policy|securitypolicy/i);
  await visitor.page.evaluate(() => {
    const script = document.createElement("script");
    script.textContent = "window.ran = true";
    document.body.append(script);
  });
  assert.equal(await visitor.page.evaluate(() => window.ran ?? false), false);
  await until("the browser to tell", () => visitor.troubles.some((trouble) => /Content Security Policy|CSP/.test(trouble)));
  await visitor.leave();
});
