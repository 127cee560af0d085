// Measures the page: what a first view costs on a slow phone and line, and what open pages cost the gateway.
//
// Every figure is printed with the conditions of its run. The cost of pages is told as a share of one core, and as what the
// gateway took with pages over what it took without, in the same run.
import { readFileSync } from "node:fs";
import http from "node:http";
import os from "node:os";
import { setTimeout as pause } from "node:timers/promises";
import { Browser } from "./lib/browser.mjs";
import { forebay } from "./lib/needs.mjs";
import { Plant, user } from "./lib/plant.mjs";

/** A five-year-old phone in a plant room: Lighthouse's slow line, but with a longer way. */
const LINE = { offline: false, latency: 200, downloadThroughput: (1.6e6 / 8), uploadThroughput: (750e3 / 8) };
const CPU_SLOWER = 6;
/** First views of which the middle one counts. */
const VIEWS = Number(process.env.VIEWS ?? 5);
/** Long tasks that begin so soon after the load belong to it; later ones are live values, which come once a second. */
const LOAD_MS = 500;
/** How long live values are watched after the load. */
const WATCH_MS = 5_000;
/** First view, compressed: the house's limit. */
const BYTES_MAX = 150 * 1024;

const PER_SECOND = 1_000;
const WINDOW_MS = Number(process.env.WINDOW_MS ?? 20_000);
/** Streams of open pages; the gateway keeps at most 25 of one person up to date, so that they are of several. */
const STREAMS = 100;
const PEOPLE = ["anna", "ben", "cleo", "dora", "emil"].map((name) => ({ ...user, name }));
/** The kernel counts a process's time in these (sysconf(_SC_CLK_TCK), the same on every Linux that Debian runs on). */
const TICKS_PER_SECOND = 100;

const middle = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];

async function firstView(browser, gateway, path, { signedIn }) {
  const visitor = await browser.visitor(gateway, { size: "phone" });
  if (signedIn) {
    await visitor.signIn();
    const cookies = await visitor.context.cookies();
    await visitor.leave();
    return measured(await browser.visitor(gateway, { size: "phone" }), path, cookies);
  }
  return measured(visitor, path, []);
}

/** A view with an empty cache, slowed down from the first byte on. */
async function measured(visitor, path, cookies) {
  await visitor.context.addCookies(cookies);
  const { page } = visitor;
  await visitor.context.addInitScript(() => {
    window.longTasks = [];
    new PerformanceObserver((list) => window.longTasks.push(...list.getEntries().map(({ startTime, duration }) => [startTime, duration])))
      .observe({ type: "longtask", buffered: true });
    window.shift = 0;
    new PerformanceObserver((list) => list.getEntries().forEach((entry) => { window.shift += entry.value; }))
      .observe({ type: "layout-shift", buffered: true });
    new PerformanceObserver((list) => { window.largest = list.getEntries().at(-1).startTime; })
      .observe({ type: "largest-contentful-paint", buffered: true });
  });
  const session = await visitor.context.newCDPSession(page);
  await session.send("Network.enable");
  await session.send("Network.setCacheDisabled", { cacheDisabled: true });
  await session.send("Network.emulateNetworkConditions", LINE);
  await session.send("Emulation.setCPUThrottlingRate", { rate: CPU_SLOWER });
  const sizes = new Map();
  session.on("Network.responseReceived", ({ requestId, response }) => sizes.set(requestId, { url: response.url, bytes: response.encodedDataLength }));
  session.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => {
    if (sizes.has(requestId)) sizes.get(requestId).bytes = encodedDataLength;
  });
  await page.goto(path, { waitUntil: "load" });
  await pause(WATCH_MS);
  const times = await page.evaluate((loadMs) => {
    const fcp = performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0;
    const [navigation] = performance.getEntriesByType("navigation");
    const isLoad = ([start]) => start < navigation.loadEventEnd + loadMs;
    const end = Math.max(0, ...window.longTasks.filter(isLoad).map(([start, duration]) => start + duration));
    const live = Math.max(0, ...window.longTasks.filter((task) => !isLoad(task)).map(([, duration]) => duration));
    const blocked = window.longTasks.filter(isLoad).filter(([start]) => start >= fcp).reduce((sum, [, duration]) => sum + duration - 50, 0);
    return {
      fcp, largest: window.largest, blocked, live, shift: window.shift,
      interactive: Math.max(fcp, navigation.domContentLoadedEventEnd, end),
    };
  }, LOAD_MS);
  await visitor.leave();
  const own = [...sizes.values()].filter(({ url }) => !url.includes("/events"));
  return { ...times, requests: own.length, bytes: own.reduce((sum, { bytes }) => sum + bytes, 0) };
}

