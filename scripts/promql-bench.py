"""Benchmark of PromQL and remote write: see scripts/promql-bench.sh, which runs it."""

import concurrent.futures
import http.client
import json
import math
import multiprocessing
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

STEP_S = 10
HOUR_S = 3600
SLICE_S = 600
WRITERS = 4

QUERIES = [
    ("avg by (agent) (cores), 1 h by 15 s", "avg by (agent) (bench_core)", 15),
    ("sum(rate(counter[5m])), 1 h by 15 s", "sum(rate(bench_counter_total[5m]))", 15),
    ("quantile(0.95, cores), 1 h by 15 s", "quantile(0.95, bench_core)", 15),
    ("max_over_time(gauge[30m]), now", "max_over_time(bench_gauge[30m])", None),
    ("predict_linear(gauge[30m], 3600), now", "predict_linear(bench_gauge[30m], 3600)", None),
    ("topk(5, gauge), now", "topk(5, bench_gauge)", None),
]


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def snappy(data):
    """Snappy's block format with literals alone: what is measured is the receiver."""
    out = [varint(len(data))]
    for start in range(0, len(data), 65536):
        part = data[start : start + 65536]
        out.append(b"\xf4" + struct.pack("<H", len(part) - 1) + part)
    return b"".join(out)


def labels(name, **more):
    pairs = sorted({"__name__": name, **more}.items())
    return b"".join(field(1, field(1, k.encode()) + field(2, v.encode())) for k, v in pairs)


def all_series(host):
    agent = f"host-{host:04}"
    wave = lambda t, n: round(50 + 40 * math.sin(t / 400 + host + n), 2)
    for core in range(8):
        yield labels("bench_core", agent=agent, core=str(core)), lambda t, n=core: wave(t, n)
    yield labels("bench_gauge", agent=agent), lambda t: wave(t, 0.5)
    yield labels("bench_counter_total", agent=agent), lambda t: float(t % 100_000 * (1 + host % 7))


