// What every story begins with: a plant and a browser, and what they end with.
import { after, before } from "node:test";
import { Browser } from "./browser.mjs";
import { Plant } from "./plant.mjs";

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
