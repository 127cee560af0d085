// Every screen, on a phone and on a desk, in the light and in the dark: usable by everyone.
import assert from "node:assert/strict";
import { test } from "node:test";
import { axeFindings, focusFindings, overflowFindings, targetFindings } from "../lib/look.mjs";
import { SCREENS, open } from "../lib/screens.mjs";
import { setting } from "../lib/story.mjs";

const at = setting();

for (const size of ["phone", "desk"]) {
  test(`every screen can be used by everyone, on a ${size}`, async (t) => {
    const scheme = size === "phone" ? "light" : "dark";
    const stranger = await at.visitor({ size, scheme });
    const visitor = await at.visitor({ size, scheme });
    await visitor.signIn();
    for (const screen of SCREENS.filter((screen) => !screen.fresh)) {
      const { page } = screen.stranger ? stranger : visitor;
      if (screen.status) visitor.allow(new RegExp(`status of ${screen.status}.*${screen.path}`));
      await t.test(`${screen.name}, on a ${size}`, async () => {
        await open(page, screen);
        assert.deepEqual([
          ...(await axeFindings(page)),
          ...(await overflowFindings(page)),
          ...(size === "phone" ? await targetFindings(page) : []),
          ...(await focusFindings(page)),
        ], []);
      });
    }
    await stranger.leave();
    await visitor.leave();
  });
}
