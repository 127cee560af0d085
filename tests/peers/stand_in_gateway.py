#!/usr/bin/env python3
"""Stands in for the gateway in the harness's own tests: `run --config FILE`, a page, an orderly end, exit code 78."""

import http.server
import pathlib
import signal
import sys
import tomllib

config = tomllib.loads(pathlib.Path(sys.argv[sys.argv.index("--config") + 1]).read_text())
if config["gateway"].get("refused"):
    print("gateway.refused: unknown key", file=sys.stderr)
    sys.exit(78)


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = 'accepted{source="a"} 2\naccepted{source="b"} 3\naccepted_more 9\n' if self.path == "/metrics" else ""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body.encode())


host, port = config["web"]["listen"].split(":")
server = http.server.HTTPServer((host, int(port)), Page)
data = pathlib.Path(config["gateway"]["data_dir"])
data.mkdir(parents=True, exist_ok=True)
(data / "page.addr").write_text(f"{host}:{server.server_port}\n")
print(f"page: http://{host}:{server.server_port}", file=sys.stderr)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
server.serve_forever()
