// Where the things are that tests/setup fetched, and the programs under test.
import { createRequire } from "node:module";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../../..");
export const target = path.resolve(root, process.env.CARGO_TARGET_DIR ?? "target");
const peers = path.join(target, "peers");
const packages = path.join(peers, "page");

if (!existsSync(path.join(packages, "node_modules"))) throw new Error(`${packages} is missing; run tests/setup`);

const require = createRequire(path.join(packages, "package.json"));
export const { chromium } = require("playwright-core");
export const UPNG = require("upng-js");
export const axeSource = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

/** The gateway under test; FOREBAY_BIN names another build. */
export const forebay = path.resolve(root, process.env.FOREBAY_BIN ?? path.join(target, "debug/forebay"));
export const python = path.join(peers, "venv/bin/python");
export const modbusServer = path.join(root, "tests/peers/modbus_server.py");

/** The browser: Debian's, or the one that CHROMIUM names. */
export const chromiumPath = process.env.CHROMIUM ?? "/usr/bin/chromium";
