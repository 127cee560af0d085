// A five-year-old phone at the end of a slow line.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setting } from "../lib/story.mjs";

const at = setting();

/** The first view may keep someone waiting so long, on a machine that is busy with other stories. */
const FIRST_VIEW_MS = 10_000;

async function slow(visitor) {
  const session = await visitor.context.newCDPSession(visitor.page);
  await session.send("Network.enable");
  await session.send("Network.emulateNetworkConditions", { offline: false, latency: 200, downloadThroughput: 2e5, uploadThroughput: 9e4 });
  await session.send("Emulation.setCPUThrottlingRate", { rate: 6 });
  return session;
}

test("with 200 ms to the gateway and a sixth of a processor, the page is there, small and alive", async () => {
  const visitor = await at.visitor({ size: "phone" });
  const session = await slow(visitor);
  let bytes = 0;
  let streams = new Set();
  session.on("Network.requestWillBeSent", ({ requestId, request }) => { if (request.url.includes("/events")) streams.add(requestId); });
  session.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => { if (!streams.has(requestId)) bytes += encodedDataLength; });
  await visitor.signIn();
  const started = performance.now();
  await visitor.page.goto("/");
  await visitor.page.locator("main h1, main h2").first().waitFor();
  const took = performance.now() - started;
  assert.ok(took < FIRST_VIEW_MS, `the overview took ${Math.round(took)} ms`);
  assert.ok(bytes < 150 * 1024, `signing in and the overview took ${bytes} bytes`);
  const before = await visitor.page.locator("main").innerText();
  await visitor.page.waitForFunction((before) => document.querySelector("main").innerText !== before, before);
  await visitor.page.locator("nav.places a", { hasText: "Points" }).tap();
  await visitor.page.getByText("supply temp").first().waitFor();
  await visitor.leave();
});

test("without script the page still says what there is, and can be gone through", async () => {
  const visitor = await at.visitor({ size: "phone", javaScriptEnabled: false });
  await visitor.signIn();
  await visitor.page.goto("/points");
  assert.match(await visitor.page.locator("main").innerText(), /boiler-3/);
  assert.match(await visitor.page.locator("footer").innerText(), /Reload the page for newer values/);
  await visitor.leave();
});
