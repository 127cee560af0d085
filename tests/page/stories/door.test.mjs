// Who gets in, and how far.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Plant, user } from "../lib/plant.mjs";
import { setting } from "../lib/story.mjs";

const viewer = { name: "ben", password: "a quiet hum in the hall" };
const at = setting(() => Plant.running({ people: [[user, "administrator"], [viewer, "viewer"]] }));

test("a wrong password is refused in words, and the right one leads to where one wanted to go", async () => {
  const visitor = await at.visitor({ size: "phone" });
  visitor.allow(/status of 401/);
  const { page } = visitor;
  await page.goto("/points?filter=boiler");
  assert.match(page.url(), /sign-in/);
  await page.locator("#name").fill(user.name);
  await page.locator("#password").fill("not the password");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").waitFor();
  assert.equal(await page.locator("#name").inputValue(), user.name, "the name need not be typed again");
  assert.equal(await page.locator("#password").inputValue(), "");
  await page.locator("#password").fill(user.password);
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/points\?filter=boiler$/);
  await visitor.leave();
});

test("the session's cookie is no business of scripts, and signing out ends it for good", async () => {
  const visitor = await at.visitor();
  const before = await visitor.context.cookies();
  await visitor.signIn();
  const [cookie] = (await visitor.context.cookies()).filter(({ name }) => name.includes("session"));
  assert.deepEqual([cookie.httpOnly, cookie.sameSite], [true, "Strict"]);
  assert.ok(!before.some(({ value }) => value === cookie.value), "a session of before is not taken over");
  const { origin } = at.plant.gateway;
  // The page that is still open asks for its values, and is told off.
  visitor.allow(/status of 401|\[object Event\]/);
  const answer = await visitor.context.request.post("/sign-out", { headers: { origin } });
  assert.equal(answer.status(), 200);
  const again = await fetch(`${origin}/points`, { headers: { cookie: `${cookie.name}=${cookie.value}` }, redirect: "manual" });
  assert.equal(again.status, 303);
  await visitor.leave();
});

test("a viewer sees how things are, and nothing that they may not do", async () => {
  const visitor = await at.visitor();
  await visitor.signIn(viewer);
  const { page } = visitor;
  await page.goto("/points");
  await page.getByText("boiler-3").first().waitFor();
  assert.equal(await page.locator("nav.places").getByText("Settings").count(), 0);
  visitor.allow(/status of 403/);
  const answer = await page.goto("/settings");
  assert.equal(answer.status(), 403);
  assert.match(await page.locator("main").innerText(), /needs the right "configure"/);
  await visitor.leave();
});

test("another site cannot act with the session of someone who is signed in", async () => {
  const visitor = await at.visitor();
  await visitor.signIn();
  const answer = await visitor.context.request.post("/sign-out", { headers: { origin: "https://elsewhere.example", "sec-fetch-site": "cross-site" } });
  assert.equal(answer.status(), 403);
  await visitor.page.goto("/points");
  assert.match(visitor.page.url(), /points$/);
  await visitor.leave();
});

test("over HTTPS, on the same port, one signs in and the page lives; its cookie never goes over plain HTTP", async () => {
  const secure = at.plant.gateway.origin.replace("http:", "https:");
  const visitor = await at.visitor({ size: "phone", baseURL: secure, ignoreHTTPSErrors: true });
  visitor.allow(new RegExp(`a request left the gateway: ${secure}/`));
  await visitor.signIn();
  const { page } = visitor;
  await page.goto("/points");
  const table = page.locator("#table");
  await table.getByText("boiler-3").first().waitFor();
  const before = await table.innerText();
  await page.waitForFunction((before) => document.querySelector("#table").innerText !== before, before);
  const [cookie] = (await visitor.context.cookies()).filter(({ name }) => name.includes("session"));
  assert.deepEqual([cookie.secure, cookie.httpOnly, cookie.sameSite], [true, true, "Strict"]);
  await visitor.leave();
});
