"""Structures from OPTIMADE providers, page by page, to Parquet shards that a build reads.

A shard has a row per structure, `FETCHED_SCHEMA`: the structure itself is stored as the JSON that the provider sent,
malformed or not, so that a build can name what is wrong with it. Beside the shards of each provider lies `state.json`,
which holds the address of the next page; it is written after the shard, whose number it fixes, so that an interrupted
run neither loses a structure nor fetches one into two rows.
"""

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pyarrow as pa
from tqdm import tqdm

from cloud_hf.corpus.schema import open_rows, save_json
from cloud_hf.errors import CorpusError, one_line
from cloud_hf.files import refuse_other_settings

__all__ = ["FETCHED_SCHEMA", "Fetched", "Request", "base_urls", "fetch_structures"]

FETCHED_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("id", "provider", "license", "last_modified", "url", "fetched", "optimade")]
)
"""Id, prefix of the provider, its licence if it gives one, dates of the entry and of the request, base URL, JSON."""

FIELDS = ("lattice_vectors", "cartesian_site_positions", "species", "species_at_sites", "last_modified")
EMPTY_PAGES = 3
"""Pages without structures in a row, after which paging is taken to lead nowhere."""

ALL = 2_000_000_000
STATE_FILE = "state.json"


@dataclass(frozen=True)
class Request:
    """What to ask providers for, and how fast.

    Args:
        filter: In OPTIMADE's language, e.g. `nelements=2`; empty: everything.
        page: Structures per request.
        most: Structures per provider; None: all.
        delay: s between requests to a provider.
        attempts: How often a request is repeated that fails or is told to wait, with growing pauses.
        rows: Structures per shard.
        timeout: s for one request.
    """

    filter: str = ""
    page: int = 100
    most: int | None = None
    delay: float = 1.0
    attempts: int = 5
    rows: int = 10_000
    timeout: float = 120.0


@dataclass
class Fetched:
    """What is there of one provider, as `state.json` holds it.

    Attributes:
        url: Base URL.
        filter: Of the request.
        provider: Its prefix.
        license: Of the database, if it gives one.
        next: Address of the next page; None before the first.
        shards: Shards that are written.
        structures: Rows in them.
        done: Whether there is nothing left to fetch.
        problem: Why the last run stopped early.
        most: Structures that were asked for at most; None: all.
    """

    url: str
    filter: str
    provider: str
    license: str | None = None
    next: str | None = None
    shards: int = 0
    structures: int = 0
    done: bool = False
    problem: str | None = None
    most: int | None = None


def fetch_structures(
    urls: Sequence[str], output: str | Path, request: Request | None = None, progress: bool = False
) -> list[Fetched]:
    """Fetch structures from providers one after another; where a run was interrupted, it goes on.

    Args:
        urls: Base URLs of OPTIMADE databases, e.g. `https://optimade.materialsproject.org`.
        output: Folder with a folder of shards per provider.
        request: What to ask for.
        progress: Whether to show a bar per provider.

    Returns:
        What is there of each provider; one that failed has a `problem`, and the others went on.

    Raises:
        CorpusError: The folder holds structures of another filter, or cannot be written, or the client is missing.
    """
    request = request or Request()
    client = _client(urls, request)
    return [_Provider(client, url.rstrip("/"), Path(output), request, progress).fetch() for url in urls]


def base_urls(providers: Sequence[str], request: Request | None = None) -> list[str]:
    """Return the base URLs of the databases of registered providers, by their prefixes such as `mp` or `oqmd`.

    Raises:
        CorpusError: The list of providers cannot be fetched, or has none of these.
    """
    try:
        return [str(url) for url in _client(None, request or Request(), include_providers=list(providers)).base_urls]
    except (Exception, SystemExit) as error:  # the client ends the process where it finds none
        raise CorpusError(
            f"no databases of these providers are known ({one_line(error)}).", source=", ".join(providers)
        ) from error


def _client(urls: Sequence[str] | None, request: Request, **choice: Any) -> Any:
    try:
        import requests
        from optimade.client import OptimadeClient
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry
    except ImportError as error:
        raise CorpusError(f"Fetching needs the OPTIMADE client ({error}): pip install 'cloud-hf[optimade]'.") from error
    retry = Retry(
        total=request.attempts, backoff_factor=min(1.0, request.delay), backoff_max=60, raise_on_status=False,
        status_forcelist=(429, 500, 502, 503, 504), respect_retry_after_header=True,
    )  # fmt: skip

    class PoliteSession(requests.Session):
        """Repeats what may work later, waits as long as it is told to, and never hurries a provider."""

        last = 0.0

        def __init__(self) -> None:
            super().__init__()
            for scheme in ("http://", "https://"):
                self.mount(scheme, HTTPAdapter(max_retries=retry))

        def get(self, url: Any, **options: Any) -> Any:  # type: ignore[override]
            time.sleep(max(0.0, PoliteSession.last + request.delay - time.monotonic()))
            try:
                answer = super().get(url, **options)
            finally:
                PoliteSession.last = time.monotonic()
            if answer.status_code == 429:  # after all those pauses; the client would go on asking for ever
                raise ConnectionError("the provider asks to wait and does not say for how long (429)")
            return answer

    return OptimadeClient(
        base_urls=list(urls) if urls else None,
        max_results_per_provider=ALL,
        http_timeout=request.timeout,
        use_async=False,
        silent=True,
        http_client=PoliteSession,
        **choice,
    )


