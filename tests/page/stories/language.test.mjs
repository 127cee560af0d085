// English and German, numbers and times as the viewer is used to them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { SCREENS, open } from "../lib/screens.mjs";
import { setting } from "../lib/story.mjs";

const at = setting();

/** Words that no German text of the page has. */
const ENGLISH = /\b(the|and|with|of|not|your|has|this|from|since|here|it|is|are|check|must|been)\b/i;

/** Forms that are made from the options, each of another kind. */
const FORMS = ["gateway", "web", "buffer", "source[0]", "source[0].subscribe[0]", "source[1]", "source[1].unit[0]", "check[0]", "sink[0]"]
  .map((at) => ({ name: `options of ${at}`, path: `/settings/edit?at=${at}` }));

test("a German browser gets a German page, on every screen", async (t) => {
  const visitor = await at.visitor({ language: "de" });
  await visitor.signIn();
  for (const screen of [...SCREENS.filter((screen) => !screen.stranger && !screen.fresh), ...FORMS]) {
    if (screen.status) visitor.allow(new RegExp(`status of ${screen.status}`));
    await t.test(screen.name, async () => {
      await open(visitor.page, screen);
      assert.equal(await visitor.page.locator("html").getAttribute("lang"), "de");
      // What is marked as code, or comes from the plant, is nobody's language.
      const words = await visitor.page.evaluate(() => {
        const copy = document.body.cloneNode(true);
        copy.querySelectorAll("script, noscript, code, pre, textarea, .mono, .code, [translate=no], .address, [lang=en]").forEach((element) => element.remove());
        const texts = [];
        const walker = document.createTreeWalker(copy, NodeFilter.SHOW_TEXT);
        while (walker.nextNode()) texts.push(walker.currentNode.textContent.trim());
        return texts.filter(Boolean);
      });
      assert.deepEqual(words.filter((text) => ENGLISH.test(text)), []);
    });
  }
  await visitor.leave();
});

test("whoever chooses a language keeps it, and times are in the viewer's zone with UTC beside", async () => {
  const visitor = await at.visitor({ language: "en" });
  await visitor.signIn();
  const { page } = visitor;
  await page.getByRole("link", { name: "Deutsch" }).click();
  await page.waitForFunction(() => document.documentElement.lang === "de");
  await page.goto("/points");
  assert.equal(await page.locator("html").getAttribute("lang"), "de");
  assert.match(await page.locator("main").innerText(), /\d,\d/, "a decimal comma");
  const title = await page.locator("footer time").getAttribute("title");
  assert.match(title, /UTC$/);
  await visitor.leave();
});
