"""Load on the served assistant: many clients on loopback, mixed requests; latency, refusals and memory over time.

    python benchmarks/assistant_load.py --minutes 10 --clients 50 --json benchmarks/results/assistant_load.json

Starts `pathasst serve` as a process of its own and asks it over real HTTP: questions with and without a picture, streamed and
whole, tools by hand, paper searches, embeddings, uploads, lists. A client waits as long as a 429 asks it to, then goes on. Every
status but 200 and 429 counts as an error. `--fake` serves a brain that answers at once: the server's own cost, without a model.
`--workers 2` shares the clients, each a user of its own, among processes. Memory is what the server's processes hold, pages that
they share counted once; "own" leaves out mapped files (weights, paper index), which the system takes back when it needs room.
"""

from __future__ import annotations

import asyncio
import io
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import httpx
import numpy as np
import psutil
from measured import command_line, save

FAKE = """
import sys, time
sys.path.insert(0, {tests!r})
from server_parts import RuleBrain, settings
from assistant_parts import CountDark, Shelf, HITS
from pathasst.serve.api import create_app
from pathasst.core.malloc import keep_few_arenas
from pathasst.serve.service import Service
from pathasst.tools.protocol import Registry
import uvicorn
from pathlib import Path
registry = Registry()
for tool in (CountDark(), Shelf(HITS)):
    registry.add(tool)
class Forgetful(RuleBrain):
    def reply(self, *asked):
        for kept in (self.given, self.images, self.batches):
            kept.clear()
        return super().reply(*asked)
keep_few_arenas()
service = Service(settings(Path({home!r}), keep_seconds=60.0), brain=Forgetful(), registry=registry)
uvicorn.run(create_app(service=service, page=False), port={port}, log_level="warning", timeout_keep_alive=75)
"""


BLUE, BROWN = (86, 96, 160), (140, 84, 40)  # as an immunohistochemistry stains; other colours a tool would rightly refuse


def picture(seed: int) -> bytes:
    """A 256×256 PNG with blue and brown discs on a light ground, another one for each seed."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    image = np.full((256, 256, 3), 225, np.uint8)
    rows, columns = np.mgrid[:256, :256]
    for n, (y, x) in enumerate(rng.integers(10, 246, (16, 2))):
        image[(rows - y) ** 2 + (columns - x) ** 2 < 49] = BROWN if n % 4 == 0 else BLUE
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def requests(fake: bool, rng: random.Random) -> tuple[str, str, str, dict]:
    """One request of the mix: kind, method, path, arguments of httpx."""
    import base64

    seed = rng.randrange(20)
    url = f"data:image/png;base64,{base64.b64encode(picture(seed)).decode()}"
    image = {"type": "image_url", "image_url": {"url": url}}
    tool = "count_dark" if fake else "ki67_cells"
    seen = {"role": "user", "content": [{"type": "text", "text": "Count the positive cells."}, image]}
    said = {"role": "user", "content": rng.choice(["What does NILM stand for?", "Thank you.", "What can you do?"])}
    kinds = [
        (3, "question", "POST", "/v1/chat/completions", {"json": {"messages": [said]}}),
        (3, "question with picture", "POST", "/v1/chat/completions", {"json": {"messages": [seen]}}),
        (3, "streamed question", "POST", "/v1/chat/completions", {"json": {"messages": [seen], "stream": True}}),
        (4, "tool", "POST", f"/v1/tools/{tool}/run", {"json": {"image": url}}),
        (8, "papers", "POST", "/v1/papers/search", {"json": {"query": rng.choice(["Ki67 prognosis", "HER2 gastric cancer"])}}),
        (4, "upload", "POST", "/v1/files", {"files": {"file": ("a.png", picture(seed))}}),
        (6, "lists", "GET", rng.choice(["/v1/models", "/v1/tools", "/v1/files", "/ready", "/metrics"]), {}),
    ]
    if not fake:
        kinds.append((4, "embeddings", "POST", "/v1/embeddings", {"json": {"input": ["adenocarcinoma of the lung"]}}))
    chosen = rng.choices(kinds, [k[0] for k in kinds])[0]
    return chosen[1], chosen[2], chosen[3], chosen[4]


async def client(number: int, url: str, fake: bool, until: float, seen: dict) -> None:
    """One client: a request, its answer, a short rest, the next; after a 429 the rest that the server asks for."""
    rng = random.Random(number)
    visitor = {"pathasst_visitor": f"{number:032x}"}  # as a browser's cookie says it
    async with httpx.AsyncClient(base_url=url, timeout=900, cookies=visitor) as web:
        while time.monotonic() < until:
            kind, method, path, given = requests(fake, rng)
            started = time.monotonic()
            try:
                answer = await web.request(method, path, **given)
                status = str(answer.status_code)
                if '"error"' in answer.text[-400:] and "event-stream" in answer.headers["content-type"]:
                    status = "error in the stream"
                if status not in ("200", "429"):
                    seen["errors"].append(f"{kind}: {status} {answer.text[-300:]}")
            except httpx.HTTPError as error:
                status = type(error).__name__
                seen["errors"].append(f"{kind}: {error!r}")
            seen["statuses"][kind][status] += 1
            if status == "200":
                seen["seconds"][kind].append(time.monotonic() - started)
            rest = float(answer.headers.get("retry-after", 0)) if status == "429" else rng.uniform(0, 0.5)
            await asyncio.sleep(min(rest, max(0.0, until - time.monotonic())))


async def watch(pid: int, until: float, every: float, memory: list[tuple[float, float, float]]) -> None:
    """Seconds, what the server and its workers hold (proportional set size), and what of it is no mapped file, in MB."""
    started = time.monotonic()
    server = psutil.Process(pid)
    while time.monotonic() < until:
        sums = [Path(f"/proc/{p.pid}/smaps_rollup").read_text() for p in (server, *server.children(recursive=True))]
        held, own = (sum(int(re.search(rf"{name}:\s+(\d+)", t)[1]) for t in sums) / 1024 for name in ("Pss", "Pss_Anon"))
        memory.append((round(time.monotonic() - started, 1), round(held, 1), round(own, 1)))
        await asyncio.sleep(every)


async def load(url: str, pid: int, clients: int, seconds: float, fake: bool) -> dict:
    """All clients for so many seconds."""
    until = time.monotonic() + seconds
    seen: dict = {"statuses": defaultdict(Counter), "seconds": defaultdict(list), "errors": []}
    memory: list[tuple[float, float, float]] = []
    await asyncio.gather(
        watch(pid, until, max(1.0, seconds / 60), memory), *(client(n, url, fake, until, seen) for n in range(clients))
    )
    return {**seen, "memory": memory}


def serve(fake: bool, home: str, port: int, recipe: str, workers: int) -> subprocess.Popen:
    """The server, as a process of its own."""
    tests = str(Path(__file__).parents[1] / "tests" / "assistant")
    command = [sys.executable, "-c", FAKE.format(tests=tests, home=home, port=port)]
    if not fake:
        command = [sys.executable, "-m", "pathasst.cli.main", "serve", "--port", str(port), "--no-page", "--recipe", recipe]
        command += ["--workers", str(workers)]
    return subprocess.Popen(command, env={**os.environ, "PATHASST_HOME": home, "PATHASST_GUARD": "off"})  # discs are no cells


def wait(url: str, process: subprocess.Popen, seconds: float = 600) -> None:
    """Until the server takes requests."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(f"{url}/ready", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.5)
    sys.exit("the server did not start")


