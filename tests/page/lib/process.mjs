// Programs that a story starts: they end with it, whatever ends it, and tell their last lines when something is wrong.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { setTimeout as pause } from "node:timers/promises";

/** Lines of a program's output that a failure shows. */
const TAIL_LINES = 40;
/** Between two looks whether something has come about. */
const POLL_MS = 20;
/** How long something may take that is quick on a machine that is not busy. */
export const LIMIT_MS = 30_000;

export class Program {
  /** Starts a program; without `piped`, its standard input is closed. */
  constructor(name, command, args, { env = {}, piped = false } = {}) {
    this.name = name;
    this.tail = [];
    // setpriv (util-linux) has the kernel end it with this process.
    this.child = spawn("setpriv", ["--pdeathsig", "KILL", command, ...args], {
      env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin`, ...env },
      stdio: [piped ? "pipe" : "ignore", "pipe", "pipe"],
    });
    this.ended = new Promise((resolve) => {
      this.child.once("exit", resolve);
      this.child.once("error", (error) => { this.tail.push(String(error)); resolve(); });
    });
    this.child.stderr.setEncoding("utf8").on("data", (text) => this.keep(text));
    if (!piped) this.child.stdout.setEncoding("utf8").on("data", (text) => this.keep(text));
  }

  get pid() { return this.child.pid; }

  keep(text) {
    this.tail.push(...text.split("\n").filter(Boolean));
    this.tail.splice(0, this.tail.length - TAIL_LINES);
  }

  /** Fails if it has ended, so that nobody waits for it in vain. */
  assertRunning() {
    const { exitCode, signalCode } = this.child;
    if (exitCode === null && signalCode === null && this.child.pid) return;
    throw new Error(`${this.name} ended (${exitCode ?? signalCode}); run tests/setup? It said:\n${this.tail.join("\n")}`);
  }

  /** Ends it as a power cut would, and waits until it is gone. */
  async kill(signal = "SIGKILL") {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill(signal);
    await this.ended;
  }
}

/** Waits until `look` returns something true, and returns that. */
export async function until(what, look, limitMs = LIMIT_MS) {
  const end = performance.now() + limitMs;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (performance.now() > end) throw new Error(`waited ${limitMs} ms in vain for ${what}`);
    await pause(POLL_MS);
  }
}

/** A port of loopback that nobody listens on. */
export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}
