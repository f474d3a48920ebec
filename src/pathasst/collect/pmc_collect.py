"""Many articles of PubMed Central → a dataset of Figures: planned, parallel, polite, resumable, incremental; and its estimate."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pathasst.collect import licences
from pathasst.collect.pmc import Rules, collect_article, media_of, read_article, read_metadata, refused, unwanted
from pathasst.collect.pmc_find import latest, newest_only
from pathasst.collect.pmc_plan import DownloadPlan
from pathasst.collect.stores import Store, StoreSettings
from pathasst.core.errors import BadInput, BadSettings, Unreachable
from pathasst.core.records import Figure
from pathasst.dataset import Dropped, Manifest, Unit, run_stage


def collect_pmc(
    articles: Iterable[str],
    out: Path,
    *,
    store: StoreSettings | None = None,
    rules: Rules | None = None,
    per_shard: int = 50,
    connections: int = 8,
    workers: int = 1,
    runner: str = "native",
    progress: bool = True,
) -> Manifest:
    """The wanted figures of PMC articles ("PMC123" = its newest version, "PMC123.2") into the dataset `out`.

    The folder keeps its plan: the same call goes on after a kill, new ids are added, unreachable articles are tried again and
    newer versions replace older ones. `connections` work in parallel in each of `workers` processes, which share its rate.

    Raises BadSettings for wrong options or when not one article was found, Unreachable when the store does not answer at all.
    """
    store, rules = store or StoreSettings(), rules or Rules()
    licences.allowed(licences.UNKNOWN, rules.licence)
    plan = DownloadPlan.load(out)
    plan.retry(out, per_shard)
    plan.extend(resolved(articles, store.open(), connections), per_shard)
    if not plan.shards:
        raise BadSettings("No article was found. Check the ids, or widen the query.")
    plan.save(out)
    return run_stage(
        out,
        stage="collect-pmc",
        record=Figure,
        units=plan.units(),
        work=PmcWork(store.replace(rate=store.rate / workers), rules, connections),
        settings=rules.plain(),
        inputs=[store.address],
        workers=workers,
        runner=runner,
        progress=progress,
    )


@dataclass(frozen=True)
class PmcWork:
    """The work of one unit of article ids; articles of a unit come in the unit's order, however fast each was."""

    store: StoreSettings
    rules: Rules
    connections: int = 8

    def __call__(self, unit: Unit) -> Iterator[Figure | Dropped]:
        store = _open(self.store)
        with ThreadPoolExecutor(self.connections) as pool:
            for items in pool.map(lambda a: list(collect_article(store, a, self.rules)), unit.paths):
                yield from items


@lru_cache(maxsize=4)
def _open(settings: StoreSettings) -> Store:
    """One live store per process: its connections and its rate outlive a unit."""
    return settings.open()


def resolved(articles: Iterable[str], store: Store, connections: int) -> Iterator[str]:
    """Ids with their versions; ids that the store does not know are kept as version 1, to be reported with the others."""
    with ThreadPoolExecutor(connections) as pool:
        ids = newest_only(articles)
        yield from (media or f"{id_}.1" for id_, media in zip(ids, pool.map(lambda a: latest(store, a), ids), strict=True))


@dataclass(frozen=True)
class Estimate:
    """What a collection will cost, from a sample. Means per planned article; `plus_minus` is half a 95 % interval of its mean."""

    planned: int  # articles
    sampled: int
    passing: float  # share of articles that pass licence and retraction
    figures: float  # per article
    worth_fetching: float
    bytes: float
    bytes_plus_minus: float
    bytes_without_triage: float
    requests: float
    rate: float  # requests per second

    @property
    def hours(self) -> float:
        """At the given rate, when the line is fast enough for it."""
        return self.planned * self.requests / self.rate / 3600

    def __str__(self) -> str:
        gb, spread, all_gb = (self.planned * b / 1e9 for b in (self.bytes, self.bytes_plus_minus, self.bytes_without_triage))
        return (
            f"{self.planned} articles planned; of {self.sampled} looked into, {self.passing:.0%} pass licence and retraction\n"
            f"figures: about {self.planned * self.figures:.0f}, worth fetching: {self.planned * self.worth_fetching:.0f}\n"
            f"to fetch: {gb:.3f} ± {spread:.3f} GB (all figures: {all_gb:.3f} GB)\n"
            f"requests: {self.planned * self.requests:.0f}; at {self.rate:g} a second: {self.hours:.2f} hours"
        )


def estimate(
    articles: Iterable[str], *, store: StoreSettings, rules: Rules, sample: int = 100, seed: int = 0, connections: int = 8
) -> Estimate:
    """Articles, bytes and hours of a collection, by reading metadata, XML and listings of a sample; no picture is fetched.

    Raises BadSettings when no article was found, Unreachable when the store does not answer.
    """
    ids = newest_only(articles)
    if not ids:
        raise BadSettings("No article was found. Check the ids, or widen the query.")
    sampled_ids = random.Random(seed).sample(ids, min(sample, len(ids)))
    live = store.open()
    with ThreadPoolExecutor(connections) as pool:
        costs = list(pool.map(lambda a: _cost(live, a, rules), sampled_ids))
    total = [c.bytes for c in costs]
    spread = statistics.stdev(total) if len(total) > 1 else 0.0
    return Estimate(
        planned=len(ids),
        sampled=len(costs),
        passing=statistics.fmean(c.passing for c in costs),
        figures=statistics.fmean(c.figures for c in costs),
        worth_fetching=statistics.fmean(c.worth_fetching for c in costs),
        bytes=statistics.fmean(total),
        bytes_plus_minus=1.96 * spread / math.sqrt(len(total)),
        bytes_without_triage=statistics.fmean(c.all_bytes for c in costs),
        requests=statistics.fmean(c.requests for c in costs),
        rate=store.rate,
    )


@dataclass
class _Cost:
    passing: int = 0
    figures: int = 0
    worth_fetching: int = 0
    bytes: int = 0
    all_bytes: int = 0
    requests: int = 1  # its metadata


def _cost(store: Store, article: str, rules: Rules) -> _Cost:
    """What one article would cost; an article that cannot be read costs its metadata alone."""
    cost = _Cost()
    try:
        article_id = latest(store, article) or f"{article}.1"
        cost.requests += "." not in article
        metadata = read_metadata(store, article_id)
        if refused(metadata.retracted, metadata.licence, rules):
            return cost
        cost.requests += 1
        _, figures = read_article(store, metadata)
        sizes = {e.key: e.size for e in store.list(f"{article_id}/")}
    except (BadInput, Unreachable):
        return cost
    cost.passing, cost.figures = 1, len(figures)
    cost.bytes = cost.all_bytes = sizes.get(metadata.xml, 0)
    for figure in figures:
        size = sizes.get(media[0], 0) if (media := media_of(figure.graphic, metadata)) else 0
        cost.all_bytes += size
        if unwanted(figure, rules) is None:
            cost.worth_fetching, cost.bytes, cost.requests = (
                cost.worth_fetching + 1,
                cost.bytes + size,
                cost.requests + bool(size),
            )
    return cost