def summed_up(result: dict, minutes: float, clients: int, workers: int) -> dict:
    """What is kept of a run: a table by kind of request, counts, and memory minute by minute."""
    columns = ["request", "answered", "refused (429)", "errors", "p50, s", "p90, s", "p99, s"]
    rows = []
    for kind, statuses in sorted(result["statuses"].items()):
        errors = sum(n for status, n in statuses.items() if status not in ("200", "429"))
        seconds = result["seconds"][kind]
        times = np.percentile(seconds, [50, 90, 99]).round(2).tolist() if seconds else [None] * 3
        rows.append([kind, statuses["200"], statuses["429"], errors, *times])
    seconds, resident, own = np.array(result["memory"]).T
    marks = np.arange(int(seconds[-1] / 60 + 0.5) + 1)
    late = seconds >= seconds[-1] / 3
    by_minute = {
        name: [round(float(v)) for v in np.interp(marks * 60, seconds, values)]
        for name, values in (("resident_mb", resident), ("own_mb", own))
    }
    growth = {
        name: round(float(np.polyfit(seconds[late] / 60, values[late], 1)[0]), 2)
        for name, values in (("resident", resident), ("own", own))
    }
    return {
        "minutes": minutes,
        "clients": clients,
        "workers": workers,
        "answered": sum(row[1] for row in rows),
        "refused": sum(row[2] for row in rows),
        "errors": sum(row[3] for row in rows),
        "messages": sorted(set(result["errors"]))[:10],
        **by_minute,
        "growth_after_first_third_mb_per_minute": growth,
        "peak_mb": round(float(resident.max())),
        "table": {"columns": columns, "rows": rows},
    }


def show(told: dict) -> None:
    """Print it."""
    print(f"{'request':24}" + "".join(f"{name:>14}" for name in told["table"]["columns"][1:]))
    for kind, *numbers in told["table"]["rows"]:
        print(f"{kind:24}" + "".join(f"{number!s:>14}" for number in numbers))
    rate = told["answered"] / told["minutes"] / 60
    print(f"{told['answered']} answered ({rate:.2f}/s), {told['refused']} refused with 429, other errors: {told['errors']}")
    print("\n".join(told["messages"]))
    print(f"{'minute':14}" + "".join(f"{m:7}" for m in range(len(told["own_mb"]))))
    for name in ("resident_mb", "own_mb"):
        print(f"{name:14}" + "".join(f"{mb:7}" for mb in told[name]))
    growth = told["growth_after_first_third_mb_per_minute"]
    print(f"growth after the first third, MB a minute: resident {growth['resident']:+}, own {growth['own']:+}")
    print(f"peak: {told['peak_mb']} MB")


def main() -> None:
    """Parse, start, ask, report."""
    parser = command_line(__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--recipe", default="embedded")
    parser.add_argument("--fake", action="store_true", help="a brain that answers at once")
    given = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as home:
        process = serve(given.fake, home, port, given.recipe, given.workers)
        try:
            url = f"http://127.0.0.1:{port}"
            wait(url, process)
            result = asyncio.run(load(url, process.pid, given.clients, given.minutes * 60, given.fake))
            show(told := summed_up(result, given.minutes, given.clients, given.workers))
            save(given.json, told)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(300)


if __name__ == "__main__":
    main()
