// Every screen, on a phone and on a desk, in the light and in the dark: usable by everyone.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Browser } from "../lib/browser.mjs";
import { axeFindings, focusFindings, overflowFindings, targetFindings } from "../lib/look.mjs";
import { Plant } from "../lib/plant.mjs";
import { SCREENS, open } from "../lib/screens.mjs";

let plant;
let browser;
before(async () => {
  [plant, browser] = await Promise.all([Plant.running(), Browser.open()]);
});
after(async () => {
  await browser?.close();
  await plant?.close();
});

for (const size of ["phone", "desk"]) {
  test(`every screen can be used by everyone, on a ${size}`, async (t) => {
    const stranger = await browser.visitor(plant.gateway, { size });
    const visitor = await browser.visitor(plant.gateway, { size, scheme: size === "phone" ? "light" : "dark" });
    await visitor.signIn();
    for (const screen of SCREENS) {
      const { page } = screen.stranger ? stranger : visitor;
      if (screen.status) visitor.allow(new RegExp(`status of ${screen.status}.*${screen.path}`));
      await t.test(`${screen.name}, on a ${size}`, async () => {
        await open(page, screen);
        const findings = [
          ...(await axeFindings(page)),
          ...(await overflowFindings(page)),
          ...(await targetFindings(page)),
          ...(await focusFindings(page)),
        ];
        assert.deepEqual(findings, []);
      });
    }
    await stranger.leave();
    await visitor.leave();
  });
}