/** Processor time of a process so far, in seconds (proc(5), fields 14 and 15 of stat). */
function cpuSeconds(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

async function metric(gateway, cookie, name) {
  const answer = await fetch(`${gateway.origin}/metrics`, { headers: { cookie } });
  const lines = (await answer.text()).split("\n").filter((line) => line.startsWith(name) && !line.startsWith("#"));
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
}

/** Share of one core over a while, and the readings accepted meanwhile, by second. */
async function share(plant, cookie) {
  const { gateway } = plant;
  const before = { cpu: cpuSeconds(gateway.program.pid), at: performance.now(), readings: await metric(gateway, cookie, "forebay_source_accepted_samples_total") };
  await pause(WINDOW_MS);
  const seconds = (performance.now() - before.at) / 1_000;
  return {
    cpu: (cpuSeconds(gateway.program.pid) - before.cpu) / seconds,
    readings: ((await metric(gateway, cookie, "forebay_source_accepted_samples_total")) - before.readings) / seconds,
  };
}

/** A page as the gateway sees it: a stream that is read. */
function listen(gateway, cookie, of) {
  const request = http.get(`${gateway.origin}/events?of=${of}`, { headers: { cookie, accept: "text/event-stream" }, agent: false });
  return new Promise((resolve, reject) => {
    request.on("error", reject).on("response", (response) => {
      response.on("error", () => {}).resume();
      if (response.statusCode === 200) resolve(request);
      else reject(new Error(`a stream was answered ${response.statusCode}`));
    });
  });
}

async function cookieOf(visitor) {
  return (await visitor.context.cookies()).map(({ name, value }) => `${name}=${value}`).join("; ");
}

function round(turn) {
  return Array.from({ length: 50 }, (_, index) =>
    [`free/meter-${index % 10}/power-${Math.floor(index / 10)}`, JSON.stringify({ value: 40 + index + Math.sin(turn / 9 + index) })]);
}

const percent = (part) => `${(100 * part).toFixed(2)} %`;
const ms = (time) => `${Math.round(time)} ms`;

const plant = await Plant.running({ perSecond: PER_SECOND, messages: round, people: PEOPLE.map((person) => [person, "administrator"]) });
const browser = await Browser.open();
let failed = false;
try {
  console.log(`${os.cpus()[0].model}, ${os.cpus().length} cores; ${forebay}`);
  console.log(`\nFirst view: ${LINE.latency} ms latency, 1.6 Mbit/s, processor ${CPU_SLOWER}× slower, 390 px, empty cache; the middle of ${VIEWS}`);
  for (const [name, path, signedIn] of [["sign-in", "/sign-in", false], ["overview", "/", true], ["points", "/points", true]]) {
    const views = [];
    for (let view = 0; view < VIEWS; view += 1) views.push(await firstView(browser, plant.gateway, path, { signedIn }));
    const of = (key) => middle(views.map((view) => view[key]));
    const bytes = of("bytes");
    failed ||= bytes > BYTES_MAX;
    console.log(`  ${name.padEnd(9)} ${of("requests")} requests, ${(bytes / 1024).toFixed(1)} KiB compressed (limit ${BYTES_MAX / 1024}); first paint ${
      ms(of("fcp"))}, largest ${ms(of("largest"))}, interactive ${ms(of("interactive"))}, blocked ${ms(of("blocked"))}, longest task of live values ${ms(of("live"))}, shift ${of("shift").toFixed(3)}`);
  }

  console.log(`\nOpen pages: ${PER_SECOND} readings/s through broker, buffer and sink; windows of ${WINDOW_MS / 1_000} s`);
  const visitor = await browser.visitor(plant.gateway);
  await visitor.signIn();
  const cookie = await cookieOf(visitor);
  await visitor.page.goto("about:blank");
  await pause(2_000);
  const tell = (what, { cpu, readings }, idle) =>
    console.log(`  ${what.padEnd(34)} ${percent(cpu)} of a core, ${readings.toFixed(0)} readings/s${
      idle ? `; ${(cpu / idle.cpu).toFixed(2)} × without pages, ${percent(cpu - idle.cpu)} of a core more` : ""}`);
  const first = await share(plant, cookie);
  tell("no page", first);
  // Each as if in a browser of its own: one browser opens six connections to a host over HTTP/1.1, and a page keeps one.
  const pages = [];
  for (let page = 0; page < 10; page += 1) {
    const open = await browser.visitor(plant.gateway);
    await open.context.addCookies(await visitor.context.cookies());
    await open.page.goto(page % 2 === 0 ? "/" : "/points");
    pages.push(open);
  }
  await pause(2_000);
  const ten = await share(plant, cookie);
  for (const page of pages) await page.context.close();
  await pause(2_000);
  const second = await share(plant, cookie);
  tell("no page, once more", second);
  const idle = { cpu: (first.cpu + second.cpu) / 2 };
  tell("10 pages in a browser", ten, idle);
  const streams = [];
  const cookies = [];
  for (const person of PEOPLE) {
    const other = await browser.visitor(plant.gateway);
    await other.signIn(person);
    cookies.push(await cookieOf(other));
    await other.context.close();
  }
  for (let stream = 0; stream < STREAMS; stream += 1) {
    streams.push(await listen(plant.gateway, cookies[stream % cookies.length], stream % 2 === 0 ? "overview" : "points"));
  }
  await pause(2_000);
  tell(`${STREAMS} streams of pages`, await share(plant, cookie), idle);
  streams.forEach((stream) => stream.destroy());
  await visitor.context.close();
} finally {
  await browser.close();
  await plant.close();
}
process.exit(failed ? 1 : 0);
