"""Reference server of the contract for remote models: brightness as a score. RESEARCH USE ONLY."""

import base64
import email.policy
import hashlib
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

BRIGHT = {"name": "Bright", "code": {"value": "BRIGHT", "scheme": "99EXAMPLE", "meaning": "Bright film"}}
MODEL = {
    "contract": 1,
    "name": "brightness",
    "version": "1.0.0",
    "digest": hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
    "labels": [
        {"label": "Cardiomegaly", "threshold": 0.5, "calibrated": False},
        {"label": "bright", "threshold": 0.6, "calibrated": True, "definition": BRIGHT},
    ],
    "inputs": {"films": "array", "most_films": 16, "text": "none"},
    "maps": True,
}


def read_film(film, raw):
    pixels = np.frombuffer(raw, "<u2").reshape(film["rows"], film["columns"]) / 65535
    grid = np.array([[c.mean() for c in np.array_split(row, 8, 1)] for row in np.array_split(pixels, 8)])
    data = base64.b64encode(np.rint(255 * grid).astype(np.uint8).tobytes()).decode()
    scores = [float(pixels.std()), float(pixels.mean())]
    return {"id": film["id"], "scores": scores, "maps": {"bright": {"rows": 8, "columns": 8, "data": data}}}


class Handler(BaseHTTPRequestHandler):
    def answer(self, table, status=200):
        raw = json.dumps(table).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def do_GET(self):
        found = {"/v1/model": MODEL, "/v1/health": {"status": "ok"}}.get(self.path)
        self.answer(found or {"error": "no such path"}, 200 if found else 404)

    def do_POST(self):
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        body = head + self.rfile.read(int(self.headers["Content-Length"]))
        form = email.message_from_bytes(body, policy=email.policy.HTTP).iter_parts()
        named = {part.get_param("name", header="Content-Disposition"): part for part in form}
        parts = {name: part.get_payload(decode=True) for name, part in named.items()}
        films = [read_film(film, parts[film["id"]]) for film in json.loads(parts["study"])["films"]]
        said = {entry: MODEL[entry] for entry in ("contract", "name", "version", "digest")}
        self.answer({**said, "labels": [each["label"] for each in MODEL["labels"]], "films": films})


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