class _ProviderError(CorpusError):
    """A provider that cannot be asked on; the message says why."""


class _Provider:
    """Fetches the structures of one provider."""

    def __init__(self, client: Any, url: str, output: Path, request: Request, progress: bool) -> None:
        self.client, self.url, self.request, self.progress = client, url, request, progress
        address = urlparse(url)
        self.folder = output / re.sub(r"[^A-Za-z0-9.-]+", "_", address.netloc + address.path).strip("_")
        self.state = self._read_state()
        self.waiting: list[tuple[str | None, ...]] = []

    def fetch(self) -> Fetched:
        """Fetch what is left; `problem` says why not all of it."""
        state = self.state
        if state.done:
            return state
        state.problem = None
        visited: set[str] = set()
        empty, next_page = 0, state.next
        try:
            if state.next is None:
                self._introduce()
            with tqdm(
                initial=state.structures, desc=state.provider, unit="structure", disable=not self.progress
            ) as bar:
                while True:
                    page = self._ask("structures", self.request.filter, next_page)
                    bar.total = page.meta.get("data_returned") if isinstance(page.meta, Mapping) else None
                    rows, following = [self._row(entry) for entry in page.data], _next_page(page.links)
                    self.waiting += rows[: self._room()]
                    next_page = following  # at once: a user who stops the run must not find this page twice
                    bar.update(len(rows))
                    empty = 0 if rows else empty + 1
                    if next_page is None or self._room() <= 0:
                        state.done = True
                        break
                    if next_page in visited or empty >= EMPTY_PAGES:
                        raise _ProviderError("its pages lead in a circle, or to nothing")
                    visited.add(next_page)
                    if len(self.waiting) >= self.request.rows:
                        self._write(next_page)
        except _ProviderError as failure:
            state.problem = str(failure)
        finally:  # also when the user stops the run
            self._write(next_page)
        return state

    def _room(self) -> int:
        most = self.request.most if self.request.most is not None else ALL
        return most - self.state.structures - len(self.waiting)

    def _ask(self, endpoint: str, query: str, address: str | None) -> Any:
        fields = list(FIELDS) if endpoint == "structures" else None
        answer = self.client.get_one(
            endpoint,
            query,
            self.url,
            response_fields=fields,
            page_limit=self.request.page if endpoint == "structures" else None,
            paginate=False,
            override_url=address,
        )[self.url]
        if answer.errors and not answer.data:
            raise _ProviderError(" ".join(str(answer.errors[0]).split())[:300])
        if not isinstance(answer.data, list if endpoint == "structures" else dict):
            raise _ProviderError(f"what it answered to {endpoint} is no OPTIMADE response")
        return answer

    def _introduce(self) -> None:
        """Learn the licence and the prefix; what a provider does not say stays as it is."""
        try:
            info = self._ask("info", "", None)
        except _ProviderError:
            return
        attributes = info.data.get("attributes", info.data)
        licences = attributes.get("available_licenses") or attributes.get("license")
        licences = licences.get("href") if isinstance(licences, Mapping) else licences
        self.state.license = ", ".join(map(str, licences)) if isinstance(licences, list) else licences
        provider = info.meta.get("provider")
        if isinstance(provider, Mapping) and provider.get("prefix"):
            self.state.provider = str(provider["prefix"])

    def _row(self, entry: Any) -> tuple[str | None, ...]:
        attributes = entry.get("attributes") if isinstance(entry, Mapping) else None
        date = attributes.get("last_modified") if isinstance(attributes, Mapping) else None
        name = entry.get("id") if isinstance(entry, Mapping) else None
        texts = [
            None if value is None else str(value) for value in (name, self.state.provider, self.state.license, date)
        ]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return (*texts, self.url, now, json.dumps(entry, ensure_ascii=False))

    def _write(self, next_page: str | None) -> None:
        """Write the structures that wait as a shard, then where to go on."""
        state = self.state
        if self.waiting:
            with open_rows(self.folder / f"{state.shards:05d}.parquet", FETCHED_SCHEMA) as shard:
                for row in self.waiting:
                    shard.add(row)
            state.shards, state.structures = state.shards + 1, state.structures + len(self.waiting)
            self.waiting = []
        state.next = next_page
        save_json(asdict(state), self.folder / STATE_FILE)

    def _read_state(self) -> Fetched:
        path = self.folder / STATE_FILE
        new = Fetched(self.url, self.request.filter, urlparse(self.url).hostname or self.url, most=self.request.most)
        if not path.is_file():
            return new
        try:
            state = Fetched(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise CorpusError(
                f"cannot be read ({one_line(error)}); fetch into another folder.", source=str(path)
            ) from error
        before, now = ({"url": s.url, "filter": s.filter, "most": s.most} for s in (state, new))
        remedy = "Repeat that request, or choose another folder."
        refuse_other_settings(self.folder, before, now, remedy=remedy, error=CorpusError)
        return state


def _next_page(links: Any) -> str | None:
    """The address of the next page, given as a text or as an object."""
    link = links.get("next") if isinstance(links, Mapping) else None
    link = link.get("href") if isinstance(link, Mapping) else link
    return link if isinstance(link, str) and link.startswith(("http://", "https://")) else None
