"""`pathasst instruct`: pairs → conversations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from pathasst.cli.options import LLM_MODEL, MAX_COST, PRICE_IN, PRICE_OUT, RECIPE, RUNNER, SET, WORKERS


def instruct(
    pairs: list[Path] = typer.Argument(help="Dataset folder(s) of pairs."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder for the conversations."),
    recipe: str = RECIPE,
    overrides: list[str] = SET,
    invoke: int | None = typer.Option(None, help="How many tool conversations; 0 for none."),
    abstracts: Path | None = typer.Option(None, help="JSON lines of real abstracts for the literature samples."),
    wordings: Path | None = typer.Option(None, help="Folder of wordings that replace the packaged ones."),
    llm: str = typer.Option("", help="Let a language model write: a preset (vllm, ollama, openai, llamacpp …) or http://…/v1."),
    llm_model: str = LLM_MODEL,
    price_in: float | None = PRICE_IN,
    price_out: float | None = PRICE_OUT,
    max_cost: float | None = MAX_COST,
    workers: int = WORKERS,
    runner: str = RUNNER,
) -> None:
    """Make descriptions, question–answer conversations and tool use from pairs; without a language model unless --llm is given.

    Example: pathasst instruct out/pairs --out out/conversations
    Example: pathasst instruct out/pairs --out out/conversations --llm vllm --llm-model Qwen/Qwen3-8B
    """
    from pathasst.instruct import pipeline
    from pathasst.tools.registry import all_specs

    settings = pipeline.InstructSettings.load(recipe, overrides)
    settings = settings.replace(
        invoke=settings.invoke if invoke is None else invoke,
        abstracts=str(abstracts or settings.abstracts),
        wordings=str(wordings or settings.wordings),
        llm=_llm(settings.llm, llm, llm_model, {"price_in": price_in, "price_out": price_out, "max_cost": max_cost}),
    )
    manifest = pipeline.run(pairs, out, settings, all_specs(), workers=workers, runner=runner)
    typer.echo(f"{manifest.rows} conversations in {out}")
    for reason, n in sorted(manifest.dropped.items(), key=lambda item: -item[1]):
        typer.echo(f"  left out: {n} × {reason}")
    for shard in manifest.failures:
        typer.echo(f"  failed: {shard.unit}: {shard.failed}")


def _llm(recipe: dict[str, Any] | None, server: str, model: str, numbers: dict[str, float | None]) -> dict[str, Any] | None:
    """The recipe's LLM with what the command line says instead."""
    set_numbers = {k: v for k, v in numbers.items() if v is not None}
    if server:
        recipe = {"base_url": server} if server.startswith("http") else {"preset": server}
    if recipe is None:
        return None
    return {**recipe, **({"model": model} if model else {}), **set_numbers}
