"""The page's look: Gradio's parts take the colours and fonts of the markup, so that light and dark agree everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pathasst.serve.markup import SCRIPT, STYLE

FAVICON = Path(__file__).with_name("favicon.png")
_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Liberation Sans", "Arial", "sans-serif"]
_MONO = ["ui-monospace", "SF Mono", "Menlo", "Consolas", "Liberation Mono", "monospace"]


def head() -> str:
    """Style and script of the page, written into its head: nothing is loaded from elsewhere."""
    here = Path(__file__)
    style = here.with_name("page.css").read_text(encoding="utf-8")
    script = here.with_name("page.js").read_text(encoding="utf-8")
    return f"<style>{STYLE}{style}</style><script>{SCRIPT}{script}</script>"


def theme() -> Any:
    """Gradio's plainest theme with system fonts. Every colour is a variable of markup.css, which knows light and dark."""
    import gradio as gr

    look = gr.themes.Base(primary_hue="teal", neutral_hue="slate", font=_FONTS, font_mono=_MONO, radius_size="md", text_size="md")
    return look.set(**{name: value for base, value in _colours().items() for name in (base, f"{base}_dark")}, **_SHAPES)


_SHAPES = {
    "button_border_width": "1px",
    "input_border_width": "1px",
    "block_shadow": "none",
    "block_shadow_dark": "none",
    "button_primary_shadow": "none",
    "block_border_width": "1px",
    "block_label_text_weight": "600",
    "block_title_text_weight": "600",
    "input_shadow": "none",
    "input_shadow_focus": "none",
    "button_large_text_weight": "600",
    "layout_gap": "20px",
}


def _colours() -> dict[str, str]:
    text, muted, line = "var(--pa-text)", "var(--pa-muted)", "var(--pa-line)"
    ground, surface, accent, wash = "var(--pa-ground)", "var(--pa-surface)", "var(--pa-accent)", "var(--pa-wash)"
    return {
        "body_background_fill": ground,
        "body_text_color": text,
        "body_text_color_subdued": muted,
        "background_fill_primary": surface,
        "background_fill_secondary": ground,
        "border_color_primary": line,
        "border_color_accent": accent,
        "color_accent_soft": wash,
        "link_text_color": accent,
        "link_text_color_hover": accent,
        "link_text_color_visited": accent,
        "link_text_color_active": accent,
        "block_background_fill": surface,
        "block_border_color": line,
        "block_label_background_fill": surface,
        "block_label_text_color": text,
        "block_title_text_color": text,
        "block_info_text_color": muted,
        "panel_background_fill": surface,
        "input_background_fill": surface,
        "input_background_fill_focus": surface,
        "input_border_color": line,
        "input_border_color_focus": accent,
        "input_placeholder_color": muted,
        "button_primary_background_fill": accent,
        "button_primary_background_fill_hover": accent,
        "button_primary_text_color": "var(--pa-on-accent)",
        "button_primary_text_color_hover": "var(--pa-on-accent)",
        "button_primary_border_color": accent,
        "button_secondary_background_fill": surface,
        "button_secondary_background_fill_hover": wash,
        "button_secondary_text_color": text,
        "button_secondary_text_color_hover": text,
        "button_secondary_border_color": line,
        "button_secondary_border_color_hover": accent,
        "checkbox_background_color": surface,
        "checkbox_background_color_selected": accent,
        "checkbox_border_color": muted,
        "checkbox_border_color_selected": accent,
        "checkbox_border_color_focus": accent,
        "checkbox_label_background_fill": surface,
        "checkbox_label_text_color": text,
        "slider_color": accent,
        "loader_color": accent,
    }
