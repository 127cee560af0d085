// An ingest endpoint: takes batches of readings and keeps what it got, or refuses as it is told.
import { createServer } from "node:http";
import { once } from "node:events";
import zlib from "node:zlib";

/** Requests that are remembered; older ones are counted only. */
const KEPT_MAX = 1_000;

export class Receiver {
  static async start() {
    const receiver = new Receiver();
    receiver.got = [];
    receiver.records = 0;
    /** The status of every answer, until it is changed. */
    receiver.status = 200;
    receiver.server = createServer(async (request, response) => {
      const chunks = [];
      for await (const chunk of request) chunks.push(chunk);
      receiver.keep(request, Buffer.concat(chunks));
      response.writeHead(receiver.status).end();
    }).listen(0, "127.0.0.1");
    await once(receiver.server, "listening");
    return receiver;
  }

  keep({ method, url, headers }, body) {
    const unpack = { gzip: zlib.gunzipSync, zstd: zlib.zstdDecompressSync }[headers["content-encoding"]];
    // zstd is newer than some Node; its batches are counted as they are.
    const text = (unpack ? unpack(body) : body).toString();
    if (this.status < 300) this.records += text.split("\n").filter(Boolean).length;
    this.got.push({ method, url, headers, text });
    this.got.splice(0, this.got.length - KEPT_MAX);
  }

  get url() { return `http://127.0.0.1:${this.server.address().port}/v1/readings`; }

  close() {
    this.server.closeAllConnections();
    this.server.close();
  }
}
