// What every story begins with: a plant and a browser, and what they end with.
import { after, before } from "node:test";
import { Browser } from "./browser.mjs";
import { Plant } from "./plant.mjs";

/** The stories of one file, in milliseconds; whatever holds them up then is ended with them. */
const FILE_MS_MAX = 300_000;

setTimeout(() => {
  console.error(`the stories of this file are not done after ${FILE_MS_MAX} ms`);
  process.exit(1);
}, FILE_MS_MAX).unref();

/** One plant and one browser for the stories of a file; `build` makes the plant. */
export function setting(build = () => Plant.running()) {
  const setting = {};
  before(async () => {
    [setting.plant, setting.browser] = await Promise.all([build(), Browser.open()]);
    setting.visitor = (options) => setting.browser.visitor(setting.plant.gateway, options);
  });
  after(async () => {
    await setting.browser?.close();
    await setting.plant?.close();
  });
  return setting;
}
