"""Ten users of the demo page at once: right answers, processor time and memory, with the bundled model.

    python scripts/benchmark_app.py --out docs/results/app.json

Processor time is that of the server and its readers. Waiting times depend on what else the machine does; its load is
recorded.
"""

import argparse
import io
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import numpy as np
import pandas as pd
import psutil
from benchmarking import processor, show, versions, write_section

import cloud_hf

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

KELVIN = 300.0


def main() -> None:
    """Serve, ask, count."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--users", type=int, default=10, help="at once (default 10)")
    parser.add_argument("--rounds", type=int, default=12, help="crystals of each user in a half (default 12)")
    parser.add_argument("--out", type=Path, help="result file")
    arguments = parser.parse_args()
    paths = sorted(EXAMPLES.glob("*.cif"))
    table = cloud_hf.predict([str(path) for path in paths], KELVIN, progress=False)
    expected = {path: table.iloc[[place]].reset_index(drop=True) for place, path in enumerate(paths)}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w") as log:
        command = [sys.executable, "-m", "cloud_hf", "app", "--port", str(port)]
        server = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "TMPDIR": folder})
        try:
            figures = measure(server, f"http://127.0.0.1:{port}/gradio_api", paths, expected, arguments)
            left = [path for path in Path(folder).rglob("*") if path.is_file() and path.name != "log"]
        finally:
            server.terminate()
            server.wait()
    figures |= {"uploads_left": len(left)}
    machine = {"processor": processor(), "cores": os.cpu_count(), "load_before": round(load, 2)}
    names = ("cloud-hf", "torch", "gradio")
    figures |= {"machine": {**machine, "date": date.today().isoformat(), **versions(names)}}
    show("The page", [[name, value] for name, value in figures.items() if name != "machine"], ["figure", "value"])
    if arguments.out:
        write_section(arguments.out, "users", figures)
    if figures["wrong"] or left:
        raise SystemExit("answers are wrong, or uploads are left")


def measure(
    server: "subprocess.Popen[bytes]", url: str, paths: list[Path], expected: dict[Path, pd.DataFrame], arguments: Any
) -> dict[str, Any]:
    """Ask as many users do, and return what it took."""
    with httpx.Client(timeout=1200) as client:
        while True:
            try:
                client.get(url.removesuffix("/gradio_api")).raise_for_status()
                break
            except httpx.TransportError:
                if server.poll() is not None:
                    raise SystemExit("the page did not start") from None
                time.sleep(0.2)
        process = psutil.Process(server.pid)
        start = spent(process)
        alone = ask(client, url, paths[0], expected[paths[0]])
        warm, idle = spent(process), memory(process)
        peak, done = [idle], threading.Event()
        watch = threading.Thread(target=follow, args=(process, peak, done))
        watch.start()
        begin = time.monotonic()

        def user(number: int) -> list[tuple[bool, float]]:
            chosen = [paths[(number + 7 * turn) % len(paths)] for turn in range(arguments.rounds)]
            return [ask(client, url, path, expected[path]) for path in chosen]

        answers, after = [], []
        for _ in range(2):  # what the second wave adds would grow with every other
            with ThreadPoolExecutor(arguments.users) as users:
                answers += [answer for answered in users.map(user, range(arguments.users)) for answer in answered]
            after.append(memory(process))
        wall = time.monotonic() - begin
        done.set()
        watch.join()
        waited = [seconds for _, seconds in answers]
        return {
            "users": arguments.users,
            "answers": len(answers),
            "wrong": sum(not right for right, _ in (*answers, alone)),
            "cpu_seconds_to_start": round(start, 1),
            "cpu_seconds_of_the_first_answer": round(warm - start, 2),
            "cpu_seconds_an_answer": round((spent(process) - warm) / len(answers), 3),
            "wall_seconds": round(wall, 1),
            "median_wait_seconds": round(float(np.median(waited)), 2),
            "longest_wait_seconds": round(max(waited), 2),
            "memory_MB_before": round(idle / 1e6),
            "memory_MB_peak": round(max(peak) / 1e6),
            "memory_MB_after_each_half": [round(used / 1e6) for used in after],
        }


def ask(client: httpx.Client, url: str, path: Path, expected: pd.DataFrame) -> tuple[bool, float]:
    """Upload a file; tell whether the answer is what `predict` says of it, and how long it took in s."""
    begin = time.monotonic()
    (place,) = client.post(f"{url}/upload", files={"files": (path.name, path.read_bytes())}).json()
    file = {"path": place, "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}
    event = client.post(f"{url}/call/file", json={"data": [file, KELVIN]}).json()["event_id"]
    text = client.get(f"{url}/call/file/{event}").text
    waited = time.monotonic() - begin
    _, done, answer = text.partition("event: complete\ndata: ")
    row = re.search(r"data:text/csv;charset=utf-8,([^\"\\]*)", answer)
    if not done or row is None or path.name not in answer or "Nearest known crystals" not in answer:
        return False, waited
    answered = pd.read_csv(io.StringIO(unquote(row.group(1))))
    numbers = expected.select_dtypes("float").columns
    same = answered["scope"].item() == expected["scope"].item()
    return same and bool(
        np.allclose(answered[numbers], expected[numbers], rtol=1e-4, atol=1e-6, equal_nan=True)
    ), waited


def family(process: psutil.Process) -> list[psutil.Process]:
    """The server and the processes that it started."""
    return [process, *process.children(recursive=True)]


def spent(process: psutil.Process) -> float:
    """Processor time of them, s."""
    times = [member.cpu_times() for member in family(process)]
    return float(sum(member.user + member.system for member in times))


def memory(process: psutil.Process) -> int:
    """Memory of them in bytes, shared pages counted once."""
    return sum(member.memory_full_info().pss for member in family(process))


def follow(process: psutil.Process, peak: list[int], done: threading.Event) -> None:
    """Note the memory until the users are served."""
    while not done.wait(0.5):
        with suppress(psutil.Error):  # a reader ended while it was looked at
            peak.append(memory(process))


if __name__ == "__main__":
    main()
