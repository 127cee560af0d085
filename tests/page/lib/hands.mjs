// How someone works with the page: with a finger or a mouse, or with the keys alone.
import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";

/** Stops of the tab key on the longest screen. */
const STOPS_MAX = 250;

export class Pointer {
  constructor({ page }) { this.page = page; }

  async fill(field, text) { await field.fill(text); }

  async press(button) { await button.click(); }

  async choose(field, value) { await field.selectOption(value); }
}

export class Keyboard {
  constructor({ page }) { this.page = page; }

  /** Goes on with the tab key until the focus is on the element, which must be seen to have it. */
  async goTo(element) {
    await element.waitFor();
    for (let stop = 0; stop < STOPS_MAX; stop += 1) {
      const at = await element.evaluate((element) => {
        if (document.activeElement !== element) return { here: false };
        const style = getComputedStyle(element);
        const box = element.getBoundingClientRect();
        return {
          here: true,
          marked: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
          shown: box.bottom > 0 && box.top < innerHeight,
        };
      });
      if (at.here) {
        assert.ok(at.marked && at.shown, `the focus on ${element} cannot be seen`);
        return;
      }
      await this.page.keyboard.press("Tab");
      // A part that is swapped in between takes a moment.
      await pause(5);
    }
    assert.fail(`${element} cannot be reached with the tab key`);
  }

  async fill(field, text) {
    await this.goTo(field);
    await this.page.keyboard.press("Control+a");
    await this.page.keyboard.type(text);
  }

  async press(button) {
    await this.goTo(button);
    await this.page.keyboard.press("Enter");
  }

  async choose(field, value) {
    await this.goTo(field);
    await field.selectOption(value);
  }
}
