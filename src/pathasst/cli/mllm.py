"""`pathasst show-mask` and `export`: what PathAsst is trained on, and its other formats."""

from __future__ import annotations

from pathlib import Path

import typer


def show_mask(
    conversations: Path = typer.Argument(help="Dataset folder of conversations."),
    number: int = typer.Option(0, "--number", "-n", help="Which conversation, counted from 0."),
    kind: str = typer.Option("", help="Only describe, converse or invoke."),
    llm: str = typer.Option("smollm2-135m", help="Language model whose tokenizer is used: id or folder."),
    template: str = typer.Option("chatml", help="chatml, paper or tokenizer."),
    image_tokens: int = typer.Option(49, help="Tokens a picture takes."),
) -> None:
    """Print a conversation as the model is trained on it; green (⟦…⟧ without colours) = supervised, grey = read only.

    Example: pathasst show-mask out/conversations --kind invoke --number 3
    """
    from rich.console import Console
    from rich.text import Text

    from pathasst.mllm.show import masked
    from pathasst.tools.registry import all_specs

    masked_turns = masked(
        conversations, all_specs(), index=number, kind=kind, llm=llm, template=template, image_tokens=image_tokens
    )
    console, text = Console(), Text()
    for words, supervised in masked_turns.runs:
        if supervised and console.color_system is None:  # a file or a pipe would lose the colours
            words = f"⟦{words}⟧"
        text.append(words, style="bold green" if supervised else "bright_black")
    console.print(
        f"{masked_turns.conversation_id}: {masked_turns.tokens} tokens, {masked_turns.supervised} supervised", style="cyan"
    )
    console.print(text)


def export(
    checkpoint: str = typer.Argument(help="A trained PathAsst: id, folder of an adapter, or folder of a whole checkpoint."),
    to: str = typer.Option(..., "--to", help="huggingface, vllm, gguf (llama.cpp) or peft (the adapters alone)."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder to write."),
    quantisation: str = typer.Option("Q8_0", help="gguf: precision of the LLM's matrices: Q8_0, Q4_1, F16 or F32."),
) -> None:
    """Write a trained PathAsst in another program's format.

    Example: pathasst export out/pathasst/adapter --to vllm --out out/llava; then vllm serve out/llava
    """
    from pathasst.mllm.export import export as write

    for file in write(checkpoint, out, to, quantisation):
        typer.echo(file)