def requests(hosts, start):
    """For each slice of time, the bodies that hold it and how many samples they have."""
    slices = []
    for begin in range(start, start + HOUR_S, SLICE_S):
        times = range(begin, begin + SLICE_S, STEP_S)
        stamps = [varint(2 << 3) + varint(t * 1000) for t in times]
        bodies, parts, samples = [], [], 0
        for host in range(hosts):
            for head, value in all_series(host):
                points = b"".join(
                    field(2, b"\x09" + struct.pack("<d", value(t)) + stamp)
                    for t, stamp in zip(times, stamps)
                )
                parts.append(field(1, head + points))
                samples += len(stamps)
            if len(parts) >= 200 or host == hosts - 1:
                bodies.append((snappy(b"".join(parts)), samples))
                parts, samples = [], 0
        slices.append(bodies)
    return slices


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Engine:
    def __init__(self, name, command, port, write="/api/v1/write", token=None):
        self.name, self.port, self.write = name, port, write
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.local = threading.local()

    def call(self, method, path, body=None, headers=None):
        if not hasattr(self.local, "connection"):
            self.local.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection = self.local.connection
        try:
            connection.request(method, path, body, {**self.headers, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            del self.local.connection
            raise

    def wait(self, path):
        for _ in range(300):
            try:
                if self.call("GET", path)[0] == 200:
                    return
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.1)
        sys.exit(f"{self.name} does not answer")

    def send(self, body):
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
        headers["X-Prometheus-Remote-Write-Version"] = "0.1.0"
        while True:
            status, said = self.call("POST", self.write, body, headers)
            if status in (200, 204):
                return
            if status not in (429, 503):
                sys.exit(f"{self.name}: {status} {said[:300]!r}")
            time.sleep(0.05)

    def ask(self, query, step, end):
        form = {"query": query, "nocache": "1"}
        if step:
            form.update(start=str(end - HOUR_S), end=str(end), step=str(step))
        else:
            form["time"] = str(end)
        path = "query_range" if step else "query"
        status, body = self.call("GET", f"/api/v1/{path}?{urllib.parse.urlencode(form)}")
        if status != 200:
            sys.exit(f"{self.name}: {query}: {status} {body[:300]!r}")
        return body

    def peak_mb(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            kb = next(line for line in status if line.startswith("VmHWM")).split()[1]
        return int(kb) / 1024

    def stop(self):
        self.process.terminate()
        self.process.wait()


def oxmon(program, folder, name="oxmon"):
    port = free_port()
    config = os.path.join(folder, f"{name}.toml")
    with open(config, "w") as file:
        file.write(
            f'bind = ["127.0.0.1"]\nhttp_port = {port}\ngrpc_port = {free_port()}\n'
            f'data_dir = "{folder}/{name}"\n'
        )
    engine = Engine(name, [program, config], port)
    engine.wait("/v1/health")
    json_type = {"Content-Type": "application/json"}
    login = json.dumps({"username": "admin", "password": "changeme"})
    _, said = engine.call("POST", "/v1/auth/login", login, json_type)
    engine.headers = {"Authorization": "Bearer " + json.loads(said)["data"]["token"]}
    body = json.dumps({"name": "bench", "read_only": False})
    _, said = engine.call("POST", "/v1/auth/tokens", body, json_type)
    engine.headers = {"Authorization": "Bearer " + json.loads(said)["data"]["token"]}
    return engine


def engines(program, folder):
    yield oxmon(program, folder)
    if os.environ.get("OXMON_OTHER"):
        yield oxmon(os.environ["OXMON_OTHER"], folder, "oxmon, other build")
    prometheus = shutil.which("prometheus")
    if prometheus:
        port, config = free_port(), os.path.join(folder, "prometheus.yml")
        open(config, "w").close()
        engine = Engine(
            "Prometheus",
            [prometheus, f"--config.file={config}", f"--storage.tsdb.path={folder}/prometheus"]
            + ["--web.enable-remote-write-receiver", f"--web.listen-address=127.0.0.1:{port}"],
            port,
        )
        engine.wait("/-/ready")
        yield engine
    victoria = shutil.which("victoria-metrics")
    if victoria:
        port = free_port()
        engine = Engine(
            "VictoriaMetrics",
            [victoria, f"-storageDataPath={folder}/victoria", f"-httpListenAddr=127.0.0.1:{port}"],
            port,
        )
        engine.wait("/health")
        yield engine


def write_all(engine, slices):
    began, samples = time.monotonic(), 0
    with concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:
        for bodies in slices:
            list(pool.map(engine.send, [body for body, _ in bodies]))
            samples += sum(count for _, count in bodies)
    return samples / (time.monotonic() - began)


def best(engine, query, step, end):
    """Milliseconds of the fastest of five, as other work on the machine only slows."""
    times = []
    for _ in range(5):
        began = time.monotonic()
        engine.ask(query, step, end)
        times.append((time.monotonic() - began) * 1000)
    return min(times)


def ask_for_ever(engine, end):
    """Queries from a process of its own, which has the lowest priority, as if on another machine."""
    os.nice(19)
    engine.local = threading.local()
    while True:
        engine.ask(QUERIES[2][1], 15, end)


def ingest_p99(engine, end, heavy):
    """p99 of one request with 100 samples, in milliseconds, while `heavy` clients send queries."""
    context = multiprocessing.get_context("fork")
    clients = [context.Process(target=ask_for_ever, args=(engine, end)) for _ in range(heavy)]
    for client in clients:
        client.start()
    engine.local = threading.local()
    times = []
    for turn in range(600):
        now = int(time.time() * 1000)
        parts = [
            field(1, labels("bench_live", agent=f"host-{n:04}") + field(2, b"\x09" + struct.pack("<d", turn) + b"\x10" + varint(now)))
            for n in range(100)
        ]
        body = snappy(b"".join(parts))
        began = time.monotonic()
        engine.send(body)
        times.append((time.monotonic() - began) * 1000)
        time.sleep(0.02)
    for client in clients:
        client.kill()
        client.join()
    return sorted(times)[int(len(times) * 0.99)]


def main():
    program, hosts = sys.argv[1], int(sys.argv[2])
    end = int(time.time()) // STEP_S * STEP_S - 60
    slices = requests(hosts, end - HOUR_S + STEP_S)
    rows = {"remote write, samples/s": {}}
    folder = tempfile.TemporaryDirectory()
    for engine in engines(program, folder.name):
        rows["remote write, samples/s"][engine.name] = f"{write_all(engine, slices):,.0f}"
        time.sleep(6)  # until VictoriaMetrics shows what was written
        for title, query, step in QUERIES:
            rows.setdefault(title + ", ms", {})[engine.name] = f"{best(engine, query, step, end):.0f}"
        rows.setdefault("peak RSS, MB", {})[engine.name] = f"{engine.peak_mb():.0f}"
        if engine.name.startswith("oxmon"):
            alone = ingest_p99(engine, end, 0)
            beside = ingest_p99(engine, end, 2)
            both = f"{alone:.1f} / {beside:.1f}"
            row = rows.setdefault("write of 100 samples, p99 alone / beside two queries, ms", {})
            row[engine.name] = both
        engine.stop()
    names = list(rows["remote write, samples/s"])
    print("| | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    for title, cells in rows.items():
        print(f"| {title} | " + " | ".join(cells.get(name, "–") for name in names) + " |")


main()
