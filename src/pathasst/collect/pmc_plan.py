"""The plan of a PubMed Central collection: which articles make which shard, kept beside the dataset.

It makes runs incremental: new articles get new shards, articles that could not be reached get another try in new shards, a newer
version takes the place of the older one, and everything else stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from pathasst.core.errors import BadDataset
from pathasst.core.files import fingerprint, write_atomic
from pathasst.dataset import ShardStats, Unit

PLAN = "plan.json"
UNREACHABLE = "unreachable"  # the reason after which an article is tried again


class PlannedShard(BaseModel):
    """The articles of one shard. `stamp` changes only when the shard must be made again."""

    articles: list[str]
    stamp: str


class DownloadPlan(BaseModel):
    """Shard key → its articles."""

    shards: dict[str, PlannedShard] = Field(default_factory=dict)

    @classmethod
    def load(cls, out: Path) -> DownloadPlan:
        """The plan in a dataset folder, empty when there is none. Raises BadDataset when it is damaged."""
        path = out / PLAN
        if not path.is_file():
            return cls()
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise BadDataset(f"{path} is damaged ({error}). Collect into another folder, or restore it.") from error

    def save(self, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        write_atomic(out / PLAN, self.model_dump_json().encode())

    def extend(self, articles: Iterable[str], per_shard: int) -> int:
        """Add versioned articles that are new and return how many; the older version of one of them leaves its shard."""
        where = {id_.partition(".")[0]: (id_, key) for key, shard in self.shards.items() for id_ in shard.articles}
        new = []
        for article in dict.fromkeys(articles):
            old, key = where.get(article.partition(".")[0], ("", ""))
            if old and _version(article) <= _version(old):
                continue
            if old:
                rest = [i for i in self.shards[key].articles if i != old]
                self.shards[key] = PlannedShard(articles=rest, stamp=fingerprint({"articles": rest}))
            new.append(article)
        self._append(new, per_shard)
        return len(new)

    def retry(self, out: Path, per_shard: int) -> int:
        """Give the articles that could not be reached another try, without touching what was collected. Returns how many."""
        missing, cleaned = [], []
        for key, stats in self._finished(out):
            failed = {d["id"] for d in stats.drops if d["reason"] == UNREACHABLE}
            if failed:
                shard = self.shards[key]
                missing += [i for i in shard.articles if i in failed]
                shard.articles = [i for i in shard.articles if i not in failed]
                cleaned.append((key, _without(stats, failed)))
        self._append(missing, per_shard)
        if cleaned:
            self.save(out)  # first the plan: a kill between the two only leaves stale counts behind
            for key, stats in cleaned:
                write_atomic(out / f"{key}.json", stats.model_dump_json().encode())
        return len(missing)

    def units(self) -> list[Unit]:
        """One unit a shard."""
        return [Unit(key, shard.articles, shard.stamp) for key, shard in self.shards.items()]

    def articles(self) -> list[str]:
        """Every planned article."""
        return [i for shard in self.shards.values() for i in shard.articles]

    def _append(self, articles: list[str], per_shard: int) -> None:
        for start in range(0, len(articles), per_shard):
            part = articles[start : start + per_shard]
            self.shards[f"{len(self.shards):06d}"] = PlannedShard(articles=part, stamp=fingerprint({"articles": part}))

    def _finished(self, out: Path) -> Iterator[tuple[str, ShardStats]]:
        for key in self.shards:
            path = out / f"{key}.json"
            if path.is_file():
                try:
                    yield key, ShardStats.model_validate_json(path.read_bytes())
                except ValidationError:
                    continue  # the stage makes a shard with damaged stats again


def _version(article: str) -> int:
    return int(article.partition(".")[2] or 0)


def _without(stats: ShardStats, failed: set[str]) -> ShardStats:
    drops = [d for d in stats.drops if not (d["reason"] == UNREACHABLE and d["id"] in failed)]
    dropped = {k: v for k, v in stats.dropped.items() if k != UNREACHABLE}
    return stats.model_copy(update={"drops": drops, "dropped": dropped})
